//! Blocks into the index: first where readers find them, then into its file.

use super::super::details::DETAILS;
use super::super::pending::PendingBlock;
use super::super::rows;
use super::super::state_tree::Commit;
use super::{BLOCKS, ENTRIES, Index, IndexFault, META, OUTCOMES, RunLimits, STATE, TERMS, TREE_CHANGES, term_key};
use redb::{Durability, ReadableTable, WriteTransaction};
use std::sync::{Arc, PoisonError};

/// Rows of the state tree's changes that are forgotten for each block that is written, at most: more than come in, and not all 100,000 entries' worth
/// at once, which takes a core for a tenth of a second.
const FORGOTTEN: u64 = 4;

impl Index {
    /// One more block: readers find it from here on, and it waits to be [written](Self::write). With a top of the state tree that must not
    /// be durable before it. Waits while too much waits.
    ///
    /// # Errors
    /// [`IndexFault::Stopped`].
    pub fn add(&self, block: Arc<PendingBlock>, top: Option<Commit>) -> Result<(), IndexFault> {
        self.pending.push(Arc::clone(&block), top)?;
        // In this order: whoever finds a statement finds its block too.
        self.remember_statements(&block.row);
        Ok(())
    }

    /// Writes blocks, the next ones, in one transaction; durably with limits. `tree_durable`: the block up to which the state tree is
    /// durable; what it may have lacked is forgotten little by little.
    pub fn write(
        &self,
        blocks: &[Arc<PendingBlock>],
        tree_durable: Option<u64>,
        durable: Option<RunLimits>,
    ) -> Result<(), IndexFault> {
        let Some(last) = blocks.last() else { return Ok(()) };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = self.db.begin_write()?;
        if durable.is_some() {
            // Opening after a crash then needs no walk over the whole file.
            write.set_quick_repair(true);
        } else {
            write.set_durability(Durability::None)?;
        }
        write_state(&write, blocks)?;
        write_rows(&write, blocks)?;
        write_words(&write, blocks)?;
        write_tree(&write, blocks, tree_durable)?;
        write.open_table(META)?.insert("applied", (last.height, last.digest.as_slice()))?;
        let settled = durable.map(|limits| self.settle_statements(&write, last.height, last.row.size(), limits));
        let settled = settled.transpose()?;
        // If we die here: redb comes back at its last durable transaction, whose `applied` says where the log goes on.
        write.commit()?;
        match (settled, durable) {
            (Some(settled), Some(limits)) => self.statements_settled(settled, limits),
            _ => Ok(()),
        }
    }
}

fn write_state(write: &WriteTransaction, blocks: &[Arc<PendingBlock>]) -> Result<(), IndexFault> {
    let mut table = write.open_table(STATE)?;
    for (key, value) in blocks.iter().flat_map(|block| block.state.iter()) {
        match value {
            Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
            None => drop(table.remove(key.as_slice())?),
        }
    }
    Ok(())
}

fn write_rows(write: &WriteTransaction, blocks: &[Arc<PendingBlock>]) -> Result<(), IndexFault> {
    let (mut rows, mut outcomes) = (write.open_table(BLOCKS)?, write.open_table(OUTCOMES)?);
    let (mut entries, mut terms) = (write.open_table(ENTRIES)?, write.open_table(TERMS)?);
    for block in blocks {
        rows.insert(block.height, block.row.encode().as_slice())?;
        outcomes.insert(block.height, rows::encode_outcomes(&block.outcomes).as_slice())?;
        if !block.row.entries.is_empty() {
            entries.insert(block.row.first_entry, block.height)?;
        }
        for ((agreement, due), place) in block.terms.iter().zip(0u32..) {
            terms.insert(term_key(agreement, *due).as_slice(), (block.height, place))?;
        }
    }
    Ok(())
}

fn write_words(write: &WriteTransaction, blocks: &[Arc<PendingBlock>]) -> Result<(), IndexFault> {
    let mut table = write.open_table(DETAILS)?;
    for block in blocks {
        for (place, text) in block.details.rows() {
            table.insert((block.height, *place), text.as_str())?;
        }
    }
    Ok(())
}

fn write_tree(
    write: &WriteTransaction,
    blocks: &[Arc<PendingBlock>],
    tree_durable: Option<u64>,
) -> Result<(), IndexFault> {
    let mut table = write.open_table(TREE_CHANGES)?;
    for block in blocks {
        table.insert(block.height, rows::encode_changes(&block.tree).as_slice())?;
    }
    let first = table.first()?.map(|(height, _)| height.value());
    if let (Some(height), Some(first)) = (tree_durable, first) {
        let end = first.saturating_add(FORGOTTEN * blocks.len() as u64).min(height.saturating_add(1));
        table.retain_in(..end, |_, _| false)?;
    }
    Ok(())
}
