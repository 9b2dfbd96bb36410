//! How the agent ends: in order, or because a part of it died.

use super::{Agent, AgentError, Rooms};
use crate::error::StoreError;
use crate::links::Running;
use crate::status::Alarm;
use crate::submit::on_disk;
use crate::systemd;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// After the last reading is safe, what is in the outbox gets this long for its receipt.
const LAST_SUBMIT: Duration = Duration::from_secs(2);
/// For the requests in hand.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

impl Agent {
    /// Ends everything; `failed` is why, when nobody asked for it.
    pub(super) async fn close_rooms(&self, rooms: Rooms, failed: Option<AgentError>) -> Result<(), AgentError> {
        let Rooms { running, ingest, submit, api, publishing, following, watchdog, quit, drain, .. } = rooms;
        systemd::stopping();
        let result = self.wind_down(failed, running, ingest, submit, drain).await;
        quit.cancel();
        following.abort();
        publishing.stopped().await;
        let _ = tokio::time::timeout(LAST_ANSWERS, api).await;
        watchdog.abort();
        let waiting = self.stores.outbox().pending();
        tracing::info!(waiting, "the agent stopped; what waits in the outbox is submitted at the next start");
        result
    }

    /// Sources first; then everything they said is kept and sealed; then it gets a last chance to be submitted.
    async fn wind_down(
        &self,
        failed: Option<AgentError>,
        running: Running,
        ingest: oneshot::Receiver<Result<(), StoreError>>,
        mut submit: [JoinHandle<Result<(), StoreError>>; 3],
        drain: CancellationToken,
    ) -> Result<(), AgentError> {
        if let Some(fault) = failed {
            self.status.raise(Alarm::Failed, format!("failed: {fault}"));
            running.stop().await;
            submit.iter().for_each(JoinHandle::abort);
            return Err(fault);
        }
        running.stop().await;
        match ingest.await {
            Ok(Ok(())) => {}
            ended => return Err(ingest_ended(ended)),
        }
        drain.cancel();
        let last = self.last_submit(&mut submit).await;
        submit.iter().for_each(JoinHandle::abort);
        last
    }

    /// Triggers, anchors and the gate's reports side by side.
    async fn last_submit(&self, submit: &mut [JoinHandle<Result<(), StoreError>>; 3]) -> Result<(), AgentError> {
        let [triggers, anchors, reports] = submit;
        let all = async { [triggers.await, anchors.await, reports.await] };
        if let Ok(ended) = tokio::time::timeout(LAST_SUBMIT, all).await {
            for ended in ended {
                ended.map_err(|_| AgentError::Died("submitting"))??;
            }
        }
        let synced = on_disk(&self.stores, |stores| {
            stores.receipts().sync()?;
            stores.anchors().as_mut().map_or(Ok(()), |anchors| anchors.book_mut().sync())
        });
        Ok(synced.await?)
    }
}

pub(super) fn ingest_ended(ended: Result<Result<(), StoreError>, oneshot::error::RecvError>) -> AgentError {
    match ended {
        Ok(Err(fault)) => fault.into(),
        _ => AgentError::Died("the thread that keeps readings"),
    }
}

pub(super) fn submit_ended(ended: Result<Result<(), StoreError>, tokio::task::JoinError>) -> AgentError {
    match ended {
        Ok(Err(fault)) => fault.into(),
        _ => AgentError::Died("submitting"),
    }
}
