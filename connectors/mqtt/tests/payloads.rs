//! What sensors send besides JSON, over a real mosquitto in both versions of MQTT: CBOR, Sparkplug B of an edge node that
//! dies and comes back, topics nobody listed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Mosquitto, Running, device, point};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tally_connector_api::StatusReporter;
use tally_connector_mqtt::sparkplug::{EdgeNode, EdgeNodeConfig, Name, Update};
use tally_model::{
    DeviceId, DeviceSpec, Encoding, Endpoint, MqttBroker, MqttQos, NoValue, Outcome, PointId, PointTemplate, Quality,
    Sample, Timestamp, Tls, Unit, Value,
};
use tokio_util::sync::CancellationToken;

fn at_version(mut device: DeviceSpec, port: u16, version: &str) -> DeviceSpec {
    device.endpoint = Endpoint::parse(&format!("mqtt://127.0.0.1:{port}?version={version}")).unwrap();
    device
}

#[tokio::test]
async fn cbor_is_read_like_json() {
    let broker = Mosquitto::start();
    for version in ["3.1.1", "5"] {
        let points =
            vec![point("t", "cbor:hall/c#/air/t", Encoding::F64), point("all", "cbor:hall/one", Encoding::Auto)];
        let mut link = Running::start(vec![at_version(device(broker.port, points), broker.port, version)], version, 10);
        link.until_up().await;
        // RFC 8949 by hand: {"air": {"t": 21.5}, "timestamp": 1(1500000000)}
        broker.publish("hall/c", b"\xa2\x63air\xa1\x61t\xf9\x4d\x60\x69timestamp\xc1\x1a\x59\x68\x2f\x00");
        let samples = link.next().await;
        assert_eq!(samples[0].outcome, Ok(Value::Float(21.5)));
        assert_eq!(samples[0].source_time, Timestamp::from_micros(1_500_000_000_000_000));
        broker.publish("hall/one", b"\x38\x63");
        assert_eq!(link.outcome().await, Ok(Value::Integer(-100)));
        broker.publish("hall/one", b"{\"t\": 1}");
        assert_eq!(link.outcome().await, Err(NoValue::Nonsense));
    }
}

#[tokio::test]
async fn topics_nobody_listed_make_points_up_to_the_limit() {
    let broker = Mosquitto::start();
    let mut hall = device(broker.port, vec![point("known", "hall/press-1/temp", Encoding::Auto)]);
    let topic = "hall/{machine}/temp";
    hall.templates = vec![PointTemplate::try_new("{machine}_temp", topic, point("p", topic, Encoding::F64)).unwrap()];
    hall.mqtt.points_max = 2;
    let mut link = Running::start(vec![hall], "reader", 10);
    link.until_up().await;
    let mut heard = Vec::new();
    for machine in ["press-1", "press-2", "press_2", "saw", "mill", "press-2"] {
        broker.publish(&format!("hall/{machine}/temp"), b"7");
    }
    for _ in 0..4 {
        heard.extend(link.outcomes().await.into_iter().map(|(point, _)| point));
    }
    assert_eq!(heard, ["known", "press_2_temp", "saw_temp", "press_2_temp"]);
    drop(broker);
    // Points that were made are told to be gone like the others.
    let mut gone = BTreeMap::new();
    while gone.len() < 3 {
        gone.extend(link.outcomes().await);
    }
    assert!(gone.values().all(|outcome| *outcome == Err(NoValue::LinkDown)), "{gone:?}");
    assert!(gone.contains_key("saw_temp"));
}

/// An edge node of ours on the other side; `sparkplug-payload` and `pysparkplug` understand it, see the interop test.
struct Plc {
    node: EdgeNode,
    stop: CancellationToken,
    place: u64,
}

impl Plc {
    fn start(port: u16, dir: &Path) -> Self {
        let mut press = device(port, vec![point("temp", "x", Encoding::F64), point("mode", "y", Encoding::Text)]);
        press.id = DeviceId::try_new("press").unwrap();
        let config = EdgeNodeConfig {
            servers: vec![MqttBroker::plain("127.0.0.1", port)],
            tls: Tls::default(),
            client_id: "plc".into(),
            user: None,
            password: None,
            group: Name::try_new("works").unwrap(),
            edge_node: Name::try_new("edge").unwrap(),
            primary_host: None,
            bd_seq_file: dir.join("bdseq"),
            devices: vec![press],
            history_values_per_second: 1_000,
            commands: None,
        };
        let stop = CancellationToken::new();
        let node = EdgeNode::start(config, stop.clone(), StatusReporter::new("plc").0).unwrap();
        Self { node, stop, place: 0 }
    }

    async fn says(&mut self, point: &str, value: Value) {
        self.place += 1;
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        let sample = Sample {
            seal: None,
            point: PointId::try_new(point).unwrap(),
            outcome: Ok(value),
            unit: Unit::try_new("Cel").unwrap(),
            quality: Quality::Good,
            source_time: at,
            received: at,
        };
        let device = DeviceId::try_new("press").unwrap();
        assert!(self.node.tell(Update { device, samples: vec![sample], place: self.place }).await);
    }

    async fn stop(self) {
        self.stop.cancel();
        self.node.finished().await;
    }
}

/// Waits until the point says it, whatever comes before.
async fn until(link: &mut Running, point: &str, expected: Outcome) -> Sample {
    loop {
        let samples = link.next().await;
        if let Some(found) = samples.into_iter().find(|one| one.point.as_str() == point && one.outcome == expected) {
            return found;
        }
    }
}

fn reader(port: u16, version: &str) -> Running {
    let points = vec![
        point("temp", "sparkplug:works/edge/press#temp", Encoding::F64),
        point("mode", "sparkplug:works/edge/press#mode", Encoding::Text),
        point("none", "sparkplug:works/edge/press#none", Encoding::Auto),
    ];
    Running::start(vec![at_version(device(port, points), port, version)], "host", 100)
}

#[tokio::test]
async fn an_edge_node_is_followed_through_birth_data_death_and_a_new_life() {
    let broker = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    for version in ["3.1.1", "5"] {
        let mut plc = Plc::start(broker.port, dir.path());
        plc.says("temp", Value::Float(20.5)).await;
        // We come late, so the birth must be asked for.
        let mut link = reader(broker.port, version);
        let sample = until(&mut link, "temp", Ok(Value::Float(20.5))).await;
        assert_eq!(sample.source_time, Timestamp::from_micros(1_700_000_000_000_000), "the edge node's own time");
        assert_eq!(sample.unit.as_str(), "Cel");
        plc.says("temp", Value::Float(21.5)).await;
        until(&mut link, "temp", Ok(Value::Float(21.5))).await;
        plc.says("mode", Value::Text("run".into())).await;
        until(&mut link, "mode", Ok(Value::Text("run".into()))).await;
        plc.stop().await;
        until(&mut link, "temp", Err(NoValue::LinkDown)).await;
        let mut plc = Plc::start(broker.port, dir.path());
        plc.says("temp", Value::Float(22.5)).await;
        until(&mut link, "temp", Ok(Value::Float(22.5))).await;
        plc.stop().await;
    }
}

#[tokio::test]
async fn a_metric_nobody_has_and_a_message_that_was_lost() {
    let broker = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let mut link = reader(broker.port, "3.1.1");
    link.until_up().await;
    let mut plc = Plc::start(broker.port, dir.path());
    plc.says("temp", Value::Float(1.0)).await;
    until(&mut link, "none", Err(NoValue::NoSuchAddress)).await;
    // Somebody speaks in its name with a number far off: as if messages had been lost. (Payload with `seq` 200.)
    let births = plc.node.progress().borrow().births;
    broker.publish("spBv1.0/works/NDATA/edge", b"\x18\xc8\x01");
    let mut progress = plc.node.progress();
    let asked = progress.wait_for(|progress| progress.births > births);
    tokio::time::timeout(common::PATIENCE, asked).await.expect("births are asked for").unwrap();
    plc.says("temp", Value::Float(2.0)).await;
    until(&mut link, "temp", Ok(Value::Float(2.0))).await;
    plc.stop().await;
}

#[tokio::test]
async fn qos_2_gives_each_message_once_across_a_restart_of_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let lines = format!("allow_anonymous true\npersistence true\npersistence_location {}/\n", dir.path().display());
    let mut broker = Mosquitto::start_with(&lines);
    for version in ["3.1.1", "5"] {
        let mut hall = device(broker.port, vec![point("count", "hall/count", Encoding::Auto)]);
        hall.mqtt.qos = MqttQos::ExactlyOnce;
        // A sink that takes one batch: most messages are taken, but not yet acknowledged, when the line breaks.
        let mut link = Running::start(vec![at_version(hall, broker.port, version)], &format!("reader-{version}"), 1);
        link.until_up().await;
        for number in 0..10 {
            broker.publish_with("hall/count", number.to_string().as_bytes(), &["-q", "2"]);
        }
        assert_eq!(link.outcome().await, Ok(Value::Integer(0)));
        broker.stop();
        link.until(|status| matches!(status.state, tally_connector_api::LinkState::Down { .. })).await;
        broker.run();
        let mut heard = Vec::new();
        while heard.last() != Some(&9) {
            if let Ok(Value::Integer(number)) = link.outcome().await {
                heard.push(number);
            }
        }
        assert_eq!(heard, (1..10).collect::<Vec<_>>(), "MQTT {version}: each once, in order");
        // And nothing comes after it but the word that the link was down.
        link.until_up().await;
        while let Ok(Some(batch)) = tokio::time::timeout(Duration::from_millis(300), link.batches.recv()).await {
            assert_eq!(batch.samples[0].outcome, Err(NoValue::LinkDown), "MQTT {version}");
        }
    }
}
