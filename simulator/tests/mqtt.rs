//! Simulated sensors, the embedded broker, and our own connector between them. (The connector itself is checked against
//! a broker that is not ours in `connectors/mqtt`.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../connectors/mqtt/tests/common/gate.rs"]
mod gate;
#[path = "../../tests/src/patience.rs"]
mod patience;
#[path = "../../tests/src/servers/ports.rs"]
mod ports;

use gate::Gate;
use patience::PATIENCE;
use ports::free_port;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_api::{Batch, LinkContext, LinkState, LinkStatus, StatusReporter, SystemClock};
use tally_connector_mqtt::{Message, MqttPublisher, Publisher, PublisherConfig, QoS, link};
use tally_model::{Address, DeviceId, DeviceSpec, Endpoint, NoValue, PointId, PointSpec, Quality, Unit, Value};
use tally_simulator::{Defect, Flaw, PlantState, SimConfig, publish_mqtt, start_broker};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const SENSOR: &str = r#"
devices:
  - id: hall
    serve: "mqtt://127.0.0.1:PORT"
    every: 50ms
    signals:
      - {id: temperature, at: "hall/climate#/temperature", from: {constant: 21.7}}
      - {id: humidity, at: "hall/climate#/air/humidity", type: u16, scale: 0.5, from: {constant: 45.5}}
      - {id: door, at: hall/door, from: {constant: true}}
"#;

/// A sensor, and a link that reads it.
struct Hall {
    plant: PlantState,
    batches: mpsc::Receiver<Batch>,
    status: watch::Receiver<LinkStatus>,
    stop: CancellationToken,
    sensor: tokio::task::JoinHandle<Result<(), tally_simulator::SimError>>,
}

impl Hall {
    fn start(port: u16) -> Self {
        let yaml = SENSOR.replace("PORT", &port.to_string());
        let device = SimConfig::parse(&yaml, Path::new("test.yaml"), &|_| None).unwrap().devices.remove(0);
        let plant = PlantState::default();
        for (id, value) in
            [("temperature", Value::Float(21.7)), ("humidity", Value::Float(45.5)), ("door", Value::Bool(true))]
        {
            plant.set("hall", id, value);
        }
        let stop = CancellationToken::new();
        let (sink, batches) = mpsc::channel(100);
        let (reporter, status) = StatusReporter::new("hall");
        let context = LinkContext {
            sink,
            status: reporter,
            clock: Arc::new(SystemClock::default()),
            stop: stop.clone(),
            history: None,
        };
        tokio::spawn(link(vec![spec(port, &device)], "agent").unwrap().run(context));
        let config = tally_simulator::MqttSensorConfig {
            device: device.id,
            host: "127.0.0.1".into(),
            port,
            every: device.every,
            signals: device.signals,
        };
        let sensor = tokio::spawn(publish_mqtt(config, plant.clone(), stop.clone()));
        Self { plant, batches, status, stop, sensor }
    }

    /// The newest outcome of each point, once `expected` likes it.
    async fn until(&mut self, expected: impl Fn(&BTreeMap<String, (Result<Value, NoValue>, Quality)>) -> bool) {
        let mut newest = BTreeMap::new();
        let search = async {
            while let Some(batch) = self.batches.recv().await {
                for sample in batch.samples {
                    newest.insert(sample.point.to_string(), (sample.outcome, sample.quality));
                }
                if expected(&newest) {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, search).await.is_err() {
            panic!("not read in time; last was {newest:?}");
        }
    }
}

fn spec(port: u16, device: &tally_simulator::DeviceConfig) -> DeviceSpec {
    let points = device.signals.iter().map(|signal| PointSpec {
        scale: signal.scale,
        offset: signal.offset,
        ..PointSpec::new(
            PointId::try_new(signal.id.as_str()).unwrap(),
            Address::parse_mqtt(&signal.address.to_string()).unwrap(),
            signal.encoding,
            Unit::one(),
        )
    });
    DeviceSpec {
        every: Duration::from_millis(50),
        points: points.collect(),
        ..DeviceSpec::new(
            DeviceId::try_new("hall").unwrap(),
            Endpoint::parse(&format!("mqtt://127.0.0.1:{port}")).unwrap(),
        )
    }
}

fn good(value: Value) -> (Result<Value, NoValue>, Quality) {
    (Ok(value), Quality::Good)
}

#[tokio::test]
async fn what_the_signals_say_is_what_is_read() {
    let broker = start_broker(0).unwrap();
    let mut hall = Hall::start(broker.port());
    hall.until(|newest| {
        newest.get("temperature") == Some(&good(Value::Float(21.7)))
            && newest.get("humidity") == Some(&good(Value::Float(45.5)))
            && newest.get("door") == Some(&good(Value::Bool(true)))
    })
    .await;
    hall.plant.set("hall", "temperature", Value::Float(0.1));
    hall.until(|newest| newest.get("temperature") == Some(&good(Value::Float(0.1)))).await;
    hall.plant.set_quality("hall", "humidity", Quality::Bad);
    hall.until(|newest| newest.get("humidity") == Some(&(Err(NoValue::NotANumber), Quality::Bad))).await;
    hall.plant.afflict("hall", Flaw { defect: Defect::Drop, signals: Vec::new() }, None);
    // What was on its way, then nothing for ten cycles.
    let deadline = Instant::now() + PATIENCE;
    while tokio::time::timeout(Duration::from_millis(500), hall.batches.recv()).await.is_ok() {
        assert!(Instant::now() < deadline, "a silenced sensor says nothing");
    }
    hall.plant.heal("hall");
    hall.until(|newest| newest.contains_key("door")).await;
    hall.stop.cancel();
    hall.sensor.await.unwrap().unwrap();
}

#[tokio::test]
async fn sensor_and_link_survive_the_embedded_broker() {
    let port = free_port();
    let broker = start_broker(port).unwrap();
    let mut hall = Hall::start(port);
    hall.until(|newest| newest.contains_key("door")).await;
    broker.stop();
    hall.until(|newest| newest.get("door").is_some_and(|(outcome, _)| *outcome == Err(NoValue::LinkDown))).await;
    let broker = start_broker(port).expect("the port is free again");
    hall.until(|newest| newest.get("door") == Some(&good(Value::Bool(true)))).await;
    assert!(matches!(hall.status.borrow().state, LinkState::Up { .. }));
    drop(broker);
}

#[test]
fn a_taken_port_is_an_error_and_zero_takes_free_ones() {
    let (one, two) = (start_broker(0).unwrap(), start_broker(0).unwrap());
    assert_ne!(one.port(), two.port());
    let fault = start_broker(one.port()).err().unwrap().to_string();
    assert!(fault.contains(&format!("127.0.0.1:{}", one.port())) && fault.contains("in use"), "{fault}");
    one.stop();
    assert!(std::net::TcpStream::connect(("127.0.0.1", two.port())).is_ok(), "the other one goes on");
}

/// The embedded broker forgets everything when it stops, so what it acknowledged on the wire is the measure: nothing
/// counts as sent before, and in the end everything was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_survives_a_broker_that_forgets_everything() {
    const MESSAGES: u32 = 3_000;
    let port = free_port();
    let mut broker = Some(start_broker(port).unwrap());
    let gate = Arc::new(Gate::open_to(port).await);
    let (reporter, _status) = StatusReporter::new("scada");
    let config = PublisherConfig {
        broker: tally_model::MqttBroker::plain("127.0.0.1", gate.port),
        tls: tally_model::Tls::default(),
        client_id: "agent".into(),
        user: None,
        password: None,
        in_flight_max: 50,
        will: None,
        birth: None,
    };
    let publisher = MqttPublisher::start(config, CancellationToken::new(), reporter);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..100 {
        let (publisher, gate) = (publisher.clone(), gate.clone());
        callers.spawn(async move {
            for number in (caller..MESSAGES).step_by(100) {
                let payload = number.to_string().into_bytes();
                let message =
                    Message { topic: "line/1".into(), payload: payload.clone(), qos: QoS::AtLeastOnce, retain: false };
                publisher.publish(message).await.unwrap();
                assert!(gate.has_acknowledged(&payload), "{number} counts as sent, but nobody said so");
            }
        });
    }
    for restart in 1..=3 {
        while gate.published() < u64::from(MESSAGES) * restart / 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        broker.take().unwrap().stop();
        broker = Some(start_broker(port).unwrap());
    }
    tokio::time::timeout(2 * PATIENCE, callers.join_all()).await.expect("published in time");
    assert_eq!(gate.acknowledged().len(), MESSAGES as usize);
    assert!(gate.connections() >= 4, "three restarts");
}
