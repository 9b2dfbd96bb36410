//! What the index is asked.

use super::super::details::DETAILS;
use super::super::forget::KEPT;
use super::super::pending::PendingBlock;
use super::super::rows::{self, BlockRow};
use super::statements::DURABLE;
use super::{
    BLOCKS, ENTRIES, Index, IndexFault, META, OUTCOMES, RUNS, STATE, STATEMENTS, StateView, TERMS, TREE_CHANGES,
    decode_block, term_key,
};
use redb::{ReadableDatabase, ReadableTableMetadata};
use tally_evidence::StateChange;
use tally_model::{AgreementId, Timestamp};

impl Index {
    /// Gives what blocks behind `height` changed in the state tree, block by block.
    pub fn each_tree_change(
        &self,
        height: u64,
        mut take: impl FnMut(Vec<StateChange>) -> Result<(), IndexFault>,
    ) -> Result<(), IndexFault> {
        let table = self.db.begin_read()?.open_table(TREE_CHANGES)?;
        for (item, next) in table.range(height + 1..)?.zip(height + 1..) {
            let (found, row) = item?;
            let changes = rows::decode_changes(row.value()).filter(|_| found.value() == next);
            let damaged = || IndexFault::Damaged(format!("what block {next} changed in the state tree"));
            take(changes.ok_or_else(damaged)?)?;
        }
        Ok(())
    }

    /// The state behind the last block; stays there.
    pub fn state(&self) -> Result<StateView, IndexFault> {
        // In this order: what is in the file already is passed over.
        let pending = self.pending.blocks();
        let read = self.db.begin_read()?;
        let height = read.open_table(META)?.get("applied")?.map(|row| row.value().0);
        let mut view = StateView::new(height, read.open_table(STATE)?);
        pending.iter().for_each(|block| view.go_on(block.height, &block.state));
        Ok(view)
    }

    /// Height of the block that holds an entry. Entries beyond the last one are in no block.
    pub fn height_of(&self, entry: u64) -> Result<Option<u64>, IndexFault> {
        let has = |block: &PendingBlock| !block.row.entries.is_empty() && block.row.first_entry <= entry;
        if let Some(height) = self.pending.find(|block| has(block).then_some(block.height)) {
            return Ok(Some(height));
        }
        let table = self.db.begin_read()?.open_table(ENTRIES)?;
        let last = table.range(..=entry)?.next_back().transpose()?;
        Ok(last.map(|(_, height)| height.value()))
    }

    pub fn block(&self, height: u64) -> Result<Option<BlockRow>, IndexFault> {
        if let Some(block) = self.pending.at(height) {
            return Ok(Some(block.row.clone()));
        }
        let table = self.db.begin_read()?.open_table(BLOCKS)?;
        table.get(height)?.map(|row| decode_block(height, row.value())).transpose()
    }

    pub fn outcomes(&self, height: u64) -> Result<Option<Vec<Vec<u8>>>, IndexFault> {
        if let Some(block) = self.pending.at(height) {
            return Ok(Some(block.outcomes.clone()));
        }
        let table = self.db.begin_read()?.open_table(OUTCOMES)?;
        let decode = |row: &[u8]| {
            rows::decode_outcomes(row).ok_or_else(|| IndexFault::Damaged(format!("the outcomes of block {height}")))
        };
        table.get(height)?.map(|row| decode(row.value())).transpose()
    }

    /// Where the outcome of a term that ran out is: height, and place among the block's outcomes.
    pub fn term(&self, agreement: &AgreementId, due: Timestamp) -> Result<Option<(u64, u32)>, IndexFault> {
        let is_it = |term: &(AgreementId, Timestamp)| term.0 == *agreement && term.1 == due;
        if let Some(found) =
            self.pending.find(|block| block.term_places().find_map(|(term, place)| is_it(term).then_some(place)))
        {
            return Ok(Some(found));
        }
        let table = self.db.begin_read()?.open_table(TERMS)?;
        Ok(table.get(term_key(agreement, due).as_slice())?.map(|row| row.value()))
    }

    /// What each table of the file holds: its contents, bytes of keys and values, bytes around them in its pages.
    pub fn tables(&self) -> Result<Vec<(&'static str, u64, u64)>, IndexFault> {
        let read = self.db.begin_read()?;
        let size = |what, stats: redb::TableStats| {
            (what, stats.stored_bytes(), stats.metadata_bytes() + stats.fragmented_bytes())
        };
        Ok(vec![
            size("state of the contracts", read.open_table(STATE)?.stats()?),
            size("rows of the blocks: checkpoints, and where each statement is", read.open_table(BLOCKS)?.stats()?),
            size("outcomes", read.open_table(OUTCOMES)?.stats()?),
            size("refusals in words", read.open_table(DETAILS)?.stats()?),
            size("entry → block", read.open_table(ENTRIES)?.stats()?),
            size("which files of statement ids count", read.open_table(RUNS)?.stats()?),
            size("what is kept of blocks that were pruned", read.open_table(KEPT)?.stats()?),
            size("terms that ran out", read.open_table(TERMS)?.stats()?),
            size("changes that the state tree may not have yet", read.open_table(TREE_CHANGES)?.stats()?),
            size("format and height of the index", read.open_table(META)?.stats()?),
        ])
    }

    /// The last block of a durable transaction; before that transaction the tree of entries was synced.
    pub fn written_behind(&self) -> Result<Option<u64>, IndexFault> {
        let meta = self.db.begin_read()?.open_table(META)?;
        let height = |key| Ok::<_, IndexFault>(meta.get(key)?.map(|row| row.value().0));
        // An index of the version before knows of the ids only, which were written with each.
        Ok(height(DURABLE)?.or(height(STATEMENTS)?))
    }

    /// Gives the block rows of the file from `first` on, in order.
    pub fn each_block(
        &self,
        first: u64,
        mut take: impl FnMut(u64, BlockRow) -> Result<(), IndexFault>,
    ) -> Result<(), IndexFault> {
        for item in self.db.begin_read()?.open_table(BLOCKS)?.range(first..)? {
            let (height, row) = item?;
            take(height.value(), decode_block(height.value(), row.value())?)?;
        }
        Ok(())
    }

    /// Gives the whole state of the file in pieces of at most `piece` pairs.
    pub fn each_state(
        &self,
        piece: usize,
        mut take: impl FnMut(Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), IndexFault>,
    ) -> Result<(), IndexFault> {
        let mut pairs = Vec::with_capacity(piece);
        for item in self.db.begin_read()?.open_table(STATE)?.range::<&[u8]>(..)? {
            let (key, value) = item?;
            pairs.push((key.value().to_vec(), value.value().to_vec()));
            if pairs.len() == piece {
                take(std::mem::take(&mut pairs))?;
            }
        }
        take(pairs)
    }
}
