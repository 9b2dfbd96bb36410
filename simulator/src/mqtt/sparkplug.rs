//! A device as a Sparkplug B 3.0 edge node: births with names, types and aliases, data when something changes, a death as last
//! will, births again when a host asks.
//!
//! Written apart from the connector's own code, so that the two check each other: the payload here is what the protobuf
//! schema in chapter 6 of the specification says, as far as a sensor needs it.
//!
//! `sparkplug:works/edge/press#Temp` is a metric of the device `press`, `sparkplug:works/edge#Uptime` one of the edge node
//! itself. bdSeq begins at 0 with every start of the simulator. A signal of bad quality keeps its value and has the quality 0;
//! one without a value is null.

mod payload;

use super::Said;
use super::message::{millis, sent};
use crate::{PlantState, SignalConfig, SignalView};
use payload::{Carried, Metric, Payload, Properties, Property, kind};
use prost::Message;
use rumqttc::QoS;
use std::collections::BTreeMap;
use std::time::SystemTime;
use tally_model::{Address, DeviceId, Encoding, Quality, Value};

/// Name of the metric by which a host asks for births.
const REBIRTH: &str = "Node Control/Rebirth";

/// One edge node.
pub(super) struct Node {
    group: String,
    edge_node: String,
    /// By their device; `None` is the edge node itself, which is always there.
    owners: BTreeMap<Option<String>, Owner>,
    /// Number of the session.
    bd_seq: u64,
    /// Number of the next message.
    seq: u64,
    sessions: u64,
}

/// The metrics of one device, or of the edge node itself.
#[derive(Default)]
struct Owner {
    told: Vec<Told>,
    is_alive: bool,
}

struct Told {
    /// The simulated device that the signal belongs to.
    device: DeviceId,
    alias: u64,
    name: String,
    signal: SignalConfig,
    /// In the birth.
    kind: u32,
    last: Option<SignalView>,
}

impl Owner {
    /// Whether every simulated device behind it is silent.
    fn is_silent(&self, state: &PlantState) -> bool {
        !self.told.is_empty() && self.told.iter().all(|told| state.is_silent(told.device.as_str()))
    }
}

impl Node {
    /// # Errors
    /// When two signals are the same metric.
    pub(super) fn try_new(
        group: &str,
        edge_node: &str,
        signals: Vec<(DeviceId, SignalConfig)>,
    ) -> Result<Self, String> {
        let mut owners = BTreeMap::from([(None, Owner::default())]);
        for (alias, (device, signal)) in (1..).zip(signals) {
            let Address::Sparkplug { device: of, metric, .. } = &signal.address else {
                return Err(format!("`{}` is no metric", signal.address));
            };
            let owner: &mut Owner = owners.entry(of.clone()).or_default();
            if owner.told.iter().any(|other| other.name == *metric) {
                return Err(format!("{device}: `{}` is there already", signal.address));
            }
            let name = metric.clone();
            owner.told.push(Told { device, alias, name, signal, kind: kind::DOUBLE, last: None });
        }
        let (group, edge_node) = (group.to_owned(), edge_node.to_owned());
        Ok(Self { group, edge_node, owners, bd_seq: 0, seq: 0, sessions: 0 })
    }

    /// A new connection: its number, and the death that the broker says when it is lost.
    pub(super) fn begin_session(&mut self, state: &PlantState) -> Said {
        self.bd_seq = self.sessions % 256;
        self.sessions += 1;
        let now = self.now(state);
        let payload = Payload { timestamp: Some(millis(now)), metrics: vec![self.number(now)], seq: None };
        Said { topic: self.topic("NDEATH", None), payload: payload.encode_to_vec(), qos: QoS::AtLeastOnce }
    }

    /// The clock of the edge node: that of the first device behind it.
    fn now(&self, state: &PlantState) -> SystemTime {
        let first = self.owners.values().flat_map(|owner| &owner.told).next();
        first.map_or_else(SystemTime::now, |told| state.now(told.device.as_str()))
    }

    pub(super) fn command_topic(&self) -> String {
        self.topic("NCMD", None)
    }

    fn topic(&self, what: &str, device: Option<&str>) -> String {
        let end = device.map(|device| format!("/{device}")).unwrap_or_default();
        format!("spBv1.0/{}/{what}/{}{end}", self.group, self.edge_node)
    }

    /// The birth of the edge node, then those of its devices that are there.
    pub(super) fn births(&mut self, state: &PlantState) -> Vec<Said> {
        self.seq = 0;
        let owners: Vec<_> = self.owners.keys().cloned().collect();
        owners.iter().filter_map(|owner| self.birth(owner, state)).collect()
    }

    fn birth(&mut self, of: &Option<String>, state: &PlantState) -> Option<Said> {
        let now = self.now(state);
        let mut metrics = Vec::new();
        if of.is_none() {
            let control = named(REBIRTH, Carried::Boolean(false), now);
            metrics = vec![self.number(now), Metric { datatype: Some(kind::BOOLEAN), ..control }];
        }
        let owner = self.owners.get_mut(of)?;
        owner.is_alive = of.is_none() || !owner.is_silent(state);
        if !owner.is_alive {
            return None;
        }
        for told in &mut owner.told {
            let view = state.view(told.device.as_str(), told.signal.id.as_str());
            told.kind = kind_of(&told.signal, view.as_ref());
            let metric = told.metric(&view, state);
            metrics.push(Metric { name: Some(told.name.clone()), datatype: Some(told.kind), ..metric });
            told.last = view;
        }
        let word = if of.is_none() { "NBIRTH" } else { "DBIRTH" };
        Some(self.message(word, of.as_deref(), metrics, now))
    }

    /// What has changed since it was said last, by alias; devices that fell silent or speak again.
    pub(super) fn news(&mut self, state: &PlantState) -> Vec<Said> {
        let owners: Vec<_> = self.owners.keys().cloned().collect();
        owners.iter().filter_map(|owner| self.news_of(owner, state)).collect()
    }

    fn news_of(&mut self, of: &Option<String>, state: &PlantState) -> Option<Said> {
        let now = self.now(state);
        let owner = self.owners.get_mut(of)?;
        match (owner.is_alive, owner.is_silent(state)) {
            (true, true) if of.is_some() => {
                owner.is_alive = false;
                return Some(self.message("DDEATH", of.as_deref(), Vec::new(), now));
            }
            (_, true) => return None,
            (false, false) => return self.birth(of, state),
            (true, false) => {}
        }
        let mut metrics = Vec::new();
        for told in owner.told.iter_mut().filter(|told| !state.is_silent(told.device.as_str())) {
            let view = state.view(told.device.as_str(), told.signal.id.as_str());
            if told.last != view {
                metrics.push(told.metric(&view, state));
                told.last = view;
            }
        }
        let word = if of.is_none() { "NDATA" } else { "DDATA" };
        (!metrics.is_empty()).then(|| self.message(word, of.as_deref(), metrics, now))
    }

    fn message(&mut self, word: &str, device: Option<&str>, metrics: Vec<Metric>, now: SystemTime) -> Said {
        let payload = Payload { timestamp: Some(millis(now)), metrics, seq: Some(self.seq) };
        self.seq = (self.seq + 1) % 256;
        Said { topic: self.topic(word, device), payload: payload.encode_to_vec(), qos: QoS::AtMostOnce }
    }

    fn number(&self, now: SystemTime) -> Metric {
        Metric { datatype: Some(kind::INT64), ..named("bdSeq", Carried::Long(self.bd_seq), now) }
    }
}

impl Told {
    /// Value, quality and time, with the alias.
    fn metric(&self, view: &Option<SignalView>, state: &PlantState) -> Metric {
        let quality = view.as_ref().map_or(Quality::Good, |view| view.quality);
        // The value stays, and its quality says what it is worth.
        let good = view.clone().map(|view| SignalView { quality: Quality::Good, ..view });
        let value = sent(&self.signal, good).and_then(|value| carried(&value, self.kind));
        Metric {
            alias: Some(self.alias),
            timestamp: Some(millis(state.now(self.device.as_str()))),
            is_null: value.is_none().then_some(true),
            properties: (quality != Quality::Good).then(|| with_quality(quality)),
            value,
            ..Metric::default()
        }
    }
}

/// Whether a command asks for births.
pub(super) fn asks_for_births(command: &[u8]) -> bool {
    let is_request =
        |metric: &Metric| metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(Carried::Boolean(true));
    Payload::decode(command).is_ok_and(|command| command.metrics.iter().any(is_request))
}

fn named(name: &str, value: Carried, now: SystemTime) -> Metric {
    Metric { name: Some(name.to_owned()), timestamp: Some(millis(now)), value: Some(value), ..Metric::default() }
}

/// Quality codes of chapter 6: 500 is stale, 0 bad; the type is Int32.
fn with_quality(quality: Quality) -> Properties {
    let code = if quality == Quality::Bad { 0 } else { 500 };
    Properties {
        keys: vec!["Quality".to_owned()],
        values: vec![Property { r#type: Some(kind::INT32), int: Some(code) }],
    }
}

/// The type of a metric: what the file says, else what it says now.
fn kind_of(signal: &SignalConfig, view: Option<&SignalView>) -> u32 {
    let is_scaled = (signal.scale, signal.offset) != (1.0, 0.0);
    match (signal.encoding, view.map(|view| &view.value)) {
        (Encoding::Bool, _) | (Encoding::Auto, Some(Value::Bool(_))) => kind::BOOLEAN,
        (Encoding::Text | Encoding::TextLow | Encoding::TextHigh, _) | (Encoding::Auto, Some(Value::Text(_))) => {
            kind::STRING
        }
        (Encoding::Auto, Some(Value::Integer(_))) if !is_scaled => kind::INT64,
        (Encoding::Auto, Some(Value::Unsigned(_))) if !is_scaled => kind::UINT64,
        (Encoding::F16 | Encoding::F32, _) => kind::FLOAT,
        (Encoding::Auto | Encoding::F64, _) => kind::DOUBLE,
        (Encoding::I8, _) => kind::INT8,
        (Encoding::I16, _) => kind::INT16,
        (Encoding::I32, _) => kind::INT32,
        (Encoding::I64, _) => kind::INT64,
        (Encoding::U8, _) => kind::UINT8,
        (Encoding::U16 | Encoding::Bcd16, _) => kind::UINT16,
        (Encoding::U32 | Encoding::Bcd32, _) => kind::UINT32,
        (Encoding::U64 | Encoding::Bcd64, _) => kind::UINT64,
    }
}

/// The value as its type is carried; `None` when it does not fit.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // two's complement; ranges are checked
fn carried(value: &Value, kind: u32) -> Option<Carried> {
    let whole = || match value {
        Value::Integer(number) => Some(i128::from(*number)),
        Value::Unsigned(number) => Some(i128::from(*number)),
        _ => None,
    };
    let within = |lowest: i128, highest: i128| whole().filter(|number| (lowest..=highest).contains(number));
    let small = |lowest, highest| within(lowest, highest).map(|number| Carried::Int(number as i32 as u32));
    match kind {
        kind::BOOLEAN => match value {
            Value::Bool(flag) => Some(Carried::Boolean(*flag)),
            _ => None,
        },
        kind::STRING => Some(Carried::String(value.to_string())),
        kind::FLOAT => value.as_f64().map(|number| Carried::Float(number as f32)),
        kind::INT8 => small(i8::MIN.into(), i8::MAX.into()),
        kind::INT16 => small(i16::MIN.into(), i16::MAX.into()),
        kind::INT32 => small(i32::MIN.into(), i32::MAX.into()),
        kind::UINT8 => small(0, u8::MAX.into()),
        kind::UINT16 => small(0, u16::MAX.into()),
        kind::UINT32 => within(0, u32::MAX.into()).map(|number| Carried::Int(number as u32)),
        kind::INT64 => within(i64::MIN.into(), i64::MAX.into()).map(|number| Carried::Long(number as i64 as u64)),
        kind::UINT64 => within(0, u64::MAX.into()).map(|number| Carried::Long(number as u64)),
        _ => value.as_f64().map(Carried::Double),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimConfig;
    use std::path::Path;

    fn node(signals: &[(&str, &str, &str)]) -> Result<Node, String> {
        let lines = signals
            .iter()
            .map(|(id, at, more)| format!("      - {{id: {id}, at: \"{at}\", from: {{constant: 0}}{more}}}\n"));
        let lines: String = lines.collect();
        let yaml = format!("devices:\n  - id: line\n    serve: \"mqtt://127.0.0.1:1\"\n    signals:\n{lines}");
        let device = SimConfig::parse(&yaml, Path::new("test.yaml"), &|_| None).unwrap().devices.remove(0);
        let id = device.id;
        Node::try_new("works", "edge", device.signals.into_iter().map(|signal| (id.clone(), signal)).collect())
    }

    fn read(said: &Said) -> Payload {
        Payload::decode(&said.payload[..]).unwrap()
    }

    #[test]
    fn births_then_news_in_one_count() {
        let plant = PlantState::default();
        plant.set("line", "up", Value::Integer(5));
        plant.set("line", "temp", Value::Float(21.5));
        plant.set("line", "n", Value::Integer(-3));
        let mut node = node(&[
            ("up", "sparkplug:works/edge#Uptime", ""),
            ("temp", "sparkplug:works/edge/press#Motor/Temp", ", type: f32"),
            ("n", "sparkplug:works/edge/press#Count", ", type: i16"),
        ])
        .unwrap();
        let will = node.begin_session(&plant);
        assert_eq!((will.topic.as_str(), read(&will).seq), ("spBv1.0/works/NDEATH/edge", None));
        let births = node.births(&plant);
        let topics: Vec<_> = births.iter().map(|said| said.topic.as_str()).collect();
        assert_eq!(topics, ["spBv1.0/works/NBIRTH/edge", "spBv1.0/works/DBIRTH/edge/press"]);
        let names = |said: &Said| read(said).metrics.into_iter().filter_map(|metric| metric.name).collect::<Vec<_>>();
        assert_eq!(names(&births[0]), ["bdSeq", REBIRTH, "Uptime"]);
        let press = read(&births[1]);
        assert_eq!((press.seq, press.metrics[0].datatype), (Some(1), Some(kind::FLOAT)));
        assert_eq!(press.metrics[1].value, Some(Carried::Int(0xFFFF_FFFD)));
        assert!(node.news(&plant).is_empty(), "nothing has changed");
        plant.set("line", "temp", Value::Float(22.5));
        plant.set_quality("line", "up", Quality::Bad);
        let news = node.news(&plant);
        assert_eq!((read(&news[0]).seq, read(&news[1]).seq), (Some(2), Some(3)));
        let up = &read(&news[0]).metrics[0];
        assert_eq!((up.alias, &up.name, &up.value), (Some(1), &None, &Some(Carried::Long(5))));
        assert_eq!(up.properties.as_ref().unwrap().values[0].int, Some(0));
        assert_eq!(node.begin_session(&plant).topic, will.topic);
        assert_eq!(node.bd_seq, 1);
    }

    #[test]
    fn a_silent_device_dies_and_is_born_again() {
        let plant = PlantState::default();
        plant.set("line", "temp", Value::Float(21.5));
        let mut node = node(&[("temp", "sparkplug:works/edge/press#Temp", "")]).unwrap();
        node.begin_session(&plant);
        assert_eq!(node.births(&plant).len(), 2);
        plant.silence("line", std::time::Duration::from_secs(60));
        let news = node.news(&plant);
        assert_eq!(news[0].topic, "spBv1.0/works/DDEATH/edge/press");
        assert!(node.news(&plant).is_empty());
        assert_eq!(node.births(&plant).len(), 1, "only the edge node itself is there");
        plant.heal("line");
        assert_eq!(node.news(&plant)[0].topic, "spBv1.0/works/DBIRTH/edge/press");
    }

    #[test]
    fn one_metric_is_one_signal() {
        assert!(node(&[("a", "sparkplug:works/edge#x", ""), ("b", "sparkplug:works/edge#x", "")]).is_err());
        assert!(node(&[("a", "sparkplug:works/edge#x", ""), ("b", "hall/temp", "")]).is_err());
    }
}
