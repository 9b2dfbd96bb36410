//! What systemd is told: ready, alive, stopping. Without systemd these calls do nothing.

use crate::status::Status;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Says "ready", and from then on "alive" as long as the ingest thread is.
pub fn started(status: Arc<Status>, quit: CancellationToken) -> JoinHandle<()> {
    tell(NotifyState::Ready);
    tokio::spawn(async move {
        let Some(limit) = sd_notify::watchdog_enabled() else { return };
        let mut every = tokio::time::interval((limit / 3).max(Duration::from_millis(100)));
        while quit.run_until_cancelled(every.tick()).await.is_some() {
            // No word: systemd then kills the process and starts it again.
            if status.is_alive() {
                tell(NotifyState::Watchdog);
            }
        }
    })
}

/// Says "stopping".
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(fault) = sd_notify::notify(&[state]) {
        tracing::warn!(%fault, "systemd does not listen");
    }
}
