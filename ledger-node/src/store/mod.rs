//! What the node keeps: the log (the only truth), and what is rebuilt from it: the index, the tree over the state, the tree
//! over all entries.
//!
//! **Who writes.** The order thread the log ([`Store::log`]), the index thread the index ([`Store::apply`]). Everyone else reads;
//! what they read was committed. **Memory.** Some 5 bytes a state key and 24 MiB (state tree), 8 MiB of index pages.
//!
//! **Order of a commit**, and what is true if we die behind each step:
//! 1. log appended and synced: the block is there for ever; opening executes it again
//! 2. index written: readers see it (may be lost again, see `index`)
//! 3. head published: event streams wake up; then the submitters get their answers

mod audit;
mod block;
mod details;
mod disk;
mod entry_tree;
mod forget;
mod index;
mod log;
mod open;
mod retired;
mod rows;
mod state_tree;
mod usage;
mod version;

pub(crate) use audit::{Before, audit, audit_from, audit_on, checkpoint_in};
pub use block::BlockRecord;
pub(crate) use block::Span;
pub(crate) use block::encode as encode_block;
pub use details::Details;
pub use disk::IndexDisk;
pub use forget::IndexView;
pub(crate) use forget::{Seed, SeedOutcomes};
pub(crate) use index::Index;
pub use index::{FlushLimits, IndexFault, StateView};
pub(crate) use log::Log;
pub use log::{LogDisk, RECORD_BYTES_MAX};
pub use open::StoreOpenError;
pub(crate) use open::{open_block, read_block};
pub use rows::BlockRow;
pub(crate) use rows::{decode_outcomes, encode_outcomes};
pub(crate) use usage::folder_bytes;
pub use usage::{Part, Usage, UsageFault};
pub(crate) use version::{
    PARTIAL as FORMAT_PARTIAL, PRIVATE as FORMAT_PRIVATE, check as check_format, marked as marked_format,
    raise as raise_format,
};

use entry_tree::EntryTree;
use index::{FlushPolicy, IndexChange};
use state_tree::{Commit, Committing, StateTree};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
use tally_contracts::Changes;
use tally_evidence::{
    Checkpoint, Frontier, Hash, StateChange, StateProof, StatementId, leaf_hash, root_from_consistency_path,
    root_from_path,
};
use tally_journal::{JournalError, SegmentName};
use tally_model::{AgreementId, Timestamp};
use tokio::sync::watch;

/// The store of an open ledger.
pub struct Store {
    log: Log,
    index: Index,
    /// All entries. Has them before the head is published, so only sizes up to the head's are anyone's business.
    entries: EntryTree,
    /// Roots that were followed to that of a head, with their sizes: those asked for last. Many receipts are made for one size.
    known_roots: Mutex<VecDeque<(u64, Hash)>>,
    /// The order thread holds its lock from the first change until the block is logged, so for readers its tree and its head
    /// always belong together. It may be ahead of the published head.
    proven: RwLock<ProvenState>,
    /// The state tree on its way to the disk.
    committing: Committing,
    head: watch::Sender<Option<Arc<Head>>>,
    flush: FlushLimits,
    /// The data folder, where there is one.
    folder: Option<PathBuf>,
    /// See [`Store::kept_below`].
    kept_below: AtomicU64,
}

/// The trees behind the last logged block, and that block.
#[derive(Debug)]
pub(crate) struct ProvenState {
    pub tree: StateTree,
    /// The right edge of the tree over all entries.
    pub edge: Frontier,
    pub head: Option<Arc<Head>>,
}

/// The last committed block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The same, sealed.
    pub sealed: Vec<u8>,
}

/// Why a block is not committed. The node stops: what is on disk is certain only after opening it again.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The log could not be written.
    #[error("the log cannot be written")]
    Log(#[from] JournalError),
    /// `FORMAT` could not be raised for what the block holds; the block is not written.
    #[error("the file FORMAT of the data folder cannot be written")]
    Mark(#[source] std::io::Error),
    /// The index could not be read or written.
    #[error(transparent)]
    Index(#[from] IndexFault),
    /// The node follows another one: it has no key to seal a block with.
    #[error("this node has no key of the ledger, and orders nothing")]
    NoKey,
    /// What was asked for was pruned.
    #[error("{0}")]
    Pruned(Pruned),
    /// A private field was purged and could not be erased; opening the ledger again does it.
    #[error("a private field that was purged cannot be erased: {0}")]
    Erase(String),
    /// The contracts found the state broken; the block is not written.
    #[error("the state is broken (refusal {number}: {text})")]
    Broken {
        /// Number of the refusal.
        number: u16,
        /// What it means.
        text: &'static str,
    },
}

/// Something that the operator's retention no longer keeps. Its receipt and its place in the tree stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} was pruned with segment {segment} of the log, as the node's retention says; archives have that file")]
pub struct Pruned {
    /// What was asked for.
    pub what: String,
    /// The segment that went: the name of its file, as archives have it.
    pub segment: String,
}

/// A block ready to be kept.
pub struct NewBlock {
    /// What it says about the ledger.
    pub head: Arc<Head>,
    /// Statement bytes and ids, in ledger order.
    pub statements: Vec<(Arc<[u8]>, StatementId)>,
    /// Those of them that are batches: place, and number of triggers.
    pub batches: Vec<(u32, u32)>,
    /// Whether any of them has to do with private fields.
    pub is_private: bool,
    /// Terms that ran out in it, in order.
    pub terms: Vec<(AgreementId, Timestamp)>,
    /// Encoded outcomes: of the terms, then of the entries, each batch followed by its triggers.
    pub outcomes: Vec<Vec<u8>>,
    /// What there is to say of the refusals among them.
    pub details: Details,
    /// What it changes in the state.
    pub changes: Arc<Changes>,
    /// The same for the state tree: hashed, sorted, no key twice.
    pub tree: Vec<StateChange>,
    /// What makes the state tree durable behind this block, when that is due.
    pub commit: Option<Commit>,
}

/// Where an entry is.
#[derive(Debug, Clone)]
pub struct EntryPlace {
    /// Its index.
    pub entry: u64,
    /// Its block.
    pub height: u64,
    /// The block's row.
    pub row: BlockRow,
    /// Its place among the block's entries.
    pub place: usize,
}

/// How much is not durable in the index; lives with the one writer.
#[derive(Debug, Default)]
pub struct WriterState(FlushPolicy);

impl Store {
    /// The same store with other limits.
    #[must_use]
    pub fn with_flush(mut self, flush: FlushLimits) -> Self {
        self.flush = flush;
        self
    }

    /// The last committed block; `None` only before the genesis.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Head>> {
        self.head.borrow().clone()
    }

    /// Wakes up at each new block.
    #[must_use]
    pub fn watch_head(&self) -> watch::Receiver<Option<Arc<Head>>> {
        self.head.subscribe()
    }

    /// The state at the last applied block.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn state(&self) -> Result<StateView, IndexFault> {
        self.index.state()
    }

    /// The same with its height; `None` before the genesis.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn state_with_height(&self) -> Result<(Option<u64>, StateView), IndexFault> {
        self.index.state_with_height()
    }

    /// The entry of a statement.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn entry_of(&self, statement: &StatementId) -> Result<Option<u64>, IndexFault> {
        self.index.entry_of(statement)
    }

    /// The statement id of an entry.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn id_of(&self, entry: u64) -> Result<Option<StatementId>, IndexFault> {
        let place = self.place_of(entry)?;
        Ok(place.and_then(|place| place.row.entries.get(place.place).map(|(_, id)| *id)))
    }

    /// Where an entry is.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn place_of(&self, entry: u64) -> Result<Option<EntryPlace>, IndexFault> {
        let Some(height) = self.index.height_of(entry)? else { return Ok(None) };
        let Some(row) = self.index.block(height)? else {
            return Err(IndexFault::Damaged(format!("block {height} has no row")));
        };
        let place = usize::try_from(entry - row.first_entry).unwrap_or(usize::MAX);
        Ok((place < row.entries.len()).then_some(EntryPlace { entry, height, row, place }))
    }

    /// The row of a block.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn block(&self, height: u64) -> Result<Option<BlockRow>, IndexFault> {
        self.index.block(height)
    }

    /// The encoded outcomes of a block: of its terms, then of its entries.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn outcomes(&self, height: u64) -> Result<Option<Vec<Vec<u8>>>, IndexFault> {
        self.index.outcomes(height)
    }

    /// Why exactly the outcome at `place` of block `height` is a refusal, in the node's own words; `None` when it is none, or they
    /// are not kept.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn detail(&self, height: u64, place: u64) -> Result<Option<String>, IndexFault> {
        self.index.detail(height, place)
    }

    /// The first block from `height` on in which something was refused.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub(crate) fn next_refusal(&self, height: u64) -> Result<Option<u64>, IndexFault> {
        self.index.next_refusal(height)
    }

    /// Block and place of the outcome of a term.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn term(&self, agreement: &AgreementId, due: Timestamp) -> Result<Option<(u64, u32)>, IndexFault> {
        self.index.term(agreement, due)
    }

    /// The bytes of the statement at `place`.
    ///
    /// # Errors
    /// [`CommitError::Pruned`]; [`CommitError`] when log and index do not fit together or cannot be read.
    pub fn statement(&self, place: &EntryPlace) -> Result<Vec<u8>, CommitError> {
        let damaged = || IndexFault::Damaged(format!("entry {} is not where the index says", place.entry));
        let Some(record) = self.record(place.height)? else {
            let kept = self.index.kept(place.height)?.ok_or_else(damaged)?;
            let statement = kept.statement(place.place).map(<[u8]>::to_vec);
            let what = format!("the statement of entry {}", place.entry);
            return statement.ok_or_else(|| self.pruned(place.height, what));
        };
        let ((offset, length), _) = place.row.entries.get(place.place).ok_or_else(damaged)?;
        let bytes = record.get(*offset as usize..).and_then(|rest| rest.get(..*length as usize));
        Ok(bytes.ok_or_else(damaged)?.to_vec())
    }

    /// The bytes of all statements of block `height`, whose row is `row`.
    ///
    /// # Errors
    /// [`CommitError::Pruned`]; [`CommitError`] when log and index do not fit together or cannot be read.
    pub fn statements(&self, height: u64, row: &BlockRow) -> Result<Vec<Vec<u8>>, CommitError> {
        let damaged = || IndexFault::Damaged(format!("block {height} is not where the index says"));
        let record = self.record(height)?.ok_or_else(|| self.pruned(height, format!("block {height}")))?;
        let cut = |&((offset, length), _): &(Span, StatementId)| {
            record.get(offset as usize..)?.get(..length as usize).map(<[u8]>::to_vec)
        };
        Ok(row.entries.iter().map(cut).collect::<Option<_>>().ok_or_else(damaged)?)
    }

    /// The record of a block as the log has it ([`BlockRecord`]).
    ///
    /// # Errors
    /// [`CommitError::Pruned`]; [`CommitError`] when the log cannot be read.
    pub fn block_record(&self, height: u64) -> Result<Vec<u8>, CommitError> {
        self.record(height)?.ok_or_else(|| self.pruned(height, format!("block {height}")))
    }

    /// The record of a block; `None` when it was pruned.
    fn record(&self, height: u64) -> Result<Option<Vec<u8>>, CommitError> {
        if height < self.kept_below() {
            return Ok(None);
        }
        let record = self.log.read(height)?;
        // It may have gone between the two looks; otherwise the index is ahead of the log.
        if record.is_none() && height >= self.kept_below() {
            return Err(IndexFault::Damaged(format!("block {height} is not in the log")).into());
        }
        Ok(record)
    }

    /// What to say of something that was pruned with block `height`.
    #[must_use]
    pub fn pruned(&self, height: u64, what: String) -> CommitError {
        let names =
            self.folder.as_deref().and_then(|folder| crate::retain::kept::list(folder).ok()).unwrap_or_default();
        let name = names.into_iter().find(|name| (name.first..=name.last).contains(&height));
        let segment = name.map_or_else(|| "(unknown)".to_owned(), |name| SegmentName(name.first).to_string());
        CommitError::Pruned(Pruned { what, segment })
    }

    /// Inclusion path and root of entry `entry`, which is the statement `id`, for the tree of the first `size` entries. The path was
    /// followed from the statement to the root, and that to the head's.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] when it leads elsewhere: nothing is proved with it.
    pub fn inclusion(&self, id: &StatementId, entry: u64, size: u64) -> Result<Option<(Vec<Hash>, Hash)>, IndexFault> {
        let Some(root) = self.root_at(size)? else { return Ok(None) };
        let Some(path) = self.entries.inclusion_path(entry, size)? else { return Ok(None) };
        if root_from_path(leaf_hash(&id.0), entry, size, &path) != Some(root) {
            return Err(self.entries.damaged(&format!("the path of entry {entry} among {size}")));
        }
        Ok(Some((path, root)))
    }

    /// The same for an entry whose statement the index names.
    ///
    /// # Errors
    /// As [`inclusion`](Self::inclusion).
    pub fn inclusion_of(&self, entry: u64, size: u64) -> Result<Option<(Vec<Hash>, Hash)>, IndexFault> {
        let place = self.place_of(entry)?;
        let id = place.as_ref().and_then(|place| place.row.entries.get(place.place)).map(|(_, id)| *id);
        id.map_or(Ok(None), |id| self.inclusion(&id, entry, size))
    }

    /// Consistency path between two sizes and the root of the second one; followed from one known root to the other.
    ///
    /// # Errors
    /// As [`inclusion`](Self::inclusion).
    pub fn consistency(&self, old: u64, size: u64) -> Result<Option<(Vec<Hash>, Hash)>, IndexFault> {
        let (Some(old_root), Some(root)) = (self.root_at(old)?, self.root_at(size)?) else { return Ok(None) };
        let Some(path) = self.entries.consistency_path(old, size)? else { return Ok(None) };
        if root_from_consistency_path(old, size, old_root, &path) != Some((old_root, root)) {
            return Err(self.entries.damaged(&format!("the path from {old} to {size}")));
        }
        Ok(Some((path, root)))
    }

    /// Root of the first `size` entries, at most the head's; followed to the head's root.
    ///
    /// # Errors
    /// As [`inclusion`](Self::inclusion).
    pub fn root_at(&self, size: u64) -> Result<Option<Hash>, IndexFault> {
        /// Sizes remembered.
        const KNOWN_MAX: usize = 16;
        let Some(head) = self.head() else { return Ok(None) };
        let (head_size, head_root) = (head.checkpoint.size, head.checkpoint.root);
        if size >= head_size {
            return Ok((size == head_size).then_some(head_root));
        }
        let known = || self.known_roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, root)) = known().iter().find(|(known, _)| *known == size) {
            return Ok(Some(*root));
        }
        let Some(root) = self.entries.root_at(size)? else { return Ok(None) };
        // Every tree begins with the empty one, to which no path leads.
        if size > 0 {
            let path = self.entries.consistency_path(size, head_size)?.unwrap_or_default();
            if root_from_consistency_path(size, head_size, root, &path) != Some((root, head_root)) {
                return Err(self.entries.damaged(&format!("the root of {size} entries")));
            }
        }
        let mut known = known();
        known.truncate(KNOWN_MAX - 1);
        known.push_front((size, root));
        Ok(Some(root))
    }

    /// `count` hashes of a level of the tree of the first `size` entries, from `first` on; `None` when it has not that many. They
    /// are as the disk has them: whoever puts them together to a tree compares its root.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk cannot be read.
    pub fn tile_nodes(&self, level: u32, first: u64, count: u64, size: u64) -> Result<Option<Vec<u8>>, IndexFault> {
        let complete = size.checked_shr(level).unwrap_or(0);
        match first.checked_add(count) {
            Some(end) if end <= complete => self.entries.nodes(level, first, count).map(Some),
            _ => Ok(None),
        }
    }

    /// The ids of `count` entries from `first` on; all must be committed.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn ids(&self, first: u64, count: u64) -> Result<Vec<StatementId>, IndexFault> {
        let mut ids = Vec::new();
        while (ids.len() as u64) < count {
            let entry = first + ids.len() as u64;
            let missing = || IndexFault::Damaged(format!("entry {entry} is in no block"));
            let place = self.place_of(entry)?.ok_or_else(missing)?;
            let wanted = usize::try_from(count).unwrap_or(usize::MAX) - ids.len();
            ids.extend(place.row.entries.iter().skip(place.place).take(wanted).map(|(_, id)| *id));
        }
        Ok(ids)
    }

    /// Proof of what a state key is behind the last logged block, and that block. Readers of the index may not see it yet.
    ///
    /// # Errors
    /// [`IndexFault`] when the state tree cannot be read or is damaged.
    pub fn prove_state(&self, key: &[u8]) -> Result<Option<(StateProof, Arc<Head>)>, IndexFault> {
        let proven = self.proven.read().unwrap_or_else(PoisonError::into_inner);
        let Some(head) = proven.head.clone() else { return Ok(None) };
        Ok(Some((proven.tree.prove(key)?, head)))
    }

    /// Bytes of the log on disk.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// The trees' heads, for the order thread alone. If its changes are not committed, the node stops.
    pub(crate) fn proven_state(&self) -> RwLockWriteGuard<'_, ProvenState> {
        self.proven.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of blocks in the log.
    pub(crate) fn blocks_in_log(&self) -> u64 {
        self.log.blocks()
    }

    /// Appends and syncs: the first half of a commit. On `Ok` the block is there for ever. Gives where its statements lie.
    pub(crate) fn log(&self, block: &NewBlock) -> Result<Vec<Span>, CommitError> {
        self.mark(block)?;
        let checkpoint = &block.head.checkpoint;
        let statements = block.statements.iter().map(|(bytes, _)| bytes.as_ref());
        let (record, spans) = block::encode(checkpoint.height, checkpoint.time, &block.head.sealed, statements);
        self.log.append(checkpoint.height, &record)?;
        Ok(spans)
    }

    /// Before a signed batch or a private field is in the log the folder says so: a program that knows none refuses it by rule, and
    /// does not call it damaged.
    pub(crate) fn mark(&self, block: &NewBlock) -> Result<(), CommitError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        match (block.is_private, block.batches.is_empty()) {
            (true, _) => version::raise(folder, FORMAT_PRIVATE).map_err(CommitError::Mark),
            (false, false) => version::raise(folder, FORMAT_PARTIAL).map_err(CommitError::Mark),
            (false, true) => Ok(()),
        }
    }

    /// Index and publish: the second half of a commit, and what opening does with the log's tail.
    pub(crate) fn apply(&self, block: NewBlock, spans: Vec<Span>, writer: &mut WriterState) -> Result<(), CommitError> {
        let NewBlock { head, statements, batches, terms, outcomes, details, changes, tree, commit, .. } = block;
        let ids = statements.iter().map(|(_, id)| *id);
        let row = BlockRow {
            first_entry: head.checkpoint.size - statements.len() as u64,
            time: head.checkpoint.time,
            terms: u32::try_from(terms.len()).unwrap_or(u32::MAX),
            checkpoint: head.sealed.clone(),
            entries: spans.into_iter().zip(ids).collect(),
            batches,
        };
        let height = head.checkpoint.height;
        let digest = head.checkpoint.digest();
        let change = IndexChange {
            height,
            row: &row,
            outcomes: &outcomes,
            details: &details,
            terms: &terms,
            state: &changes,
            tree: &tree,
            tree_durable: self.committing.look()?,
            digest,
        };
        let is_due = writer.0.is_due(outcomes.len() as u64, self.flush);
        let is_durable = is_due || commit.is_some();
        self.entries.append(row.entries.iter().map(|(_, id)| leaf_hash(&id.0)).collect())?;
        if is_durable {
            // What a durable index has, the tree of entries has.
            self.entries.sync()?;
        }
        self.index.apply(change, is_durable)?;
        if let Some(commit) = commit {
            self.committing.begin(commit)?;
        }
        self.head.send_replace(Some(head));
        Ok(())
    }

    /// Makes index and state tree durable, so that the next opening has nothing to do again. Everything logged must be applied.
    pub(crate) fn flush(&self) -> Result<(), IndexFault> {
        self.committing.finish()?;
        self.entries.sync()?;
        self.index.flush()?;
        let mut proven = self.proven_state();
        let Some(height) = proven.head.as_ref().map(|head| head.checkpoint.height) else { return Ok(()) };
        if !proven.tree.is_changed() {
            return Ok(());
        }
        proven.tree.commit(height)?.write()?;
        self.index.forget_tree_changes(height)
    }
}
