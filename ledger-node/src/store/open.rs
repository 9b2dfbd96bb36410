//! Opening: which of log and index to believe, and what to say when they contradict each other.

mod trees;

use super::entry_tree::EntryTree;
use super::index::Index;
use super::log::Log;
use super::state_tree::StateTree;
use super::{
    BlockRecord, FORMAT_GROUPED, FlushLimits, Head, IndexDisk, IndexFault, LogDisk, ProvenState, Store, Trickle,
    Writer, version,
};
use crate::retain::FileFault;
use crate::retain::rebuild::{self, Whose};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use tally_evidence::cbor::CborFault;
use tally_evidence::{Checkpoint, CheckpointFault, Frontier, KeyScheme, VerifyingKey};
use tally_journal::{JournalError, OpenError};
use tokio::sync::watch;
use trees::{load_entries, load_state};

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// The log does not open: in use, damaged, no rights. Its words name the folder.
    #[error("the log does not open: {0}")]
    Log(#[from] OpenError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] JournalError),
    /// A newer program wrote it.
    #[error(
        "the data folder was written by a newer version of this program: {file} says data format {found}, \
         this program knows formats up to {known}; nothing was changed. Start the newer version, or restore a copy that \
         this one made"
    )]
    Newer {
        /// The file that says so.
        file: String,
        /// What it says.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// The file that names the format cannot be read or written.
    #[error("{file} should name the format of the data folder, and cannot be used")]
    Mark {
        /// The file.
        file: String,
        /// What is wrong.
        source: io::Error,
    },
    /// Not even a new index can be made.
    #[error("no index can be made")]
    Index(#[from] IndexFault),
    /// The old index cannot be removed.
    #[error("the damaged index cannot be removed")]
    Discard(#[source] io::Error),
    /// A record of the log is no block of ours.
    #[error("record {height} of the log is no block: {source}; restore the log from a copy")]
    Record {
        /// Its number.
        height: u64,
        /// What is wrong.
        source: CborFault,
    },
    /// Record `n` of the log is not block `n`.
    #[error("record {expected} of the log is block {found}; restore the log from a copy")]
    Height {
        /// Its number.
        expected: u64,
        /// The block it holds.
        found: u64,
    },
    /// A block contradicts itself or the one before.
    #[error("block {height} of the log is broken: {what}; restore the log from a copy")]
    Broken {
        /// Its number.
        height: u64,
        /// What is wrong.
        what: String,
    },
    /// A file of those that stay when the log is pruned.
    #[error("{0}; restore the data folder from a copy")]
    Retained(#[from] FileFault),
    /// The index is lost, the log no longer begins at block 0, and no snapshot helps.
    #[error(
        "the index has to be made anew, but blocks below {first} were pruned and no snapshot fits: {faults}. \
         Restore the data folder from a copy, or put the segments back with `tally ledger import`"
    )]
    NoSnapshot {
        /// The first block that is in the log with all its statements.
        first: u64,
        /// What is wrong with each snapshot.
        faults: String,
    },
    /// A checkpoint was not sealed by this key.
    #[error(
        "block {height} was not sealed by the key given ({source}); \
         the key belongs to another ledger, or the folder does: compare `key` and `data` in node.yaml"
    )]
    Key {
        /// The block.
        height: u64,
        /// What is wrong.
        source: CheckpointFault,
    },
    /// The folder holds another ledger.
    #[error("the data folder holds the ledger `{found}`, the configuration says `{asked}`; correct `ledger` or `data`")]
    OtherLedger {
        /// What the folder holds.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// The index knows more than the log.
    #[error(
        "the index has seen block {index}, but the log ends before block {log}: acknowledged entries are missing. \
         Restore the log from a copy; only if you mean to give them up, remove the file `state.redb`"
    )]
    LogCut {
        /// The last block the index has seen.
        index: u64,
        /// Number of blocks in the log.
        log: u64,
    },
    /// The index was made from another log.
    #[error(
        "the index was made from another log: block {height} differs. \
         Restore the log that belongs to it, or remove the file `state.redb` to rebuild it from this log"
    )]
    OtherLog {
        /// The last block the index has seen.
        height: u64,
    },
}

/// An open store, and what has to be executed again.
pub struct Opened {
    /// The store, at the height of its index.
    pub store: Store,
    /// The first block of the log that is not in the index.
    pub tail: u64,
}

impl Store {
    /// Opens log and index. Blocks from [`Opened::tail`] on must then be executed and [applied](Store::apply).
    ///
    /// # Errors
    /// [`StoreOpenError`].
    pub fn open(
        log: LogDisk,
        index: &IndexDisk,
        ledger: &str,
        key: &VerifyingKey,
        flush: FlushLimits,
    ) -> Result<Opened, StoreOpenError> {
        let log = Log::open(log)?;
        if let Some(repair) = log.repaired() {
            tracing::warn!(file = %repair.file, offset = repair.offset, bytes = repair.bytes,
                "cut off the torn end of the log; nothing acknowledged was in it");
        }
        let log = LogReader { log, ledger, key };
        let first = if log.log.blocks() > 0 { Some(log.head(log.log.first())?) } else { None };
        if let Some(first) = first
            && first.checkpoint.ledger != ledger
        {
            return Err(StoreOpenError::OtherLedger { found: first.checkpoint.ledger, asked: ledger.to_owned() });
        }
        let folder = index.folder();
        let (index, loaded) = log.index(index)?;
        let kept_below = match &folder {
            Some(data) => rebuild::bring_in(&index, Whose { data, ledger, key })?,
            None => 0,
        };
        if loaded.state.scheme() == KeyScheme::Grouped {
            raise(folder.as_deref())?;
        }
        let head = loaded.head.map(Arc::new);
        let tail = head.as_ref().map_or(0, |head| head.checkpoint.height + 1);
        let (index, entries) = (Arc::new(index), Arc::new(loaded.entries));
        let trickle = index.file()?.map(|file| Trickle::new(Arc::clone(loaded.state.pages()), file));
        let store = Self {
            log: log.log,
            writer: Writer::start(Arc::clone(&index), Arc::clone(&entries), trickle, flush)?,
            index,
            entries,
            known_roots: Mutex::default(),
            proven: RwLock::new(ProvenState { tree: loaded.state, edge: loaded.edge, head: head.clone() }),
            head: watch::Sender::new(head),
            folder,
            kept_below: kept_below.into(),
        };
        Ok(Opened { store, tail })
    }

    /// Block `height` of the log, whose seal holds.
    ///
    /// # Errors
    /// [`StoreOpenError`].
    pub fn logged_block(&self, height: u64, key: &VerifyingKey) -> Result<(BlockRecord, Head), StoreOpenError> {
        read_block(&self.log, height, key)
    }
}

/// A folder that was made from a snapshot has never seen the block that says how the state is hashed.
fn raise(folder: Option<&Path>) -> Result<(), StoreOpenError> {
    let Some(folder) = folder else { return Ok(()) };
    let mark = |source| StoreOpenError::Mark { file: folder.join(version::FILE).display().to_string(), source };
    version::raise(folder, FORMAT_GROUPED).map_err(mark)
}

struct LogReader<'a> {
    log: Log,
    ledger: &'a str,
    key: &'a VerifyingKey,
}

impl LogReader<'_> {
    fn head(&self, height: u64) -> Result<Head, StoreOpenError> {
        Ok(read_block(&self.log, height, self.key)?.1)
    }

    /// The index that is there, or one made anew: from the log alone, or from a snapshot when the log no longer begins at block 0.
    fn index(&self, disk: &IndexDisk) -> Result<(Index, Loaded), StoreOpenError> {
        let is_pruned = self.log.first() > 0;
        match unwinding(|| try_index(disk, self))? {
            // An empty index beside a pruned log: seeding it was interrupted.
            Ok((index, loaded)) if loaded.head.is_some() || !is_pruned => return Ok((index, loaded)),
            Ok(_) => {}
            Err(fault) => tracing::warn!(%fault, "the index is of no use; it is made anew"),
        }
        disk.discard().map_err(StoreOpenError::Discard)?;
        if !is_pruned {
            return Ok((Index::open(disk)?, Loaded::empty(disk)?));
        }
        let data = disk.folder().ok_or_else(|| StoreOpenError::NoSnapshot {
            first: self.log.first(),
            faults: "this ledger has no data folder".to_owned(),
        })?;
        let whose = Whose { data: &data, ledger: self.ledger, key: self.key };
        rebuild::seed(&Index::open(disk)?, &self.log, whose)?;
        Ok(try_index(disk, self)??)
    }
}

pub(crate) fn read_block(log: &Log, height: u64, key: &VerifyingKey) -> Result<(BlockRecord, Head), StoreOpenError> {
    let record = log.read(height)?.unwrap_or_default();
    let (block, head) = open_block(&record, height, key)?;
    if block.height != height {
        return Err(StoreOpenError::Height { expected: height, found: block.height });
    }
    Ok((block, head))
}

/// A block from the bytes of its record, whose seal holds. `height`: for words.
pub(crate) fn open_block(
    record: &[u8],
    height: u64,
    key: &VerifyingKey,
) -> Result<(BlockRecord, Head), StoreOpenError> {
    let block = BlockRecord::decode(record).map_err(|source| StoreOpenError::Record { height, source })?;
    let sealed = block.checkpoint.clone();
    let checkpoint = Checkpoint::open(&sealed, key).map_err(|source| StoreOpenError::Key { height, source })?;
    Ok((block, Head { checkpoint, sealed }))
}

/// redb panics on some damaged files where it should say so. Nothing is shared with what unwinds here but the file, and that
/// is then thrown away.
fn unwinding<T>(
    open: impl FnOnce() -> Result<Result<T, IndexFault>, StoreOpenError>,
) -> Result<Result<T, IndexFault>, StoreOpenError> {
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
    opened.unwrap_or_else(|_| Ok(Err(IndexFault::Damaged("reading it panics".to_owned()))))
}

/// What goes with the index.
struct Loaded {
    entries: EntryTree,
    edge: Frontier,
    state: StateTree,
    head: Option<Head>,
}

impl Loaded {
    fn empty(disk: &IndexDisk) -> Result<Self, IndexFault> {
        let entries = EntryTree::open(disk, 0)?;
        entries.clear()?;
        entries.mended()?;
        Ok(Self {
            entries,
            edge: Frontier::default(),
            state: StateTree::create(disk, KeyScheme::default())?,
            head: None,
        })
    }
}

/// The index with what it holds, or the fault for which it has to be rebuilt. The outer error is for people to decide.
fn try_index(disk: &IndexDisk, log: &LogReader<'_>) -> Result<Result<(Index, Loaded), IndexFault>, StoreOpenError> {
    let index = match Index::open(disk) {
        Ok(index) => index,
        Err(fault) => return Ok(Err(fault)),
    };
    let applied = match index.applied() {
        Ok(None) => return Ok(Loaded::empty(disk).map(|loaded| (index, loaded))),
        Ok(Some(applied)) => applied,
        Err(fault) => return Ok(Err(fault)),
    };
    let (height, digest) = applied;
    let blocks = log.log.blocks();
    if height >= blocks {
        return Err(StoreOpenError::LogCut { index: height, log: blocks });
    }
    let head = match log.log.first() {
        first if height >= first => log.head(height)?,
        first if height + 1 == first => match before_first(&index, &log.head(first)?, log.key) {
            Ok(head) => head,
            Err(fault) => return Ok(Err(fault)),
        },
        _ => return Ok(Err(IndexFault::Damaged(format!("it ends at block {height}, which was pruned")))),
    };
    if head.checkpoint.digest() != digest || head.checkpoint.ledger != log.ledger {
        return Err(StoreOpenError::OtherLog { height });
    }
    Ok(load(disk, &index, head).map(|loaded| (index, loaded)))
}

/// The last block that was pruned, when the index was made anew from a snapshot of just that one: the index has its checkpoint, and
/// the log's first block says that it follows.
fn before_first(index: &Index, first: &Head, key: &VerifyingKey) -> Result<Head, IndexFault> {
    let Checkpoint { height, previous, .. } = &first.checkpoint;
    let damaged = || IndexFault::Damaged(format!("it ends before block {height}, which does not follow"));
    let row = index.block(height.saturating_sub(1))?.ok_or_else(damaged)?;
    let checkpoint = Checkpoint::open(&row.checkpoint, key).map_err(|_| damaged())?;
    if checkpoint.digest() != *previous {
        return Err(damaged());
    }
    Ok(Head { checkpoint, sealed: row.checkpoint })
}

/// The trees as they belong to the index, compared with the log's word.
fn load(disk: &IndexDisk, index: &Index, head: Head) -> Result<Loaded, IndexFault> {
    let (entries, edge) = load_entries(disk, index, &head.checkpoint)?;
    let state = load_state(disk, index, &head.checkpoint)?;
    Ok(Loaded { entries, edge, state, head: Some(head) })
}
