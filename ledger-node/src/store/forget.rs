//! The index of a ledger that forgets: blocks of which only some is kept, and an index made from a snapshot.
//!
//! **Who writes.** Forgetting: whoever runs a retention pass, between the keeping thread's transactions (redb gives one writer at a
//! time). Seeding: opening, before anybody else is there.

use super::index::{BLOCKS, ENTRIES, Index, META, OUTCOMES, STATE, TERMS, decode_block, term_key};
use super::rows::{self, BlockRow};
use super::{CommitError, EntryPlace, IndexFault, details};
use crate::engine::refused_of_batch;
use crate::retain::KeptBlock;
use redb::{Durability, ReadTransaction, ReadableDatabase, TableDefinition};
use std::ops::Range;
use std::sync::PoisonError;
use tally_evidence::{Hash, OutcomeRecord, Place};
use tally_model::{AgreementId, Timestamp};

/// Height to [`KeptBlock`], for blocks of which no more is kept.
pub(super) const KEPT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("kept");
/// Key in `META`: below this height only [`KEPT`] is kept.
const KEPT_BELOW: &str = "kept";

/// A block on its way into an index that is made anew.
pub struct Seed {
    pub height: u64,
    pub row: BlockRow,
    pub outcomes: SeedOutcomes,
}

/// What there is of a block's outcomes.
pub enum SeedOutcomes {
    /// All of them.
    All(Vec<Vec<u8>>),
    /// The kept block's bytes, and the outcomes in it with their places.
    Kept(Vec<u8>, Vec<(u64, Vec<u8>)>),
}

impl Index {
    /// Below which height only [`KeptBlock`]s are kept.
    pub fn kept_below(&self) -> Result<u64, IndexFault> {
        let meta = self.db.begin_read()?.open_table(META)?;
        Ok(meta.get(KEPT_BELOW)?.map_or(0, |row| row.value().0))
    }

    /// What is kept of a block.
    pub fn kept(&self, height: u64) -> Result<Option<KeptBlock>, IndexFault> {
        let table = self.db.begin_read()?.open_table(KEPT)?;
        let decode = |bytes: &[u8]| {
            KeptBlock::decode(bytes).map_err(|fault| IndexFault::Damaged(format!("kept block {height}: {fault}")))
        };
        table.get(height)?.map(|row| decode(row.value())).transpose()
    }

    /// Of these blocks only this much is kept from here on. They follow [`kept_below`](Self::kept_below).
    pub fn forget(&self, blocks: &[(u64, Vec<u8>)]) -> Result<(), IndexFault> {
        let Some((last, _)) = blocks.last() else { return Ok(()) };
        // What comes into the file later is not forgotten.
        self.pending.wait()?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = self.db.begin_write()?;
        // Not durable: a power cut loses it here, the kept file has it, and opening brings it in again.
        write.set_durability(Durability::None)?;
        let (mut kept, mut outcomes) = (write.open_table(KEPT)?, write.open_table(OUTCOMES)?);
        for (height, bytes) in blocks {
            kept.insert(height, bytes.as_slice())?;
            outcomes.remove(height)?;
        }
        drop((kept, outcomes));
        details::forget(&write, blocks.first().map_or(*last, |(first, _)| *first)..=*last)?;
        write.open_table(META)?.insert(KEPT_BELOW, (last + 1, &[][..]))?;
        Ok(write.commit()?)
    }

    /// Brings blocks into an index that is made anew. It is of no use before [`seeded`](Self::seeded).
    pub fn seed(&self, blocks: &[Seed]) -> Result<(), IndexFault> {
        let mut write = self.db.begin_write()?;
        write.set_durability(Durability::None)?;
        for block in blocks {
            write.open_table(BLOCKS)?.insert(block.height, block.row.encode().as_slice())?;
            if !block.row.entries.is_empty() {
                write.open_table(ENTRIES)?.insert(block.row.first_entry, block.height)?;
            }
            let mut terms = write.open_table(TERMS)?;
            for (place, outcome) in block.outcomes().take_while(|(place, _)| *place < u64::from(block.row.terms)) {
                if let Some(key) = term_of(outcome) {
                    terms.insert(key.as_slice(), (block.height, u32::try_from(place).unwrap_or(u32::MAX)))?;
                }
            }
            match &block.outcomes {
                SeedOutcomes::All(all) => {
                    write.open_table(OUTCOMES)?.insert(block.height, rows::encode_outcomes(all).as_slice())?;
                }
                SeedOutcomes::Kept(kept, _) => {
                    write.open_table(KEPT)?.insert(block.height, kept.as_slice())?;
                    write.open_table(META)?.insert(KEPT_BELOW, (block.height + 1, &[][..]))?;
                }
            }
        }
        Ok(write.commit()?)
    }

    /// Brings a piece of the state into an index that is made anew.
    pub fn seed_state(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), IndexFault> {
        let mut write = self.db.begin_write()?;
        write.set_durability(Durability::None)?;
        let mut table = write.open_table(STATE)?;
        for (key, value) in pairs {
            table.insert(key.as_slice(), value.as_slice())?;
        }
        drop(table);
        Ok(write.commit()?)
    }

    /// An index that is made anew is complete up to block `height`. Durable.
    pub fn seeded(&self, height: u64, digest: Hash) -> Result<(), IndexFault> {
        let mut write = self.db.begin_write()?;
        write.set_quick_repair(true);
        let mut meta = write.open_table(META)?;
        meta.insert("statements", (height, &[][..]))?;
        meta.insert("applied", (height, digest.as_slice()))?;
        drop(meta);
        write.commit()?;
        // If we die here: opening makes runs of the blocks' ids, too.
        self.reload_statements()
    }

    /// Everything as it is now, for as long as the view is held; the pages it needs are not used again before.
    pub fn view(&self) -> Result<IndexView, IndexFault> {
        self.pending.wait()?;
        Ok(IndexView(self.db.begin_read()?))
    }
}

impl Seed {
    fn outcomes(&self) -> Box<dyn Iterator<Item = (u64, &Vec<u8>)> + '_> {
        match &self.outcomes {
            SeedOutcomes::All(all) => Box::new((0..).zip(all)),
            SeedOutcomes::Kept(_, kept) => Box::new(kept.iter().map(|(place, outcome)| (*place, outcome))),
        }
    }
}

/// The key of a term that ran out, of its outcome.
fn term_of(outcome: &[u8]) -> Option<Vec<u8>> {
    match OutcomeRecord::decode(outcome).ok()?.place {
        Place::Term { agreement, due } => {
            Some(term_key(&AgreementId::try_new(&agreement).ok()?, Timestamp::from_micros(due)))
        }
        Place::Entry { .. } | Place::Item { .. } => None,
    }
}

/// The index at one moment.
pub struct IndexView(ReadTransaction);

impl IndexView {
    /// The last block it has, with the digest of its checkpoint.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn applied(&self) -> Result<Option<(u64, Hash)>, IndexFault> {
        let meta = self.0.open_table(META)?;
        let Some(row) = meta.get("applied")? else { return Ok(None) };
        let (height, digest) = row.value();
        let digest = digest.try_into().map_err(|_| IndexFault::Damaged("the digest has another length".to_owned()))?;
        Ok(Some((height, digest)))
    }

    /// The row of a block.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn block(&self, height: u64) -> Result<Option<BlockRow>, IndexFault> {
        self.0.open_table(BLOCKS)?.get(height)?.map(|row| decode_block(height, row.value())).transpose()
    }

    /// The outcomes of a block.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn outcomes(&self, height: u64) -> Result<Option<Vec<Vec<u8>>>, IndexFault> {
        let damaged = || IndexFault::Damaged(format!("the outcomes of block {height}"));
        let table = self.0.open_table(OUTCOMES)?;
        table.get(height)?.map(|row| rows::decode_outcomes(row.value()).ok_or_else(damaged)).transpose()
    }

    /// Gives the whole state in order, in pieces of at most `piece` pairs.
    ///
    /// # Errors
    /// [`IndexFault`], or what `take` gives.
    pub fn each_state<E: From<IndexFault>>(
        &self,
        piece: usize,
        mut take: impl FnMut(Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = self.0.open_table(STATE).map_err(IndexFault::from)?;
        let mut pairs = Vec::with_capacity(piece);
        for item in table.range::<&[u8]>(..).map_err(IndexFault::from)? {
            let (key, value) = item.map_err(IndexFault::from)?;
            pairs.push((key.value().to_vec(), value.value().to_vec()));
            if pairs.len() == piece {
                take(std::mem::take(&mut pairs))?;
            }
        }
        take(pairs)
    }
}

impl super::Store {
    /// Blocks below this height are kept in part only.
    #[must_use]
    pub fn kept_below(&self) -> u64 {
        self.kept_below.load(std::sync::atomic::Ordering::Acquire)
    }

    /// What is kept of a block below [`kept_below`](Self::kept_below).
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn kept(&self, height: u64) -> Result<Option<KeptBlock>, IndexFault> {
        if height >= self.kept_below() { Ok(None) } else { self.index.kept(height) }
    }

    /// Outcomes `wanted` of the block at `place`, when they are all still there.
    ///
    /// # Errors
    /// [`CommitError::Pruned`] when one is not; [`IndexFault`].
    pub fn outcomes_left(&self, place: &EntryPlace, wanted: Range<u64>) -> Result<Vec<Vec<u8>>, CommitError> {
        let outcomes: Option<Vec<_>> = match self.outcomes(place.height)? {
            Some(all) => wanted.map(|index| all.get(usize::try_from(index).ok()?).cloned()).collect(),
            None => {
                let kept = self.index.kept(place.height)?;
                kept.and_then(|block| wanted.map(|index| Some(block.outcome(index)?.outcome.clone())).collect())
            }
        };
        outcomes.ok_or_else(|| self.pruned(place.height, format!("the outcome of entry {}", place.entry)))
    }

    /// The refusal of an entry (0: done), and how many of its triggers were refused if it is a batch; also when it was pruned.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn refusal(&self, place: &EntryPlace) -> Result<Option<(u16, u32)>, IndexFault> {
        if let Some(outcomes) = self.outcomes(place.height)? {
            let outcome = outcomes.get(place.row.outcome_of(place.place));
            let outcome = outcome.and_then(|bytes| OutcomeRecord::decode(bytes).ok());
            return Ok(outcome.map(|outcome| (outcome.refusal, refused_of_batch(&outcome))));
        }
        let block = self.index.kept(place.height)?;
        let entry = block.and_then(|block| block.entries.into_iter().nth(place.place));
        Ok(entry.map(|entry| (entry.refusal, entry.batch.map_or(0, |(_, refused)| refused))))
    }

    /// The index at this moment.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn view(&self) -> Result<IndexView, IndexFault> {
        self.index.view()
    }

    /// The first block of each segment of the log and its bytes, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<(u64, u64)> {
        self.log.segments()
    }

    /// The data folder, where there is one.
    #[must_use]
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_deref()
    }

    /// Of these blocks only this much is kept from here on; the log may still have them.
    pub(crate) fn forget(&self, blocks: &[(u64, Vec<u8>)]) -> Result<(), IndexFault> {
        self.index.forget(blocks)?;
        if let Some((last, _)) = blocks.last() {
            self.kept_below.fetch_max(last + 1, std::sync::atomic::Ordering::AcqRel);
        }
        Ok(())
    }

    /// Deletes the segments of the log that hold only blocks below `height`, of which all is kept that is to be kept. The last
    /// block of the index always stays.
    pub(crate) fn discard_log_before(&self, height: u64) -> Result<(), tally_journal::JournalError> {
        let applied = self.head().map_or(0, |head| head.checkpoint.height);
        self.log.discard_before(height.min(self.kept_below()).min(applied))
    }
}
