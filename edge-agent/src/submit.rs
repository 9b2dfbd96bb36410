//! Step 8: the outbox's triggers to the node, oldest first, one at a time, until each has its answer.
//!
//! ```text
//!            ┌────────── receipt, checked: kept ──────────┐
//!  outbox ──▶ submit ──── refused for good: dead letter ───┴──▶ done, next
//!            ├────────── durable, witnesses missing: stays, the next ones go first
//!            └────────── not now, no answer, bad receipt: stays, back off (200 ms … 10 s)
//! ```
//! One at a time, because the ledger refuses an agent's triggers that come out of order. Receipts are synced in groups: one
//! that a crash takes is asked for again, and submitting the same bytes again gives the same receipt.

mod ledger_key;

use crate::error::StoreError;
use crate::receipts::{DeadLetter, Receipted};
use crate::seal::Sealed;
use crate::status::{Alarm, Status};
use crate::store::Stores;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::Backoff;
use tally_evidence::{BatchEnvelope, Receipt, SignedStatement};
use tally_journal::Storage;
use tally_ledger_client::{Client, RequestError, SubmitError, Submitted};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use ledger_key::{KeyError, LedgerKey};

/// Receipts kept before they are synced. A crash costs as many repeated submissions.
const RECEIPTS_UNSYNCED_MAX: usize = 256;

/// The node's "no" that is about who we are, not about these bytes: it may become a "yes" when somebody registers the
/// agent, so the triggers wait instead of becoming dead letters.
pub(crate) const CODES_ABOUT_US: [&str; 2] = ["unknown-signer", "unknown-key"];

/// Everything the submit task uses.
pub struct Submit<S: Storage> {
    /// Outbox and receipts.
    pub stores: Arc<Stores<S>>,
    /// The node.
    pub client: Client,
    /// Whose receipts we take.
    pub ledger: String,
    /// Its key.
    pub key: LedgerKey,
    /// Where counters go.
    pub status: Arc<Status>,
    /// The number behind the last synced trigger.
    pub sealed: watch::Receiver<u64>,
    /// The number behind the last trigger that SCADA was told of; `u64::MAX` without a broker.
    pub published: watch::Receiver<u64>,
}

/// What the contracts made of a trigger.
struct Refused {
    /// Number of the refusal; 0 when it was done.
    number: u16,
    /// The node's words for it, for people.
    why: String,
}

impl Refused {
    fn of(outcome: &serde_json::Value) -> Self {
        let number = outcome["refusal"].as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or(0);
        let why = outcome["refusal_detail"].as_str().or(outcome["refusal_text"].as_str()).unwrap_or_default();
        Self { number, why: why.to_owned() }
    }
}

/// What became of an attempt.
enum Attempt {
    /// It has its answer.
    Done,
    /// It is durable in the ledger, and its receipt comes later.
    NextFirst,
    /// Nothing is decided.
    Later(Duration),
}

impl<S: Storage + Send + 'static> Submit<S> {
    /// Works until `stop` is cancelled and the outbox is empty or the node does not take more.
    ///
    /// # Errors
    /// [`StoreError`]: a store failed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut backoff = Backoff::for_links();
        let mut unsynced = 0;
        // Behind the last trigger that is durable in the ledger but not final: it stays in the outbox, the next ones may go.
        let mut ahead = 0;
        loop {
            self.sealed.borrow_and_update();
            let next = self.on_disk(move |stores| stores.outbox().next_from(ahead)).await?;
            let attempt = match &next {
                Some(sealed) => self.submit(sealed, &mut ahead, &mut backoff).await?,
                None => {
                    self.settle(&mut unsynced).await?;
                    tokio::select! {
                        changed = self.sealed.changed() => if changed.is_err() { return Ok(()) },
                        () = stop.cancelled() => return Ok(()),
                    }
                    continue;
                }
            };
            match attempt {
                Attempt::Done => {
                    backoff.reset();
                    unsynced += 1;
                    if unsynced >= RECEIPTS_UNSYNCED_MAX {
                        self.settle(&mut unsynced).await?;
                    }
                }
                Attempt::NextFirst => {}
                Attempt::Later(delay) => {
                    self.status.count.submit_retries.add(1);
                    self.settle(&mut unsynced).await?;
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = stop.cancelled() => return Ok(()),
                    }
                }
            }
        }
    }

    async fn submit(&mut self, sealed: &Sealed, ahead: &mut u64, backoff: &mut Backoff) -> Result<Attempt, StoreError> {
        let first = sealed.clone();
        let together = self.on_disk(move |stores| stores.outbox().together(&first)).await?;
        let bodies: Vec<_> = together.iter().filter_map(|sealed| Some(&sealed.batched.as_ref()?.body)).collect();
        let envelope = sealed.batched.as_ref().map(|_| BatchEnvelope::encode(&sealed.statement, &bodies));
        match self.client.submit(envelope.as_deref().unwrap_or(&sealed.statement)).await {
            Ok(submitted) => self.receipted(together, submitted, backoff).await,
            Err(SubmitError::NotFinal { cause }) => {
                self.status.node(true, format!("taking triggers; {cause}"));
                let is_new = sealed.number >= *ahead;
                let behind = together.last().map_or(sealed.number, |last| last.number) + 1;
                *ahead = (*ahead).max(behind);
                Ok(if is_new { Attempt::NextFirst } else { Attempt::Later(backoff.next_delay()) })
            }
            Err(SubmitError::NotNow { retry_after, cause }) => {
                self.status.node(false, cause);
                Ok(Attempt::Later(backoff.next_delay().max(retry_after.unwrap_or_default())))
            }
            Err(SubmitError::Refused { code, text }) if CODES_ABOUT_US.contains(&code.as_str()) => {
                self.status.node(false, format!("the ledger does not know this agent with this key: {text}"));
                Ok(Attempt::Later(backoff.next_delay()))
            }
            Err(SubmitError::Refused { code, text }) => {
                tracing::error!(number = sealed.number, trigger = %sealed.trigger, %code, "the node refuses a trigger for good, it goes to the dead letters: {text}");
                self.status.node(true, "taking triggers".to_owned());
                let (count, dead) = self
                    .on_disk(move |stores| {
                        let open = stores.outbox().unanswered(together);
                        let letter = |sealed| DeadLetter { sealed, code: code.clone(), reason: text.clone() };
                        let letters: Vec<_> = open.into_iter().map(letter).collect();
                        stores.receipts().bury(&letters)?;
                        // If we die here: the letters are found on opening, and the triggers count as answered.
                        letters.iter().for_each(|letter| stores.outbox().done(&letter.sealed));
                        Ok((stores.receipts().dead_letter_count(), letters.len() as u64))
                    })
                    .await?;
                self.status.count.triggers_dead.add(dead);
                self.status.dead_letters(count);
                self.status.outbox(&self.stores.outbox());
                Ok(Attempt::Done)
            }
        }
    }

    async fn receipted(
        &mut self,
        together: Vec<Sealed>,
        submitted: Submitted,
        backoff: &mut Backoff,
    ) -> Result<Attempt, StoreError> {
        let Some(sealed) = together.first() else { return Ok(Attempt::Done) };
        if let Err(fault) = self.check(sealed, &submitted.receipt).await {
            match fault {
                KeyError::Changed { .. } => self.status.raise(Alarm::LedgerKey, fault.to_string()),
                _ => self.status.node(false, fault.to_string()),
            }
            return Ok(Attempt::Later(backoff.next_delay()));
        }
        self.status.clear(Alarm::LedgerKey);
        self.status.node(true, "taking triggers".to_owned());
        let refusals = match self.refusals(sealed, &submitted).await {
            Ok(refusals) => refusals,
            Err(cause) => {
                // The receipt is given again; what the contracts said is asked for again then.
                self.status.node(false, cause.to_string());
                return Ok(Attempt::Later(backoff.next_delay()));
            }
        };
        let Submitted { receipt, entry, .. } = submitted;
        // A crash may have taken the answers of some that share the seal, and not of all.
        let open = self.stores.outbox().unanswered(together);
        let count = open.len() as u64;
        let answer = |sealed: Sealed| {
            let refusal = self.refusal_of(&sealed, entry, &refusals);
            Receipted { sealed, entry, refusal, receipt: receipt.clone() }
        };
        let receipted: Vec<_> = open.into_iter().map(answer).collect();
        self.on_disk(move |stores| {
            for receipted in &receipted {
                stores.receipts().keep(receipted)?;
                stores.outbox().done(&receipted.sealed);
            }
            Ok(())
        })
        .await?;
        self.status.count.triggers_receipted.add(count);
        self.status.outbox(&self.stores.outbox());
        Ok(Attempt::Done)
    }

    /// The number by which the contracts refused this one, if they did; then it is counted and in the log.
    fn refusal_of(&self, sealed: &Sealed, entry: u64, refusals: &[Refused]) -> Option<u16> {
        let place = sealed.batched.as_ref().map_or(0, |batched| batched.item as usize);
        let Refused { number, why } = refusals.get(place).filter(|refused| refused.number != 0)?;
        tracing::warn!(number = sealed.number, trigger = %sealed.trigger, entry, refusal = number, why, "the contract refused a trigger");
        self.status.count.triggers_refused.add(1);
        Some(*number)
    }

    /// What the contracts refused, in order; 0 or nothing for what they did. Of a batch the answer says only how many.
    async fn refusals(&self, sealed: &Sealed, submitted: &Submitted) -> Result<Vec<Refused>, RequestError> {
        if submitted.refusal.is_none() && submitted.refused_triggers == 0 {
            return Ok(Vec::new());
        }
        let outcome = self.client.get_json(&format!("/entries/{}/outcome", sealed.id)).await;
        match submitted.refusal {
            // The number is known; that nobody can say more about it delays nothing.
            Some(number) => Ok(vec![Refused { number, ..Refused::of(&outcome.unwrap_or_default()) }]),
            None => Ok(outcome?["triggers"].as_array().into_iter().flatten().map(Refused::of).collect()),
        }
    }

    /// A receipt counts only when the ledger's key seals it over this very statement.
    async fn check(&mut self, sealed: &Sealed, receipt: &[u8]) -> Result<(), KeyError> {
        let receipt = Receipt::parse(receipt)?;
        let about = SignedStatement::parse(&sealed.statement).map(|statement| statement.subject);
        if receipt.ledger != self.ledger || about.is_ok_and(|about| about != receipt.subject) {
            let (found, expected) = (receipt.ledger, self.ledger.clone());
            return Err(KeyError::OtherLedger { found, expected });
        }
        let key = self.key.get(&receipt.key, &self.client).await?;
        receipt.check(&sealed.id, &key)?;
        Ok(())
    }

    /// Syncs receipts; only then may the outbox forget.
    async fn settle(&mut self, unsynced: &mut usize) -> Result<(), StoreError> {
        if *unsynced == 0 {
            return Ok(());
        }
        *unsynced = 0;
        let published = *self.published.borrow();
        self.on_disk(move |stores| {
            stores.receipts().sync()?;
            stores.outbox().discard(published)
        })
        .await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stores<S>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        on_disk(&self.stores, work).await
    }
}

/// Waits for the disk on a thread that may wait.
pub(crate) async fn on_disk<S: Storage + Send + 'static, T: Send + 'static>(
    stores: &Arc<Stores<S>>,
    work: impl FnOnce(&Stores<S>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let stores = Arc::clone(stores);
    match tokio::task::spawn_blocking(move || work(&stores)).await {
        Ok(done) => done,
        Err(fault) => Err(StoreError::Thread(fault.to_string())),
    }
}
