//! From a statement's bytes to its place in the queue, or to the answer it already has.

use super::{Committed, Engine, Inner, NodeState};
use crate::admit::{CheckedStatement, NotNow, OnItsWay, Refused, Reserved, check_seal, parse};
use crate::order::NotQueued;
use crate::priority::give_way;
use crate::store::{CommitError, EntryPlace, IndexFault};
use std::sync::Arc;
use std::time::Instant;
use tally_evidence::{Presented, SignedStatement, StatementId};
use tokio::sync::oneshot;

/// Why a statement is not in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// These bytes are never taken.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The same bytes may be sent again.
    #[error(transparent)]
    NotNow(#[from] NotNow),
}

/// An admitted statement: committed long ago, or on its way.
pub(crate) enum Ticket {
    Known(Committed),
    Waiting(oneshot::Receiver<Committed>),
}

impl Engine {
    /// Submits a signed statement. `Ok` means that it is on the disk for ever; the same statement again, now or after a
    /// restart, gives the same answer.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, statement: impl Into<Arc<[u8]>>) -> Result<Committed, SubmitError> {
        let statement = statement.into();
        if Presented::is_one(&statement) {
            return self.submit_presented(statement).await;
        }
        self.settled(self.admit(statement)?).await
    }

    /// Waits for the block of what was admitted.
    pub(crate) async fn settled(&self, ticket: Ticket) -> Result<Committed, SubmitError> {
        match ticket {
            Ticket::Known(committed) => Ok(committed),
            Ticket::Waiting(answer) => Ok(answer.await.map_err(|_| self.gone())?),
        }
    }

    /// How far a statement is that has no receipt yet; `None` when it has one, or was never seen.
    #[must_use]
    pub fn on_its_way(&self, id: &StatementId) -> Option<OnItsWay> {
        self.inner.inflight.state(id)
    }

    /// Everything up to the queue; never waits.
    pub(crate) fn admit(&self, statement: Arc<[u8]>) -> Result<Ticket, SubmitError> {
        self.admit_with(statement, &[])
    }

    /// The same for a statement with openings of its private fields, which are on the disk before it is queued.
    pub(super) fn admit_with(&self, statement: Arc<[u8]>, openings: &[Vec<u8>]) -> Result<Ticket, SubmitError> {
        give_way();
        let admitted = self.inner.admit(statement, openings);
        match &admitted {
            Ok(Ticket::Known(_)) => self.inner.metrics.repeated.inc(),
            Ok(Ticket::Waiting(_)) => self.inner.metrics.admitted.inc(),
            Err(SubmitError::Refused(refused)) => self.inner.metrics.refused(refused.code()),
            Err(SubmitError::NotNow(not_now)) => self.inner.metrics.not_now(not_now.code()),
        }
        admitted
    }

    /// Why nobody answers any more.
    pub(crate) fn gone(&self) -> NotNow {
        match self.state() {
            NodeState::Failed(reason) => NotNow::Failed(reason),
            // The one that was joined was turned away.
            NodeState::Running => NotNow::Busy,
            NodeState::Following => NotNow::Follower,
            NodeState::Stopping => NotNow::Stopping,
        }
    }
}

impl Inner {
    fn admit(&self, bytes: Arc<[u8]>, openings: &[Vec<u8>]) -> Result<Ticket, SubmitError> {
        self.is_open()?;
        let parsed = parse(&bytes, &self.ledger, self.limits.body_bytes_max)?;
        match self.check(&parsed) {
            Ok(()) => {}
            // Idempotency goes before everything that may change later: what is in keeps its receipt.
            Err(SubmitError::Refused(refused @ (Refused::Revoked { .. } | Refused::UnknownKey { .. }))) => {
                return self.same_as_first(&parsed, &bytes)?.map(Ticket::Known).ok_or(refused.into());
            }
            Err(error) => return Err(error),
        }
        if !openings.is_empty() {
            self.take_openings(&parsed, openings)?;
        }
        let (id, subject) = (parsed.id, parsed.subject.clone());
        let (first, answer) = match self.inflight.reserve(id) {
            Reserved::Joined(answer) => return Ok(Ticket::Waiting(answer)),
            Reserved::First(first, answer) => (first, answer),
        };
        // After the reservation, see `inflight`.
        if let Some(committed) = self.known(&id, &subject)? {
            self.inflight.settle(std::iter::once((id, committed.clone())));
            return Ok(Ticket::Known(committed));
        }
        let statement = CheckedStatement::new(parsed, bytes)?;
        self.rate.take(&statement.signer, statement.weight(), Instant::now());
        self.queue.push(statement).map_err(|full| match full {
            NotQueued::Full => NotNow::Busy,
            NotQueued::Closed => self.closed(),
        })?;
        first.queued();
        Ok(Ticket::Waiting(answer))
    }

    /// Signer and seal.
    fn check(&self, parsed: &SignedStatement) -> Result<(), SubmitError> {
        let name = || parsed.issuer.as_str().to_owned();
        if let Some(wait) = self.rate.wait(&parsed.issuer, Instant::now()) {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            return Err(NotNow::Rate { signer: name(), per_second: self.rate.per_second(), wait_ms }.into());
        }
        let signer = self.signers.find(&parsed.issuer, &self.store).map_err(failed)?;
        let signer = signer.ok_or_else(|| Refused::UnknownSigner { signer: name() })?;
        let (key, key_id) = signer.key_for(&parsed.key, self.clock.now());
        check_seal(parsed, key_id, || self.key_tables.seal_holds(parsed, key))?;
        if signer.is_revoked { Err(Refused::Revoked { signer: name() }.into()) } else { Ok(()) }
    }

    /// The first of a repeated statement, if these bytes are the very same.
    fn same_as_first(&self, parsed: &SignedStatement, bytes: &[u8]) -> Result<Option<Committed>, SubmitError> {
        let Some(place) = self.place_of(&parsed.id)? else { return Ok(None) };
        let first = match self.store.statement(&place) {
            // Its bytes cannot be compared any more.
            Err(CommitError::Pruned(_)) => return Ok(None),
            first => first.map_err(|error| NotNow::Failed(error.to_string()))?,
        };
        if first == bytes { self.committed_or_failed(&place, &parsed.subject).map(Some) } else { Ok(None) }
    }

    fn known(&self, id: &StatementId, subject: &str) -> Result<Option<Committed>, SubmitError> {
        self.place_of(id)?.map(|place| self.committed_or_failed(&place, subject)).transpose()
    }

    fn place_of(&self, id: &StatementId) -> Result<Option<EntryPlace>, SubmitError> {
        let Some(entry) = self.store.entry_of(id).map_err(failed)? else { return Ok(None) };
        let place = self.store.place_of(entry).map_err(failed)?;
        Ok(Some(place.ok_or_else(|| NotNow::Failed(format!("entry {entry} is in no block")))?))
    }

    fn committed_or_failed(&self, place: &EntryPlace, subject: &str) -> Result<Committed, SubmitError> {
        let committed = self.committed(place, subject.to_owned());
        committed.map_err(|error| NotNow::Failed(error.to_string()).into())
    }

    fn closed(&self) -> NotNow {
        self.is_open().err().unwrap_or(NotNow::Stopping)
    }
}

fn failed(fault: IndexFault) -> NotNow {
    NotNow::Failed(fault.to_string())
}
