//! Wire and run: configuration, ledger, sockets, systemd, stop.

use crate::alarms::{self, AlarmFault, Alarms};
use crate::api::{self, Access, Cosigning, Doorkeeper, unix_now};
use crate::clock::WallClock;
use crate::config::{ConfigError, NodeConfig};
use crate::engine::{Engine, NodeState};
use crate::follow::{self, Source};
use crate::order::OpenLedgerError;
use crate::projection::Feed;
use crate::witness::{self, Finality, Witness, WitnessError};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::Genesis;
use tally_door::{BindError, Bound, Door, Expiry, Listen, Secure, TokenFault};
use tally_evidence::{LogKey, NoteVerifyingKey, RuleRecord, TreeNote};
use tally_projection::Place;
use tokio_util::sync::CancellationToken;

/// Longest time ordering may not get on, being away on the disk, while we still tell systemd that all is well.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a failed ledger goes on answering before the node ends: time for whoever waits for an answer, asks `/ready` or
/// scrapes `/metrics` to be told the reason. Longer would only keep the plant waiting for the restart.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Time between retention passes. Looking whether anything is to go costs a walk over the names in the data folder.
const RETAIN_EVERY: Duration = Duration::from_secs(30);

/// Time between looks at the ends of certificates, which are counted in days.
const EXPIRY_EVERY: Duration = Duration::from_secs(3_600);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration, or a file it names.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ledger does not open.
    #[error(transparent)]
    Open(Box<OpenLedgerError>),
    /// A socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The files of `tls`.
    #[error("`tls` of node.yaml: {0}")]
    Tls(#[from] tally_tls::TlsFault),
    /// The token for the node that we follow.
    #[error("`follow.token` of node.yaml: {0}")]
    FollowToken(#[from] tally_ledger_client::AccessFault),
    /// The file of tokens.
    #[error(transparent)]
    Tokens(#[from] TokenFault),
    /// What witnesses signed cannot be read.
    #[error("the folder `witness` of the data folder: {0}")]
    Witnesses(std::io::Error),
    /// It cannot be the witness it shall be.
    #[error("`witness_for` of node.yaml: {0}")]
    Witness(#[from] Box<WitnessError>),
    /// It would be its own witness.
    #[error(
        "`witness_for` of node.yaml: {0} is this ledger's own key; a witness is somebody else, with a key of its own (`tally keys new FILE --algorithm ed25519`)"
    )]
    OwnWitness(&'static str),
    /// The list of alarms cannot be read.
    #[error("alarms: {0}")]
    Alarms(#[from] AlarmFault),
    /// There is a ledger already.
    #[error("there is a ledger in {0} already; a ledger is begun once")]
    NotEmpty(String),
    /// The ledger stopped at a failure while running.
    #[error("the ledger stopped: {0}; correct the cause, then start the node again")]
    Failed(String),
    /// The system gives no thread.
    #[error("the projection's thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// A task of the node died.
    #[error("opening the ledger did not end in good order")]
    Task(#[from] tokio::task::JoinError),
}

impl From<OpenLedgerError> for NodeError {
    fn from(error: OpenLedgerError) -> Self {
        Self::Open(Box::new(error))
    }
}

/// A node that is open and bound, and not serving yet.
pub struct Node {
    engine: Engine,
    bound: Bound,
    access: Access,
    projection: Option<Place>,
    witnesses: Option<Arc<Finality>>,
    witness: Option<Arc<Witness>>,
    follow: Option<Source>,
}

/// Opens the ledger, serves its API, and stops in good order when `stop` is cancelled.
///
/// # Errors
/// [`NodeError`]; [`NodeError::Failed`] when the disk failed while running.
pub async fn run(config: NodeConfig, stop: CancellationToken) -> Result<(), NodeError> {
    let node = Node::open(config).await?;
    node.serve(stop).await
}

/// Begins the ledger of `config` with this genesis and these rules, and closes it again. The key file must exist.
///
/// # Errors
/// [`NodeError::NotEmpty`] when there is one already; nothing is changed then.
pub fn init(config: &NodeConfig, mut genesis: Genesis, rules: Vec<RuleRecord>) -> Result<(), NodeError> {
    match Engine::open(config.engine(None)?) {
        Err(OpenLedgerError::NoGenesis) => {
            genesis.rules.extend(rules);
            Engine::open(config.engine(Some(genesis))?)?.close();
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(NodeError::NotEmpty(config.data.display().to_string())),
    }
}

impl Node {
    /// Opens the ledger and binds the sockets.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is running then.
    pub async fn open(config: NodeConfig) -> Result<Self, NodeError> {
        let (listen, projection, access) = (config.listen.clone(), config.projection.clone(), config.access.clone());
        let secure = config.tls.clone().map(Secure::open).transpose()?;
        let door = Door { secure, limits: config.door, ..Door::default() };
        let ours = config.follow_as.access()?;
        let follow = config.follow.clone().map(|address| Source::new(address).with_access(ours).impatient());
        // Opening reads the whole log and may execute much of it again.
        let opened = tokio::task::spawn_blocking(move || {
            let engine = open_engine(&config)?;
            let witnesses = open_witnesses(&config, &engine)?;
            let witness = open_witness(&config, &engine)?;
            Ok::<_, NodeError>((engine, witnesses, witness))
        });
        let (engine, witnesses, witness) = opened.await??;
        let node = Self::bind_behind(door, engine, &listen).await?.with_projection(projection);
        Ok(Self { witnesses, witness, access, follow, ..node })
    }

    /// A node for a ledger that is open already; who reaches it on this machine may do everything.
    ///
    /// # Errors
    /// [`NodeError::Bind`].
    pub async fn bind(engine: Engine, listen: &[Listen]) -> Result<Self, NodeError> {
        Self::bind_behind(Door::default(), engine, listen).await
    }

    /// The same with TLS, limits and counters of its own.
    ///
    /// # Errors
    /// [`NodeError::Bind`].
    pub async fn bind_behind(door: Door, engine: Engine, listen: &[Listen]) -> Result<Self, NodeError> {
        let bound = Bound::bind(listen, door).await?;
        let access = Access::default();
        Ok(Self { engine, bound, access, projection: None, witnesses: None, witness: None, follow: None })
    }

    /// The same node with other rules of who may do what.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The same node with tables for questions at this place.
    #[must_use]
    pub fn with_projection(mut self, place: Option<Place>) -> Self {
        self.projection = place;
        self
    }

    /// The same node, which takes the blocks of another one; its ledger was opened with the public key alone.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.follow = Some(source);
        self
    }

    /// Where the node really listens.
    #[must_use]
    pub fn places(&self) -> Vec<Listen> {
        self.bound.places()
    }

    /// The ledger.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Serves until `stop` is cancelled, or until some seconds after the ledger failed; then finishes what was taken, at most 1 s
    /// for the requests in hand.
    ///
    /// # Errors
    /// [`NodeError::Failed`].
    pub async fn serve(self, stop: CancellationToken) -> Result<(), NodeError> {
        let Self { engine, bound, access, projection, witnesses, witness, follow } = self;
        let expiry = bound.expiry();
        let alarms = Alarms::open(engine.store().folder(), Arc::new(WallClock))?;
        let doorkeeper = Arc::new(Doorkeeper::new(access, bound.tallies(), expiry.clone())?);
        let feed = projection.map(|place| Feed::start(&engine, place)).transpose().map_err(NodeError::Thread)?;
        for place in bound.places() {
            tracing::info!(ledger = engine.ledger(), %place, "listening");
        }
        notify(NotifyState::Ready);
        let stop_serving = CancellationToken::new();
        let asking = witnesses.as_ref().map(|known| witness::start(&engine, known, Arc::new(WallClock), &stop_serving));
        let questions = feed.as_ref().map(Feed::questions);
        let alarms = Arc::new(alarms);
        let cosigning = Cosigning { witnesses, witness };
        let looking = alarms::watch(engine.clone(), Arc::clone(&alarms), cosigning.clone(), stop_serving.clone());
        let mut tasks = vec![tokio::spawn(looking)];
        let router = api::router(engine.clone(), questions, cosigning, alarms, doorkeeper, stop_serving.clone());
        tasks.push(tokio::spawn(bound.serve(router, stop_serving.clone())));
        tasks.extend(follow.map(|source| tokio::spawn(follow::run(engine.clone(), source, stop_serving.clone()))));
        tasks.push(tokio::spawn(retain(engine.clone(), stop_serving.clone())));
        tasks.push(tokio::spawn(watch_certificates(expiry, stop_serving.clone())));
        watch(&engine, &stop).await;
        notify(NotifyState::Stopping);
        // The queue first: what waits for its block is answered before the connections are closed.
        engine.stop();
        stop_serving.cancel();
        for task in tasks {
            task.await?;
        }
        if let Some(asking) = asking {
            asking.wait().await;
        }
        close(engine, feed).await
    }
}

/// Nobody asks any more: the store is closed, and what it failed of is told.
async fn close(engine: Engine, feed: Option<Feed>) -> Result<(), NodeError> {
    let failed = engine.state();
    let close = move || {
        // It reads the store until it has ended.
        feed.into_iter().for_each(Feed::stop);
        engine.close();
    };
    tokio::task::spawn_blocking(close).await?;
    match failed {
        NodeState::Failed(reason) => Err(NodeError::Failed(reason)),
        _ => Ok(()),
    }
}

fn open_engine(config: &NodeConfig) -> Result<Engine, NodeError> {
    match Engine::open(config.engine(None)?) {
        // Only an empty ledger looks at its genesis, so a mistake in an old one stops nobody.
        Err(OpenLedgerError::NoGenesis) => Ok(Engine::open(config.engine(config.load_genesis()?)?)?),
        opened => Ok(opened?),
    }
}

fn open_witnesses(config: &NodeConfig, engine: &Engine) -> Result<Option<Arc<Finality>>, NodeError> {
    let Some(policy) = config.witnesses.clone() else { return Ok(None) };
    let log = LogKey::new(engine.ledger().to_owned(), engine.key().clone().into());
    let is_ours = |tree: &TreeNote| engine.store().root_at(tree.size).is_ok_and(|root| root == Some(tree.root));
    let known = Finality::open(policy, log, &config.data, is_ours).map_err(NodeError::Witnesses)?;
    Ok(Some(Arc::new(known)))
}

/// What this node is to other ledgers; never to its own.
fn open_witness(config: &NodeConfig, engine: &Engine) -> Result<Option<Arc<Witness>>, NodeError> {
    let Some(watching) = &config.witness_for else { return Ok(None) };
    let own: NoteVerifyingKey = engine.key().clone().into();
    if watching.logs.iter().any(|log| *log.key.key() == own) {
        return Err(NodeError::OwnWitness("a key in `logs`"));
    }
    let witness = witness::open(watching).map_err(Box::new)?;
    if witness.cosigner().is_ok_and(|cosigner| *cosigner.key() == own) {
        return Err(NodeError::OwnWitness("`key`"));
    }
    Ok(Some(witness))
}

/// Until stopped, or until a failed ledger has said so for [`LAST_WORDS`]: `/ready` (503), `/status` and `/metrics` give the
/// reason. Only opening the log again tells what is on the disk, and only a new process does that; so ending is what gets the
/// plant its ledger back, under systemd and in a container alike (`docs/decisions/006-ledger-node.md`).
async fn watch(engine: &Engine, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = pulse(engine) => {}
        reason = failure(engine) => tracing::error!(%reason, "the ledger stopped; the node ends in {LAST_WORDS:?}"),
    }
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(LAST_WORDS) => {}
    }
}

/// Makes a retention pass every [`RETAIN_EVERY`] until stopped; one that runs then ends at its next step.
async fn retain(engine: Engine, stop: CancellationToken) {
    while engine.retention().is_on() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETAIN_EVERY) => {}
        }
        let engine = engine.clone();
        // It has told of its failure itself, and the next one may succeed.
        let _ = tokio::task::spawn_blocking(move || engine.retain().is_ok()).await;
    }
}

/// Looks at the certificates' ends until stopped. The ledger does not: nothing in it hangs on them.
async fn watch_certificates(expiry: Expiry, stop: CancellationToken) {
    loop {
        // What holds is in the log and in /metrics.
        let _ = expiry.look(unix_now());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EXPIRY_EVERY) => {}
        }
    }
}

/// Comes when the ledger has failed, with the reason.
async fn failure(engine: &Engine) -> String {
    let mut state = engine.watch_state();
    let failed = state.wait_for(|state| matches!(state, NodeState::Failed(_))).await.map(|state| state.clone());
    match failed {
        Ok(NodeState::Failed(reason)) => reason,
        // The sender lives in the engine, which we hold.
        _ => std::future::pending().await,
    }
}

/// Tells systemd that all is well, as long as it is. Never comes.
async fn pulse(engine: &Engine) {
    // systemd wants a sign twice in each period (sd_watchdog_enabled(3)).
    let period = sd_notify::watchdog_enabled().map_or(Duration::from_secs(5), |period| period / 2);
    loop {
        tokio::time::sleep(period).await;
        if engine.silence() < SILENCE_MAX {
            notify(NotifyState::Watchdog);
        }
    }
}

/// Without systemd there is nobody to tell, and that is fine.
pub(crate) fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
