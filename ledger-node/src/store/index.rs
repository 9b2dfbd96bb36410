//! State and indexes in one redb file: fast to ask, never the truth, rebuilt from the log whenever in doubt.
//!
//! **Who writes.** The index thread, one transaction a block; a retention pass what it forgets (`forget`), between them. A block is written with `Durability::None` (a power cut
//! loses it here, the log has it); every so many blocks or entries ([`FlushLimits`]) the transaction is made durable,
//! together with the height it brings the index to. On opening the log's tail behind that height is executed again.
//! Statement ids are random: written block by block each would rewrite a page of its own. They wait in memory for the durable
//! transaction and go in together, sorted.
//!
//! **Limits.** Page cache 8 MiB ([`CACHE_BYTES`]). Disk: some 100 bytes an entry plus the outcomes plus the state.

use super::details::{DETAILS, Details};
use super::disk::IndexDisk;
use super::rows::{self, BlockRow};
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    TableDefinition, WriteTransaction,
};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError, RwLock};
use tally_contracts::{Changes, StateRead};
use tally_evidence::{Hash, StateChange, StatementId};
use tally_model::{AgreementId, Timestamp};

/// Bytes of pages kept in memory; redb's default of 1 GiB would look like a leak. Four times as much makes nothing faster: what is
/// read again and again is in the system's page cache, too.
const CACHE_BYTES: usize = 8 << 20;
/// Bytes of the largest index that is read through when it is opened: some tenths of a second.
const CHECKED_BYTES_MAX: u64 = 256 << 20;
/// Version of the tables below; another one found means: rebuild.
const FORMAT: u64 = 1;

/// The state: contract keys to contract values.
pub(super) const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
/// Height to [`BlockRow`].
pub(super) const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// Height to the block's outcomes.
pub(super) const OUTCOMES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outcomes");
/// First entry to height, for blocks that have entries.
pub(super) const ENTRIES: TableDefinition<'_, u64, u64> = TableDefinition::new("entries");
/// Statement id to entry.
pub(super) const STATEMENTS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("statements");
/// Agreement ‖ 0x00 ‖ due (big-endian) to height and place among the block's outcomes, for terms that ran out.
pub(super) const TERMS: TableDefinition<'_, &[u8], (u64, u32)> = TableDefinition::new("terms");
/// Height to what the block changed in the state tree: key hash, 0 or 1, and for 1 the value hash. Only of blocks that the tree on
/// disk may not have yet.
const TREE_CHANGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tree_changes");
/// `format` to (version, –), `applied` to (height, checkpoint digest), `statements` to (height up to which their ids are in, –).
pub(super) const META: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("meta");

/// Why the index does not work.
#[derive(Debug, thiserror::Error)]
pub enum IndexFault {
    /// redb says so: disk, file, memory.
    #[error("the index: {0}")]
    Redb(Box<redb::Error>),
    /// A file of the trees cannot be read or written.
    #[error("{file}: {source}")]
    File {
        /// Which, from the data folder.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A row is missing or makes no sense.
    #[error("the index is damaged: {0}")]
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for IndexFault {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

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

/// The open index.
pub struct Index {
    /// Every statement that is admitted asks. The lock is held to look up one row, and by the index thread to put in a block's.
    /// Dropped before the database it reads.
    statements: RwLock<Statements>,
    pub(super) db: Database,
    /// Held by whoever writes: what waits in memory and what is written must change together.
    pub(super) writing: Mutex<()>,
}

/// Ids of statements to their entries.
struct Statements {
    /// Those written, opened once a write instead of once a question.
    written: ReadOnlyTable<&'static [u8; 32], u64>,
    /// Those not written yet: at most [`FlushLimits::entries`] and a block's.
    recent: HashMap<[u8; 32], u64>,
}

impl Index {
    /// Opens the index and makes its tables.
    ///
    /// # Errors
    /// [`IndexFault`], also for a file that is no index.
    pub fn open(disk: &IndexDisk) -> Result<Self, IndexFault> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let (length, mut db) = match disk.index() {
            Ok(path) => (std::fs::metadata(path).map_or(0, |meta| meta.len()), builder.create(path)?),
            Err(backend) => (backend.len().unwrap_or(0), builder.create_with_backend(AnyBackend(backend))?),
        };
        // Every page against its checksum, as long as that takes no minutes. A rotten page that is not found here is found when it
        // is read: redb says so, or the contracts and the trees come to something else than what was sealed.
        if length <= CHECKED_BYTES_MAX && !db.check_integrity()? {
            return Err(IndexFault::Damaged("a page is not what was written".to_owned()));
        }
        let write = db.begin_write()?;
        make_tables(&write)?;
        write.commit()?;
        let written = db.begin_read()?.open_table(STATEMENTS)?;
        let index = Self {
            statements: RwLock::new(Statements { written, recent: HashMap::new() }),
            db,
            writing: Mutex::new(()),
        };
        index.remember_statements()?;
        Ok(index)
    }

    /// redb makes durable what it has when it is closed, also without us: then blocks are in whose ids are not.
    fn remember_statements(&self) -> Result<(), IndexFault> {
        let meta = self.db.begin_read()?.open_table(META)?;
        let from = meta.get("statements")?.map_or(0, |row| row.value().0 + 1);
        let blocks = self.db.begin_read()?.open_table(BLOCKS)?;
        let mut statements = self.statements.write().unwrap_or_else(PoisonError::into_inner);
        for item in blocks.range(from..)? {
            let (height, row) = item?;
            let row = decode_block(height.value(), row.value())?;
            statements.recent.extend(row.entries.iter().map(|(_, id)| id.0).zip(row.first_entry..));
        }
        Ok(())
    }

    /// Up to which block it is complete, with the digest of that block's checkpoint.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] when it was written by another version.
    pub fn applied(&self) -> Result<Option<(u64, Hash)>, IndexFault> {
        let meta = self.db.begin_read()?.open_table(META)?;
        let format = meta.get("format")?.map(|row| row.value().0);
        if format != Some(FORMAT) {
            return Err(IndexFault::Damaged(format!("its format is {format:?}, this program writes {FORMAT}")));
        }
        let Some(row) = meta.get("applied")? else { return Ok(None) };
        let (height, digest) = row.value();
        let digest = digest.try_into().map_err(|_| IndexFault::Damaged("the digest has another length".to_owned()))?;
        Ok(Some((height, digest)))
    }

    /// Writes one block.
    pub fn apply(&self, change: IndexChange<'_>, is_durable: bool) -> Result<(), IndexFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = self.db.begin_write()?;
        if is_durable {
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
        if is_durable {
            self.write_statements(&write, new.collect(), change.height)?;
            // If we die here: redb comes back at its last durable transaction, whose `applied` says where the log goes on.
            write.commit()?;
            return self.reopen_statements();
        }
        write.commit()?;
        // Behind the commit: whoever finds a statement finds its block too.
        self.statements.write().unwrap_or_else(PoisonError::into_inner).recent.extend(new);
        Ok(())
    }

    /// Writes the ids that wait, and `new` ones.
    fn write_statements(
        &self,
        write: &WriteTransaction,
        new: Vec<([u8; 32], u64)>,
        height: u64,
    ) -> Result<(), IndexFault> {
        let mut ids = new;
        let statements = self.statements.read().unwrap_or_else(PoisonError::into_inner);
        ids.extend(statements.recent.iter().map(|(id, entry)| (*id, *entry)));
        drop(statements);
        // In key order: neighbours share pages.
        ids.sort_unstable();
        let mut table = write.open_table(STATEMENTS)?;
        for (id, entry) in &ids {
            table.insert(id, entry)?;
        }
        write.open_table(META)?.insert("statements", (height, &[][..]))?;
        Ok(())
    }

    /// All ids are written.
    pub(super) fn reopen_statements(&self) -> Result<(), IndexFault> {
        let written = self.db.begin_read()?.open_table(STATEMENTS)?;
        let statements = Statements { written, recent: HashMap::new() };
        *self.statements.write().unwrap_or_else(PoisonError::into_inner) = statements;
        Ok(())
    }

    /// Makes everything applied so far durable.
    pub fn flush(&self) -> Result<(), IndexFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((height, _)) = self.applied()? else { return Ok(()) };
        let mut write = self.db.begin_write()?;
        write.set_quick_repair(true);
        self.write_statements(&write, Vec::new(), height)?;
        write.commit()?;
        self.reopen_statements()
    }

    /// The state tree is durable up to block `height`: what it may have lacked is not needed any more.
    pub fn forget_tree_changes(&self, height: u64) -> Result<(), IndexFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let write = self.db.begin_write()?;
        write.open_table(TREE_CHANGES)?.retain_in(..=height, |_, _| false)?;
        Ok(write.commit()?)
    }

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

    /// The state after the last applied block; stays at it.
    pub fn state(&self) -> Result<StateView, IndexFault> {
        Ok(StateView { table: self.db.begin_read()?.open_table(STATE)?, fault: OnceCell::new() })
    }

    /// The state after the last applied block with that block's height, both of one moment; `None` before the first.
    pub fn state_with_height(&self) -> Result<(Option<u64>, StateView), IndexFault> {
        let read = self.db.begin_read()?;
        let height = read.open_table(META)?.get("applied")?.map(|row| row.value().0);
        Ok((height, StateView { table: read.open_table(STATE)?, fault: OnceCell::new() }))
    }

    pub fn entry_of(&self, statement: &StatementId) -> Result<Option<u64>, IndexFault> {
        let statements = self.statements.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = statements.recent.get(&statement.0) {
            return Ok(Some(*entry));
        }
        Ok(statements.written.get(&statement.0)?.map(|row| row.value()))
    }

    /// Height of the block that holds an entry. Entries beyond the last one are in no block.
    pub fn height_of(&self, entry: u64) -> Result<Option<u64>, IndexFault> {
        let table = self.db.begin_read()?.open_table(ENTRIES)?;
        let last = table.range(..=entry)?.next_back().transpose()?;
        Ok(last.map(|(_, height)| height.value()))
    }

    pub fn block(&self, height: u64) -> Result<Option<BlockRow>, IndexFault> {
        let table = self.db.begin_read()?.open_table(BLOCKS)?;
        table.get(height)?.map(|row| decode_block(height, row.value())).transpose()
    }

    pub fn outcomes(&self, height: u64) -> Result<Option<Vec<Vec<u8>>>, IndexFault> {
        let table = self.db.begin_read()?.open_table(OUTCOMES)?;
        let decode = |row: &[u8]| {
            rows::decode_outcomes(row).ok_or_else(|| IndexFault::Damaged(format!("the outcomes of block {height}")))
        };
        table.get(height)?.map(|row| decode(row.value())).transpose()
    }

    /// Where the outcome of a term that ran out is: height, and place among the block's outcomes.
    pub fn term(&self, agreement: &AgreementId, due: Timestamp) -> Result<Option<(u64, u32)>, IndexFault> {
        let table = self.db.begin_read()?.open_table(TERMS)?;
        Ok(table.get(term_key(agreement, due).as_slice())?.map(|row| row.value()))
    }

    /// What each table holds: its contents, bytes of keys and values, bytes around them in its pages.
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
            size("statement → entry", read.open_table(STATEMENTS)?.stats()?),
            size("what is kept of blocks that were pruned", read.open_table(super::forget::KEPT)?.stats()?),
            size("terms that ran out", read.open_table(TERMS)?.stats()?),
            size("changes that the state tree may not have yet", read.open_table(TREE_CHANGES)?.stats()?),
            size("format and height of the index", read.open_table(META)?.stats()?),
        ])
    }

    /// The last block whose ids were written in the durable transaction that has it; before that transaction the tree of entries
    /// was synced.
    pub fn written_behind(&self) -> Result<Option<u64>, IndexFault> {
        Ok(self.db.begin_read()?.open_table(META)?.get("statements")?.map(|row| row.value().0))
    }

    /// Gives the block rows from `first` on, in order.
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

    /// Gives the whole state in pieces of at most `piece` pairs.
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

/// When the index is made durable. What is not is executed again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushLimits {
    /// Blocks after which it is.
    pub blocks: u32,
    /// Entries after which it is.
    pub entries: u64,
}

impl Default for FlushLimits {
    /// Some seconds of executing again.
    fn default() -> Self {
        Self { blocks: 256, entries: 50_000 }
    }
}

/// Counts what is not durable yet.
#[derive(Debug, Default)]
pub struct FlushPolicy {
    blocks: u32,
    entries: u64,
}

impl FlushPolicy {
    /// Whether the block with so many entries should be made durable.
    pub fn is_due(&mut self, entries: u64, limits: FlushLimits) -> bool {
        self.blocks += 1;
        self.entries += entries;
        let is_due = self.blocks >= limits.blocks || self.entries >= limits.entries;
        if is_due {
            *self = Self::default();
        }
        is_due
    }
}

fn make_tables(write: &WriteTransaction) -> Result<(), IndexFault> {
    write.open_table(STATE)?;
    write.open_table(BLOCKS)?;
    write.open_table(OUTCOMES)?;
    write.open_table(ENTRIES)?;
    write.open_table(STATEMENTS)?;
    write.open_table(DETAILS)?;
    write.open_table(TERMS)?;
    write.open_table(super::forget::KEPT)?;
    write.open_table(TREE_CHANGES)?;
    let mut meta = write.open_table(META)?;
    if meta.get("format")?.is_none() {
        meta.insert("format", (FORMAT, &[][..]))?;
    }
    Ok(())
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

pub(super) fn term_key(agreement: &AgreementId, due: Timestamp) -> Vec<u8> {
    [agreement.as_str().as_bytes(), &[0], &due.as_micros().to_be_bytes()].concat()
}

pub(super) fn decode_block(height: u64, row: &[u8]) -> Result<BlockRow, IndexFault> {
    BlockRow::decode(row).ok_or_else(|| IndexFault::Damaged(format!("the row of block {height}")))
}

/// The state at a height.
pub struct StateView {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// The first read that failed: contracts know no disk, so the caller asks afterwards.
    fault: OnceCell<IndexFault>,
}

impl StateView {
    /// Whether every read so far worked; what was computed from failed ones must be thrown away.
    ///
    /// # Errors
    /// The first failure.
    pub fn check(self) -> Result<(), IndexFault> {
        self.fault.into_inner().map_or(Ok(()), Err)
    }

    /// Whether everything so far could be read.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.fault.get().is_none()
    }

    fn or_fault<T>(&self, read: Result<T, redb::StorageError>) -> Option<T> {
        read.map_err(|error| self.fault.set(error.into())).ok()
    }
}

impl StateRead for StateView {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.or_fault(self.table.get(key))?.map(|value| value.value().to_vec())
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(range) = self.or_fault(self.table.range(prefix..)) else { return Vec::new() };
        let mut pairs = Vec::new();
        for item in range.take(limit) {
            let Some((key, value)) = self.or_fault(item) else { return Vec::new() };
            if !key.value().starts_with(prefix) {
                break;
            }
            pairs.push((key.value().to_vec(), value.value().to_vec()));
        }
        pairs
    }
}

#[derive(Debug)]
struct AnyBackend(Box<dyn StorageBackend>);

impl StorageBackend for AnyBackend {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// redb keeps what was never made durable when it is closed in order: the blocks are in then, and so must be their ids.
    #[test]
    fn a_block_that_is_in_has_its_statements_in() {
        let folder = tempfile::tempdir().unwrap();
        let disk = IndexDisk::File(folder.path().join("state.redb"));
        let id = |height: u64, place: u8| StatementId([u8::try_from(height).unwrap() * 16 + place; 32]);
        for height in 0..6 {
            let index = Index::open(&disk).unwrap();
            let entries = (0..3).map(|place| ((0, 0), id(height, place))).collect();
            let time = Timestamp::from_micros(0);
            let row = BlockRow {
                first_entry: height * 3,
                time,
                terms: 0,
                checkpoint: Vec::new(),
                entries,
                batches: Vec::new(),
            };
            let state = Changes::new();
            let change = IndexChange {
                height,
                row: &row,
                outcomes: &[],
                details: &Details::default(),
                terms: &[],
                state: &state,
                tree: &[],
                tree_durable: None,
                digest: [0; 32],
            };
            index.apply(change, height == 2).unwrap();
            drop(index);
            let index = Index::open(&disk).unwrap();
            let applied = index.applied().unwrap().map_or(0, |(height, _)| height + 1);
            assert!(applied >= 3 || height < 2, "what was durable is there");
            for (block, place) in (0..applied).flat_map(|block| (0..3u8).map(move |place| (block, place))) {
                let entry = index.entry_of(&id(block, place)).unwrap();
                assert_eq!(entry, Some(block * 3 + u64::from(place)), "at {height}");
            }
        }
    }
}
