//! MQTT publisher of a simulated sensor.

use crate::{MqttSensorConfig, PlantState, SimError};
use tokio_util::sync::CancellationToken;

/// Publishes the signals of one device until `stop` is cancelled.
///
/// # Errors
/// [`SimError::Mqtt`] when the publisher cannot be built.
pub async fn publish_mqtt(
    config: MqttSensorConfig,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    drop((config, state, stop));
    Err(SimError::Mqtt("not built yet".into()))
}
