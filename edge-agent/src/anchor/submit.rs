//! The anchors to the node, oldest first, one at a time, until each has its answer. Beside the triggers, never before them: a
//! task and a connection of their own.

use super::SealedAnchor;
use super::book::Book;
use super::record::Answer;
use crate::error::StoreError;
use crate::store::Stores;
use crate::submit::{CODES_ABOUT_US, KeyError, LedgerKey, on_disk};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::Backoff;
use tally_evidence::Receipt;
use tally_journal::Storage;
use tally_ledger_client::{Client, SubmitError, Submitted};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Everything the task uses.
pub struct SubmitAnchors<S: Storage> {
    /// The book.
    pub stores: Arc<Stores<S>>,
    /// The node.
    pub client: Client,
    /// Whose receipts we take.
    pub ledger: String,
    /// Its key.
    pub key: LedgerKey,
    /// Changes when anchors were sealed.
    pub sealed: watch::Receiver<u64>,
}

impl<S: Storage + Send + 'static> SubmitAnchors<S> {
    /// Works until `stop` is cancelled and nothing waits or the node does not take more.
    ///
    /// # Errors
    /// [`StoreError`]: the book failed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut backoff = Backoff::for_links();
        loop {
            self.sealed.borrow_and_update();
            let Some((record, anchor)) = self.in_book(|book| book.next()).await?.flatten() else {
                // The answers are synced when there is time: one that a crash takes is asked for again.
                self.in_book(Book::sync).await?;
                tokio::select! {
                    changed = self.sealed.changed() => if changed.is_err() { return Ok(()) },
                    () = stop.cancelled() => return Ok(()),
                }
                continue;
            };
            match self.submit(record, &anchor).await {
                Ok(answer) => {
                    backoff.reset();
                    self.in_book(move |book| book.answer(&answer)).await?;
                }
                Err(least) => {
                    let delay = backoff.next_delay().max(least);
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = stop.cancelled() => return Ok(()),
                    }
                }
            }
        }
    }

    /// `None` when anchors are off.
    async fn in_book<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book<S>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        on_disk(&self.stores, move |stores| {
            stores.anchors().as_mut().map(|anchors| work(anchors.book_mut())).transpose()
        })
        .await
    }

    /// One attempt; the fault is the least time to wait before the next.
    async fn submit(&mut self, record: u64, anchor: &SealedAnchor) -> Result<Answer, Duration> {
        let (device, number) = (&anchor.device, anchor.number);
        match self.client.submit(&anchor.statement).await {
            Ok(submitted) => {
                if let Err(fault) = self.check(anchor, &submitted.receipt).await {
                    tracing::warn!(%device, number, %fault, "the receipt of an anchor is not believed");
                    return Err(Duration::ZERO);
                }
                let Submitted { receipt, entry, refusal, .. } = submitted;
                if let Some(refusal) = refusal {
                    tracing::warn!(%device, number, entry, refusal, "the ledger refused an anchor; the next one says what is missing");
                }
                Ok(Answer { anchor: record, refusal: refusal.unwrap_or(0), entry, receipt })
            }
            Err(SubmitError::NotNow { retry_after, .. }) => Err(retry_after.unwrap_or_default()),
            // The next anchor waits with it: it is made once a minute.
            Err(SubmitError::NotFinal { .. }) => Err(Duration::ZERO),
            Err(SubmitError::Refused { code, .. }) if CODES_ABOUT_US.contains(&code.as_str()) => Err(Duration::ZERO),
            Err(SubmitError::Refused { code, text }) => {
                tracing::error!(%device, number, %code, "the node turns an anchor away for good: {text}");
                Ok(Answer::turned_away(record))
            }
        }
    }

    /// A receipt counts only when the ledger's key seals it over this very statement.
    async fn check(&mut self, anchor: &SealedAnchor, receipt: &[u8]) -> Result<(), KeyError> {
        let receipt = Receipt::parse(receipt)?;
        if receipt.ledger != self.ledger || receipt.subject != anchor.device.as_str() {
            let (found, expected) = (receipt.ledger, self.ledger.clone());
            return Err(KeyError::OtherLedger { found, expected });
        }
        let key = self.key.get(&receipt.key, &self.client).await?;
        receipt.check(&anchor.id, &key)?;
        Ok(())
    }
}
