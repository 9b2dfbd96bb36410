//! What the projection is told. Whoever reads the log tells it.

use std::collections::BTreeMap;
use tally_evidence::{Hash, OutcomeRecord, StatementId};
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
    /// How many terms ran out in it.
    pub terms: u64,
    /// Outcomes: of the terms that ran out, then of the statements, each batch followed by its triggers.
    pub outcomes: Vec<OutcomeRecord>,
    /// Whether that is all of them; of a block that was pruned the ledger has some.
    pub is_whole: bool,
}

impl BlockFacts {
    /// About how many rows it makes.
    #[must_use]
    pub fn weight(&self) -> usize {
        1 + self.outcomes.iter().map(|outcome| 1 + 2 * outcome.events.len()).sum::<usize>()
    }
}

/// An account as the state has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its id, such as `acme/EUR`.
    pub id: String,
    /// Whose money it is.
    pub owner: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Minor units.
    pub balance_minor: i64,
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
