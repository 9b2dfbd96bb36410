//! Reading what another edge node says: births give metrics their names, types and aliases, data follow, deaths end it.
//! Pure: no socket, no clock.
//!
//! ```text
//!         NBIRTH                         NBIRTH (a rebirth: the names anew)
//! Unborn ────────► Born ─── NDATA, DBIRTH, DDATA, DDEATH in order ───► Born
//!    ▲              │ NDEATH with the bdSeq of the birth: every point has no value (`link-down`)
//!    └──────────────┤ a message is missing (seq), an alias nobody gave, data of a device without birth:
//!                   └ what it said may mean something else now, so births are asked for by NCMD
//! ```
//!
//! Asking is what a host application does (*Sparkplug 3.0*, chapter 5, "Rebirth"): at most once in [`ASK_EVERY`], and again
//! until there is a birth. A metric
//! that a birth does not have is told as `no-such-address`. An edge node that is alive and silent is well: it speaks when
//! something changes.
//!
//! Limits: [`METRICS_MAX`] metrics of one edge node; DataSets, Templates, files and arrays are no values.

mod birth;
mod command;
mod metric;

use super::names::{MessageType, Name, Topic};
use super::payload::{Metric, MetricValue, Payload};
use super::session::REBIRTH;
use super::value::DataType;
pub(crate) use command::Unsaid;
use metric::{instant, millis, number, outcome};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tally_connector_api::down_sample;
use tally_model::{DeviceId, NoValue, PointSpec, Sample, Timestamp};
use tokio::time::Instant;

/// Between two requests for births of an edge node that speaks.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Between two requests for births of an edge node that may not be there at all.
const ASK_EVERY_UNSEEN: Duration = Duration::from_secs(30);

/// Metrics of one edge node and its devices that are remembered.
const METRICS_MAX: usize = 100_000;

/// A point that is one metric.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Our device.
    pub device: DeviceId,
    pub point: PointSpec,
    /// Their device; `None` for the edge node itself.
    pub of: Option<String>,
    pub metric: String,
}

/// What one edge node has said so far.
#[derive(Debug)]
pub(crate) struct NodeWatch {
    group: String,
    edge_node: String,
    wanted: Vec<Wanted>,
    born: Option<Born>,
    unborn_since: Instant,
    /// That there is no birth was told.
    told: bool,
    asked: Option<Instant>,
    /// It has spoken since it was unborn, so it is there and owes us a birth; its death ends that.
    is_there: bool,
    is_dead: bool,
}

#[derive(Debug)]
struct Born {
    /// Number of the birth, which its death repeats.
    bd_seq: Option<u64>,
    /// Of the last message.
    seq: u64,
    /// Devices that are alive.
    devices: HashSet<String>,
    /// What an alias stands for; `None` for a metric nobody wants.
    aliases: HashMap<u64, Option<(Option<String>, String)>>,
    /// Of the metrics that are wanted.
    types: HashMap<(Option<String>, String), DataType>,
}

/// What came of a message.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// With our device, in the order of the message.
    pub samples: Vec<(DeviceId, Sample)>,
    /// Of the past, likewise.
    pub historical: Vec<(DeviceId, Sample)>,
    /// Births are to be asked for.
    pub wants_birth: bool,
    /// Why what was said could not be used.
    pub fault: Option<String>,
}

impl Heard {
    fn lost(fault: impl Into<String>) -> Self {
        Self { wants_birth: true, fault: Some(fault.into()), ..Self::default() }
    }
}

impl NodeWatch {
    pub(crate) fn new(group: &str, edge_node: &str, wanted: Vec<Wanted>, now: Instant) -> Self {
        let (group, edge_node) = (group.to_owned(), edge_node.to_owned());
        Self {
            group,
            edge_node,
            wanted,
            born: None,
            unborn_since: now,
            told: false,
            asked: None,
            is_there: false,
            is_dead: false,
        }
    }

    /// What is subscribed: births, data and deaths of the edge node and of all its devices, because each counts in `seq`.
    pub(crate) fn filters(&self) -> [String; 6] {
        use MessageType::{DeviceBirth, DeviceData, DeviceDeath, NodeBirth, NodeData, NodeDeath};
        let of_node = |kind| self.topic(kind, None);
        let of_devices = |kind| self.topic(kind, Some("+"));
        [
            of_node(NodeBirth),
            of_node(NodeData),
            of_node(NodeDeath),
            of_devices(DeviceBirth),
            of_devices(DeviceData),
            of_devices(DeviceDeath),
        ]
    }

    fn topic(&self, kind: MessageType, device: Option<&str>) -> String {
        Topic { group: &self.group, kind, edge_node: &self.edge_node, device }.to_string()
    }

    pub(crate) fn is_of(&self, topic: &Topic<'_>) -> bool {
        topic.group == self.group && topic.edge_node == self.edge_node
    }

    /// The connection is new: what was said meanwhile is not known.
    pub(crate) fn listen_from(&mut self, now: Instant) {
        self.born = None;
        self.unborn_since = now;
        self.told = false;
        self.asked = None;
        (self.is_there, self.is_dead) = (false, false);
    }

    /// The same request again while there is no birth: it, or the birth, may have been lost (both are QoS 0).
    pub(crate) fn ask_again(&mut self, now: Instant, at: Timestamp) -> Option<(String, Vec<u8>)> {
        let every = if self.is_there { ASK_EVERY } else { ASK_EVERY_UNSEEN };
        let is_due = self.asked.is_none_or(|asked| now.duration_since(asked) >= every);
        if self.born.is_some() || self.is_dead || !is_due { None } else { self.ask(now, at) }
    }

    /// Topic and payload of a request for births; `None` when one is on its way.
    pub(crate) fn ask(&mut self, now: Instant, at: Timestamp) -> Option<(String, Vec<u8>)> {
        if self.asked.is_some_and(|asked| now.duration_since(asked) < ASK_EVERY) {
            return None;
        }
        self.asked = Some(now);
        let metric = Metric {
            name: Some(REBIRTH.to_owned()),
            datatype: Some(DataType::Boolean.code()),
            timestamp: Some(millis(at)),
            value: Some(MetricValue::Boolean(true)),
            ..Metric::default()
        };
        let command = Payload { timestamp: Some(millis(at)), metrics: vec![metric], ..Payload::default() };
        Some((self.topic(MessageType::NodeCommand, None), command.to_bytes()))
    }

    /// Nobody was born for `silent_after`: one `timeout` for each point, once.
    pub(crate) fn fall_silent(
        &mut self,
        silent_after: Duration,
        now: Instant,
        at: Timestamp,
    ) -> Vec<(DeviceId, Sample)> {
        let is_silent = self.born.is_none() && !self.told && now.duration_since(self.unborn_since) >= silent_after;
        if !is_silent {
            return Vec::new();
        }
        self.told = true;
        self.without_value(NoValue::Timeout, at, |_| true)
    }

    /// Takes in a message. A retained one is no message of an edge node that is there (tck-id-payloads-nbirth-retain).
    pub(crate) fn hear(&mut self, topic: &Topic<'_>, payload: &[u8], received: Timestamp, now: Instant) -> Heard {
        let heard = match Payload::parse(payload) {
            Ok(payload) => self.hear_payload(topic, &payload, received, now),
            Err(fault) => {
                self.unborn(now);
                Heard::lost(fault.to_string())
            }
        };
        if heard.wants_birth {
            (self.is_there, self.is_dead) = (true, false);
        }
        heard
    }

    fn hear_payload(&mut self, topic: &Topic<'_>, payload: &Payload, received: Timestamp, now: Instant) -> Heard {
        match topic.kind {
            MessageType::NodeBirth => self.node_birth(payload, received),
            MessageType::NodeDeath => self.node_death(payload, received, now),
            MessageType::NodeCommand | MessageType::DeviceCommand => Heard::default(),
            _ => {
                if let Err(fault) = self.count(payload) {
                    self.unborn(now);
                    return Heard::lost(fault);
                }
                let device = topic.device.map(str::to_owned);
                match topic.kind {
                    MessageType::DeviceBirth => self.device_birth(device, payload, received),
                    MessageType::DeviceDeath => self.device_death(device.as_ref(), received),
                    _ => self.data(device, payload, received, now),
                }
            }
        }
    }

    fn unborn(&mut self, now: Instant) {
        if self.born.take().is_some() {
            self.unborn_since = now;
            self.told = false;
        }
    }

    /// Whether the message follows the one before.
    fn count(&mut self, payload: &Payload) -> Result<(), String> {
        let born = self.born.as_mut().ok_or("it speaks, and we have not heard its birth")?;
        let expected = (born.seq + 1) % 256;
        match payload.seq {
            Some(seq) if seq == expected => {
                born.seq = seq;
                Ok(())
            }
            Some(seq) => Err(format!("message {expected} is missing, {seq} came")),
            None => Err("a message without a number".to_owned()),
        }
    }

    fn data(&mut self, device: Option<String>, payload: &Payload, received: Timestamp, now: Instant) -> Heard {
        let is_dead = |born: &Born| device.as_ref().is_some_and(|device| !born.devices.contains(device));
        if self.born.as_ref().is_some_and(is_dead) {
            self.unborn(now);
            return Heard::lost("data of a device without a birth");
        }
        let mut heard = Heard::default();
        for metric in &payload.metrics {
            let key = match (&metric.name, metric.alias) {
                (Some(name), _) => Some((device.clone(), name.clone())),
                (None, Some(alias)) => match self.born.as_ref().and_then(|born| born.aliases.get(&alias)) {
                    Some(known) => known.clone(),
                    None => {
                        self.unborn(now);
                        return Heard { samples: heard.samples, ..Heard::lost(format!("nobody gave alias {alias}")) };
                    }
                },
                (None, None) => None,
            };
            // An alias is the edge node's own; data of a device under an alias of another one are nobody's.
            if let Some((of, name)) = key
                && of == device
            {
                self.take(&device, &name, metric, payload, received, &mut heard);
            }
        }
        heard
    }

    fn take(
        &self,
        device: &Option<String>,
        name: &str,
        metric: &Metric,
        payload: &Payload,
        received: Timestamp,
        heard: &mut Heard,
    ) {
        let known = self.born.as_ref().and_then(|born| born.types.get(&(device.clone(), name.to_owned())).copied());
        let kind = metric.datatype.and_then(DataType::from_code).or(known);
        let source_time = metric.timestamp.or(payload.timestamp).and_then(instant).unwrap_or(received);
        let is_past = metric.is_historical == Some(true);
        for wanted in self.wanted.iter().filter(|wanted| wanted.of == *device && wanted.metric == name) {
            let (outcome, quality) = outcome(&wanted.point, metric, kind);
            let unit = wanted.point.unit.clone();
            let sample =
                Sample { seal: None, point: wanted.point.id.clone(), outcome, unit, quality, source_time, received };
            let list = if is_past { &mut heard.historical } else { &mut heard.samples };
            list.push((wanted.device.clone(), sample));
        }
    }

    /// A death of an earlier session may come late: it counts only with the number of the birth (chapter 5, "bdSeq").
    fn node_death(&mut self, payload: &Payload, received: Timestamp, now: Instant) -> Heard {
        let Some(born) = &self.born else { return Heard::default() };
        let bd_seq = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some("bdSeq")).and_then(number);
        if born.bd_seq.is_some() && bd_seq.is_some() && born.bd_seq != bd_seq {
            return Heard::default();
        }
        self.unborn(now);
        // It has been told that it is gone; silence would add nothing, and its next birth comes by itself.
        (self.told, self.is_dead) = (true, true);
        Heard { samples: self.without_value(NoValue::LinkDown, received, |_| true), ..Heard::default() }
    }

    fn device_death(&mut self, device: Option<&String>, received: Timestamp) -> Heard {
        if let (Some(born), Some(device)) = (&mut self.born, device) {
            born.devices.remove(device);
        }
        let is_its = |wanted: &Wanted| wanted.of.is_some() && wanted.of.as_ref() == device;
        Heard { samples: self.without_value(NoValue::LinkDown, received, is_its), ..Heard::default() }
    }

    pub(crate) fn without_value(
        &self,
        reason: NoValue,
        at: Timestamp,
        of: impl Fn(&Wanted) -> bool,
    ) -> Vec<(DeviceId, Sample)> {
        let sample = |wanted: &Wanted| down_sample(&wanted.point, reason, at);
        self.wanted.iter().filter(|wanted| of(wanted)).map(|wanted| (wanted.device.clone(), sample(wanted))).collect()
    }
}

/// Checks the names of an edge node as a mapping writes them.
pub(crate) fn check_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<(), String> {
    names.into_iter().try_for_each(|name| Name::try_new(name).map(|_| ()).map_err(|fault| fault.to_string()))
}

#[cfg(test)]
mod tests;
