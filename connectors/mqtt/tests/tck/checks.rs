//! One check for each assertion that concerns an edge node. A check says how often it saw what it judges; never is a failure.

use super::scenes::{DEVICES, GROUP, HOST, NODE, Recording};
use super::view::{Connection, Said};
use rumqttc::QoS;
use std::collections::HashSet;
use std::time::Duration;
use tally_connector_mqtt::sparkplug::{
    DataType, MessageType, Metric, MetricValue, Payload, PropertyContent, PropertyValue,
};

/// How often the assertion was seen to hold, or where it did not.
pub type Verdict = Result<usize, String>;

pub struct Check {
    pub name: &'static str,
    pub assertions: &'static [&'static str],
    pub judge: fn(&Recording) -> Verdict,
}

use MessageType::{DeviceBirth, DeviceData, DeviceDeath, NodeBirth, NodeDeath};

fn every<'r, T: 'r>(
    found: impl Iterator<Item = T>,
    holds: impl Fn(&T) -> bool,
    what: impl Fn(&T) -> String,
) -> Verdict {
    let mut seen = 0;
    for item in found {
        if !holds(&item) {
            return Err(what(&item));
        }
        seen += 1;
    }
    Ok(seen)
}

fn said<'r>(recording: &'r Recording, kinds: &'r [MessageType]) -> impl Iterator<Item = (&'r Connection, &'r Said)> {
    let of = |connection: &'r Connection| connection.said.iter().map(move |said| (connection, said));
    recording.connections().flat_map(of).filter(|(_, said)| kinds.contains(&said.kind))
}

fn messages(recording: &Recording, kinds: &[MessageType], holds: impl Fn(&Connection, &Said) -> bool) -> Verdict {
    every(
        said(recording, kinds),
        |(connection, said)| holds(connection, said),
        |(_, said)| format!("{}: {:?}", said.topic, said.payload),
    )
}

fn metrics(recording: &Recording, kinds: &[MessageType], holds: impl Fn(&Said, &Metric) -> bool) -> Verdict {
    let all =
        said(recording, kinds).flat_map(|(_, said)| said.payload.metrics.iter().map(move |metric| (said, metric)));
    every(all, |(said, metric)| holds(said, metric), |(said, metric)| format!("{}: {metric:?}", said.topic))
}

fn connections(recording: &Recording, holds: impl Fn(&Connection) -> bool) -> Verdict {
    every(recording.connections(), |connection| holds(connection), |connection| format!("{:?}", connection.order))
}

/// Connections in which there was a birth.
fn sessions(recording: &Recording) -> impl Iterator<Item = &Connection> {
    recording.connections().filter(|connection| connection.of(NodeBirth).next().is_some())
}

fn metric<'p>(payload: &'p Payload, name: &str) -> Option<&'p Metric> {
    payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name))
}

fn bd_seq(payload: &Payload) -> Option<u64> {
    match metric(payload, "bdSeq")? {
        Metric { datatype: Some(4), value: Some(MetricValue::Long(number)), .. } => Some(*number),
        _ => None,
    }
}

fn will_bd_seq(connection: &Connection) -> Option<u64> {
    bd_seq(&connection.will_payload()?)
}

/// Milliseconds since 1970 that are neither micro- nor seconds: this century.
fn is_utc_millis(timestamp: Option<u64>) -> bool {
    timestamp.is_some_and(|millis| (1_600_000_000_000..4_000_000_000_000).contains(&millis))
}

fn is_now(timestamp: Option<u64>) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    timestamp.is_some_and(|millis| now.abs_diff(u128::from(millis)) < 300_000)
}

fn counts_on(recording: &Recording, kinds: &[MessageType]) -> Verdict {
    let mut seen = 0;
    for connection in recording.connections() {
        let counted: Vec<_> = connection.said.iter().filter(|said| said.kind != NodeDeath).collect();
        for pair in counted.windows(2).filter(|pair| kinds.contains(&pair[1].kind)) {
            let (before, after) = (pair[0].payload.seq.ok_or("no seq")?, pair[1].payload.seq.ok_or("no seq")?);
            if after != (before + 1) % 256 {
                return Err(format!("{}: {after} after {before}", pair[1].topic));
            }
            seen += 1;
        }
    }
    Ok(seen)
}

fn births_are_zero(_: &Connection, said: &Said) -> bool {
    said.payload.seq == Some(0)
}

fn is_rebirth_metric(said: &Said) -> bool {
    let Some(metric) = metric(&said.payload, "Node Control/Rebirth") else { return false };
    metric.datatype == Some(11) && metric.value == Some(MetricValue::Boolean(false)) && metric.alias.is_none()
}

fn is_quiet(said: &Said) -> bool {
    said.qos == QoS::AtMostOnce && !said.retain
}

/// What every birth of a device holds: each of its points, with name, type, and a value or null.
fn is_whole(_: &Connection, said: &Said) -> bool {
    let Some((_, points)) = DEVICES.iter().find(|(id, _)| Some(*id) == said.device.as_deref()) else { return false };
    let names: HashSet<_> = said.payload.metrics.iter().filter_map(|metric| metric.name.as_deref()).collect();
    names == points.iter().copied().collect() && said.payload.metrics.len() == points.len()
}

fn has_type_and_value(metric: &Metric) -> bool {
    let has_value = metric.value.is_some() != (metric.is_null == Some(true));
    metric.name.is_some() && metric.datatype.and_then(DataType::from_code).is_some() && has_value
}

fn is_chronological(said: &Said) -> bool {
    let live = said.payload.metrics.iter().filter(|metric| metric.is_historical != Some(true));
    live.map(|metric| metric.timestamp).is_sorted()
}

/// Data only after its births, births of devices only after the birth of the node.
fn is_ordered(recording: &Recording) -> Verdict {
    let mut seen = 0;
    for connection in recording.connections() {
        let (mut node, mut devices) = (false, HashSet::new());
        for said in &connection.said {
            let device = said.device.clone();
            let is_right = match said.kind {
                NodeBirth => {
                    devices.clear();
                    node = true;
                    true
                }
                DeviceBirth => {
                    devices.insert(device);
                    node
                }
                DeviceData => node && devices.contains(&device),
                DeviceDeath => node && devices.remove(&device),
                _ => node,
            };
            if !is_right {
                return Err(format!("{} without what comes before it", said.topic));
            }
            seen += 1;
        }
    }
    Ok(seen)
}

/// After an NBIRTH come the births of all devices that live, before any data.
fn births_come_together(recording: &Recording) -> Verdict {
    let mut seen = 0;
    for connection in recording.connections() {
        let mut alive = HashSet::new();
        let mut said = connection.said.iter().peekable();
        while let Some(one) = said.next() {
            match one.kind {
                DeviceBirth => drop(alive.insert(one.device.clone())),
                DeviceDeath => drop(alive.remove(&one.device)),
                NodeBirth => {
                    let mut born = HashSet::new();
                    while let Some(next) = said.next_if(|next| next.kind == DeviceBirth) {
                        born.insert(next.device.clone());
                    }
                    if !alive.is_subset(&born) || born.is_empty() {
                        return Err(format!("after an NBIRTH {born:?} were born, {alive:?} lived"));
                    }
                    alive = born;
                    seen += 1;
                }
                _ => {}
            }
        }
    }
    Ok(seen)
}

/// A value is told again only in births.
fn is_by_exception(recording: &Recording) -> Verdict {
    let mut seen = 0;
    for connection in recording.connections() {
        let mut last = std::collections::HashMap::new();
        for said in &connection.said {
            for metric in said.payload.metrics.iter().filter(|metric| metric.is_historical != Some(true)) {
                let Some(alias) = metric.alias else { continue };
                let new = (metric.value.clone(), metric.is_null, quality(metric).unwrap_or(192));
                let old = last.insert(alias, new.clone());
                if said.kind == DeviceData {
                    if old.as_ref() == Some(&new) {
                        return Err(format!("{}: {metric:?} is no news", said.topic));
                    }
                    seen += 1;
                }
            }
        }
    }
    Ok(seen)
}

fn quality(metric: &Metric) -> Option<u32> {
    match metric.properties.as_ref()?.get("Quality")? {
        PropertyContent::Int(code) => Some(*code),
        _ => None,
    }
}

fn properties(recording: &Recording, kinds: &[MessageType], holds: impl Fn(&PropertyValue) -> bool) -> Verdict {
    let mut seen = 0;
    for (_, said) in said(recording, kinds) {
        for set in said.payload.metrics.iter().filter_map(|metric| metric.properties.as_ref()) {
            if let Some(wrong) = set.values.iter().find(|value| !holds(value)) {
                return Err(format!("{}: {wrong:?}", said.topic));
            }
            seen += set.values.len();
        }
    }
    Ok(seen)
}

fn qualities(recording: &Recording, holds: impl Fn(&PropertyValue) -> bool) -> Verdict {
    let mut seen = HashSet::new();
    for (_, said) in said(recording, &[DeviceBirth, DeviceData]) {
        for set in said.payload.metrics.iter().filter_map(|metric| metric.properties.as_ref()) {
            let Some(place) = set.keys.iter().position(|key| key == "Quality") else { continue };
            if !holds(&set.values[place]) {
                return Err(format!("{}: {:?}", said.topic, set.values[place]));
            }
            seen.insert(format!("{:?}", set.values[place].value));
        }
    }
    // Good and bad were both there.
    if seen.len() >= 2 { Ok(seen.len()) } else { Err(format!("only {seen:?} was seen")) }
}

fn rises(recording: &Recording) -> Verdict {
    for scene in [&recording.life, &recording.host] {
        let numbers: Vec<_> = scene.iter().map(will_bd_seq).collect();
        let expected: Vec<_> = (0..scene.len() as u64).map(Some).collect();
        if numbers != expected {
            return Err(format!("{numbers:?}"));
        }
    }
    Ok(recording.connections().count())
}

/// What the host said to a connection before `at`: whether it counts as online, by the rules of the specification.
fn is_host_online(recording: &Recording, connection: &Connection, at: std::time::Instant) -> bool {
    let (mut latest, mut latest_online, mut online) = (None, None, false);
    let earlier = recording.host.iter().take_while(|other| !std::ptr::eq(*other, connection));
    for other in earlier.filter(|other| other.server == connection.server).chain([connection]) {
        online = false;
        for (_, topic, payload) in other.told.iter().filter(|(told, ..)| *told <= at) {
            let Ok(json) = serde_json::from_slice::<serde_json::Value>(payload) else { continue };
            let (Some(says), Some(time)) = (json["online"].as_bool(), json["timestamp"].as_u64()) else { continue };
            if topic != &format!("spBv1.0/STATE/{HOST}") {
                continue;
            }
            if says && latest.is_none_or(|latest| time >= latest) {
                (latest, latest_online, online) = (Some(time), Some(time), true);
            } else if !says && latest_online.is_none_or(|online| time >= online) {
                (latest, online) = (Some(latest.unwrap_or(0).max(time)), false);
            }
        }
    }
    online
}

fn births_wait_for_host(recording: &Recording) -> Verdict {
    let births =
        recording.host.iter().flat_map(|connection| connection.of(NodeBirth).map(move |said| (connection, said)));
    every(
        births,
        |(connection, said)| is_host_online(recording, connection, said.at),
        |(_, said)| format!("{} although the host is not online", said.topic),
    )
}

/// Of each connection that the host's "offline" ended: when it was said, and the connection.
fn ended_by_host(recording: &Recording) -> Vec<(std::time::Instant, &Connection)> {
    let mut ended = Vec::new();
    for connection in &recording.host {
        let mut was_online = false;
        for (at, ..) in &connection.told {
            let is_online = is_host_online(recording, connection, *at);
            if was_online && !is_online {
                ended.push((*at, connection));
            }
            was_online = is_online;
        }
    }
    ended
}

fn leaves_with_ndeath(recording: &Recording) -> Verdict {
    every(
        ended_by_host(recording).into_iter(),
        |(at, connection)| {
            let death = connection.of(NodeDeath).next();
            let Some((death, gone)) = death.zip(connection.disconnect) else { return false };
            death.at >= *at && gone >= death.at && gone.duration_since(*at) < Duration::from_secs(10)
        },
        |(_, connection)| format!("{:?}", connection.order),
    )
}

fn goes_to_the_next_server(recording: &Recording) -> Verdict {
    every(
        ended_by_host(recording).into_iter(),
        |(_, connection)| {
            let next = recording.host.iter().find(|next| next.began > connection.began);
            next.is_some_and(|next| next.server != connection.server)
        },
        |(_, connection)| format!("stayed at {}", connection.server),
    )
}

/// Offline before the birth: left without a word, so that the server says the will, and on to the next server.
fn walks(recording: &Recording) -> Verdict {
    let unborn = recording.host.iter().filter(|connection| {
        connection.said.is_empty() && connection.told.iter().any(|(at, ..)| !is_host_online(recording, connection, *at))
    });
    every(
        unborn,
        |connection| {
            let next = recording.host.iter().find(|next| next.began > connection.began);
            connection.disconnect.is_none() && next.is_none_or(|next| next.server != connection.server)
        },
        |connection| format!("{:?}", connection.order),
    )
}

/// An "offline" older than the last "online" ended nothing: the same connection went on.
fn old_offline_is_ignored(recording: &Recording) -> Verdict {
    let mut seen = 0;
    for connection in &recording.host {
        for (at, topic, payload) in &connection.told {
            let is_old = topic.ends_with(HOST) && payload == b"{\"online\":false,\"timestamp\":999}";
            if is_old && is_host_online(recording, connection, *at) {
                let stayed = connection.ended.is_some_and(|end| end.duration_since(*at) > Duration::from_millis(100));
                if !stayed {
                    return Err("the connection ended".to_owned());
                }
                seen += 1;
            }
        }
    }
    Ok(seen)
}

fn one_at_a_time(recording: &Recording) -> Verdict {
    every(
        recording.connections(),
        |connection| connection.others_open.is_empty(),
        |connection| format!("{:?} was open when {} began", connection.others_open, connection.server),
    )
}

fn rebirths(recording: &Recording, holds: impl Fn(&[&Said], usize) -> bool) -> Verdict {
    let mut seen = 0;
    for connection in recording.connections() {
        let said: Vec<_> = connection.said.iter().collect();
        for place in 1..said.len() {
            if said[place].kind == NodeBirth {
                if !holds(&said, place) {
                    return Err(format!("rebirth at message {place}"));
                }
                seen += 1;
            }
        }
    }
    Ok(seen)
}

fn lost_devices(recording: &Recording) -> Verdict {
    let deaths: Vec<_> = said(recording, &[DeviceDeath]).collect();
    // The scene takes the hall away once.
    if deaths.len() == 1 && deaths[0].1.device.as_deref() == Some("hall") {
        Ok(1)
    } else {
        Err(format!("{} deaths", deaths.len()))
    }
}

const ALL: &[MessageType] = &[NodeBirth, DeviceBirth, DeviceData, DeviceDeath, NodeDeath];
const SESSION: &[MessageType] = &[NodeBirth, DeviceBirth, DeviceData, DeviceDeath];
const BIRTHS: &[MessageType] = &[NodeBirth, DeviceBirth];
const VALUES: &[MessageType] = &[NodeBirth, DeviceBirth, DeviceData];

macro_rules! checks {
    ($($name:ident [$($assertion:literal),* $(,)?] $judge:expr;)*) => {
        pub const CHECKS: &[Check] = &[$(Check { name: stringify!($name), assertions: &[$($assertion),*], judge: $judge }),*];
    };
}

checks! {
    names_in_topics ["intro-group-id-string", "intro-group-id-chars", "intro-edge-node-id-string", "intro-edge-node-id-chars",
        "intro-device-id-string", "intro-device-id-chars", "topic-structure", "topic-structure-namespace-a",
        "topic-structure-namespace-valid-group-id", "topic-structure-namespace-valid-edge-node-id", "topic-structure-namespace-valid-device-id"]
        |r| messages(r, ALL, |_, said| {
            let device = said.device.as_ref().map_or(String::new(), |device| format!("/{device}"));
            let is_known = said.device.as_ref().is_none_or(|device| DEVICES.iter().any(|(id, _)| id == device));
            is_known && said.topic == format!("spBv1.0/{GROUP}/{}/{NODE}{device}", said.kind.word())
        });
    unique_devices ["topic-structure-namespace-unique-device-id", "case-sensitivity-sparkplug-ids"]
        |r| every(sessions(r), |connection| {
            let devices: HashSet<_> = connection.of(DeviceBirth).filter_map(|said| said.device.clone()).collect();
            let lower: HashSet<_> = devices.iter().map(|device| device.to_lowercase()).collect();
            devices.len() == lower.len() && !devices.is_empty()
        }, |connection| format!("{:?}", connection.order));
    unique_metric_names ["case-sensitivity-metric-names"]
        |r| messages(r, BIRTHS, |_, said| {
            let names: HashSet<_> = said.payload.metrics.iter().filter_map(|metric| metric.name.as_ref().map(|name| name.to_lowercase())).collect();
            names.len() == said.payload.metrics.len()
        });
    devices_in_topics_of_devices ["topic-structure-namespace-device-id-associated-message-types", "topic-structure-namespace-device-id-non-associated-message-types"]
        |r| messages(r, ALL, |_, said| said.device.is_some() == said.kind.is_of_device());
    by_exception ["principles-rbe-recommended", "operational-behavior-data-publish-dbirth-change", "topics-ddata-payload"] is_by_exception;
    birth_first ["principles-birth-certificates-order"]
        |r| every(r.connections().filter(|connection| !connection.said.is_empty()), |connection| connection.said[0].kind == NodeBirth,
            |connection| connection.said[0].topic.clone());
    clean_session ["principles-persistence-clean-session-311"]
        |r| connections(r, |connection| connection.clean_session && connection.level == "V4");
    nbirth_topic ["topics-nbirth-topic", "message-flow-edge-node-birth-publish-nbirth-topic"]
        |r| messages(r, &[NodeBirth], |_, said| said.topic == format!("spBv1.0/{GROUP}/NBIRTH/{NODE}"));
    nbirth_qos ["topics-nbirth-mqtt", "payloads-nbirth-qos", "payloads-nbirth-retain", "message-flow-edge-node-birth-publish-nbirth-qos", "message-flow-edge-node-birth-publish-nbirth-retained"]
        |r| messages(r, &[NodeBirth], |_, said| is_quiet(said));
    nbirth_seq ["topics-nbirth-seq-num", "payloads-nbirth-seq", "payloads-sequence-num-req-nbirth", "message-flow-edge-node-birth-publish-nbirth-payload-seq"]
        |r| messages(r, &[NodeBirth], births_are_zero);
    nbirth_time ["topics-nbirth-timestamp", "payloads-nbirth-timestamp"]
        |r| messages(r, &[NodeBirth], |_, said| is_now(said.payload.timestamp));
    nbirth_whole ["topics-nbirth-metric-reqs", "operational-behavior-data-publish-nbirth"]
        |r| messages(r, &[NodeBirth], |_, said| said.payload.metrics.len() == 2 && metric(&said.payload, "bdSeq").is_some() && is_rebirth_metric(said));
    nbirth_metrics ["topics-nbirth-metrics", "operational-behavior-data-publish-nbirth-values"]
        |r| metrics(r, &[NodeBirth], |_, metric| has_type_and_value(metric));
    nbirth_order ["operational-behavior-data-publish-nbirth-order"]
        |r| messages(r, &[NodeBirth], |_, said| is_chronological(said));
    nbirth_bdseq ["topics-nbirth-bdseq-included", "payloads-nbirth-bdseq"]
        |r| messages(r, &[NodeBirth], |_, said| bd_seq(&said.payload).is_some());
    nbirth_bdseq_of_will ["topics-nbirth-bdseq-matching", "payloads-nbirth-bdseq-repeat", "payloads-ndeath-bdseq", "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq"]
        |r| messages(r, &[NodeBirth, NodeDeath], |connection, said| bd_seq(&said.payload).is_some() && bd_seq(&said.payload) == will_bd_seq(connection));
    bdseq_rises ["topics-nbirth-bdseq-increment", "message-flow-edge-node-birth-publish-will-message-payload-bdSeq"] rises;
    rebirth_metric ["topics-nbirth-rebirth-metric", "payloads-nbirth-rebirth-req", "operational-behavior-data-commands-rebirth-name",
        "operational-behavior-data-commands-rebirth-name-aliases", "operational-behavior-data-commands-rebirth-datatype", "operational-behavior-data-commands-rebirth-value"]
        |r| messages(r, &[NodeBirth], |_, said| is_rebirth_metric(said));
    nbirth_is_protobuf ["message-flow-edge-node-birth-publish-nbirth-payload"]
        |r| messages(r, &[NodeBirth], |_, said| Payload::parse(&said.payload.to_bytes()).is_ok_and(|again| again == said.payload));
    connected_before_births ["message-flow-edge-node-birth-publish-connect"]
        |r| connections(r, |connection| connection.order.first() == Some(&"CONNECT"));
    subscribes_to_commands ["message-flow-edge-node-ncmd-subscribe"]
        |r| every(sessions(r), |connection| {
            let topic = format!("spBv1.0/{GROUP}/NCMD/{NODE}");
            let asked = connection.filters.iter().any(|filter| filter.path == topic && filter.qos == QoS::AtLeastOnce);
            let place = |name| connection.order.iter().position(|found| *found == name);
            asked && place("SUBSCRIBE") < place("PUBLISH")
        }, |connection| format!("{:?}", connection.filters));
    subscribes_to_device_commands ["message-flow-device-dcmd-subscribe"]
        |r| every(sessions(r), |connection| {
            let topic = format!("spBv1.0/{GROUP}/DCMD/{NODE}/+");
            connection.filters.iter().any(|filter| filter.path == topic && filter.qos == QoS::AtLeastOnce)
        }, |connection| format!("{:?}", connection.filters));
    will ["message-flow-edge-node-birth-publish-will-message", "message-flow-edge-node-birth-publish-will-message-topic", "payloads-ndeath-will-message", "topics-ndeath-topic"]
        |r| connections(r, |connection| connection.will.as_ref().is_some_and(|(topic, ..)| *topic == format!("spBv1.0/{GROUP}/NDEATH/{NODE}")));
    will_payload ["message-flow-edge-node-birth-publish-will-message-payload", "topics-ndeath-payload", "topics-ndeath-seq", "payloads-ndeath-seq"]
        |r| connections(r, |connection| connection.will_payload().is_some_and(|will| {
            will.seq.is_none() && will.metrics.len() == 1 && bd_seq(&will).is_some()
        }) && connection.of(NodeDeath).all(|said| said.payload.seq.is_none() && said.payload.metrics.len() == 1));
    will_qos ["message-flow-edge-node-birth-publish-will-message-qos", "payloads-ndeath-will-message-qos"]
        |r| connections(r, |connection| connection.will.as_ref().is_some_and(|(_, _, qos, _)| *qos == QoS::AtLeastOnce));
    will_not_retained ["message-flow-edge-node-birth-publish-will-message-will-retained", "payloads-ndeath-will-message-retain"]
        |r| connections(r, |connection| connection.will.as_ref().is_some_and(|(_, _, _, retain)| !retain));
    stops_with_ndeath ["operational-behavior-edge-node-intentional-disconnect-ndeath", "operational-behavior-edge-node-intentional-disconnect-packet",
        "payloads-ndeath-will-message-publisher", "payloads-ndeath-will-message-publisher-disconnect-mqtt311"]
        |r| every(r.connections().filter(|connection| connection.disconnect.is_some()),
            |connection| connection.said.last().is_some_and(|said| said.kind == NodeDeath) && connection.order.ends_with(&["PUBLISH", "DISCONNECT"]),
            |connection| format!("{:?}", connection.order.last()));
    dbirth_topic ["topics-dbirth-topic", "message-flow-device-birth-publish-dbirth-topic"]
        |r| messages(r, &[DeviceBirth], |_, said| said.topic == format!("spBv1.0/{GROUP}/DBIRTH/{NODE}/{}", said.device.as_deref().unwrap_or("?")));
    dbirth_names_of_nbirth ["message-flow-device-birth-publish-dbirth-match-edge-node-topic"]
        |r| messages(r, &[DeviceBirth], |connection, said| connection.of(NodeBirth).any(|node| node.group == said.group && node.edge_node == said.edge_node));
    dbirth_qos ["topics-dbirth-mqtt", "payloads-dbirth-qos", "payloads-dbirth-retain", "message-flow-device-birth-publish-dbirth-qos", "message-flow-device-birth-publish-dbirth-retained"]
        |r| messages(r, &[DeviceBirth], |_, said| is_quiet(said));
    dbirth_seq ["topics-dbirth-seq", "payloads-dbirth-seq", "payloads-dbirth-seq-inc", "message-flow-device-birth-publish-dbirth-payload-seq"]
        |r| counts_on(r, &[DeviceBirth]);
    dbirth_time ["topics-dbirth-timestamp", "payloads-dbirth-timestamp"]
        |r| messages(r, &[DeviceBirth], |_, said| is_now(said.payload.timestamp));
    dbirth_whole ["topics-dbirth-metric-reqs", "operational-behavior-data-publish-dbirth"]
        |r| messages(r, &[DeviceBirth], is_whole);
    dbirth_metrics ["topics-dbirth-metrics", "operational-behavior-data-publish-dbirth-values"]
        |r| metrics(r, &[DeviceBirth], |_, metric| has_type_and_value(metric));
    device_values_in_order ["operational-behavior-data-publish-dbirth-order"]
        |r| messages(r, &[DeviceBirth, DeviceData], |_, said| is_chronological(said));
    dbirth_after_nbirth ["message-flow-device-birth-publish-nbirth-wait", "payloads-ddata-order"] is_ordered;
    dbirth_at_once ["payloads-dbirth-order"] births_come_together;
    dbirth_is_protobuf ["message-flow-device-birth-publish-dbirth-payload"]
        |r| messages(r, &[DeviceBirth], |_, said| Payload::parse(&said.payload.to_bytes()).is_ok_and(|again| again == said.payload));
    ddata_topic ["topics-ddata-topic"]
        |r| messages(r, &[DeviceData], |_, said| said.topic == format!("spBv1.0/{GROUP}/DDATA/{NODE}/{}", said.device.as_deref().unwrap_or("?")));
    ddata_qos ["topics-ddata-mqtt", "payloads-ddata-qos", "payloads-ddata-retain"] |r| messages(r, &[DeviceData], |_, said| is_quiet(said));
    ddata_seq ["topics-ddata-seq-num", "payloads-ddata-seq", "payloads-ddata-seq-inc"] |r| counts_on(r, &[DeviceData]);
    ddata_time ["topics-ddata-timestamp", "payloads-ddata-timestamp"] |r| messages(r, &[DeviceData], |_, said| is_now(said.payload.timestamp));
    ddeath_topic ["topics-ddeath-topic"]
        |r| messages(r, &[DeviceDeath], |_, said| said.topic == format!("spBv1.0/{GROUP}/DDEATH/{NODE}/{}", said.device.as_deref().unwrap_or("?")));
    ddeath_qos ["topics-ddeath-mqtt"] |r| messages(r, &[DeviceDeath], |_, said| is_quiet(said));
    ddeath_seq ["topics-ddeath-seq-num", "payloads-ddeath-seq", "payloads-ddeath-seq-inc", "payloads-ddeath-seq-number"] |r| counts_on(r, &[DeviceDeath]);
    ddeath_time ["payloads-ddeath-timestamp"] |r| messages(r, &[DeviceDeath], |_, said| is_now(said.payload.timestamp));
    lost_device ["operational-behavior-device-ddeath"] lost_devices;
    births_wait_for_the_host ["message-flow-edge-node-birth-publish-phid-wait", "message-flow-edge-node-birth-publish-phid-wait-id",
        "message-flow-edge-node-birth-publish-phid-wait-online", "message-flow-edge-node-birth-publish-phid-wait-timestamp",
        "operational-behavior-edge-node-birth-sequence-wait"] births_wait_for_host;
    subscribes_to_the_host ["operational-behavior-primary-application-state-with-multiple-servers-state-subs"]
        |r| every(r.host.iter().filter(|connection| !connection.filters.is_empty()),
            |connection| connection.filters.iter().any(|filter| filter.path == format!("spBv1.0/STATE/{HOST}")),
            |connection| format!("{:?}", connection.filters));
    host_offline_ndeath ["message-flow-edge-node-birth-publish-phid-offline", "operational-behavior-edge-node-termination-host-offline"] leaves_with_ndeath;
    host_offline_next_server ["operational-behavior-edge-node-termination-host-offline-reconnect"] goes_to_the_next_server;
    host_offline_of_old ["operational-behavior-edge-node-termination-host-offline-timestamp"] old_offline_is_ignored;
    one_server_at_a_time ["operational-behavior-primary-application-state-with-multiple-servers-single-server"] one_at_a_time;
    host_not_there ["operational-behavior-primary-application-state-with-multiple-servers-walk"] walks;
    rebirth_stops_data ["operational-behavior-data-commands-rebirth-action-1"]
        |r| rebirths(r, |said, place| said.get(place + 1).is_some_and(|next| next.kind == DeviceBirth));
    rebirth_is_whole ["operational-behavior-data-commands-rebirth-action-2"] |r| {
        rebirths(r, |_, _| true).and_then(|seen| births_come_together(r).map(|_| seen))
    };
    rebirth_keeps_bdseq ["operational-behavior-data-commands-rebirth-action-3"]
        |r| rebirths(r, |said, place| bd_seq(&said[place].payload) == bd_seq(&said[0].payload));
    payload_time ["payloads-timestamp-in-UTC"] |r| messages(r, ALL, |_, said| is_utc_millis(said.payload.timestamp));
    every_message_counts ["payloads-sequence-num-always-included"]
        |r| messages(r, SESSION, |_, said| said.payload.seq.is_some_and(|seq| seq < 256));
    numbers_wrap ["payloads-sequence-num-incrementing"] |r| {
        let wrapped = said(r, SESSION).any(|(_, said)| said.payload.seq == Some(255));
        if wrapped { counts_on(r, &[DeviceBirth, DeviceData, DeviceDeath]) } else { Err("255 was never reached".to_owned()) }
    };
    metric_names ["payloads-name-requirement"] |r| metrics(r, VALUES, |_, metric| metric.name.is_some() || metric.alias.is_some());
    aliases_are_unique ["payloads-alias-uniqueness"]
        |r| every(sessions(r), |connection| {
            let mut names = std::collections::HashMap::new();
            connection.of(DeviceBirth).all(|said| said.payload.metrics.iter().all(|metric| {
                let name = (said.device.clone(), metric.name.clone());
                *names.entry(metric.alias).or_insert_with(|| name.clone()) == name
            }))
        }, |connection| format!("{:?}", connection.order));
    aliases_in_births ["payloads-alias-birth-requirement"] |r| metrics(r, &[DeviceBirth], |_, metric| metric.name.is_some() && metric.alias.is_some());
    aliases_in_data ["payloads-alias-data-cmd-requirement"] |r| metrics(r, &[DeviceData], |_, metric| metric.name.is_none() && metric.alias.is_some());
    metric_time ["payloads-name-birth-data-requirement", "payloads-metric-timestamp-in-UTC"] |r| metrics(r, VALUES, |_, metric| is_utc_millis(metric.timestamp));
    metric_types ["payloads-metric-datatype-value-type", "payloads-metric-datatype-value", "payloads-metric-datatype-req"]
        |r| metrics(r, BIRTHS, |_, metric| metric.datatype.and_then(DataType::from_code).is_some());
    no_types_in_data ["payloads-metric-datatype-not-req"] |r| metrics(r, &[DeviceData], |_, metric| metric.datatype.is_none());
    property_sets ["payloads-propertyset-keys-array-size", "payloads-propertyset-values-array-size"]
        |r| metrics(r, &[DeviceBirth], |_, metric| metric.properties.as_ref().is_some_and(|set| set.keys.len() == set.values.len() && !set.keys.is_empty()));
    property_types ["payloads-metric-propertyvalue-type-type", "payloads-metric-propertyvalue-type-value", "payloads-metric-propertyvalue-type-req"]
        |r| properties(r, &[DeviceBirth, DeviceData], |value| value.r#type.and_then(DataType::from_code).is_some());
    quality_type ["payloads-propertyset-quality-value-type"] |r| qualities(r, |value| value.r#type == Some(3));
    quality_value ["payloads-propertyset-quality-value-value"]
        |r| qualities(r, |value| matches!(value.value, Some(PropertyContent::Int(0 | 192 | 500))));
}
