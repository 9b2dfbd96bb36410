//! Ctrl-C and SIGTERM: the first asks everything to stop and drain, a second Ctrl-C ends at once.

use crate::answer::{Context, Fault};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGINT or SIGTERM.
///
/// # Errors
/// When the signals cannot be listened to. Must be called inside a runtime.
pub fn on_signal() -> Result<CancellationToken, Fault> {
    let stop = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancel.cancel();
        interrupt.recv().await;
        std::process::exit(130);
    });
    Ok(stop)
}

/// The same for a server that reads nothing but certificates anew, which is done where they are shown. SIGHUP would end it on the
/// spot, undrained; it is told and outlived.
///
/// # Errors
/// Those of [`on_signal`].
pub fn on_signal_of_server() -> Result<CancellationToken, Fault> {
    let mut hangup = signal(SignalKind::hangup()).context("listening to SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: certificates are read anew; a changed configuration takes a restart");
        }
    });
    on_signal()
}

/// The runtime every command uses: two workers are plenty for what a command does, servers take what the machine has.
///
/// # Errors
/// When the operating system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")
}
