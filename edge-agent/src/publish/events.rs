//! Ledger events to SCADA: each until the broker has it, in ledger order, across restarts. A new agent begins with the
//! ledger's first event.

use super::cursor::Cursor;
use super::topics::Topics;
use crate::status::Status;
use futures_util::{Stream, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::Backoff;
use tally_connector_mqtt::{PublishError, Publisher};
use tally_ledger_client::{Client, LedgerEvent, RequestError};
use tokio_util::sync::CancellationToken;

/// As for triggers.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// The task.
pub(super) struct Events<P> {
    pub client: Client,
    pub status: Arc<Status>,
    pub topics: Topics,
    pub publisher: P,
    pub cursor: Cursor,
}

impl<P: Publisher> Events<P> {
    pub async fn run(mut self, quit: CancellationToken) {
        let mut backoff = Backoff::for_links();
        let mut last = self.cursor.value().to_owned();
        let follow = async {
            loop {
                let fault = self.follow(&mut last, &mut backoff).await;
                tracing::debug!(%fault, "the node's events ended, they are followed again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        };
        quit.run_until_cancelled(follow).await;
        self.keep(&last);
    }

    /// Follows until the stream breaks.
    async fn follow(&mut self, last: &mut String, backoff: &mut Backoff) -> String {
        let mut events = self.stream(last);
        let mut kept = tokio::time::Instant::now();
        loop {
            let idle = tokio::time::timeout(KEEP_EVERY, events.next());
            match idle.await {
                // Quiet: a good moment to write down where we are.
                Err(_) => self.keep(last),
                Ok(Some(Ok(event))) => {
                    backoff.reset();
                    if let Err(fault) = self.tell(&event).await {
                        return fault.to_string();
                    }
                    *last = event.id;
                    if kept.elapsed() >= KEEP_EVERY {
                        kept = tokio::time::Instant::now();
                        self.keep(last);
                    }
                }
                Ok(Some(Err(fault))) => return fault.to_string(),
                Ok(None) => return "the node ended the stream".to_owned(),
            }
        }
    }

    fn stream(&self, last: &str) -> Box<dyn Stream<Item = Result<LedgerEvent, RequestError>> + Send + Unpin> {
        if last.is_empty() { Box::new(self.client.events(Some(0))) } else { Box::new(self.client.events_after(last)) }
    }

    async fn tell(&self, event: &LedgerEvent) -> Result<(), PublishError> {
        match self.publisher.publish(self.topics.event(&event.json)).await {
            Ok(()) => self.status.count.events_published.add(1),
            Err(PublishError::Stopped) => return Err(PublishError::Stopped),
            Err(fault) => tracing::error!(event = %event.id, %fault, "a ledger event cannot be published"),
        }
        Ok(())
    }

    fn keep(&mut self, last: &str) {
        if let Err(fault) = self.cursor.keep(last.to_owned()) {
            tracing::warn!(%fault, "the place in the ledger's events cannot be kept; after a restart SCADA is told some of them again");
        }
    }
}
