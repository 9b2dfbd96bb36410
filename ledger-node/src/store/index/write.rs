//! A block into the index.

use super::super::details::Details;
use super::super::rows::{self, BlockRow};
use super::{BLOCKS, Durable, ENTRIES, Index, IndexFault, META, OUTCOMES, STATE, TERMS, TREE_CHANGES, term_key};
use redb::{Durability, WriteTransaction};
use std::sync::PoisonError;
use tally_contracts::Changes;
use tally_evidence::{Hash, StateChange};
use tally_model::{AgreementId, Timestamp};

/// What a block changes in the index.
pub struct IndexChange<'a> {
    pub height: u64,
    pub row: &'a BlockRow,
    pub outcomes: &'a [Vec<u8>],
    pub details: &'a Details,
    pub terms: &'a [(AgreementId, Timestamp)],
    pub state: &'a Changes,
    /// The same for the state tree.
    pub tree: &'a [StateChange],
    /// The block up to which the state tree is durable, when that is news.
    pub tree_durable: Option<u64>,
    /// Digest of the block's checkpoint.
    pub digest: Hash,
}

impl Index {
    /// Writes one block; durably with what goes on from there.
    pub fn apply(&self, change: IndexChange<'_>, durable: Option<Durable>) -> Result<(), IndexFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = self.db.begin_write()?;
        if durable.is_some() {
            // Opening after a crash then needs no walk over the whole file.
            write.set_quick_repair(true);
        } else {
            write.set_durability(Durability::None)?;
        }
        write_state(&write, change.state)?;
        write_block(&write, &change)?;
        write_tree(&write, &change)?;
        write.open_table(META)?.insert("applied", (change.height, change.digest.as_slice()))?;
        let new = change.row.entries.iter().map(|(_, id)| id.0).zip(change.row.first_entry..);
        match durable {
            Some(durable) => {
                let limits = durable.limits;
                let settled = self.settle_statements(&write, change.height, change.row.size(), durable)?;
                // If we die here: redb comes back at its last durable transaction, whose `applied` says where the log goes on.
                write.commit()?;
                self.statements_settled(settled, new, limits)
            }
            None => {
                write.commit()?;
                self.remember_statements(new);
                Ok(())
            }
        }
    }
}

fn write_state(write: &WriteTransaction, changes: &Changes) -> Result<(), IndexFault> {
    let mut table = write.open_table(STATE)?;
    for (key, value) in changes {
        match value {
            Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
            None => drop(table.remove(key.as_slice())?),
        }
    }
    Ok(())
}

fn write_block(write: &WriteTransaction, change: &IndexChange<'_>) -> Result<(), IndexFault> {
    let row = change.row;
    write.open_table(BLOCKS)?.insert(change.height, row.encode().as_slice())?;
    write.open_table(OUTCOMES)?.insert(change.height, rows::encode_outcomes(change.outcomes).as_slice())?;
    change.details.write(write, change.height)?;
    if !row.entries.is_empty() {
        write.open_table(ENTRIES)?.insert(row.first_entry, change.height)?;
    }
    let mut terms = write.open_table(TERMS)?;
    for ((agreement, due), place) in change.terms.iter().zip(0u32..) {
        terms.insert(term_key(agreement, *due).as_slice(), (change.height, place))?;
    }
    Ok(())
}

fn write_tree(write: &WriteTransaction, change: &IndexChange<'_>) -> Result<(), IndexFault> {
    let mut table = write.open_table(TREE_CHANGES)?;
    table.insert(change.height, rows::encode_changes(change.tree).as_slice())?;
    if let Some(height) = change.tree_durable {
        table.retain_in(..=height, |_, _| false)?;
    }
    Ok(())
}
