//! State and indexes in one redb file: fast to ask, never the truth, rebuilt from the log whenever in doubt.
//!
//! **Who writes.** The keeping thread adds a block, which readers find from then on; the [writer](super::writer) brings those that were added
//! meanwhile into the file, in one transaction (`write`); a retention pass what it forgets (`forget`), between two of them. A transaction has
//! `Durability::None` (a power cut loses it here, the log has it); every so many blocks or entries ([`FlushLimits`](super::FlushLimits)) one is
//! made durable, together with the height it brings the index to and the statement ids that waited for it, once they are many
//! (`statements`). On opening the log's tail behind that height is executed again.
//!
//! **Who reads** looks among the blocks that wait, then into the file, in this order: a block leaves the former when the latter has it.
//!
//! **Limits.** Page cache 8 MiB ([`CACHE_BYTES`]). Disk: some 100 bytes an entry plus the outcomes plus the state.

mod read;
mod statements;
#[cfg(test)]
mod tests;
mod view;
#[cfg(test)]
mod waiting_tests;
mod write;

pub use view::StateView;

use super::details::DETAILS;
use super::disk::{IndexDisk, TreeFile};
use super::ids::{Merging, RunLimits};
use super::pending::Pending;
use super::rows::BlockRow;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction};
use statements::{STATEMENTS, Statements};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError, RwLock};
use tally_evidence::Hash;
use tally_model::{AgreementId, Timestamp};

/// Bytes of pages kept in memory; redb's default of 1 GiB would look like a leak. Four times as much makes nothing faster: what is
/// read again and again is in the system's page cache, too.
const CACHE_BYTES: usize = 8 << 20;
/// Bytes of the largest index that is read through when it is opened: some tenths of a second.
const CHECKED_BYTES_MAX: u64 = 256 << 20;
/// Version of the tables below; another one found means: rebuild.
const FORMAT: u64 = 2;
/// The version that had the ids of the statements in a table of their own: they are taken from the blocks.
const FORMAT_WITH_IDS: u64 = 1;

/// The state: contract keys to contract values.
pub(super) const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
/// Height to [`BlockRow`].
pub(super) const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// Height to the block's outcomes.
pub(super) const OUTCOMES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outcomes");
/// First entry to height, for blocks that have entries.
pub(super) const ENTRIES: TableDefinition<'_, u64, u64> = TableDefinition::new("entries");
/// Number of a run of statement ids to its label.
pub(super) const RUNS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("runs");
/// Statement id to entry, in [`FORMAT_WITH_IDS`].
const IDS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("statements");
/// Agreement ‖ 0x00 ‖ due (big-endian) to height and place among the block's outcomes, for terms that ran out.
pub(super) const TERMS: TableDefinition<'_, &[u8], (u64, u32)> = TableDefinition::new("terms");
/// Height to what the block changed in the state tree: key hash, 0 or 1, and for 1 the value hash. Only of blocks that the tree on
/// disk may not have yet.
const TREE_CHANGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tree_changes");
/// `format` to (version, –), `applied` to (height, checkpoint digest), `statements` to (height up to which their ids are in runs, –),
/// `durable` to (last height of the durable transaction that has it, –).
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
    /// It could not be written before, for this reason.
    #[error("{0}")]
    Stopped(String),
}

impl<E: Into<redb::Error>> From<E> for IndexFault {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// The open index.
pub struct Index {
    /// Every statement that is admitted asks. The lock is held to look up one id, and by the keeping thread to put in a block's.
    statements: RwLock<Statements>,
    merging: Merging,
    /// Number of the next run.
    next_run: AtomicU64,
    disk: IndexDisk,
    /// Blocks that are not in the file.
    pub(super) pending: Pending,
    pub(super) db: Database,
    /// Held by whoever writes the file: what is known of it in memory must change with it.
    pub(super) writing: Mutex<()>,
}

impl Index {
    /// Opens the index and makes its tables.
    ///
    /// # Errors
    /// [`IndexFault`], also for a file that is no index of this version.
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
        let next_run = AtomicU64::new(0);
        let statements = RwLock::new(Statements::load(&db, disk, &next_run)?);
        let (merging, disk, pending, writing) = (Merging::default(), disk.clone(), Pending::default(), Mutex::new(()));
        Ok(Self { statements, merging, next_run, disk, pending, db, writing })
    }

    /// Its file, to sync it; `None` where its disk is none.
    pub fn file(&self) -> Result<Option<TreeFile>, IndexFault> {
        self.disk.index_path().map(TreeFile::index).transpose()
    }

    /// Up to which block its file is complete, with the digest of that block's checkpoint.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn applied(&self) -> Result<Option<(u64, Hash)>, IndexFault> {
        let meta = self.db.begin_read()?.open_table(META)?;
        let Some(row) = meta.get("applied")? else { return Ok(None) };
        let (height, digest) = row.value();
        let digest = digest.try_into().map_err(|_| IndexFault::Damaged("the digest has another length".to_owned()))?;
        Ok(Some((height, digest)))
    }

    /// Makes everything in the file durable.
    pub fn flush(&self, limits: RunLimits) -> Result<(), IndexFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((height, _)) = self.applied()? else { return Ok(()) };
        let mut write = self.db.begin_write()?;
        write.set_quick_repair(true);
        let end = self.size_behind(&write, height)?;
        let settled = self.settle_statements(&write, height, end, limits)?;
        write.commit()?;
        self.statements_settled(settled, limits)
    }

    /// The state tree is durable up to block `height`: what it may have lacked is not needed any more.
    pub fn forget_tree_changes(&self, height: u64) -> Result<(), IndexFault> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let write = self.db.begin_write()?;
        write.open_table(TREE_CHANGES)?.retain_in(..=height, |_, _| false)?;
        Ok(write.commit()?)
    }
}

fn make_tables(write: &WriteTransaction) -> Result<(), IndexFault> {
    write.open_table(STATE)?;
    write.open_table(BLOCKS)?;
    write.open_table(OUTCOMES)?;
    write.open_table(ENTRIES)?;
    write.open_table(RUNS)?;
    write.open_table(DETAILS)?;
    write.open_table(TERMS)?;
    write.open_table(super::forget::KEPT)?;
    write.open_table(TREE_CHANGES)?;
    let mut meta = write.open_table(META)?;
    let format = meta.get("format")?.map(|row| row.value().0);
    match format {
        Some(FORMAT) => return Ok(()),
        None => {}
        Some(FORMAT_WITH_IDS) => {
            tracing::info!(
                "the index is of an earlier version: its table of statement ids becomes files in `statements`"
            );
            write.delete_table(IDS)?;
        }
        Some(other) => {
            return Err(IndexFault::Damaged(format!("its format is {other}, this program writes {FORMAT}")));
        }
    }
    meta.insert("format", (FORMAT, &[][..]))?;
    Ok(())
}

pub(super) fn term_key(agreement: &AgreementId, due: Timestamp) -> Vec<u8> {
    [agreement.as_str().as_bytes(), &[0], &due.as_micros().to_be_bytes()].concat()
}

pub(super) fn decode_block(height: u64, row: &[u8]) -> Result<BlockRow, IndexFault> {
    BlockRow::decode(row).ok_or_else(|| IndexFault::Damaged(format!("the row of block {height}")))
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
