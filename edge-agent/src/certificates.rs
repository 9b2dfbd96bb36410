//! Looks at the ends of certificates. From 90 days on each is an alarm and a message to SCADA; nothing stops because of it.

use crate::status::Status;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::Clock;
use tally_door::Expiry;
use tokio_util::sync::CancellationToken;

/// Between two looks: whoever renews a certificate sees that it was enough. A look reads a few small files.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Until stopped, by the agent's clock.
pub async fn watch(expiry: Expiry, status: Arc<Status>, clock: Arc<dyn Clock>, quit: CancellationToken) {
    loop {
        let now = u64::try_from(clock.now().as_seconds()).unwrap_or(0);
        status.certificates(expiry.look(now), now);
        tokio::select! {
            () = quit.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
