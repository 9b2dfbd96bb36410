//! Sparkplug B 3.0 (ISO/IEC 20237): the agent as an edge node ([`EdgeNode`]), and reading what other edge nodes say.
//!
//! Standard: *Eclipse Sparkplug Specification 3.0.0*, cited by its own assertion ids (`tck-id-…`).
//! `docs/formats/sparkplug-tck.md` says of each assertion which test shows it; the test run writes that table.
//!
//! What the edge node promises:
//! - one connection at a time, MQTT 3.1.1 or 5, nothing kept by the server; the will is the NDEATH with the connection's bdSeq, which was
//!   synced to disk before the CONNECT was sent;
//! - births first, once the primary host (if one is configured) says through this very server that it is there;
//! - every message but NDEATH counts on from the one before; a rebirth request is answered at once with all births;
//! - a broker that does not answer, a host that goes offline: the next server of the list, in turn;
//! - values are QoS 0, as the specification demands; what a broken connection swallowed can be told again as historical
//!   values: [`Progress`] says up to where everything has certainly arrived.
//!
//! - commands: with [`EdgeNodeConfig::commands`] what hosts ask to have written (DCMD, NCMD other than rebirth) is handed on as
//!   [`Commanded`]; nothing is written here.
//!
//! Not offered: templates, DataSets.

mod bdseq;
mod command;
mod connection;
mod host;
pub(crate) mod listen;
mod names;
mod payload;
mod session;
mod task;
mod value;

use crate::config::Login;
use bdseq::BdSeq;
use session::Session;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tally_connector_api::StatusReporter;
use tally_model::{DeviceId, DeviceSpec, MqttBroker, Sample, Secret, Tls};
use task::Task;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use command::Commanded;
pub use names::{MessageType, NAMESPACE, Name, NameFault, Topic, state_topic};
pub use payload::{Metric, MetricValue, Payload, PayloadFault, PropertyContent, PropertySet, PropertyValue};
pub use value::DataType;

/// Updates that may wait for the task: as many batches as the agent takes in at once.
const UPDATES_MAX: usize = 128;

/// How an edge node reaches its servers, and what it says there.
#[derive(Clone)]
pub struct EdgeNodeConfig {
    /// The servers, in the order in which they are tried.
    pub servers: Vec<MqttBroker>,
    /// Certificates, for those reached over TLS.
    pub tls: Tls,
    /// Our name at the server.
    pub client_id: String,
    /// User name; anonymous without one.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// Group of the edge node.
    pub group: Name,
    /// The edge node; unique within its group, everywhere.
    pub edge_node: Name,
    /// Births wait for this host; without one they go out at once.
    pub primary_host: Option<Name>,
    /// Where bdSeq is kept.
    pub bd_seq_file: PathBuf,
    /// What is told: each device with all its points.
    pub devices: Vec<DeviceSpec>,
    /// Historical values a second, at most; live values go first in any case.
    pub history_values_per_second: u32,
    /// Where commands of hosts go; without it they are told in the log and nothing else. What comes faster than it is taken is
    /// dropped, with a word in the log.
    pub commands: Option<mpsc::Sender<Commanded>>,
}

/// Why an edge node cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeNodeFault {
    /// Two names that differ only in case.
    #[error(
        "{what} `{found}`{place} has the same name as another one, but for upper and lower case; Sparkplug hosts mix such \
         names up (tck-id-case-sensitivity-sparkplug-ids): rename one"
    )]
    Case {
        /// `device` or `point`.
        what: &'static str,
        /// The second one.
        found: String,
        /// Where.
        place: String,
    },
    /// No server at all.
    #[error("an edge node needs at least one server")]
    NoServer,
    /// The file of bdSeq.
    #[error("{file} cannot be read: {fault}", file = file.display())]
    BdSeq {
        /// Which file.
        file: PathBuf,
        /// Why not.
        fault: std::io::Error,
    },
}

/// Samples of one device, to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Whose.
    pub device: DeviceId,
    /// In the order in which they came.
    pub samples: Vec<Sample>,
    /// A number of the caller's that never falls; comes back in [`Progress`].
    pub place: u64,
}

/// How far telling has come. Places are those of [`Update`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Births so far: each begins a new session or answers a rebirth request.
    pub births: u64,
    /// Sessions so far. What came between the end of one and the birth of the next was not told live.
    pub sessions: u64,
    /// The last update before the birth of this session: the birth tells only its latest values.
    pub born_after: u64,
    /// Live updates up to here have certainly arrived: a later ping was answered.
    pub live_arrived: u64,
    /// Historical updates up to here have certainly arrived.
    pub history_arrived: u64,
    /// Whether a session is on.
    pub is_born: bool,
}

/// A running edge node. Clones share the connection.
#[derive(Clone)]
pub struct EdgeNode {
    live: mpsc::Sender<Update>,
    history: mpsc::Sender<Update>,
    described: mpsc::Sender<Vec<DeviceSpec>>,
    progress: watch::Receiver<Progress>,
    finished: CancellationToken,
    counts: Arc<Counts>,
}

/// What was said since start.
#[derive(Debug, Default)]
struct Counts {
    metrics: AtomicU64,
    historical: AtomicU64,
}

impl EdgeNode {
    /// Starts the task that owns the connection; it connects and reconnects until `stop` is cancelled. Then it says NDEATH
    /// and DISCONNECT. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`EdgeNodeFault`].
    pub fn start(
        config: EdgeNodeConfig,
        stop: CancellationToken,
        status: StatusReporter,
    ) -> Result<Self, EdgeNodeFault> {
        if config.servers.is_empty() {
            return Err(EdgeNodeFault::NoServer);
        }
        let session = Session::try_new(config.group.clone(), config.edge_node.clone(), &config.devices)?;
        let file = config.bd_seq_file.clone();
        let bd_seq = BdSeq::open(file.clone()).map_err(|fault| EdgeNodeFault::BdSeq { file, fault })?;
        let (live, live_in) = mpsc::channel(UPDATES_MAX);
        let (history, history_in) = mpsc::channel(UPDATES_MAX);
        let (described, described_in) = mpsc::channel(1);
        let (told, progress) = watch::channel(Progress::default());
        let (finished, counts) = (CancellationToken::new(), Arc::new(Counts::default()));
        let inputs = task::Inputs {
            live: live_in,
            history: history_in,
            described: described_in,
            told,
            stop,
            status,
            counts: counts.clone(),
        };
        let (task, end) = (Task::new(config, session, bd_seq, inputs), finished.clone());
        tokio::spawn(async move {
            task.run().await;
            end.cancel();
        });
        Ok(Self { live, history, described, progress, finished, counts })
    }

    /// Tells live values. Waits while the server takes no more; never while it is away: then only the latest values count,
    /// for the next birth. `false` when the edge node was stopped.
    pub async fn tell(&self, update: Update) -> bool {
        self.live.send(update).await.is_ok()
    }

    /// Tells values of the past, after the live ones and within the rate. Waits while no session is on. Values of devices
    /// that are not alive in this session cannot be told: hosts know no metrics of theirs. `false` when the edge node was
    /// stopped.
    pub async fn tell_history(&self, update: Update) -> bool {
        self.history.send(update).await.is_ok()
    }

    /// The devices are others now: everything is born anew. A description with a fault ([`EdgeNodeFault::Case`]) is logged
    /// and changes nothing. `false` when the edge node was stopped.
    pub async fn describe(&self, devices: Vec<DeviceSpec>) -> bool {
        self.described.send(devices).await.is_ok()
    }

    /// How far telling has come.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Live and historical values taken in since start.
    #[must_use]
    pub fn values_taken(&self) -> (u64, u64) {
        (self.counts.metrics.load(Ordering::Relaxed), self.counts.historical.load(Ordering::Relaxed))
    }

    /// Waits until the task has ended after a stop: nothing is sent any more.
    pub async fn finished(&self) {
        self.finished.cancelled().await;
    }
}

/// What a message that came wants written on these devices, for [`crate::fuzzing`].
pub(crate) fn commanded(devices: &[DeviceSpec], publish: &crate::wire::Publish) -> Vec<Commanded> {
    let names = Name::try_new("works").ok().zip(Name::try_new("edge").ok());
    let session = names.and_then(|(group, edge_node)| Session::try_new(group, edge_node, devices).ok());
    session.map_or_else(Vec::new, |session| command::read(publish, &session))
}

impl EdgeNodeConfig {
    fn login(&self, server: usize) -> Login {
        let nobody = MqttBroker::plain("", 0);
        let broker = self.servers.get(server).unwrap_or(&nobody);
        Login::new(broker, &self.tls, &self.client_id, self.user.clone(), self.password.clone())
    }
}
