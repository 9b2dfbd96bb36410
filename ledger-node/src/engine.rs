//! The ledger without its door to the network: open, submit, receipts, close. What the API, the tests and `bench` stand on.

use crate::admit::{CheckedStatement, InFlight, NotNow, RateLimiter, Refused, Reserved, Signers, check_seal, parse};
use crate::clock::{Clock, WallClock};
use crate::metrics::Metrics;
use crate::order::{BlockLimits, Builder, GenesisEntry, Keeper, NotQueued, OpenLedgerError, OrderThread, Queue};
use crate::store::{CommitError, EntryPlace, FlushLimits, IndexDisk, IndexFault, LogDisk, Store, check_format};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tally_contracts::Genesis;
use tally_evidence::{
    ConsistencyReceipt, Hash, OutcomeRecord, Receipt, SignedStatement, SigningKey, StatementId, TreeNote, VerifyingKey,
};
use tokio::sync::{oneshot, watch};

/// Folder of the log inside the data folder.
const LOG_DIR: &str = "log";
/// File of the index inside the data folder.
const INDEX_FILE: &str = "state.redb";

/// What the node lets one signer, one statement and the queue have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest statement.
    pub body_bytes_max: usize,
    /// Statements between the door and the ledger; an eighth more for urgent ones.
    pub in_flight_max: usize,
    /// Statements a second of one signer.
    pub per_signer_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 1 << 20, in_flight_max: 512, per_signer_per_second: 5_000 }
    }
}

impl Limits {
    /// Room for urgent statements alone.
    #[must_use]
    pub const fn urgent_max(&self) -> usize {
        self.in_flight_max / 8 + 8
    }
}

/// How to open a ledger.
#[derive(Clone)]
pub struct EngineConfig {
    /// Its name; every statement's `aud`.
    pub ledger: String,
    /// The data folder.
    pub data: PathBuf,
    /// The ledger's key.
    pub key: SigningKey,
    /// What it begins with; looked at only when it is empty.
    pub genesis: Option<Genesis>,
    /// How blocks are cut.
    pub block: BlockLimits,
    /// What the node lets others have.
    pub limits: Limits,
    /// When the index is made durable.
    pub flush: FlushLimits,
    /// Where block time comes from.
    pub clock: Arc<dyn Clock>,
}

impl EngineConfig {
    /// The usual limits and the computer's clock.
    #[must_use]
    pub fn new(ledger: impl Into<String>, data: impl AsRef<Path>, key: SigningKey) -> Self {
        Self {
            ledger: ledger.into(),
            data: data.as_ref().to_path_buf(),
            key,
            genesis: None,
            block: BlockLimits::default(),
            limits: Limits::default(),
            flush: FlushLimits::default(),
            clock: Arc::new(WallClock),
        }
    }

    /// Begins the ledger with this when it is empty.
    #[must_use]
    pub fn with_genesis(mut self, genesis: Genesis) -> Self {
        self.genesis = Some(genesis);
        self
    }
}

/// How the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// Takes statements.
    Running,
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
}

/// Why a statement is not in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// These bytes are never taken.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The same bytes may be sent again.
    #[error(transparent)]
    NotNow(#[from] NotNow),
}

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store does not give it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// What it gives makes no sense.
    #[error("the ledger is damaged at entry {0}")]
    Entry(u64),
}

impl From<IndexFault> for ReadError {
    fn from(fault: IndexFault) -> Self {
        Self::Store(fault.into())
    }
}

/// An open ledger. Cloning is cheap; the ledger is closed when the last clone is dropped, or by [`Engine::close`].
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    ledger: String,
    key: SigningKey,
    limits: Limits,
    store: Arc<Store>,
    queue: Arc<Queue>,
    inflight: Arc<InFlight<Committed>>,
    signers: Arc<Signers>,
    rate: RateLimiter,
    metrics: Arc<Metrics>,
    state: watch::Sender<NodeState>,
    pulse: Arc<Mutex<Instant>>,
    opened: Instant,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// An admitted statement: committed long ago, or on its way.
pub(crate) enum Ticket {
    Known(Committed),
    Waiting(oneshot::Receiver<Committed>),
}

impl Engine {
    /// Opens the ledger in its data folder, beginning it with the genesis when it is empty. Executes again what the index
    /// does not have, and starts the order thread.
    ///
    /// # Errors
    /// [`OpenLedgerError`]; nothing is running then.
    pub fn open(config: EngineConfig) -> Result<Self, OpenLedgerError> {
        // The lock first: nobody else is at the folder from here on.
        let log = LogDisk::dir(&config.data.join(LOG_DIR)).map_err(crate::store::StoreOpenError::from)?;
        check_format(&config.data)?;
        let index = IndexDisk::File(config.data.join(INDEX_FILE));
        Self::open_on(config, log, &index)
    }

    /// Opens the ledger on these disks; the data folder is not used.
    ///
    /// # Errors
    /// [`OpenLedgerError`].
    pub fn open_on(config: EngineConfig, log: LogDisk, index: &IndexDisk) -> Result<Self, OpenLedgerError> {
        let EngineConfig { ledger, key, genesis, block, limits, flush, clock, .. } = config;
        let opened = Store::open(log, index, &ledger, key.public())?;
        let store = Arc::new(opened.store.with_flush(flush));
        let mut builder = Builder::new(Arc::clone(&store), key.clone(), ledger.clone(), clock);
        if store.blocks_in_log() == 0 {
            let genesis = genesis.ok_or(OpenLedgerError::NoGenesis)?;
            builder.begin(GenesisEntry::new(&genesis, &ledger, &key)?, genesis.at)?;
        } else {
            builder.catch_up(opened.tail)?;
        }
        Self::start(builder, store, ledger, key, limits, block)
    }

    fn start(
        builder: Builder,
        store: Arc<Store>,
        ledger: String,
        key: SigningKey,
        limits: Limits,
        block: BlockLimits,
    ) -> Result<Self, OpenLedgerError> {
        let inner = Inner {
            ledger,
            key,
            store,
            queue: Arc::new(Queue::new(limits.in_flight_max, limits.urgent_max())),
            inflight: Arc::default(),
            signers: Arc::default(),
            rate: RateLimiter::new(limits.per_signer_per_second),
            metrics: Arc::new(Metrics::new()?),
            state: watch::Sender::new(NodeState::Running),
            pulse: Arc::new(Mutex::new(Instant::now())),
            opened: Instant::now(),
            thread: Mutex::new(None),
            limits,
        };
        let keeper = Keeper {
            store: Arc::clone(&inner.store),
            inflight: Arc::clone(&inner.inflight),
            signers: Arc::clone(&inner.signers),
            metrics: Arc::clone(&inner.metrics),
            queue: Arc::clone(&inner.queue),
        };
        let thread = OrderThread {
            builder,
            queue: Arc::clone(&inner.queue),
            inflight: Arc::clone(&inner.inflight),
            keeping: keeper.start().map_err(OpenLedgerError::Thread)?,
            state: inner.state.clone(),
            limits: block,
            pulse: Arc::clone(&inner.pulse),
        };
        let spawned = std::thread::Builder::new().name("tally-order".to_owned()).spawn(move || thread.run());
        let handle = spawned.map_err(OpenLedgerError::Thread)?;
        *inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Submits a signed statement. `Ok` means that it is on the disk for ever; the same statement again, now or after a
    /// restart, gives the same answer.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, statement: impl Into<Arc<[u8]>>) -> Result<Committed, SubmitError> {
        match self.admit(statement.into())? {
            Ticket::Known(committed) => Ok(committed),
            Ticket::Waiting(answer) => Ok(answer.await.map_err(|_| self.gone())?),
        }
    }

    /// Everything up to the queue; never waits.
    pub(crate) fn admit(&self, statement: Arc<[u8]>) -> Result<Ticket, SubmitError> {
        let admitted = self.inner.admit(statement);
        match &admitted {
            Ok(Ticket::Known(_)) => self.inner.metrics.repeated.inc(),
            Ok(Ticket::Waiting(_)) => self.inner.metrics.admitted.inc(),
            Err(SubmitError::Refused(refused)) => self.inner.metrics.refused(refused.code()),
            Err(SubmitError::NotNow(not_now)) => self.inner.metrics.not_now(not_now.code()),
        }
        admitted
    }

    /// Why nobody answers any more.
    pub(crate) fn gone(&self) -> NotNow {
        match self.state() {
            NodeState::Failed(reason) => NotNow::Failed(reason),
            // The one that was joined was turned away.
            NodeState::Running => NotNow::Busy,
            NodeState::Stopping => NotNow::Stopping,
        }
    }

    /// The receipt of a committed statement; each time the same bytes.
    ///
    /// # Errors
    /// [`ReadError::Entry`] when the tree does not hold it.
    pub fn receipt(&self, committed: &Committed) -> Result<Vec<u8>, ReadError> {
        let Committed { entry, size, subject, .. } = committed;
        let (path, root) = self.inner.store.inclusion(*entry, *size).ok_or(ReadError::Entry(*entry))?;
        Ok(Receipt::issue(&self.inner.key, &self.inner.ledger, subject, *size, *entry, &path, &root))
    }

    /// The ledger's seal under a proof that it only grew.
    #[must_use]
    pub fn sign_consistency(&self, old: u64, size: u64, path: &[Hash], root: &Hash) -> Vec<u8> {
        ConsistencyReceipt::issue(&self.inner.key, &self.inner.ledger, old, size, path, root)
    }

    /// The ledger's signature under its size and root, for others' tools.
    #[must_use]
    pub fn sign_note(&self, note: &TreeNote) -> String {
        note.seal(&self.inner.key)
    }

    /// A committed statement by its id, with its bytes.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn find(&self, id: &StatementId) -> Result<Option<(Committed, Vec<u8>)>, ReadError> {
        let Some(entry) = self.inner.store.entry_of(id)? else { return Ok(None) };
        self.entry(entry)
    }

    /// An entry, with the bytes of its statement.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry(&self, entry: u64) -> Result<Option<(Committed, Vec<u8>)>, ReadError> {
        let Some(place) = self.inner.store.place_of(entry)? else { return Ok(None) };
        let bytes = self.inner.store.statement(&place)?;
        let parsed = SignedStatement::parse(&bytes).map_err(|_| ReadError::Entry(entry))?;
        let committed = self.inner.committed(&place, parsed.subject)?;
        Ok(Some((committed, bytes)))
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

    /// How long the order thread has not gone round; more than some seconds means that it hangs on the disk.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.inner.pulse.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
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
    fn admit(&self, bytes: Arc<[u8]>) -> Result<Ticket, SubmitError> {
        self.is_open()?;
        let parsed = parse(&bytes, &self.ledger, self.limits.body_bytes_max)?;
        match self.check(&parsed) {
            Ok(()) => {}
            // Idempotency goes before everything that may change later: what is in keeps its receipt.
            Err(SubmitError::Refused(refused @ (Refused::Revoked { .. } | Refused::UnknownKey { .. }))) => {
                return self.same_as_first(&parsed, &bytes)?.map(Ticket::Known).ok_or(refused.into());
            }
            Err(error) => return Err(error),
        }
        let (id, subject) = (parsed.id, parsed.subject.clone());
        let (first, answer) = match self.inflight.reserve(id) {
            Reserved::Joined(answer) => return Ok(Ticket::Waiting(answer)),
            Reserved::First(first, answer) => (first, answer),
        };
        // After the reservation, see `inflight`.
        if let Some(committed) = self.known(&id, &subject)? {
            self.inflight.settle(std::iter::once((id, committed.clone())));
            return Ok(Ticket::Known(committed));
        }
        let statement = CheckedStatement::new(parsed, bytes)?;
        self.rate.take(&statement.signer, Instant::now());
        self.queue.push(statement).map_err(|full| match full {
            NotQueued::Full => NotNow::Busy,
            NotQueued::Closed => self.closed(),
        })?;
        first.queued();
        Ok(Ticket::Waiting(answer))
    }

    /// Signer and seal.
    fn check(&self, parsed: &SignedStatement) -> Result<(), SubmitError> {
        let name = || parsed.issuer.as_str().to_owned();
        if let Some(wait) = self.rate.wait(&parsed.issuer, Instant::now()) {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            return Err(NotNow::Rate { signer: name(), per_second: self.rate.per_second(), wait_ms }.into());
        }
        let signer = self.signers.find(&parsed.issuer, &self.store).map_err(failed)?;
        let signer = signer.ok_or_else(|| Refused::UnknownSigner { signer: name() })?;
        check_seal(parsed, &signer.key, signer.key_id)?;
        if signer.is_revoked { Err(Refused::Revoked { signer: name() }.into()) } else { Ok(()) }
    }

    /// The first of a repeated statement, if these bytes are the very same.
    fn same_as_first(&self, parsed: &SignedStatement, bytes: &[u8]) -> Result<Option<Committed>, SubmitError> {
        let Some(place) = self.place_of(&parsed.id)? else { return Ok(None) };
        let first = self.store.statement(&place).map_err(|error| NotNow::Failed(error.to_string()))?;
        if first == bytes { self.committed_or_failed(&place, &parsed.subject).map(Some) } else { Ok(None) }
    }

    fn known(&self, id: &StatementId, subject: &str) -> Result<Option<Committed>, SubmitError> {
        self.place_of(id)?.map(|place| self.committed_or_failed(&place, subject)).transpose()
    }

    fn place_of(&self, id: &StatementId) -> Result<Option<EntryPlace>, SubmitError> {
        let Some(entry) = self.store.entry_of(id).map_err(failed)? else { return Ok(None) };
        let place = self.store.place_of(entry).map_err(failed)?;
        Ok(Some(place.ok_or_else(|| NotNow::Failed(format!("entry {entry} is in no block")))?))
    }

    fn committed_or_failed(&self, place: &EntryPlace, subject: &str) -> Result<Committed, SubmitError> {
        let committed = self.committed(place, subject.to_owned());
        committed.map_err(|error| NotNow::Failed(error.to_string()).into())
    }

    fn committed(&self, place: &EntryPlace, subject: String) -> Result<Committed, ReadError> {
        let EntryPlace { entry, height, row, place } = place;
        let outcomes = self.store.outcomes(*height)?.unwrap_or_default();
        let outcome = outcomes.get(row.terms as usize + place).and_then(|bytes| OutcomeRecord::decode(bytes).ok());
        let refusal = outcome.ok_or(ReadError::Entry(*entry))?.refusal;
        let id = row.entries.get(*place).map(|(_, id)| *id).ok_or(ReadError::Entry(*entry))?;
        Ok(Committed { id, subject, entry: *entry, height: *height, size: row.size(), refusal })
    }

    fn is_open(&self) -> Result<(), NotNow> {
        match &*self.state.borrow() {
            NodeState::Running => Ok(()),
            NodeState::Stopping => Err(NotNow::Stopping),
            NodeState::Failed(reason) => Err(NotNow::Failed(reason.clone())),
        }
    }

    fn closed(&self) -> NotNow {
        self.is_open().err().unwrap_or(NotNow::Stopping)
    }

    fn stop(&self) {
        self.state.send_if_modified(|state| {
            let is_running = *state == NodeState::Running;
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
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

fn failed(fault: IndexFault) -> NotNow {
    NotNow::Failed(fault.to_string())
}
