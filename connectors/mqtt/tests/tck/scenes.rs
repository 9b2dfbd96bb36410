//! Two lives of an edge node in front of recording servers.

use super::view::Connection;
use crate::common::recorder::{Book, Recorder, Seen, until};
use crate::common::{PATIENCE, STOP_MAX, device, point};
use rumqttc::Packet;
use std::path::Path;
use std::time::Duration;
use tally_connector_api::StatusReporter;
use tally_connector_mqtt::sparkplug::{
    Commanded, EdgeNode, EdgeNodeConfig, Metric, MetricValue, Name, Payload, Update,
};
use tally_model::{DeviceId, DeviceSpec, Encoding, NoValue, Outcome, PointId, Sample, Timestamp, Unit, Value};
use tokio_util::sync::CancellationToken;

pub const GROUP: &str = "Werk 1";
pub const NODE: &str = "agent-01";
pub const HOST: &str = "scada";
/// Points of each device.
pub const DEVICES: [(&str, &[&str]); 2] =
    [("press", &["temp", "count", "running", "name", "small", "auto"]), ("hall", &["t"])];

/// What was seen in each scene.
pub struct Recording {
    /// No primary host: births, 300 messages, a lost device, history, rebirth, a cut line, a stop, a second life.
    pub life: Vec<Connection>,
    /// A primary host at two servers.
    pub host: Vec<Connection>,
}

impl Recording {
    pub async fn make() -> Self {
        Self { life: life().await, host: host().await }
    }

    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.life.iter().chain(&self.host)
    }
}

fn devices() -> Vec<DeviceSpec> {
    let encodings = [Encoding::F64, Encoding::I64, Encoding::Bool, Encoding::Text, Encoding::I16, Encoding::Auto];
    let make = |(id, points): (&str, &[&str])| {
        let encoding = |place: usize| if id == "press" { encodings[place] } else { Encoding::F32 };
        let points = points.iter().enumerate().map(|(place, id)| point(id, &format!("t/{id}"), encoding(place)));
        DeviceSpec { id: DeviceId::try_new(id).unwrap(), ..device(1, points.collect()) }
    };
    DEVICES.map(make).to_vec()
}

pub struct Node {
    pub node: EdgeNode,
    stop: CancellationToken,
    place: u64,
    _commands: tokio::sync::mpsc::Receiver<Commanded>,
}

impl Node {
    pub fn start(dir: &Path, ports: &[u16], host: Option<&str>) -> Self {
        let (reporter, _) = StatusReporter::new("sparkplug");
        let stop = CancellationToken::new();
        let name = |text: &str| Name::try_new(text).unwrap();
        let (commands, _commands) = tokio::sync::mpsc::channel(1);
        let config = EdgeNodeConfig {
            servers: ports.iter().map(|port| tally_model::MqttBroker::plain("127.0.0.1", *port)).collect(),
            tls: tally_model::Tls::default(),
            client_id: "tallystick-agent-01-edge-node".to_owned(),
            user: None,
            password: None,
            group: name(GROUP),
            edge_node: name(NODE),
            primary_host: host.map(name),
            bd_seq_file: dir.join("bdseq"),
            devices: devices(),
            history_values_per_second: 10_000,
            commands: Some(commands),
        };
        Self { node: EdgeNode::start(config, stop.clone(), reporter).unwrap(), stop, place: 0, _commands }
    }

    pub async fn tell(&mut self, device: &str, samples: Vec<Sample>) {
        self.place += 1;
        let device = DeviceId::try_new(device).unwrap();
        assert!(self.node.tell(Update { device, samples, place: self.place }).await);
    }

    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(STOP_MAX, self.node.finished()).await.expect("stops");
    }
}

pub fn sample(point: &str, outcome: Outcome, micros: i64) -> Sample {
    let at = Timestamp::from_micros(1_763_000_000_000_000 + micros);
    Sample::at(PointId::try_new(point).unwrap(), outcome, Unit::try_new("Cel").unwrap(), at)
}

/// Every point of the press, in an order that is not chronological.
pub fn press(time: i64) -> Vec<Sample> {
    vec![
        sample("temp", Ok(Value::Float(21.25)), time + 9_000),
        sample("count", Ok(Value::Integer(-7)), time + 3_000),
        sample("running", Ok(Value::Bool(true)), time + 6_000),
        sample("name", Ok(Value::Text("Presse Süd".into())), time),
        sample("small", Ok(Value::Integer(-300)), time),
        sample("auto", Ok(Value::Integer(5)), time),
    ]
}

fn count(seen: &[Seen], kind: &str) -> usize {
    let is =
        |packet: &Packet| matches!(packet, Packet::Publish(publish) if publish.topic.split('/').nth(2) == Some(kind));
    seen.iter().flat_map(|seen| &seen.packets).filter(|(_, packet)| is(packet)).count()
}

async fn has(book: &Book, kind: &str, times: usize) {
    until(book, &format!("{times} {kind}"), |seen| count(seen, kind) >= times).await;
}

async fn quiet() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

pub fn rebirth(value: bool) -> Vec<u8> {
    let name = Some("Node Control/Rebirth".to_owned());
    let metric = Metric { name, datatype: Some(11), value: Some(MetricValue::Boolean(value)), ..Metric::default() };
    Payload { timestamp: Some(1), metrics: vec![metric], ..Payload::default() }.to_bytes()
}

async fn life() -> Vec<Connection> {
    let (book, dir) = (Book::default(), tempfile::tempdir().unwrap());
    let server = Recorder::start(book.clone()).await;
    let command = format!("spBv1.0/{GROUP}/NCMD/{NODE}");
    let mut node = Node::start(dir.path(), &[server.port], None);
    node.tell("press", press(0)).await;
    has(&book, "DBIRTH", 1).await;
    for step in 0..300 {
        let time = 10_000 * (step + 1);
        let some = vec![
            sample("temp", Ok(Value::Float(step as f64 + 0.5)), time + 5_000),
            sample("count", Ok(Value::Integer(step)), time),
        ];
        node.tell("press", some).await;
    }
    has(&book, "DDATA", 300).await;
    // Said again: no news.
    node.tell("press", vec![sample("count", Ok(Value::Integer(299)), 4_000_000)]).await;
    node.tell("hall", vec![sample("t", Ok(Value::Float(21.5)), 4_000_000)]).await;
    has(&book, "DBIRTH", 2).await;
    node.tell("hall", vec![sample("t", Err(NoValue::LinkDown), 5_000_000)]).await;
    has(&book, "DDEATH", 1).await;
    node.tell("hall", vec![sample("t", Ok(Value::Float(21.5)), 6_000_000)]).await;
    node.tell(
        "press",
        vec![sample("temp", Err(NoValue::Timeout), 6_000_000), sample("auto", Ok(Value::Integer(6)), 5_500_000)],
    )
    .await;
    node.tell("press", vec![sample("temp", Ok(Value::Float(1.0)), 7_000_000)]).await;
    has(&book, "DDATA", 302).await;
    let past = vec![sample("t", Ok(Value::Float(3.5)), 5_100_000), sample("t", Ok(Value::Float(4.5)), 5_200_000)];
    let update = Update { device: DeviceId::try_new("hall").unwrap(), samples: past, place: 1 };
    assert!(node.node.tell_history(update).await);
    has(&book, "DDATA", 303).await;
    let mut progress = node.node.progress();
    let arrived = progress.wait_for(|progress| progress.history_arrived == 1);
    tokio::time::timeout(PATIENCE, arrived).await.expect("known to have arrived, without a ping").unwrap();
    node.tell("press", vec![sample("temp", Err(NoValue::Refused), 8_000_000)]).await;
    has(&book, "DDATA", 304).await;
    server.say(&command, &rebirth(false));
    server.say(&command, b"\xff\xff");
    server.say(&command, &rebirth(true));
    has(&book, "NBIRTH", 2).await;
    node.tell("press", vec![sample("temp", Ok(Value::Float(2.0)), 9_000_000)]).await;
    has(&book, "DDATA", 305).await;
    server.cut();
    has(&book, "NBIRTH", 3).await;
    has(&book, "DBIRTH", 7).await;
    node.stop().await;
    // A second life: the number of births goes on.
    let mut node = Node::start(dir.path(), &[server.port], None);
    node.tell("press", press(10_000_000)).await;
    has(&book, "NBIRTH", 4).await;
    has(&book, "DBIRTH", 8).await;
    node.stop().await;
    until(&book, "the end", |seen| seen.iter().all(|seen| seen.ended.is_some())).await;
    book.seen().iter().map(Connection::new).collect()
}

fn state(online: bool, timestamp: u64) -> String {
    format!("{{\"online\":{online},\"timestamp\":{timestamp}}}")
}

async fn host() -> Vec<Connection> {
    let (book, dir) = (Book::default(), tempfile::tempdir().unwrap());
    let (a, b) = (Recorder::start(book.clone()).await, Recorder::start(book.clone()).await);
    let topic = format!("spBv1.0/STATE/{HOST}");
    // At A the host is away: on to B, where nobody knows it yet.
    a.retain(&topic, &state(false, 50));
    let mut node = Node::start(dir.path(), &[a.port, b.port], Some(HOST));
    node.tell("press", press(0)).await;
    until(&book, "B", |seen| seen.iter().any(|seen| seen.server == b.port && seen.packets.len() > 1)).await;
    b.say("spBv1.0/STATE/other", state(true, 900).as_bytes());
    b.say(&topic, b"ONLINE");
    quiet().await;
    assert_eq!(count(&book.seen(), "NBIRTH"), 0, "the host is not online");
    b.retain(&topic, &state(true, 1_000));
    has(&book, "NBIRTH", 1).await;
    // The death of an earlier session of the host.
    b.retain(&topic, &state(false, 999));
    quiet().await;
    assert_eq!(count(&book.seen(), "NDEATH"), 0);
    a.retain(&topic, &state(true, 2_000));
    b.retain(&topic, &state(false, 1_000));
    has(&book, "NBIRTH", 2).await;
    a.say(&topic, state(true, 1_500).as_bytes());
    quiet().await;
    // Away at A as well; B still says "offline". What is older than the last word does not count.
    a.retain(&topic, &state(false, 2_000));
    has(&book, "NDEATH", 2).await;
    a.retain(&topic, &state(true, 1_999));
    quiet().await;
    assert_eq!(count(&book.seen(), "NBIRTH"), 2);
    // B, known last, comes back; A is gone altogether.
    a.refuse(true);
    b.retain(&topic, &state(true, 3_000));
    a.cut();
    has(&book, "NBIRTH", 3).await;
    has(&book, "DBIRTH", 3).await;
    node.stop().await;
    until(&book, "the end", |seen| seen.iter().all(|seen| seen.ended.is_some())).await;
    book.seen().iter().map(Connection::new).collect()
}
