//! MQTT sensors: every `every` they publish what their signals say.
//!
//! - One message per topic. Signals with a JSON pointer (`hall/climate#/temperature`) that share a topic share an object, in
//!   CBOR when the topic begins with `cbor:`; it also carries `timestamp` (milliseconds since 1970) unless a signal lives
//!   there. A signal without pointer is the whole payload. A signal of bad quality says `null` (raw: `NaN`). QoS 1.
//! - Signals at `sparkplug:group/edge_node/device#metric` are told by a Sparkplug B edge node ([`sparkplug`]), one for each
//!   name, whichever simulated devices they belong to.
//!
//! A silenced device publishes nothing. Of an edge node, its Sparkplug devices die; when all of its simulated devices are silent,
//! it is cut off, so that the broker says its death. What is spoiled on the wire is the payload; what comes late comes late in the same order, [`LATE_MAX`] messages at most.
//!
//! A sensor keeps nothing: what it cannot send because the broker is away or slow is not sent later.
//! It reconnects by itself, 200 ms to 10 s apart.

mod message;
mod sparkplug;

use crate::fault::{Trouble, WireFault};
use crate::{MqttSensorConfig, PlantState, SignalConfig, SimError};
use message::{Content, messages};
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};
use sparkplug::Node;
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::time::Duration;
use tally_connector_api::Backoff;
use tally_model::{Address, DeviceId};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Between two pings; the broker misses a dead sensor after one and a half times as long (MQTT 3.1.1 §3.1.2.10).
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Messages that may be on their way; more are not sent.
const IN_FLIGHT_MAX: u16 = 100;

/// Messages that may be late; more are not sent.
const LATE_MAX: usize = 1_000;

/// Largest message in bytes: far above any sensor's, rumqttc's own limit is 10 KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How often an edge node that is cut off looks whether it may come back.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Publishes the signals of one device until `stop` is cancelled.
///
/// # Errors
/// [`SimError::Mqtt`] when the signals cannot be put into messages.
pub async fn publish_mqtt(
    config: MqttSensorConfig,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    Sensors::try_new(vec![config], &state)?.publish(stop).await;
    Ok(())
}

/// Host and port of the broker, group, edge node.
type NodeKey = (String, u16, String, String);

/// What one edge node tells, and how often it looks for news.
struct NodeSignals {
    every: Duration,
    signals: Vec<(DeviceId, SignalConfig)>,
}

/// All sensors of a plant.
pub(crate) struct Sensors(Vec<Sensor>);

impl Sensors {
    /// # Errors
    /// [`SimError::Mqtt`] when signals cannot be put into messages.
    pub(crate) fn try_new(configs: Vec<MqttSensorConfig>, state: &PlantState) -> Result<Self, SimError> {
        let mut sensors = Vec::new();
        let mut nodes: BTreeMap<NodeKey, NodeSignals> = BTreeMap::new();
        for MqttSensorConfig { device, host, port, every, signals } in configs {
            let (metrics, topics): (Vec<_>, Vec<_>) =
                signals.into_iter().partition(|signal| matches!(signal.address, Address::Sparkplug { .. }));
            for signal in metrics {
                let Address::Sparkplug { group, edge_node, .. } = &signal.address else { continue };
                let key = (host.clone(), port, group.clone(), edge_node.clone());
                let node = nodes.entry(key).or_insert_with(|| NodeSignals { every, signals: Vec::new() });
                node.every = node.every.min(every);
                node.signals.push((device.clone(), signal));
            }
            if !topics.is_empty() {
                let fault = |reason| SimError::Mqtt(format!("{device}: {reason}"));
                let voice = Voice::Topics(device.clone(), messages(&topics).map_err(fault)?);
                let name = format!("sim-{device}");
                sensors.push(Sensor::new((host, port), name, every, vec![device], voice, state));
            }
        }
        for ((host, port, group, edge_node), NodeSignals { every, signals }) in nodes {
            let name = format!("sim-{group}-{edge_node}");
            let mut devices: Vec<_> = signals.iter().map(|(device, _)| device.clone()).collect();
            devices.dedup();
            let voice = Voice::Node(Node::try_new(&group, &edge_node, signals).map_err(SimError::Mqtt)?);
            sensors.push(Sensor::new((host, port), name, every, devices, voice, state));
        }
        Ok(Self(sensors))
    }

    pub(crate) async fn publish(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for sensor in self.0 {
            let stop = stop.clone();
            tasks.spawn(async move { stop.run_until_cancelled(sensor.publish_for_ever()).await });
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// What has one connection.
struct Sensor {
    host: String,
    port: u16,
    /// At the broker.
    name: String,
    /// Whose signals it tells.
    devices: Vec<DeviceId>,
    state: PlantState,
    voice: Voice,
    ticks: Interval,
    backoff: Backoff,
    /// What is said, but not sent yet, in the order of its time.
    late: VecDeque<(Instant, Said)>,
}

/// How it speaks.
enum Voice {
    Topics(DeviceId, Vec<(String, Content)>),
    Node(Node),
}

/// One message.
struct Said {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
}

impl Sensor {
    fn new(
        (host, port): (String, u16),
        name: String,
        every: Duration,
        devices: Vec<DeviceId>,
        voice: Voice,
        state: &PlantState,
    ) -> Self {
        let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (state, backoff, late) = (state.clone(), Backoff::for_links(), VecDeque::new());
        Self { host, port, name, devices, state, voice, ticks, backoff, late }
    }

    async fn publish_for_ever(mut self) {
        loop {
            while self.is_cut_off() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            self.late.clear();
            let (client, mut event_loop) = AsyncClient::new(self.options(), usize::from(IN_FLIGHT_MAX));
            let fault = self.publish_while_connected(&client, &mut event_loop).await;
            let delay = self.backoff.next_delay();
            tracing::debug!(sensor = self.name, %fault, "the sensor is not connected, next attempt in {delay:?}");
            tokio::time::sleep(delay).await;
        }
    }

    /// An edge node that says nothing is one whose connection is gone: its broker says that it is dead.
    fn is_cut_off(&self) -> bool {
        matches!(self.voice, Voice::Node(_)) && self.devices.iter().all(|device| self.state.is_silent(device.as_str()))
    }

    fn options(&mut self) -> MqttOptions {
        let is_bare_ipv6 = self.host.contains(':') && !self.host.starts_with('[');
        let host = if is_bare_ipv6 { format!("[{}]", self.host) } else { self.host.clone() };
        let mut options = MqttOptions::new(&self.name, host, self.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
        options.set_inflight(IN_FLIGHT_MAX);
        if let Voice::Node(node) = &mut self.voice {
            let will = node.begin_session(&self.state);
            options.set_last_will(LastWill::new(will.topic, will.payload, will.qos, false));
        }
        options
    }

    async fn publish_while_connected(&mut self, client: &AsyncClient, event_loop: &mut EventLoop) -> String {
        let mut is_connected = false;
        loop {
            // A poll that is dropped half-way loses what it was writing, so it is taken to its end.
            let mut polling = pin!(event_loop.poll());
            let event = loop {
                let due = self.late.front().map(|(due, _)| *due);
                tokio::select! {
                    event = &mut polling => break event,
                    _ = self.ticks.tick(), if is_connected => {
                        if self.is_cut_off() {
                            return "it is cut off".to_owned();
                        }
                        self.publish(client);
                    }
                    () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if is_connected && due.is_some() => {
                        if let Some((_, said)) = self.late.pop_front() {
                            self.send(client, said);
                        }
                    }
                }
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    is_connected = true;
                    self.backoff.reset();
                    self.be_born(client);
                }
                Ok(Event::Incoming(Packet::Publish(command))) => self.obey(client, &command.payload),
                Ok(_) => {}
                Err(fault) => return fault.to_string(),
            }
        }
    }

    /// An edge node begins with its births, after it has subscribed to commands.
    fn be_born(&mut self, client: &AsyncClient) {
        let Voice::Node(node) = &mut self.voice else { return };
        if client.try_subscribe(node.command_topic(), QoS::AtLeastOnce).is_err() {
            tracing::debug!(sensor = self.name, "commands are not subscribed");
        }
        let births = node.births(&self.state);
        self.say(client, births);
    }

    fn obey(&mut self, client: &AsyncClient, command: &[u8]) {
        if let Voice::Node(node) = &mut self.voice
            && sparkplug::asks_for_births(command)
        {
            let births = node.births(&self.state);
            self.say(client, births);
        }
    }

    fn publish(&mut self, client: &AsyncClient) {
        let said = match &mut self.voice {
            Voice::Topics(device, _) if self.state.is_silent(device.as_str()) => return,
            Voice::Topics(device, topics) => topics
                .iter()
                .map(|(topic, content)| Said {
                    topic: topic.clone(),
                    payload: content.payload(device, &self.state),
                    qos: QoS::AtLeastOnce,
                })
                .collect(),
            Voice::Node(node) => node.news(&self.state),
        };
        self.say(client, said);
    }

    /// Now, or as late as the device's faults want it; never before what was said earlier.
    fn say(&mut self, client: &AsyncClient, said: Vec<Said>) {
        // What is wrong with one device behind an edge node is wrong with its messages.
        let mut troubles = self.devices.iter().map(|device| self.state.trouble(device.as_str()));
        let trouble = troubles.rfind(|trouble| *trouble != Trouble::default()).unwrap_or_default();
        for mut said in said {
            said.payload = spoiled(said.payload, trouble.wire);
            if trouble.delay.is_zero() && self.late.is_empty() {
                self.send(client, said);
            } else if self.late.len() < LATE_MAX {
                let earliest = self.late.back().map(|(due, _)| *due);
                let due = Instant::now() + trouble.delay;
                self.late.push_back((earliest.map_or(due, |earliest| due.max(earliest)), said));
            }
        }
    }

    fn send(&self, client: &AsyncClient, said: Said) {
        if client.try_publish(&said.topic, said.qos, false, said.payload).is_err() {
            tracing::debug!(sensor = self.name, topic = said.topic, "not published: the broker is too slow");
        }
    }
}

/// What arrives instead: bytes that are neither text nor JSON nor CBOR nor Sparkplug, or the first half.
fn spoiled(mut payload: Vec<u8>, fault: Option<WireFault>) -> Vec<u8> {
    match fault {
        Some(WireFault::Garbage) => vec![0xff; 16],
        Some(WireFault::Half) => {
            payload.truncate(payload.len() / 2);
            payload
        }
        // What only Modbus has was refused in the file and in the command.
        _ => payload,
    }
}
