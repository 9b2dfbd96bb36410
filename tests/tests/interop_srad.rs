//! Our Sparkplug edge node under a primary host that is not ours: the generic application of `srad-app` 0.3, which puts
//! messages in order, follows births and deaths, and asks for births when it does not understand. It must never have to
//! ask. The broker is mosquitto; only the wire between the two is ours (`srad` leaves it to its user).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use async_trait::async_trait;
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, QoS, SubscribeFilter};
use srad_app::generic_app::{ApplicationBuilder, MetricStore, StateUpdateError};
use srad_app::{AppClient, MetricBirthDetails, MetricDetails, SubscriptionConfig};
use srad_client::StatePayload;
use srad_types::MetricId;
use srad_types::payload::{DataType, metric};
use srad_types::topic::{DeviceTopic, NodeTopic, StateTopic, TopicFilter};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_connector_api::StatusReporter;
use tally_connector_mqtt::sparkplug::{EdgeNode, EdgeNodeConfig, Name, Update};
use tally_model::{
    Address, DeviceId, DeviceSpec, Encoding, Endpoint, MqttBroker, NoValue, Outcome, PointId, PointSpec, Sample,
    Timestamp, Tls, Unit, Value,
};
use tally_tests::{Mosquitto, eventually};
use tokio_util::sync::CancellationToken;

const POINTS: [(&str, Encoding); 4] =
    [("load", Encoding::F64), ("count", Encoding::I32), ("running", Encoding::Bool), ("mode", Encoding::Text)];

/// What the host knows of one device, and what it was told.
#[derive(Debug, Default)]
struct Book {
    names: HashMap<u64, (String, DataType)>,
    values: BTreeMap<String, Option<Value>>,
    past: Vec<(String, Option<Value>)>,
    births: u32,
    is_stale: bool,
}

#[derive(Clone, Default)]
struct Store(Arc<Mutex<Book>>);

impl MetricStore for Store {
    fn set_stale(&mut self) {
        self.0.lock().unwrap().is_stale = true;
    }

    fn update_from_birth(&mut self, metrics: Vec<(MetricBirthDetails, MetricDetails)>) -> Result<(), StateUpdateError> {
        let mut book = self.0.lock().unwrap();
        book.births += 1;
        book.is_stale = false;
        for (birth, details) in metrics {
            book.values.insert(birth.name.clone(), details.value.map(|value| read(value.into(), birth.datatype)));
            if let Some(alias) = birth.alias {
                book.names.insert(alias, (birth.name, birth.datatype));
            }
        }
        Ok(())
    }

    fn update_from_data(&mut self, metrics: Vec<(MetricId, MetricDetails)>) -> Result<(), StateUpdateError> {
        let mut book = self.0.lock().unwrap();
        for (id, details) in metrics {
            let MetricId::Alias(alias) = id else { return Err(StateUpdateError::UnknownMetric) };
            let (name, kind) = book.names.get(&alias).cloned().ok_or(StateUpdateError::UnknownMetric)?;
            let value = details.value.map(|value| read(value.into(), kind));
            match details.is_historical {
                true => book.past.push((name, value)),
                false => drop(book.values.insert(name, value)),
            }
        }
        Ok(())
    }
}

#[allow(clippy::cast_possible_wrap)] // two's complement is meant
fn read(value: metric::Value, kind: DataType) -> Value {
    match (value, kind) {
        (metric::Value::DoubleValue(number), DataType::Double) => Value::Float(number),
        (metric::Value::IntValue(bits), DataType::Int32) => Value::Integer(i64::from(bits as i32)),
        (metric::Value::BooleanValue(flag), DataType::Boolean) => Value::Bool(flag),
        (metric::Value::StringValue(text), DataType::String) => Value::Text(text),
        (other, kind) => panic!("{other:?} as {kind:?}"),
    }
}

/// rumqttc as `srad` wants it.
#[derive(Clone)]
struct Wire {
    client: AsyncClient,
    /// Births that the host asked for.
    asked: Arc<Mutex<u32>>,
}

struct Loop(rumqttc::EventLoop);

#[async_trait]
impl srad_client::EventLoop for Loop {
    async fn poll(&mut self) -> srad_client::Event {
        loop {
            match self.0.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => return srad_client::Event::Online,
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let (topic, payload) = (publish.topic.into_bytes(), publish.payload.to_vec());
                    return srad_client::topic_and_payload_to_event(topic, payload);
                }
                Ok(_) => {}
                Err(_) => return srad_client::Event::Offline,
            }
        }
    }

    fn set_last_will(&mut self, will: srad_client::LastWill) {
        let will = LastWill::new(will.topic, will.payload, qos(&will.qos), will.retain);
        self.0.mqtt_options.set_last_will(will);
    }
}

fn qos(qos: &srad_types::topic::QoS) -> QoS {
    match qos {
        srad_types::topic::QoS::AtMostOnce => QoS::AtMostOnce,
        srad_types::topic::QoS::AtLeastOnce => QoS::AtLeastOnce,
    }
}

impl Wire {
    async fn say(&self, topic: String, payload: Vec<u8>, how: (srad_types::topic::QoS, bool)) -> Result<(), ()> {
        if topic.contains("/NCMD/") {
            *self.asked.lock().unwrap() += 1;
        }
        self.client.publish(topic, qos(&how.0), how.1, payload).await.map_err(drop)
    }
}

#[async_trait]
impl srad_client::Client for Wire {
    async fn disconnect(&self) -> Result<(), ()> {
        self.client.disconnect().await.map_err(drop)
    }

    async fn publish_state_message(&self, topic: StateTopic, payload: StatePayload) -> Result<(), ()> {
        let how = payload.get_publish_quality_retain();
        self.say(topic.topic, payload.into(), how).await
    }

    async fn try_publish_state_message(&self, topic: StateTopic, payload: StatePayload) -> Result<(), ()> {
        self.publish_state_message(topic, payload).await
    }

    async fn publish_node_message(&self, topic: NodeTopic, payload: srad_types::payload::Payload) -> Result<(), ()> {
        let how = topic.get_publish_quality_retain();
        self.say(topic.topic, payload.into(), how).await
    }

    async fn try_publish_node_message(
        &self,
        topic: NodeTopic,
        payload: srad_types::payload::Payload,
    ) -> Result<(), ()> {
        self.publish_node_message(topic, payload).await
    }

    async fn publish_device_message(
        &self,
        topic: DeviceTopic,
        payload: srad_types::payload::Payload,
    ) -> Result<(), ()> {
        let how = topic.get_publish_quality_retain();
        self.say(topic.topic, payload.into(), how).await
    }

    async fn try_publish_device_message(
        &self,
        topic: DeviceTopic,
        payload: srad_types::payload::Payload,
    ) -> Result<(), ()> {
        self.publish_device_message(topic, payload).await
    }

    async fn subscribe_many(&self, topics: Vec<TopicFilter>) -> Result<(), ()> {
        let filters = topics.into_iter().map(|filter| SubscribeFilter::new(filter.topic.into(), qos(&filter.qos)));
        self.client.subscribe_many(filters.collect::<Vec<_>>()).await.map_err(drop)
    }
}

/// A running primary host called `scada`.
struct Host {
    app: AppClient,
    press: Store,
    wire: Wire,
    task: tokio::task::JoinHandle<()>,
}

impl Host {
    fn start(port: u16) -> Self {
        let mut options = MqttOptions::new("scada", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(5));
        let (client, events) = AsyncClient::new(options, 16);
        let wire = Wire { client, asked: Arc::default() };
        let press = Store::default();
        let book = press.clone();
        let subscription = SubscriptionConfig::SingleGroup { group_id: "works".to_owned() };
        let (application, app) = ApplicationBuilder::new("scada", Loop(events), wire.clone(), subscription)
            .on_node_created(move |node| {
                let book = book.clone();
                node.on_device_created(move |device| device.register_metric_store(book.clone()));
            })
            .build();
        Self { app, press, wire, task: tokio::spawn(application.run()) }
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Book) -> bool) {
        eventually(what, async || is_so(&self.press.0.lock().unwrap()).then_some(())).await;
    }

    async fn has(&self, values: &[Value; 4]) {
        let expected: BTreeMap<_, _> =
            POINTS.iter().zip(values).map(|((point, _), value)| ((*point).to_owned(), Some(value.clone()))).collect();
        self.until(&format!("{expected:?}"), |book| book.values == expected && !book.is_stale).await;
    }

    fn asked(&self) -> u32 {
        *self.wire.asked.lock().unwrap()
    }

    /// Says that it is offline, and leaves.
    async fn stop(self) {
        self.app.cancel().await;
        tokio::time::timeout(tally_tests::PATIENCE, self.task).await.unwrap().unwrap();
    }
}

struct Edge {
    node: EdgeNode,
    place: u64,
}

impl Edge {
    fn start(port: u16, dir: &Path, stop: &CancellationToken) -> Self {
        let name = |text| Name::try_new(text).unwrap();
        let config = EdgeNodeConfig {
            servers: vec![MqttBroker::plain("127.0.0.1", port)],
            tls: Tls::default(),
            client_id: "edge".to_owned(),
            user: None,
            password: None,
            group: name("works"),
            edge_node: name("agent-01"),
            primary_host: Some(name("scada")),
            bd_seq_file: dir.join("bdseq"),
            devices: vec![device()],
            history_values_per_second: 1_000,
            commands: None,
        };
        let node = EdgeNode::start(config, stop.clone(), StatusReporter::new("edge").0).unwrap();
        Self { node, place: 0 }
    }

    fn update(&mut self, samples: Vec<Sample>) -> Update {
        self.place += 1;
        Update { device: press(), samples, place: self.place }
    }

    async fn tells(&mut self, values: &[Value; 4]) {
        let samples = POINTS.iter().zip(values).map(|((point, _), value)| sample(point, Ok(value.clone())));
        let update = self.update(samples.collect());
        assert!(self.node.tell(update).await);
    }

    async fn until_born(&self, is_born: bool) {
        let mut progress = self.node.progress();
        let waiting = progress.wait_for(|progress| progress.is_born == is_born);
        tokio::time::timeout(tally_tests::PATIENCE, waiting).await.expect("in time").unwrap();
    }
}

fn press() -> DeviceId {
    DeviceId::try_new("press").unwrap()
}

fn sample(point: &str, outcome: Outcome) -> Sample {
    let at = Timestamp::from_micros(1_763_000_000_000_000);
    Sample::at(PointId::try_new(point).unwrap(), outcome, Unit::one(), at)
}

fn device() -> DeviceSpec {
    let point = |(id, encoding): (&str, Encoding)| {
        PointSpec::new(PointId::try_new(id).unwrap(), Address::parse_mqtt(id).unwrap(), encoding, Unit::one())
    };
    DeviceSpec {
        points: POINTS.map(point).to_vec(),
        ..DeviceSpec::new(press(), Endpoint::parse("mqtt://127.0.0.1").unwrap())
    }
}

fn values(number: i32) -> [Value; 4] {
    [
        Value::Float(f64::from(number) + 0.25),
        Value::Integer(i64::from(-number)),
        Value::Bool(number % 2 == 0),
        Value::Text(format!("Schritt {number}")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_primary_host_follows_and_never_has_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(dir.path()).await;
    let stop = CancellationToken::new();
    let mut edge = Edge::start(mosquitto.port, dir.path(), &stop);
    edge.tells(&values(1)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(edge.node.progress().borrow().births, 0, "nothing is said before the host is online");

    let host = Host::start(mosquitto.port);
    host.has(&values(1)).await;
    // More messages than `seq` has numbers.
    for number in 2..=300 {
        edge.tells(&values(number)).await;
    }
    host.has(&values(300)).await;
    assert_eq!(host.press.0.lock().unwrap().births, 1);

    host.app.publish_node_rebirth("works", "agent-01").await.unwrap();
    host.until("a rebirth", |book| book.births == 2).await;
    host.has(&values(300)).await;
    let asked = host.asked();
    assert_eq!(asked, 1, "our own request, and none that the host thought necessary");

    // A value that is missing, then the whole device.
    let update = edge.update(vec![sample("count", Err(NoValue::Timeout))]);
    assert!(edge.node.tell(update).await);
    host.until("null", |book| book.values.get("count") == Some(&None)).await;
    let gone = POINTS.iter().map(|(point, _)| sample(point, Err(NoValue::LinkDown))).collect();
    let update = edge.update(gone);
    assert!(edge.node.tell(update).await);
    host.until("a death", |book| book.is_stale).await;
    edge.tells(&values(301)).await;
    host.has(&values(301)).await;

    // The host leaves and comes back; what it missed is told as the past.
    assert_eq!(host.asked(), asked);
    host.stop().await;
    edge.until_born(false).await;
    edge.tells(&values(302)).await;
    let host = Host::start(mosquitto.port);
    host.has(&values(302)).await;
    let update = edge.update(vec![sample("load", Ok(Value::Float(7.5))), sample("load", Ok(Value::Float(8.5)))]);
    assert!(edge.node.tell_history(update).await);
    let past = [7.5, 8.5].map(|number| ("load".to_owned(), Some(Value::Float(number))));
    host.until("the past", |book| book.past == past).await;
    host.has(&values(302)).await;

    stop.cancel();
    host.until("the end of the edge node", |book| book.is_stale).await;
    assert_eq!(host.asked(), 0);
    host.stop().await;
}
