//! The ledger without its door to the network: open, submit, receipts, close. What the API, the tests and `bench` stand on.

mod config;
mod follow;
mod private;
mod reading;
mod retention;
mod seals;
mod submit;

pub use config::{EngineConfig, LedgerKey, Limits};
pub(crate) use follow::SECOND_HISTORY;
pub use follow::{FollowFault, Following};
pub use reading::ReadError;
pub(crate) use reading::{logged, refused_of_batch};
pub use retention::LastPass;
pub use submit::SubmitError;
pub(crate) use submit::Ticket;

use crate::admit::{InFlight, KeyTables, NotNow, Signers};
use crate::clock::Clock;
use crate::follow::mark;
use crate::metrics::Metrics;
use crate::order::{BlockLimits, Builder, GenesisEntry, Keeper, OpenLedgerError, OrderThread, Pulse, Queue};
use crate::private::PrivateFields;
use crate::store::{IndexDisk, LogDisk, Store, check_format};
use follow::Follower;
use retention::Retainer;
use seals::Seals;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tally_door::RateLimiter;
use tally_evidence::{StatementId, VerifyingKey};
use tally_model::PartyId;
use tokio::sync::watch;

/// Folder of the log inside the data folder.
const LOG_DIR: &str = "log";
/// Folder of what is known of the complete segments of the log, so that opening need not read them.
const SUMMARIES_DIR: &str = "summary";
/// File of the index inside the data folder.
const INDEX_FILE: &str = "state.redb";

/// How the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// Takes statements.
    Running,
    /// Takes blocks of the node that orders, and no statements.
    Following,
    /// Finishes what it took.
    Stopping,
    /// Stopped at a failure, with its words.
    Failed(String),
}

impl NodeState {
    /// One word for status and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Following => "following",
            Self::Stopping => "stopping",
            Self::Failed(_) => "failed",
        }
    }
}

/// A statement that is in the ledger and on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its name.
    pub id: StatementId,
    /// What it is about.
    pub subject: String,
    /// Its place.
    pub entry: u64,
    /// Its block.
    pub height: u64,
    /// Entries in the tree behind its block: what its receipt is made for, now and at every repeat.
    pub size: u64,
    /// 0 when the contracts did it, otherwise the number of their refusal.
    pub refusal: u16,
    /// How many of its triggers they refused, when it is a batch.
    pub refused: u32,
}

impl Committed {
    /// The word in the header `tally-state`: `final`, or `refused` by the contracts, which is as final.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        if self.refusal == 0 { "final" } else { "refused" }
    }
}

/// An open ledger. Cloning is cheap; the ledger is closed when the last clone is dropped, or by [`Engine::close`].
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    ledger: String,
    key: LedgerKey,
    seals: Seals,
    limits: Limits,
    store: Arc<Store>,
    private: Arc<PrivateFields>,
    queue: Arc<Queue>,
    inflight: Arc<InFlight<Committed>>,
    signers: Arc<Signers>,
    key_tables: KeyTables,
    rate: RateLimiter<PartyId>,
    metrics: Arc<Metrics>,
    state: watch::Sender<NodeState>,
    pulse: Arc<Pulse>,
    opened: Instant,
    thread: Mutex<Option<JoinHandle<()>>>,
    clock: Arc<dyn Clock>,
    retainer: Retainer,
    /// Where the node only follows; no order thread runs then.
    follower: Option<Follower>,
}

impl Engine {
    /// Opens the ledger in its data folder, beginning it with the genesis when it is empty. Executes again what the index
    /// does not have, and starts the order thread.
    ///
    /// # Errors
    /// [`OpenLedgerError`]; nothing is running then.
    pub fn open(config: EngineConfig) -> Result<Self, OpenLedgerError> {
        // The lock first: nobody else is at the folder from here on.
        let (folder, summaries) = (config.data.join(LOG_DIR), config.data.join(SUMMARIES_DIR));
        let log = LogDisk::dir_with_summaries(&folder, &summaries).map_err(crate::store::StoreOpenError::from)?;
        check_format(&config.data)?;
        mark::check(&config.data, &config.ledger, &config.key)?;
        let index = IndexDisk::File(config.data.join(INDEX_FILE));
        Self::open_on(config, log, &index)
    }

    /// Opens the ledger on these disks; the data folder is not used.
    ///
    /// # Errors
    /// [`OpenLedgerError`].
    pub fn open_on(config: EngineConfig, log: LogDisk, index: &IndexDisk) -> Result<Self, OpenLedgerError> {
        let EngineConfig { ledger, key, genesis, block, limits, flush, clock, retention, segment_bytes, .. } = config;
        let log = match segment_bytes {
            Some(bytes) => log.with_segments(bytes),
            None => log,
        };
        let opened = Store::open(log, index, &ledger, key.public(), flush)?;
        let store = Arc::new(opened.store);
        let mut builder = Builder::new(Arc::clone(&store), key.clone(), ledger.clone(), Arc::clone(&clock));
        if store.blocks_in_log() == 0 {
            // One that follows is given the genesis like every other block.
            if let LedgerKey::Orders(key) = &key {
                let genesis = genesis.ok_or(OpenLedgerError::NoGenesis)?;
                builder.begin(GenesisEntry::new(&genesis, &ledger, key)?, genesis.at)?;
            }
        } else {
            builder.catch_up(opened.tail, &mut |_| {})?;
        }
        let private = PrivateFields::of(store.folder());
        private.tidy(&store)?;
        let inner = Inner {
            private: Arc::new(private),
            seals: Seals::default(),
            queue: Arc::new(Queue::new(limits.in_flight_max, limits.urgent_max())),
            inflight: Arc::default(),
            signers: Arc::default(),
            key_tables: KeyTables::default(),
            rate: RateLimiter::new(limits.per_signer_per_second),
            metrics: Arc::new(Metrics::new()?),
            state: watch::Sender::new(NodeState::Running),
            pulse: Arc::new(Pulse::new()),
            opened: Instant::now(),
            thread: Mutex::new(None),
            retainer: Retainer::new(retention),
            follower: None,
            ledger,
            key,
            limits,
            store,
            clock,
        };
        Self::start(builder, inner, block)
    }

    fn start(builder: Builder, mut inner: Inner, block: BlockLimits) -> Result<Self, OpenLedgerError> {
        if inner.key.secret().is_none() {
            inner.state.send_replace(NodeState::Following);
            inner.follower = Some(Follower::new(builder));
            return Ok(Self { inner: Arc::new(inner) });
        }
        let keeper = Keeper {
            store: Arc::clone(&inner.store),
            inflight: Arc::clone(&inner.inflight),
            signers: Arc::clone(&inner.signers),
            metrics: Arc::clone(&inner.metrics),
            queue: Arc::clone(&inner.queue),
            private: Arc::clone(&inner.private),
            pulse: Arc::clone(&inner.pulse),
        };
        let (executor, prover) = builder.split();
        let thread = OrderThread {
            executor,
            store: Arc::clone(&inner.store),
            queue: Arc::clone(&inner.queue),
            inflight: Arc::clone(&inner.inflight),
            keeping: keeper.start(prover).map_err(OpenLedgerError::Thread)?,
            state: inner.state.clone(),
            limits: block,
            pulse: Arc::clone(&inner.pulse),
        };
        let spawned = std::thread::Builder::new().name("tally-order".to_owned()).spawn(move || thread.run());
        let handle = spawned.map_err(OpenLedgerError::Thread)?;
        *inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The store, for reading.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// The ledger's name.
    #[must_use]
    pub fn ledger(&self) -> &str {
        &self.inner.ledger
    }

    /// The ledger's public key.
    #[must_use]
    pub fn key(&self) -> &VerifyingKey {
        self.inner.key.public()
    }

    /// What the node lets others have.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// How the node is.
    #[must_use]
    pub fn state(&self) -> NodeState {
        self.inner.state.borrow().clone()
    }

    /// Wakes up when the node stops or fails.
    #[must_use]
    pub fn watch_state(&self) -> watch::Receiver<NodeState> {
        self.inner.state.subscribe()
    }

    /// How many statements wait for their block.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.inner.queue.len()
    }

    /// How long ordering has not got on; more than some seconds means that it hangs on the disk.
    #[must_use]
    pub fn silence(&self) -> Duration {
        if self.inner.follower.as_ref().is_some_and(Follower::is_idle) {
            return Duration::ZERO;
        }
        self.inner.pulse.silence()
    }

    /// How long the ledger has been open.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.inner.opened.elapsed()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Takes nothing more from here on; what was taken is still committed and acknowledged.
    pub fn stop(&self) {
        self.inner.stop();
    }

    /// Stops, waits until everything taken is on the disk, and closes the files. Blocks.
    pub fn close(&self) {
        self.inner.stop();
        self.inner.join();
    }
}

impl Inner {
    fn is_open(&self) -> Result<(), NotNow> {
        match &*self.state.borrow() {
            NodeState::Running => Ok(()),
            NodeState::Following => Err(NotNow::Follower),
            NodeState::Stopping => Err(NotNow::Stopping),
            NodeState::Failed(reason) => Err(NotNow::Failed(reason.clone())),
        }
    }

    fn stop(&self) {
        self.state.send_if_modified(|state| {
            let is_running = matches!(state, NodeState::Running | NodeState::Following);
            if is_running {
                *state = NodeState::Stopping;
            }
            is_running
        });
        self.queue.close();
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in it was reported by its alarm.
            let _ = thread.join();
        }
        if let Some(follower) = &self.follower {
            follower.close();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}
