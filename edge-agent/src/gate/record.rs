//! What the gate did, or would not do: sealed, and on disk before anybody is told.

use super::Gate;
use super::book::Book;
use super::refusal::Refusal;
use super::report::{self, How, Report};
use crate::error::StoreError;
use crate::seal::Sealer;
use std::sync::{Arc, PoisonError};
use tally_evidence::SealFault;
use tally_journal::Storage;

/// Reports kept in memory for people.
const SHOWN_MAX: usize = 100;

impl<S: Storage + Send + 'static> Gate<S> {
    /// Seals a result, puts it on disk, tells people and the submit task. When the key has gone in between, the result waits in memory;
    /// a restart finds the intention, and reports that nobody knows.
    pub(super) async fn keep(&self, report: Report) -> Result<Report, Refusal> {
        if let Err(fault) = self.seal_into_book(report.clone()).await? {
            tracing::warn!(permit = report.permit, %fault, "the report of a permit waits for the key");
            self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).push_back(report.clone());
        }
        match report.how {
            How::Done => self.status.count.permits_done.add(1),
            How::Refused => self.status.count.permits_refused.add(1),
            How::Unknown => self.status.count.permits_unknown.add(1),
        }
        tracing::info!(permit = report.permit, device = %report.device, point = %report.point, how = report.how.word(), code = report.code.as_deref(), found = ?report.found, "a permit was used");
        self.show(report.clone());
        self.sealed.notify_one();
        Ok(report)
    }

    /// Seals a report and puts it on disk; the inner fault is the key's.
    async fn seal_into_book(&self, report: Report) -> Result<Result<(), SealFault>, Refusal> {
        let id = report.permit;
        let statement = match self.with_key(move |sealer| report.seal(sealer)).await {
            Ok(statement) => statement,
            Err(fault) => return Ok(Err(fault)),
        };
        self.in_book(move |book| book.report(Some(id), &statement)).await.map(Ok)
    }

    /// Seals the reports that wait for the key, oldest first.
    pub(super) async fn seal_waiting(&self) {
        loop {
            let next = self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).front().cloned();
            let Some(report) = next else { return };
            match self.seal_into_book(report).await {
                Ok(Ok(())) => drop(self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).pop_front()),
                Ok(Err(_)) => return,
                Err(refusal) => return tracing::error!("a report of the gate cannot be kept: {}", refusal.text),
            }
            self.sealed.notify_one();
        }
    }

    /// A key in a token is waited for on a thread that may wait.
    pub(super) async fn with_key<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sealer) -> Result<T, SealFault> + Send + 'static,
    ) -> Result<T, SealFault> {
        let sealer = self.sealer.clone();
        let done = tokio::task::spawn_blocking(move || work(&sealer)).await;
        done.unwrap_or_else(|fault| Err(SealFault::Away(fault.to_string())))
    }

    /// Nothing is burnt; it is counted, and recorded once a minute at most for the same permit and reason.
    pub(super) fn turned_away(&self, permit: Option<u64>, refusal: Refusal) -> Refusal {
        self.turned_away_for(None, permit, refusal)
    }

    /// The same; attempts of different senders are counted apart.
    pub(super) fn turned_away_for(&self, sender: Option<&str>, permit: Option<u64>, refusal: Refusal) -> Refusal {
        if refusal.is_burnt || !refusal.is_worth_recording() {
            return refusal;
        }
        self.status.count.permit_attempts.add(1);
        let what = if sender.is_some() { "command" } else { "permit" };
        tracing::warn!(permit, sender, code = refusal.code, "the gate turned a {what} away: {}", refusal.text);
        let due = self.attempts().note(sender, permit, &refusal, self.clock.now());
        if let Some(attempt) = due {
            self.record(&attempt);
        }
        refusal
    }

    pub(super) fn record(&self, attempt: &report::Attempt) {
        let kept = attempt
            .seal(&self.sealer, self.clock.now())
            .map_err(|fault| fault.to_string())
            .and_then(|statement| self.book().report(None, &statement).map_err(|fault| fault.to_string()));
        if let Err(fault) = kept {
            tracing::error!(%fault, "an attempt that the gate turned away cannot be recorded; it is counted");
        }
        self.sealed.notify_one();
    }

    /// The ledger revoked it: remembered, also when the ledger cannot be asked later.
    pub(super) fn heard_revoked(&self, id: u64) {
        if let Err(fault) = self.book().revoked(id, self.clock.now()) {
            tracing::error!(%fault, permit = id, "a revocation cannot be kept");
        }
        self.status.count.permits_revoked.add(1);
        tracing::info!(permit = id, "the ledger revoked a permit");
    }

    /// The latest uses, newest last.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn show(&self, report: Report) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.len() >= SHOWN_MAX {
            shown.pop_front();
        }
        shown.push_back(report);
    }

    /// The disk is waited for on a thread that may wait.
    pub(super) async fn in_book<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book<S>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let book = Arc::clone(&self.book);
        let done = tokio::task::spawn_blocking(move || work(&mut book.lock().unwrap_or_else(PoisonError::into_inner)));
        let done = done.await.unwrap_or_else(|fault| Err(StoreError::Thread(fault.to_string())));
        done.map_err(|fault| Refusal::new("disk", format!("the agent's own disk: {fault}; nothing was done")))
    }
}
