//! What SCADA hears, through a real broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::pki::{DAY, Pki, now};
use common::ports::free_port;
use common::{Node, Site, Wall, wait};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_connector_mqtt::sparkplug;
use tally_door::Listen;
use tally_edge_agent::{BrokerConfig, PublishMode, SparkplugConfig, SpoolLimits};
use tally_model::MqttBroker;
use tally_simulator::start_broker;
use tokio::net::{TcpListener, TcpStream};

/// Hears everything below `tallystick/`.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Heard>>>);

#[derive(Debug, Clone)]
struct Heard {
    topic: String,
    json: Value,
    retained: bool,
}

impl Ear {
    async fn open(port: u16) -> Self {
        let mut options = MqttOptions::new(format!("ear-{port}-{:?}", std::time::Instant::now()), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(5));
        let (client, mut events) = AsyncClient::new(options, 16);
        client.subscribe("tallystick/#", QoS::AtLeastOnce).await.unwrap();
        let (ear, subscribed) = (Self::default(), Arc::new(Mutex::new(false)));
        let (heard, done) = (ear.clone(), subscribed.clone());
        tokio::spawn(async move {
            let _client = client;
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => *done.lock().unwrap() = true,
                    Event::Incoming(Packet::Publish(publish)) => heard.0.lock().unwrap().push(Heard {
                        topic: publish.topic.clone(),
                        json: serde_json::from_slice(&publish.payload).unwrap(),
                        retained: publish.retain,
                    }),
                    _ => {}
                }
            }
        });
        wait("subscription", || *subscribed.lock().unwrap()).await;
        ear
    }

    fn on(&self, topic: &str) -> Vec<Value> {
        self.0.lock().unwrap().iter().filter(|heard| heard.topic == topic).map(|heard| heard.json.clone()).collect()
    }

    /// Waits until the last message of a topic is as expected.
    async fn last(&self, topic: &str, expected: impl Fn(&Value) -> bool) -> Value {
        wait(topic, || self.on(topic).last().is_some_and(&expected)).await;
        self.on(topic).pop().unwrap()
    }

    async fn until(&self, topic: &str, count: usize) -> Vec<Value> {
        wait(topic, || self.on(topic).len() >= count).await;
        self.on(topic)
    }
}

fn address(port: u16) -> MqttBroker {
    MqttBroker::plain("127.0.0.1", port)
}

fn broker(port: u16, mode: PublishMode) -> BrokerConfig {
    BrokerConfig {
        address: address(port),
        tls: Default::default(),
        user: None,
        password: None,
        mode,
        prefix: "tallystick".to_owned(),
        history: SpoolLimits::default(),
        sparkplug: None,
        commands: None,
    }
}

const TRIGGERS: &str = "tallystick/press-line/press-01/triggers/bearing-worn";
const EVENTS: &str = "tallystick/press-line/ledger/order.opened/mo-1";
const AGENT: &str = "tallystick/press-line/agent/agent-01/status";
const DEVICE: &str = "tallystick/press-line/press-01/status";
const CERTIFICATES: &str = "tallystick/press-line/agent/agent-01/certificates";

#[tokio::test(flavor = "multi_thread")]
async fn points_triggers_events_and_states_have_their_topics() {
    let (node, mosquitto) = (Node::start().await, start_broker(0).unwrap());
    let ear = Ear::open(mosquitto.port()).await;
    let mut site = Site::new(&node.address).with_broker(broker(mosquitto.port(), PublishMode::Point));
    // `secret` rises by 7 a row: with this deadband every second value is told.
    site.plant.devices[0].points[2].deadband = Some(10.0);
    let agent = site.start();
    let values = ear.until("tallystick/press-line/press-01/vibration", 5).await;
    assert_eq!((&values[0]["u"], &values[0]["q"]), (&json!("mm/s"), &json!("good")), "{:?}", values[0]);
    assert!(values[0]["v"].as_f64().unwrap() > 1.9 && values[0]["t"].as_str().unwrap().ends_with('Z'));
    assert!(values[0]["r"].as_str().unwrap() >= values[0]["t"].as_str().unwrap(), "{:?}", values[0]);
    let numbers: Vec<_> = values.iter().map(|value| value["n"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 3), "three points take turns: {numbers:?}");
    let secrets = ear.until("tallystick/press-line/press-01/secret", 3).await;
    let steps: Vec<_> = secrets.iter().take(3).map(|value| value["v"].as_f64().unwrap()).collect();
    assert!(steps.windows(2).all(|pair| (pair[1] - pair[0] - 14.0).abs() < 0.1), "{steps:?}");

    let triggers = ear.until(TRIGGERS, 2).await;
    for (place, (told, body)) in triggers.iter().zip(node.bodies()).enumerate() {
        assert_eq!(told["number"], json!(place));
        assert_eq!(told["transition"], body.transition.word());
        assert_eq!(told["statement"], node.ids()[place].to_string());
        assert_eq!(told["clock"]["state"], "unknown", "{told}");
        assert_eq!(told["readings"], json!({"first": body.readings.first, "last": body.readings.last}));
    }
    assert!(triggers[0]["call"]["with"]["peak"].as_f64().unwrap() > 9.0);
    assert_eq!((&triggers[0]["priority"], &triggers[1]["call"]), (&json!("high"), &Value::Null));
    let ids: Vec<_> = ear.until(EVENTS, 2).await.iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, ["1.0", "1.1"]);
    assert_eq!(ear.until(DEVICE, 1).await.last().unwrap()["state"], "up");
    assert_eq!(ear.until(AGENT, 1).await[0], json!({"state": "online"}));
    agent.wait_for("triggers_published", 2).await;
    agent.stop().await;
    assert_eq!(ear.until(AGENT, 2).await[1], json!({"state": "offline"}));
    // Whoever comes later finds the last values and states.
    let late = Ear::open(mosquitto.port()).await;
    late.until("tallystick/press-line/press-01/running", 1).await;
    late.until(AGENT, 1).await;
    assert!(late.0.lock().unwrap().iter().all(|heard| heard.retained));
    assert!(late.on(TRIGGERS).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn scada_hears_of_certificates_that_end_at_90_30_and_7_days_and_when_they_are_renewed() {
    let (node, mosquitto, wall) = (Node::start().await, start_broker(0).unwrap(), Wall::default());
    let ear = Ear::open(mosquitto.port()).await;
    let mut site = Site::new(&node.address).with_broker(broker(mosquitto.port(), PublishMode::Device));
    let pki = Pki::new();
    let files = pki.server(100, now());
    site.config.listen.push(Listen::Tls(([127, 0, 0, 1], 0).into()));
    site.config.listen_tls = Some(files.clone());
    let agent = site.start_by(wall.clock());
    let fine = json!({"state": "fine", "certificates": []});
    ear.last(CERTIFICATES, |told| *told == fine).await;
    for (days, state, stage, says) in [
        (11, "end-soon", "90-days", "ends in 88 days"),
        (60, "end-soon", "30-days", "ends in 28 days"),
        (22, "end-soon", "7-days", "ends in 6 days"),
        (10, "ended", "over", "expired 3 days ago"),
    ] {
        wall.step(days * i64::try_from(DAY).unwrap() * 1_000_000);
        let message = ear.last(CERTIFICATES, |told| told["certificates"][0]["stage"] == stage).await;
        let one = &message["certificates"][0];
        assert_eq!(message["state"], state, "{message:#}");
        assert!(one["text"].as_str().unwrap().contains(says), "{message:#}");
        assert!(one["file"].as_str().unwrap().ends_with("localhost.pem"), "{message:#}");
        assert!(one["ends"].as_str().unwrap().ends_with('Z') && one["subject"].is_string(), "{message:#}");
        assert!(agent.status().await["alarms"].to_string().contains(says));
    }
    // Nothing stopped because of it.
    let readings = agent.status().await["counters"]["readings"].as_u64().unwrap();
    agent.wait_for("readings", readings + 3).await;
    pki.ours.renew(&files.certificate, 3_000, now()).unwrap();
    ear.last(CERTIFICATES, |told| *told == fine).await;
    // In this order and nothing else; a new connection to the broker is told the same again.
    let stages = ear.on(CERTIFICATES).into_iter().map(|told| told["certificates"][0]["stage"].clone());
    let mut stages: Vec<_> = stages.collect();
    stages.dedup();
    assert_eq!(stages, [Value::Null, json!("90-days"), json!("30-days"), json!("7-days"), json!("over"), Value::Null]);
    // Whoever comes later finds the state, once.
    let late = Ear::open(mosquitto.port()).await;
    assert_eq!(late.until(CERTIFICATES, 1).await.len(), 1);
    assert!(!agent.status().await["alarms"].to_string().contains("localhost.pem"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_a_device_and_cycle() {
    let (node, mosquitto) = (Node::start().await, start_broker(0).unwrap());
    let ear = Ear::open(mosquitto.port()).await;
    let site = Site::new(&node.address).with_broker(broker(mosquitto.port(), PublishMode::Device));
    let agent = site.start();
    let cycles = ear.until("tallystick/press-line/press-01", 3).await;
    let points = &cycles[1]["points"];
    assert_eq!(points["running"]["v"], json!(true), "{cycles:?}");
    assert_eq!(points["vibration"]["u"], "mm/s");
    assert!(cycles[1]["r"] == cycles[1]["t"] && cycles[1]["r"].is_string(), "{cycles:?}");
    assert_eq!(cycles[2]["n"].as_u64().unwrap(), cycles[1]["n"].as_u64().unwrap() + 3);
    assert!(ear.on("tallystick/press-line/press-01/vibration").is_empty());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_and_events_wait_for_an_absent_broker_across_a_restart() {
    let node = Node::start().await;
    let port = free_port();
    let site = Site::new(&node.address).with_broker(broker(port, PublishMode::Point));
    let agent = site.start();
    agent.wait_for("triggers_receipted", 2).await;
    assert!(agent.status().await["broker"].as_str().unwrap().starts_with("down"));
    agent.stop().await;
    let mosquitto = start_broker(port).unwrap();
    let ear = Ear::open(port).await;
    let agent = site.start();
    let told = ear.until(TRIGGERS, 4).await;
    let numbers: Vec<_> = told.iter().map(|trigger| trigger["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers[..4], [0, 1, 2, 3]);
    ear.until(EVENTS, 2).await;
    // What it stops before it heard that the broker has it, it tells again.
    agent.wait_for("triggers_published", 4).await;
    agent.wait_for("events_published", 2).await;
    agent.stop().await;
    // Told once: the next life goes on behind what the broker has.
    let before = ear.on(TRIGGERS).len();
    let agent = site.start();
    let told = ear.until(TRIGGERS, before + 1).await;
    assert_eq!(told[before]["number"], json!(before));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ear.on(EVENTS).len(), 2);
    agent.stop().await;
    drop(mosquitto);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_a_sparkplug_edge_node_values_are_born_and_what_was_missed_comes_as_history() {
    let node = Node::start().await;
    let port = free_port();
    let name = |text| sparkplug::Name::try_new(text).unwrap();
    let edge = SparkplugConfig {
        group: name("works"),
        edge_node: name("agent-01"),
        primary_host: None,
        servers: vec![address(port)],
    };
    let config = BrokerConfig { sparkplug: Some(edge), ..broker(port, PublishMode::Point) };
    let site = Site::new(&node.address).with_broker(config);
    let agent = site.start();
    agent.wait_for("triggers_receipted", 1).await;
    // Nobody has heard anything yet: the broker comes now, and who listens is there before the agent, or the birth is missed.
    let mosquitto = start_broker(0).unwrap();
    let ear = SparkplugEar::open(mosquitto.port()).await;
    tokio::spawn(lead(port, mosquitto.port()));
    let birth = ear.until("DBIRTH", |_| true).await;
    let names: Vec<_> = birth.metrics.iter().filter_map(|metric| metric.name.clone()).collect();
    assert!(names.contains(&"vibration".to_owned()), "{names:?}");
    ear.until("DDATA", |payload| payload.metrics.iter().all(|metric| metric.is_historical.is_none())).await;
    ear.until("DDATA", |payload| payload.metrics.iter().all(|metric| metric.is_historical == Some(true))).await;
    // Triggers and states go on as JSON beside it; live values do not.
    let json = Ear::open(mosquitto.port()).await;
    json.until(AGENT, 1).await;
    json.until(TRIGGERS, 1).await;
    assert!(json.on("tallystick/press-line/press-01/vibration").is_empty());
    agent.stop().await;
    ear.until("NDEATH", |_| true).await;
    let kept = std::fs::read_to_string(site.config.data.join("sparkplug-bdseq")).unwrap();
    assert!(kept.parse::<u8>().is_ok(), "{kept}");
    drop(mosquitto);
}

/// Leads whoever comes to one port to another one.
async fn lead(from: u16, to: u16) {
    let listener = TcpListener::bind(("127.0.0.1", from)).await.unwrap();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
    }
}

/// Hears Sparkplug.
struct SparkplugEar(Arc<Mutex<Vec<(String, sparkplug::Payload)>>>);

impl SparkplugEar {
    async fn open(port: u16) -> Self {
        let mut options = MqttOptions::new(format!("spark-{port}"), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(5));
        let (client, mut events) = AsyncClient::new(options, 16);
        client.subscribe("spBv1.0/#", QoS::AtMostOnce).await.unwrap();
        // Subscribed before anything else is heard.
        while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
        let heard = Arc::new(Mutex::new(Vec::new()));
        let book = heard.clone();
        tokio::spawn(async move {
            let _client = client;
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    let payload = sparkplug::Payload::parse(&publish.payload).unwrap();
                    book.lock().unwrap().push((publish.topic.clone(), payload));
                }
            }
        });
        Self(heard)
    }

    /// The first message of this kind that is as expected.
    async fn until(&self, kind: &str, expected: impl Fn(&sparkplug::Payload) -> bool) -> sparkplug::Payload {
        let find = || {
            let heard = self.0.lock().unwrap();
            let found =
                heard.iter().find(|(topic, payload)| topic.split('/').nth(2) == Some(kind) && expected(payload));
            found.map(|(_, payload)| payload.clone())
        };
        wait(kind, || find().is_some()).await;
        find().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_would_mix_with_our_topics_are_refused() {
    let node = Node::start().await;
    let mut site = Site::new(&node.address).with_broker(broker(1, PublishMode::Point));
    site.plant.devices[0].points[2] = common::point("status", "1");
    let refused = site.start().task.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("`status` is the MQTT topic of the state of the device's link"), "{refused}");
}
