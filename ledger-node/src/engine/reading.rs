//! What was committed, read back, and what the ledger's key says about it.

use super::{Committed, Engine, Inner};
use crate::execute::BATCH_EXECUTED;
use crate::priority::give_way;
use crate::private::PrivateError;
use crate::store::{CommitError, EntryPlace, IndexFault};
use tally_evidence::{
    BatchEnvelope, ConsistencyReceipt, Hash, OutcomeRecord, Receipt, SignedStatement, SigningKey, StatementId, TreeNote,
};

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store does not give it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// Private fields cannot be read.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// What it gives makes no sense.
    #[error("the ledger is damaged at entry {0}")]
    Entry(u64),
    /// What was asked for is sealed when it is asked for.
    #[error("this node follows the one that orders and has no key to seal with")]
    NoKey,
}

impl From<IndexFault> for ReadError {
    fn from(fault: IndexFault) -> Self {
        Self::Store(fault.into())
    }
}

impl Engine {
    /// The receipt of a committed statement; each time the same bytes.
    ///
    /// # Errors
    /// [`ReadError::Entry`] when the tree does not hold it; [`ReadError::NoKey`].
    pub fn receipt(&self, committed: &Committed) -> Result<Vec<u8>, ReadError> {
        give_way();
        let Committed { id, entry, size, subject, .. } = committed;
        let proof = self.inner.store.inclusion(id, *entry, *size)?;
        let (path, root) = proof.ok_or(ReadError::Entry(*entry))?;
        let Inner { ledger, seals, .. } = &*self.inner;
        let key = self.secret()?;
        let sign = |message: &[u8]| seals.seal(key, message);
        Ok(Receipt::issue_with(key.public(), sign, ledger, subject, *size, *entry, &path, &root))
    }

    /// The ledger's seal under a proof that it only grew.
    ///
    /// # Errors
    /// [`ReadError::NoKey`].
    pub fn sign_consistency(&self, old: u64, size: u64, path: &[Hash], root: &Hash) -> Result<Vec<u8>, ReadError> {
        Ok(ConsistencyReceipt::issue(self.secret()?, &self.inner.ledger, old, size, path, root))
    }

    /// The ledger's signature under its size and root, for others' tools.
    ///
    /// # Errors
    /// [`ReadError::NoKey`].
    pub fn sign_note(&self, note: &TreeNote) -> Result<String, ReadError> {
        Ok(note.seal(self.secret()?))
    }

    fn secret(&self) -> Result<&SigningKey, ReadError> {
        self.inner.key.secret().ok_or(ReadError::NoKey)
    }

    /// A committed statement by its id, with its bytes; of a batch with its triggers ([`tally_evidence::BatchEnvelope`]).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn find(&self, id: &StatementId) -> Result<Option<(Committed, Vec<u8>)>, ReadError> {
        let Some(entry) = self.inner.store.entry_of(id)? else { return Ok(None) };
        self.entry(entry)
    }

    /// A committed statement by its id; also one that was pruned.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn find_committed(&self, id: &StatementId) -> Result<Option<Committed>, ReadError> {
        self.inner.store.entry_of(id)?.map_or(Ok(None), |entry| self.committed(entry))
    }

    /// An entry; also one whose statement was pruned.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn committed(&self, entry: u64) -> Result<Option<Committed>, ReadError> {
        let store = &self.inner.store;
        let Some(place) = store.place_of(entry)? else { return Ok(None) };
        let subject = match store.statement(&place) {
            Err(CommitError::Pruned(_)) => {
                let kept = store.kept(place.height)?.and_then(|block| block.entries.into_iter().nth(place.place));
                kept.map(|entry| entry.subject)
            }
            statement => Some(logged(entry, &statement?)?.subject),
        };
        self.inner.committed(&place, subject.ok_or(ReadError::Entry(entry))?).map(Some)
    }

    /// An entry, with the bytes of its statement.
    ///
    /// # Errors
    /// [`ReadError`]; [`CommitError::Pruned`] in it when the statement is no longer kept.
    pub fn entry(&self, entry: u64) -> Result<Option<(Committed, Vec<u8>)>, ReadError> {
        let Some(place) = self.inner.store.place_of(entry)? else { return Ok(None) };
        let bytes = self.inner.store.statement(&place)?;
        let parsed = logged(entry, &bytes)?;
        let committed = self.inner.committed(&place, parsed.subject)?;
        Ok(Some((committed, bytes)))
    }
}

impl Inner {
    pub(super) fn committed(&self, place: &EntryPlace, subject: String) -> Result<Committed, ReadError> {
        let (refusal, refused) = self.store.refusal(place)?.ok_or(ReadError::Entry(place.entry))?;
        let EntryPlace { entry, height, row, place } = place;
        let id = row.entries.get(*place).map(|(_, id)| *id).ok_or(ReadError::Entry(*entry))?;
        Ok(Committed { id, subject, entry: *entry, height: *height, size: row.size(), refusal, refused })
    }
}

/// The statement among the bytes that the log keeps for an entry.
pub(crate) fn logged(entry: u64, bytes: &[u8]) -> Result<SignedStatement, ReadError> {
    let statement = BatchEnvelope::statement_in(bytes).map_err(|_| ReadError::Entry(entry))?;
    SignedStatement::parse(statement).map_err(|_| ReadError::Entry(entry))
}

/// How many of its triggers the contracts refused, when this is the outcome of a batch.
pub(crate) fn refused_of_batch(outcome: &OutcomeRecord) -> u32 {
    let event = outcome.events.iter().find(|event| event.kind == BATCH_EXECUTED);
    let refused = event.and_then(|event| event.data.get("refused")).and_then(|refused| refused.as_integer());
    refused.and_then(|refused| u32::try_from(refused).ok()).unwrap_or(0)
}
