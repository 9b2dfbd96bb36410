//! Triggers to SCADA: each until the broker has it, in number order, across restarts.

use super::cursor::Cursor;
use super::topics::Topics;
use crate::error::StoreError;
use crate::status::Status;
use crate::store::Stores;
use crate::submit::on_disk;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_mqtt::{PublishError, Publisher};
use tally_journal::Storage;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The place is kept at most this often; a crash tells as much again (QoS 1 is at least once).
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// The task.
pub(super) struct Triggers<S: Storage, P> {
    pub stores: Arc<Stores<S>>,
    pub status: Arc<Status>,
    /// The number behind the last synced trigger.
    pub sealed: watch::Receiver<u64>,
    pub topics: Topics,
    pub publisher: P,
    pub cursor: Cursor,
    /// Told to the submit task: the outbox may forget what is below.
    pub published: watch::Sender<u64>,
}

impl<S: Storage + Send + 'static, P: Publisher> Triggers<S, P> {
    pub async fn run(mut self, first: u64, quit: CancellationToken) {
        // A restored backup may know fewer triggers than were told: those that come are new ones.
        let mut next = first.min(*self.sealed.borrow());
        let mut keep_at = tokio::time::Instant::now();
        loop {
            let end = *self.sealed.borrow_and_update();
            if next >= end {
                self.keep(next);
                match quit.run_until_cancelled(self.sealed.changed()).await {
                    Some(Ok(())) => continue,
                    _ => return,
                }
            }
            match quit.run_until_cancelled(self.tell(next)).await {
                Some(Ok(after)) => next = after,
                Some(Err(fault)) => {
                    tracing::error!(%fault, "a trigger cannot be read from the outbox, SCADA is not told of it");
                    next += 1;
                }
                None => {
                    self.keep(next);
                    return;
                }
            }
            self.published.send_replace(next);
            if keep_at.elapsed() >= KEEP_EVERY {
                keep_at = tokio::time::Instant::now();
                self.keep(next);
            }
        }
    }

    /// Tells of trigger `number` and gives the next one to tell.
    async fn tell(&self, number: u64) -> Result<u64, StoreError> {
        let found = on_disk(&self.stores, move |stores| {
            let outbox = stores.outbox();
            Ok((outbox.get(number)?, outbox.first_kept()))
        });
        let (sealed, first_kept) = found.await?;
        let Some(sealed) = sealed else {
            let after = first_kept.max(number + 1);
            let lost = after - number;
            tracing::error!(
                triggers = lost,
                "the broker was away for so long that the outbox gave up triggers it was not told of; the ledger has them"
            );
            self.status.count.triggers_unpublished.add(lost);
            return Ok(after);
        };
        // What it says is for people; what counts is the statement.
        let message = self.topics.trigger(&sealed, sealed.body().ok().as_ref());
        match self.publisher.publish(message).await {
            Ok(()) => self.status.count.triggers_published.add(1),
            // Not told: it comes again in the next life. `quit` ends this wait.
            Err(PublishError::Stopped) => std::future::pending().await,
            Err(fault) => {
                tracing::error!(number, %fault, "a trigger cannot be published");
                self.status.count.triggers_unpublished.add(1);
            }
        }
        Ok(number + 1)
    }

    fn keep(&mut self, next: u64) {
        if let Err(fault) = self.cursor.keep(next.to_string()) {
            tracing::warn!(%fault, "the place in the triggers cannot be kept; after a restart SCADA is told some of them again");
        }
    }
}
