//! The gate's reports to the node, oldest first, one at a time, until each has its answer.

use super::Gate;
use super::book::TURNED_AWAY;
use crate::error::StoreError;
use crate::submit::CODES_ABOUT_US;
use std::time::Duration;
use tally_connector_api::Backoff;
use tally_evidence::{Receipt, SignedStatement};
use tally_journal::Storage;
use tally_ledger_client::{SubmitError, Submitted};
use tokio_util::sync::CancellationToken;

impl<S: Storage + Send + 'static> Gate<S> {
    /// Works until `stop` is cancelled and nothing waits or the node does not take more.
    ///
    /// # Errors
    /// [`StoreError`]: the book failed.
    pub async fn submit(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut backoff = Backoff::for_links();
        loop {
            // Read out first: the lock must not be held over the wait.
            let next = self.book().next()?;
            let Some((record, statement)) = next else {
                tokio::select! {
                    () = self.sealed.notified() => continue,
                    () = stop.cancelled() => return Ok(()),
                }
            };
            match self.submit_one(&statement).await {
                Ok(refusal) => {
                    backoff.reset();
                    self.book().answer(record, refusal)?;
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

    /// The contract's refusal, 0 for none; the fault is the least time to wait.
    async fn submit_one(&self, statement: &[u8]) -> Result<u16, Duration> {
        match self.client.submit(statement).await {
            Ok(submitted) => {
                self.believe(statement, &submitted).await?;
                if let Some(refusal) = submitted.refusal {
                    tracing::warn!(entry = submitted.entry, refusal, "the ledger refused a report of the gate");
                }
                Ok(submitted.refusal.unwrap_or(0))
            }
            Err(SubmitError::NotNow { retry_after, .. }) => Err(retry_after.unwrap_or_default()),
            // In the ledger, and waiting for its witnesses: the receipt is asked for again.
            Err(SubmitError::NotFinal { .. }) => Err(Duration::from_secs(1)),
            Err(SubmitError::Refused { code, .. }) if CODES_ABOUT_US.contains(&code.as_str()) => Err(Duration::ZERO),
            Err(SubmitError::Refused { code, text }) => {
                tracing::error!(%code, "the node turns a report of the gate away for good: {text}");
                Ok(TURNED_AWAY)
            }
        }
    }

    /// A receipt counts only when the ledger's key seals it over this very statement.
    async fn believe(&self, statement: &[u8], submitted: &Submitted) -> Result<(), Duration> {
        let doubt = |fault: String| {
            tracing::warn!(%fault, "the receipt of a gate's report is not believed");
            Duration::from_secs(1)
        };
        let receipt = Receipt::parse(&submitted.receipt).map_err(|fault| doubt(fault.to_string()))?;
        let id = SignedStatement::parse(statement).map_err(|fault| doubt(fault.to_string()))?.id;
        if receipt.ledger != self.sealer.ledger {
            return Err(doubt(format!("it is of ledger `{}`", receipt.ledger)));
        }
        let key = self.key.get(&receipt.key, &self.client).await.map_err(|fault| doubt(fault.to_string()))?;
        receipt.check(&id, &key).map(|_| ()).map_err(|fault| doubt(fault.to_string()))
    }

    /// Reports that wait for the ledger.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.book().waiting()
    }
}
