//! What the node keeps: the log (the only truth), and what is rebuilt from it: the index, the statement ids beside it, the tree over the
//! state, the tree over all entries.
//!
//! **Who writes.** The keeping thread: the log ([`Store::log`]), then the index ([`Store::apply`]), whose file a thread of its own
//! ([`writer`]) writes behind. Everyone else reads; what they read was committed. **Memory.** Some 5 bytes a state key and 24 MiB (state tree), 8 MiB of index pages,
//! 1.6 bytes an entry and 6 MB (statement ids), blocks on their way to the file of the index (`pending`).
//!
//! **Order of a commit**, and what is true if we die behind each step:
//! 1. log appended and synced: the block is there for ever; opening executes it again
//! 2. index: readers see it (its file has it later, and may lose it again, see `index`)
//! 3. head published: event streams wake up; then the submitters get their answers

mod aside;
mod audit;
mod block;
mod commit;
mod details;
mod disk;
mod entry_tree;
mod flush;
mod forget;
mod ids;
mod index;
mod log;
mod open;
mod pending;
mod place;
mod proofs;
mod retired;
mod rows;
mod state_sum;
mod state_tree;
mod trickle;
mod usage;
mod version;
mod writer;

pub(crate) use audit::{Before, audit, audit_from, audit_on, checkpoint_in};
pub use block::BlockRecord;
pub(crate) use block::Span;
pub(crate) use block::encode as encode_block;
pub use commit::{CommitError, NewBlock, Pruned};
pub use details::Details;
pub use disk::IndexDisk;
pub use flush::FlushLimits;
pub use forget::IndexView;
pub(crate) use forget::{Seed, SeedOutcomes};
pub use ids::RunLimits;
pub(crate) use index::Index;
pub use index::{IndexFault, StateView};
pub(crate) use log::Log;
pub use log::{LogDisk, RECORD_BYTES_MAX};
pub use open::StoreOpenError;
pub(crate) use open::{open_block, read_block};
pub use place::EntryPlace;
pub use rows::BlockRow;
pub(crate) use rows::{decode_outcomes, encode_outcomes};
pub(crate) use state_sum::StateSum;
pub use usage::{Part, Usage, UsageFault};
pub(crate) use usage::{folder_bytes, folder_disk_bytes};
pub(crate) use version::{
    GROUPED as FORMAT_GROUPED, PARTIAL as FORMAT_PARTIAL, PRIVATE as FORMAT_PRIVATE, check as check_format,
    marked as marked_format, raise as raise_format,
};

use entry_tree::EntryTree;
use state_tree::StateTree;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
use tally_evidence::{Checkpoint, Frontier, Hash, StatementId};
use tally_model::{AgreementId, Timestamp};
use tokio::sync::watch;
use trickle::Trickle;
use writer::Writer;

/// The store of an open ledger.
pub struct Store {
    log: Log,
    /// Before what it writes: it ends first.
    writer: Writer,
    index: Arc<Index>,
    /// All entries. Has them before the head is published, so only sizes up to the head's are anyone's business.
    entries: Arc<EntryTree>,
    /// Roots that were followed to that of a head, with their sizes: those asked for last. Many receipts are made for one size.
    known_roots: Mutex<VecDeque<(u64, Hash)>>,
    /// The keeping thread holds its lock from the first change until the block is logged, so for readers its tree and its head
    /// always belong together. It may be ahead of the published head.
    proven: RwLock<ProvenState>,
    head: watch::Sender<Option<Arc<Head>>>,
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

impl Store {
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

    /// The state behind the last applied block.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn state(&self) -> Result<StateView, IndexFault> {
        self.index.state()
    }

    /// The entry of a statement.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn entry_of(&self, statement: &StatementId) -> Result<Option<u64>, IndexFault> {
        self.index.entry_of(statement)
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

    /// Blocks that the file of the index does not have yet.
    #[must_use]
    pub fn index_waiting(&self) -> usize {
        self.index.pending.count()
    }

    /// Bytes of the log on disk.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// The trees' heads, for the keeping thread alone. If its changes are not committed, the node stops.
    pub(crate) fn proven_state(&self) -> RwLockWriteGuard<'_, ProvenState> {
        self.proven.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of blocks in the log.
    pub(crate) fn blocks_in_log(&self) -> u64 {
        self.log.blocks()
    }
}
