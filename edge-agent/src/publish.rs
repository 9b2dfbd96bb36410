//! What SCADA hears, over MQTT (`docs/formats/topics.md`).
//!
//! - live values: as JSON or as Sparkplug B ([`sparkplug`]);
//!   as JSON QoS 0, retained; when the broker or this task is slow SCADA misses some, and nothing else waits;
//! - history: what SCADA missed ([`crate::spool`]), QoS 1, slower than live values are;
//! - triggers: QoS 1, in number order; one counts as told when the broker said so, and the place survives a restart;
//! - ledger events: QoS 1, in ledger order, the place survives a restart;
//! - how links, key, certificates and agent are ([`states`]): QoS 1, retained; the agent's last will says "offline".

mod cursor;
mod deadbands;
mod events;
mod history;
mod json;
mod latest;
mod live;
mod sparkplug;
mod states;
mod topics;
mod triggers;

use crate::command::{Commands, Sources};
use crate::config::{BrokerConfig, PublishMode, SparkplugConfig};
use crate::error::StoreError;
use crate::gate::Gate;
use crate::spool::{Drain, Spool};
use crate::status::Status;
use crate::store::Stores;
use crate::vault::Kept;
use cursor::Cursor;
use live::{Connects, Live};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Clock, LinkStatus, StatusReporter};
use tally_connector_mqtt::sparkplug::{Commanded, EdgeNode, EdgeNodeConfig};
use tally_connector_mqtt::{Heard, HearingConfig, MqttPublisher, PublisherConfig, hear};
use tally_journal::Storage;
use tally_ledger_client::Client;
use tally_model::{DeviceSpec, PartyId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
pub(crate) use topics::{Topics, clock_json};

/// Batches that may wait for the live task: as many as the agent takes in at once.
const LIVE_BATCHES_MAX: usize = 128;
/// Commands of Sparkplug hosts that may wait.
const COMMANDS_MAX: usize = 16;
/// QoS 1 messages on their way: triggers, events and states take turns.
const IN_FLIGHT_MAX: u16 = 64;

/// The devices of the mapping as it is now.
pub(crate) type Devices = watch::Receiver<Arc<Vec<DeviceSpec>>>;

/// What publishing is told.
pub struct Setting {
    /// Where and how.
    pub broker: BrokerConfig,
    /// The agent.
    pub agent: PartyId,
    /// The plant.
    pub plant: String,
    /// Deadbands and order of points; changes with the mapping.
    pub devices: Devices,
    /// Ledger events come from here.
    pub client: Client,
    /// Where the places are kept.
    pub data: PathBuf,
    /// Decides what is too old to be told later.
    pub clock: Arc<dyn Clock>,
}

/// The running publisher.
pub struct Publishing {
    /// Where ingest puts live values.
    pub live: Option<mpsc::Sender<Arc<Kept>>>,
    /// The number behind the last trigger SCADA was told of; `u64::MAX` when there is nobody to tell.
    pub published: watch::Receiver<u64>,
    tasks: JoinSet<()>,
    publisher: Option<MqttPublisher>,
    spool: Option<Arc<Spool>>,
}

impl Publishing {
    /// Nobody to tell.
    pub fn off() -> Self {
        let (_, published) = watch::channel(u64::MAX);
        Self { live: None, published, tasks: JoinSet::new(), publisher: None, spool: None }
    }

    /// Waits for the tasks after `quit` was cancelled; at most a second.
    pub async fn stopped(mut self) {
        let all = async {
            while self.tasks.join_next().await.is_some() {}
            if let Some(publisher) = &self.publisher {
                publisher.finished().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(1), all).await.is_err() {
            self.tasks.shutdown().await;
        }
        if let Some(spool) = self.spool
            && let Ok(Err(fault)) = tokio::task::spawn_blocking(move || spool.keep()).await
        {
            tracing::warn!(%fault, "the place in the live values cannot be kept; after a restart SCADA is told some of them again");
        }
    }
}

/// Starts everything that talks to SCADA's broker.
///
/// # Errors
/// [`StoreError`] when the kept places cannot be read.
pub fn start<S: Storage + Send + 'static>(
    setting: Setting,
    stores: Arc<Stores<S>>,
    status: Arc<Status>,
    gate: Arc<Gate<S>>,
    sealed: watch::Receiver<u64>,
    quit: CancellationToken,
) -> Result<Publishing, StoreError> {
    let Setting { broker, agent, plant, devices, client, data, clock } = setting;
    let topics = Topics::new(&broker.prefix, &plant);
    let (told, heard) = (Cursor::open(data.join("published"))?, Cursor::open(data.join("events"))?);
    let spool = Spool::open(&data.join("spool"), broker.history, &stores)?;
    let first = told.value().parse().unwrap_or(0);
    let (published_sender, published) = watch::channel(first);
    let (live, batches) = mpsc::channel(LIVE_BATCHES_MAX);
    let (publisher, link) = connect(&broker, &agent, &topics, quit.clone());
    status.set_broker(link.clone());
    let (commanded, commands) = mpsc::channel(COMMANDS_MAX);
    let commanded = broker.commands.map(|_| commanded);
    let node = edge_node(&broker, &agent, &devices, &data, commanded, quit.clone())?;
    let voice = Voice { devices, topics, publisher, link, status, spool, quit };
    let mut tasks = JoinSet::new();
    voice.tell_values(&mut tasks, broker.mode, node, batches, (stores.clone(), clock));
    voice.carry_out_commands(&mut tasks, &broker, &agent, gate, commands);
    voice.tell_triggers(&mut tasks, stores, sealed, told, (first, published_sender));
    voice.tell_events(&mut tasks, client, heard);
    let Voice { devices, topics, publisher, link, status, spool, quit } = voice;
    let (broker, told_by) = (Connects::new(link), publisher.clone());
    tasks.spawn(states::States { status, devices, agent, topics, publisher: told_by, broker, quit }.run());
    Ok(Publishing { live: Some(live), published, tasks, publisher: Some(publisher), spool: Some(spool) })
}

/// What all who speak to the broker have.
struct Voice {
    devices: Devices,
    topics: Topics,
    publisher: MqttPublisher,
    link: watch::Receiver<LinkStatus>,
    status: Arc<Status>,
    spool: Arc<Spool>,
    quit: CancellationToken,
}

impl Voice {
    /// Live values, and later what SCADA missed of them: as Sparkplug where there is an edge node, as JSON otherwise.
    fn tell_values<S: Storage + Send + 'static>(
        &self,
        tasks: &mut JoinSet<()>,
        mode: PublishMode,
        node: Option<(EdgeNode, watch::Receiver<LinkStatus>)>,
        batches: mpsc::Receiver<Arc<Kept>>,
        (stores, clock): (Arc<Stores<S>>, Arc<dyn Clock>),
    ) {
        let Self { devices, topics, publisher, link, status, spool, quit } = self;
        let history = history::JsonHistory::new(devices.clone(), topics.clone(), publisher.clone());
        let (spool_read, status_told) = (spool.clone(), status.clone());
        let Some((node, edge_link)) = node else {
            let (connects, devices) = (Connects::new(link.clone()), devices.clone());
            let (topics, publisher) = (topics.clone(), publisher.clone());
            let values = Live::new(mode, devices, topics, publisher, connects, status.clone(), spool.clone());
            tasks.spawn(values.run(batches, quit.clone()));
            let drain = Drain { spool: spool_read, stores, status: status_told, clock, teller: history };
            tasks.spawn(drain.run(quit.clone()));
            return;
        };
        status.set_broker(edge_link);
        let values = sparkplug::Values::new(node.clone(), devices.clone(), status.clone(), spool.clone());
        tasks.spawn(values.run(batches, quit.clone()));
        let teller = sparkplug::SparkplugHistory::new(node.clone(), history);
        let drain = Drain { spool: spool_read, stores, status: status_told, clock, teller };
        tasks.spawn(drain.run(quit.clone()));
        // Its NDEATH and DISCONNECT are part of an orderly stop.
        tasks.spawn(async move { node.finished().await });
    }

    /// Triggers from number `first` on; `published` is told the number behind the last that SCADA has.
    fn tell_triggers<S: Storage + Send + 'static>(
        &self,
        tasks: &mut JoinSet<()>,
        stores: Arc<Stores<S>>,
        sealed: watch::Receiver<u64>,
        cursor: Cursor,
        (first, published): (u64, watch::Sender<u64>),
    ) {
        let (status, topics, publisher) = (self.status.clone(), self.topics.clone(), self.publisher.clone());
        let triggers = triggers::Triggers { stores, status, sealed, topics, publisher, cursor, published };
        tasks.spawn(triggers.run(first, self.quit.clone()));
    }

    /// What happened on the ledger.
    fn tell_events(&self, tasks: &mut JoinSet<()>, client: Client, cursor: Cursor) {
        let (status, topics, publisher) = (self.status.clone(), self.topics.clone(), self.publisher.clone());
        tasks.spawn(events::Events { client, status, topics, publisher, cursor }.run(self.quit.clone()));
    }

    /// Commands of SCADA, where the configuration takes any; `commands` are those that came to the edge node.
    fn carry_out_commands<S: Storage + Send + 'static>(
        &self,
        tasks: &mut JoinSet<()>,
        broker: &BrokerConfig,
        agent: &PartyId,
        gate: Arc<Gate<S>>,
        commands: mpsc::Receiver<Commanded>,
    ) {
        let Some(limits) = broker.commands else { return };
        let name = |node: &SparkplugConfig| format!("sparkplug:{}/{}", node.group, node.edge_node);
        let sparkplug = broker.sparkplug.as_ref().map(|node| (name(node), commands));
        let sources = Sources { json: hear_commands(broker, agent, &self.topics, self.quit.clone()), sparkplug };
        let (topics, publisher) = (self.topics.clone(), self.publisher.clone());
        let (agent, broker) = (agent.to_string(), broker.address.to_string());
        let commands = Commands { gate, topics, publisher, limits, broker, agent };
        tasks.spawn(commands.run(sources, self.quit.clone()));
    }
}

/// The Sparkplug edge node, when the configuration has one. It has a connection of its own: its births must be the first
/// messages on it.
fn edge_node(
    broker: &BrokerConfig,
    agent: &PartyId,
    devices: &Devices,
    data: &Path,
    commands: Option<mpsc::Sender<Commanded>>,
    quit: CancellationToken,
) -> Result<Option<(EdgeNode, watch::Receiver<LinkStatus>)>, StoreError> {
    let Some(sparkplug) = &broker.sparkplug else { return Ok(None) };
    let bd_seq_file = data.join("sparkplug-bdseq");
    let config = EdgeNodeConfig {
        servers: sparkplug.servers.clone(),
        tls: broker.tls.clone(),
        client_id: format!("tallystick-{agent}-edge-node"),
        user: broker.user.clone(),
        password: broker.password.clone(),
        group: sparkplug.group.clone(),
        edge_node: sparkplug.edge_node.clone(),
        primary_host: sparkplug.primary_host.clone(),
        bd_seq_file: bd_seq_file.clone(),
        devices: devices.borrow().to_vec(),
        history_values_per_second: broker.history.values_per_second,
        commands,
    };
    let name = format!("sparkplug {}/{}", sparkplug.group, sparkplug.edge_node);
    let (reporter, listener) = StatusReporter::new(&name);
    let node = EdgeNode::start(config, quit, reporter)
        .map_err(|fault| StoreError::file(bd_seq_file)(std::io::Error::other(fault.to_string())))?;
    Ok(Some((node, listener)))
}

/// Commands have a connection of their own, which forgets everything when it ends.
fn hear_commands(
    broker: &BrokerConfig,
    agent: &PartyId,
    topics: &Topics,
    quit: CancellationToken,
) -> mpsc::Receiver<Heard> {
    let config = HearingConfig {
        broker: broker.address.clone(),
        tls: broker.tls.clone(),
        client_id: format!("tallystick-{agent}-commands"),
        user: broker.user.clone(),
        password: broker.password.clone(),
        filters: vec![topics.commands(agent)],
    };
    // How it fares stands in the log: mostly as the connection that publishes.
    let (reporter, _) = StatusReporter::new(&format!("commands at {}", broker.address));
    hear(config, quit, reporter)
}

fn connect(
    broker: &BrokerConfig,
    agent: &PartyId,
    topics: &Topics,
    quit: CancellationToken,
) -> (MqttPublisher, watch::Receiver<LinkStatus>) {
    let config = PublisherConfig {
        broker: broker.address.clone(),
        tls: broker.tls.clone(),
        client_id: format!("tallystick-{agent}"),
        user: broker.user.clone(),
        password: broker.password.clone(),
        in_flight_max: IN_FLIGHT_MAX,
        will: Some(topics.agent(agent, false)),
        birth: Some(topics.agent(agent, true)),
    };
    let (reporter, listener) = StatusReporter::new(&broker.address.to_string());
    (MqttPublisher::start(config, quit, reporter), listener)
}
