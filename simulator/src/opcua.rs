//! OPC UA server of a simulated device.

use crate::{OpcUaServerConfig, PlantState, SimError};
use tokio_util::sync::CancellationToken;

/// Serves the signals of one device over OPC UA until `stop` is cancelled.
///
/// # Errors
/// [`SimError::OpcUa`] when the server cannot be built or fails.
pub async fn serve_opcua(
    server: OpcUaServerConfig,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    drop((server, state, stop));
    Err(SimError::OpcUa("not built yet".into()))
}
