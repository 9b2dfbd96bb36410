//! Committed blocks in the words of the projection.

use crate::execute::BATCH_EXECUTED;
use crate::retain::kept::KeptEntry;
use crate::store::{BlockRow, CommitError, IndexFault, StateView, Store};
use std::collections::BTreeMap;
use tally_contracts::views;
use tally_evidence::cbor::int;
use tally_evidence::{Checkpoint, Event, OutcomeRecord, Place, VerifyingKey, leaf_hash, root_from_path, root_of};
use tally_model::AgreementId;
use tally_projection::{AccountFacts, AgreementFacts, BlockFacts, Fault};

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

/// A committed block: statements out of the log, outcomes out of the index, held against the sealed checkpoint. Of one that was
/// pruned, what is kept.
pub fn block(store: &Store, height: u64, key: &VerifyingKey) -> Result<BlockFacts, FactsError> {
    let wrong = |text: &str| FactsError::Block { height, text: text.to_owned() };
    let row = store.block(height)?.ok_or_else(|| wrong("the index has no row of it"))?;
    let sealed = Checkpoint::open(&row.checkpoint, key).map_err(|fault| wrong(&fault.to_string()))?;
    let Some(encoded) = store.outcomes(height)? else { return pruned(store, height, &row, &sealed) };
    let statements = store.statements(height, &row)?;
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
        terms: row.terms.into(),
        outcomes: outcomes.map_err(|fault| wrong(&fault.to_string()))?,
        is_whole: true,
    })
}

/// What is kept of a block that was pruned: all ids and refusals; statements and outcomes of what was live then, and of the registry.
fn pruned(store: &Store, height: u64, row: &BlockRow, sealed: &Checkpoint) -> Result<BlockFacts, FactsError> {
    let wrong = |text: &str| FactsError::Block { height, text: text.to_owned() };
    let block = store.kept(height)?.ok_or_else(|| wrong("the index has no outcomes of it"))?;
    let mut outcomes = BTreeMap::new();
    for kept in &block.kept {
        let root = root_from_path(leaf_hash(&kept.outcome), kept.index, sealed.outcome_count, &kept.path);
        if root != Some(sealed.outcomes) {
            return Err(wrong("what is kept of its outcomes is not what its checkpoint seals"));
        }
        let outcome = OutcomeRecord::decode(&kept.outcome).map_err(|fault| wrong(&fault.to_string()))?;
        outcomes.insert(kept.index, outcome);
    }
    for (place, entry) in block.entries.iter().enumerate() {
        let place_of = Place::Entry { index: row.first_entry + place as u64, statement: entry.id };
        outcomes.entry(row.outcome_of(place) as u64).or_insert_with(|| without_events(height, place_of, entry));
    }
    let statement = |(place, entry): (usize, &KeptEntry)| (entry.id, block.statement(place).map(<[u8]>::to_vec));
    Ok(BlockFacts {
        height,
        time: row.time,
        checkpoint: sealed.digest(),
        first_entry: row.first_entry,
        statements: block.entries.iter().enumerate().map(statement).collect(),
        terms: block.terms,
        outcomes: outcomes.into_values().collect(),
        is_whole: false,
    })
}

/// All that is known of an entry whose outcome is gone.
fn without_events(height: u64, place: Place, entry: &KeptEntry) -> OutcomeRecord {
    let batch = entry.batch.map(|(triggers, refused)| Event {
        kind: BATCH_EXECUTED.to_owned(),
        subject: entry.subject.clone(),
        data: [("triggers".to_owned(), int(triggers)), ("refused".to_owned(), int(refused))].into(),
    });
    OutcomeRecord { place, height, refusal: entry.refusal, events: batch.into_iter().collect() }
}

/// What all accounts hold in the state.
pub fn accounts(state: &StateView) -> Result<Vec<AccountFacts>, Fault> {
    let accounts = views::accounts(state).into_iter().map(|account| AccountFacts {
        id: account.id,
        owner: account.owner,
        currency: account.currency,
        balance_minor: account.balance_minor,
    });
    let accounts = accounts.collect();
    if !state.is_sound() {
        let (place, text) = ("the ledger's index".to_owned(), "the accounts cannot be read".to_owned());
        return Err(Fault::Database { place, text, is_damaged: false });
    }
    Ok(accounts)
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
