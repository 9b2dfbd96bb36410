//! Commands of hosts, read (Sparkplug 3.0, chapter 5.9 and 6.4.20 on NCMD, 6.4.21 on DCMD). Pure.

use super::names::{MessageType, Topic};
use super::payload::{Metric, Payload};
use super::session::{REBIRTH, Session};
use super::value::{DataType, decode};
use crate::wire::Publish;
use bytes::Bytes;
use tally_model::Value;

/// Most metrics of one command; one with more is handed on as one that cannot be read.
const METRICS_MAX: usize = 16;

/// A host wants a metric written. Whether it may is not decided here.
#[derive(Debug, Clone, PartialEq)]
pub struct Commanded {
    /// Where it was published.
    pub topic: String,
    /// The device, as the topic names it; `None`: the edge node itself (NCMD).
    pub device: Option<String>,
    /// The metric, by the name it was born with; as the host wrote it when it was never born.
    pub metric: String,
    /// The value, or why it cannot be read.
    pub value: Result<Value, &'static str>,
    /// Milliseconds since 1970 (UTC) at which the host sent it; commands must say so (tck-id-payloads-ncmd-timestamp,
    /// tck-id-payloads-dcmd-timestamp).
    pub sent_ms: Option<u64>,
    /// The whole message, which tells commands apart, and the place of the metric in it.
    pub payload: Bytes,
    /// See `payload`.
    pub place: usize,
    /// Whether the server had kept it from earlier, which no command may be (tck-id-topics-dcmd-mqtt).
    pub is_retained: bool,
}

/// Whether a topic is that of a DCMD.
pub(super) fn is_for_a_device(topic: &str) -> bool {
    Topic::parse(topic).is_some_and(|topic| topic.kind == MessageType::DeviceCommand)
}

/// All that a message wants written; a rebirth request among it is not for here.
pub(super) fn read(publish: &Publish, session: &Session) -> Vec<Commanded> {
    let device = Topic::parse(&publish.topic).and_then(|topic| topic.device);
    let bare = |metric: String, value, sent_ms, place| Commanded {
        topic: publish.topic.clone(),
        device: device.map(ToOwned::to_owned),
        metric,
        value,
        sent_ms,
        payload: publish.payload.clone(),
        place,
        is_retained: publish.retain,
    };
    let payload = match Payload::parse(&publish.payload) {
        Ok(payload) if payload.metrics.len() <= METRICS_MAX => payload,
        Ok(_) => return vec![bare(String::new(), Err("it has more than 16 metrics"), None, 0)],
        Err(_) => return vec![bare(String::new(), Err("it is no Sparkplug B payload"), None, 0)],
    };
    let metrics = payload.metrics.iter().enumerate().filter(|(_, metric)| metric.name.as_deref() != Some(REBIRTH));
    metrics
        .map(|(place, metric)| {
            let known = device.and_then(|device| session.metric_of(device, metric));
            let kind = metric.datatype.and_then(DataType::from_code).or(known.as_ref().and_then(|(_, kind)| *kind));
            let name = known.map_or_else(|| name_of(metric), |(point, _)| point.to_string());
            bare(name, value_of(metric, kind), payload.timestamp.or(metric.timestamp), place)
        })
        .collect()
}

fn name_of(metric: &Metric) -> String {
    let name = metric.name.clone().or_else(|| metric.alias.map(|alias| format!("alias {alias}")));
    name.unwrap_or_default().chars().take(80).collect()
}

fn value_of(metric: &Metric, kind: Option<DataType>) -> Result<Value, &'static str> {
    let kind = kind.ok_or("its data type is not said, and the metric was not born with one")?;
    let value = metric.value.as_ref().ok_or("it has no value")?;
    decode(value, kind).ok_or("its value does not fit its data type")
}

#[cfg(test)]
mod tests {
    use super::super::payload::MetricValue;
    use super::super::{MessageType, Name};
    use super::*;
    use crate::decode::tests::spec;
    use crate::plan::tests::device;
    use proptest::prelude::*;
    use rumqttc::QoS;

    fn session() -> Session {
        let devices = [device(vec![spec("setpoint", "a/b"), spec("lamp", "a/c")])];
        Session::try_new(Name::try_new("works").unwrap(), Name::try_new("edge").unwrap(), &devices).unwrap()
    }

    fn message(kind: MessageType, device: Option<&str>, payload: Vec<u8>) -> Publish {
        let topic = Topic { group: "works", kind, edge_node: "edge", device }.to_string();
        Publish { topic, payload: payload.into(), qos: QoS::AtMostOnce, retain: false, packet_id: 0 }
    }

    fn metric(name: Option<&str>, alias: Option<u64>) -> Metric {
        let (datatype, value) = (Some(DataType::Double.code()), Some(MetricValue::Double(41.5)));
        Metric { name: name.map(ToOwned::to_owned), alias, datatype, value, ..Metric::default() }
    }

    #[test]
    fn metrics_are_named_or_numbered_as_they_were_born() {
        let metrics = vec![metric(Some("setpoint"), None), metric(None, Some(2)), metric(Some("ghost"), None)];
        let payload = Payload { timestamp: Some(17), metrics, ..Payload::default() };
        let id = device(vec![]).id.to_string();
        let read = read(&message(MessageType::DeviceCommand, Some(&id), payload.to_bytes()), &session());
        let names: Vec<_> = read.iter().map(|command| command.metric.as_str()).collect();
        assert_eq!(names, ["setpoint", "lamp", "ghost"]);
        assert!(read.iter().all(|command| command.value == Ok(Value::Float(41.5)) && command.sent_ms == Some(17)));
        assert!(read[0].place != read[1].place, "each is a command of its own");
    }

    #[test]
    fn a_rebirth_is_no_command_and_what_cannot_be_read_is_one_all_the_same() {
        let rebirth = Metric { value: Some(MetricValue::Boolean(true)), ..metric(Some(REBIRTH), None) };
        let payload = Payload { metrics: vec![rebirth, metric(Some("x"), None)], ..Payload::default() };
        let both = read(&message(MessageType::NodeCommand, None, payload.to_bytes()), &session());
        assert_eq!((both.len(), both[0].device.as_deref(), both[0].metric.as_str()), (1, None, "x"));
        let torn = read(&message(MessageType::DeviceCommand, Some("d"), vec![0xff; 9]), &session());
        assert!(torn[0].value.is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&message(MessageType::DeviceCommand, Some("d"), payload), &session());
        }
    }
}
