//! Committed blocks in the words of the projection.

use crate::store::{CommitError, IndexFault, StateView, Store};
use tally_contracts::views;
use tally_evidence::{Checkpoint, OutcomeRecord, VerifyingKey, leaf_hash, root_of};
use tally_model::AgreementId;
use tally_projection::{AgreementFacts, BlockFacts, Fault};

/// Why a block cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The store does not give it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// What it gives makes no sense.
    #[error("block {height}: {text}")]
    Block {
        /// Which block.
        height: u64,
        /// What is wrong.
        text: String,
    },
}

impl From<IndexFault> for FactsError {
    fn from(fault: IndexFault) -> Self {
        Self::Store(fault.into())
    }
}

/// A committed block: statements out of the log, outcomes out of the index, held against the sealed checkpoint.
pub fn block(store: &Store, height: u64, key: &VerifyingKey) -> Result<BlockFacts, FactsError> {
    let wrong = |text: &str| FactsError::Block { height, text: text.to_owned() };
    let row = store.block(height)?.ok_or_else(|| wrong("the index has no row of it"))?;
    let sealed = Checkpoint::open(&row.checkpoint, key).map_err(|fault| wrong(&fault.to_string()))?;
    let statements = store.statements(height, &row)?;
    let encoded = store.outcomes(height)?.ok_or_else(|| wrong("the index has no outcomes of it"))?;
    // The index is no truth: what it says must be what the ledger's key has sealed.
    let leaves: Vec<_> = encoded.iter().map(|outcome| leaf_hash(outcome)).collect();
    if (root_of(&leaves), leaves.len() as u64) != (sealed.outcomes, sealed.outcome_count) {
        return Err(wrong("its outcomes are not those that its checkpoint seals"));
    }
    let outcomes = encoded.iter().map(|outcome| OutcomeRecord::decode(outcome)).collect::<Result<_, _>>();
    Ok(BlockFacts {
        height,
        time: row.time,
        checkpoint: sealed.digest(),
        first_entry: row.first_entry,
        statements: row.entries.iter().map(|(_, id)| *id).zip(statements.into_iter().map(Some)).collect(),
        outcomes: outcomes.map_err(|fault| wrong(&fault.to_string()))?,
    })
}

/// What the state says of an agreement, or the outcome of its retirement.
pub fn agreement(store: &Store, state: &StateView, id: &str) -> Result<Option<AgreementFacts>, Fault> {
    let Ok(id) = AgreementId::try_new(id) else { return Ok(None) };
    let unread = |why: &str| {
        let (place, text) = ("the ledger's index".to_owned(), format!("agreement `{id}` cannot be read{why}"));
        Fault::Database { place, text, is_damaged: false }
    };
    let mut found = views::agreement(state, &id);
    if found.is_none() && views::is_retired(state, &id) {
        found = match store.agreement(&id) {
            // Pruned: what the tables have stays.
            Err(CommitError::Pruned(_)) => None,
            retired => retired.map_err(|error| unread(&format!(": {error}")))?,
        };
    }
    if !state.is_sound() {
        return Err(unread(""));
    }
    Ok(found.map(|view| AgreementFacts {
        currency: view.currency,
        parties: view.parties,
        fields: view.fields,
        due: view.due,
    }))
}
