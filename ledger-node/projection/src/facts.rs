//! What the projection is told. Whoever reads the log tells it.

use std::collections::BTreeMap;
use tally_evidence::{Hash, OutcomeRecord, Place, StatementId};
use tally_model::Timestamp;

/// A committed block.
#[derive(Debug, Clone)]
pub struct BlockFacts {
    /// Its height.
    pub height: u64,
    /// Its time.
    pub time: Timestamp,
    /// Digest of its checkpoint.
    pub checkpoint: Hash,
    /// Index of its first entry.
    pub first_entry: u64,
    /// Id of each statement, and its bytes where the ledger still has them.
    pub statements: Vec<(StatementId, Option<Vec<u8>>)>,
    /// Outcomes: of the terms that ran out, then of the statements, each batch followed by its triggers.
    pub outcomes: Vec<OutcomeRecord>,
}

impl BlockFacts {
    /// How many terms ran out in it.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.outcomes.iter().take_while(|outcome| matches!(outcome.place, Place::Term { .. })).count()
    }

    /// About how many rows it makes.
    #[must_use]
    pub fn weight(&self) -> usize {
        1 + self.outcomes.iter().map(|outcome| 1 + 2 * outcome.events.len()).sum::<usize>()
    }
}

/// What the state says of an agreement beyond what its events tell.
#[derive(Debug, Clone, PartialEq)]
pub struct AgreementFacts {
    /// ISO 4217 code of its money.
    pub currency: String,
    /// Role to party, of the roles that somebody holds.
    pub parties: BTreeMap<String, String>,
    /// Its fields; money in minor units, durations in microseconds.
    pub fields: BTreeMap<String, serde_json::Value>,
    /// When its term runs out.
    pub due: Option<Timestamp>,
}
