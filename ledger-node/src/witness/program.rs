//! `tally witness`: configuration, records, sockets, systemd, stop. A node that is a witness besides opens the same one ([`open`]).

use super::config::{Watching, WitnessConfig};
use super::judge::Witness;
use super::metrics::WitnessMetrics;
use super::record::{RecordError, Records};
use super::serve;
use crate::api::unix_now;
use crate::clock::WallClock;
use crate::config::ConfigError;
use crate::node::notify;
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tally_door::{BindError, Bound, Door, Secure};
use tokio_util::sync::CancellationToken;

/// How often we look whether a write failed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a failed witness goes on answering: as the node's last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why a witness does not run.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The configuration, or a file it names.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What it remembers.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The files of `tls`.
    #[error("`tls` of witness.yaml: {0}")]
    Tls(#[from] tally_tls::TlsFault),
    /// The metrics' names clash.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// A task died.
    #[error("a task of the witness died")]
    Task(#[from] tokio::task::JoinError),
    /// A write failed.
    #[error("the witness stopped: a write failed; correct the cause, then start it again")]
    Failed,
}

/// A witness that goes on where its records end, and holds them as long as it lives.
///
/// # Errors
/// [`WitnessError`].
pub(crate) fn open(watching: &Watching) -> Result<Arc<Witness>, WitnessError> {
    let (key, records) = (watching.load_key()?, Records::open(&watching.data)?);
    let Watching { name, logs, .. } = watching.clone();
    Ok(Arc::new(Witness::open(name, key, records, logs, WitnessMetrics::new()?, Arc::new(WallClock))?))
}

/// Opens, serves, and stops in good order when `stop` is cancelled.
///
/// # Errors
/// [`WitnessError`].
pub async fn run(config: WitnessConfig, stop: CancellationToken) -> Result<(), WitnessError> {
    let witness = open(&config.watching)?;
    let secure = config.tls.clone().map(Secure::open).transpose()?;
    let bound = Bound::bind(&config.listen, Door { secure, ..Door::default() }).await?;
    for place in bound.places() {
        tracing::info!(witness = %witness.cosigner().map(|cosigner| cosigner.to_string()).unwrap_or_default(), %place, "listening");
    }
    notify(NotifyState::Ready);
    let stop_serving = CancellationToken::new();
    let (refused, expiry) = (bound.tallies(), bound.expiry());
    // What holds of the certificates is in the log and in /metrics.
    let _ = expiry.look(unix_now());
    let door = move || refused.text() + &expiry.text("tally_witness", unix_now());
    let serving = tokio::spawn(bound.serve(serve::router(Arc::clone(&witness), door), stop_serving.clone()));
    tokio::select! {
        () = stop.cancelled() => {}
        () = failure(&witness) => tokio::time::sleep(LAST_WORDS).await,
    }
    notify(NotifyState::Stopping);
    stop_serving.cancel();
    serving.await?;
    if witness.has_failed() { Err(WitnessError::Failed) } else { Ok(()) }
}

/// Comes when a write failed. Meanwhile tells systemd that all is well.
async fn failure(witness: &Witness) {
    while !witness.has_failed() {
        notify(NotifyState::Watchdog);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
