//! One input against the state: all or nothing.

use crate::{Overlay, Refusal, StateRead};
use tally_evidence::{CallBody, Event, KeyId, TriggerBody};
use tally_model::{AgreementId, PartyId, Timestamp};

/// The block in which an input is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which ledger.
    pub ledger: String,
    /// Height from 0.
    pub height: u64,
    /// Block time: the only clock.
    pub time: Timestamp,
}

/// What the kernel executes. Seals are checked before; who signed is passed in.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A trigger statement.
    Trigger {
        /// Index of the entry.
        entry: u64,
        /// The statement's `iss`.
        signer: &'a PartyId,
        /// The key that sealed it.
        key: KeyId,
        /// Its body.
        body: &'a TriggerBody,
    },
    /// A call statement.
    Call {
        /// Index of the entry.
        entry: u64,
        /// The statement's `iss`.
        signer: &'a PartyId,
        /// The key that sealed it.
        key: KeyId,
        /// Its body.
        body: &'a CallBody,
    },
    /// A term that ran out, as [`Kernel::due_terms`] gave it.
    Term {
        /// Whose term.
        agreement: &'a AgreementId,
        /// When it was due.
        due: Timestamp,
    },
}

/// The kernel. Keeps compiled contracts by digest, nothing else.
#[derive(Debug, Default)]
pub struct Kernel {}

impl Kernel {
    /// A kernel with an empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Executes one input: the events, or a refusal that leaves `state` as it was.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn execute(&self, _state: &mut Overlay<'_>, _block: &Block, _input: &Input<'_>) -> Result<Vec<Event>, Refusal> {
        Ok(Vec::new())
    }

    /// At most `limit` terms due at or before `until`, in order of due time.
    #[must_use]
    pub fn due_terms(&self, _state: &dyn StateRead, _until: Timestamp, _limit: usize) -> Vec<(AgreementId, Timestamp)> {
        Vec::new()
    }

    /// When the next term is due.
    #[must_use]
    pub fn next_due(&self, _state: &dyn StateRead) -> Option<Timestamp> {
        None
    }
}
