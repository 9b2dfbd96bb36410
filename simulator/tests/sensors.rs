//! Everything that a mapping says of MQTT devices, rehearsed: the simulator's sensors, its broker, and our own connector
//! between them. Payloads in JSON, CBOR and Sparkplug B, and what may be wrong with each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Reader, fails, plant, specs};
use tally_model::{DeviceSpec, NoValue, Outcome, Value};
use tally_simulator::{SimHandle, start_broker};

const HALL: &str = r#"
devices:
  - id: hall
    serve: "mqtt://127.0.0.1:PORT"
    every: 30ms
    signals:
      - {id: raw, at: hall/raw, from: {constant: 7}}
      - {id: json, at: "hall/json#/air/t", from: {constant: 21.5}}
      - {id: packed, at: "cbor:hall/cbor#/air/t", from: {constant: 22.5}}
      - {id: lone, at: "cbor:hall/lone", from: {constant: true}}
  - id: line
    serve: "mqtt://127.0.0.1:PORT"
    every: 30ms
    signals:
      - {id: up, at: "sparkplug:works/edge#Uptime", from: {constant: 5}}
      - {id: temp, at: "sparkplug:works/edge/press#Motor/Temp", type: f32, from: {constant: 21.5}}
      - {id: count, at: "sparkplug:works/edge/press#Count", type: i16, from: {constant: -3}}
      - {id: mode, at: "sparkplug:works/edge/press#Mode", type: text, length: 10, from: {constant: run}}
"#;

struct Rehearsal {
    sim: SimHandle,
    reader: Reader,
    _broker: tally_simulator::Broker,
}

impl Rehearsal {
    async fn start() -> Self {
        let broker = start_broker(0).unwrap();
        let config = plant(&HALL.replace("PORT", &broker.port().to_string()));
        let sim = SimHandle::start(config.clone()).await.unwrap();
        let devices: Vec<DeviceSpec> = specs(&config, &sim);
        let reader = Reader::run(tally_connector_mqtt::link(devices, "agent").unwrap());
        Self { sim, reader, _broker: broker }
    }

    async fn until(&mut self, device: &str, point: &str, expected: Outcome) {
        let what = format!("{expected:?}");
        self.reader.until_named(&what, device, point, |outcome| *outcome == expected).await;
    }

    #[track_caller]
    fn command(&self, line: &str) {
        let answer = self.sim.command(line);
        assert!(answer.starts_with("ok"), "{line}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_payload_is_read_as_it_was_meant() {
    let mut hall = Rehearsal::start().await;
    for (device, point, value) in [
        ("hall", "raw", Value::Integer(7)),
        ("hall", "json", Value::Float(21.5)),
        ("hall", "packed", Value::Float(22.5)),
        ("hall", "lone", Value::Bool(true)),
    ] {
        hall.until(device, point, Ok(value)).await;
    }
    // A birth says each metric once, in one batch; so each is changed to be seen.
    for (point, value) in [
        ("up", Value::Integer(6)),
        ("temp", Value::Float(22.25)),
        ("count", Value::Integer(-4)),
        ("mode", Value::Text("stop".into())),
    ] {
        hall.command(&format!("set line {point} {value}"));
        hall.until("line", point, Ok(value)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_sensor_shows_as_what_it_is() {
    let mut hall = Rehearsal::start().await;
    hall.until("hall", "packed", Ok(Value::Float(22.5))).await;
    for wire in ["garbage", "half"] {
        hall.command(&format!("wire hall {wire}"));
        for point in ["json", "packed"] {
            hall.reader.until_named(wire, "hall", point, fails(NoValue::Nonsense)).await;
        }
        hall.command("wire hall fine");
        hall.until("hall", "packed", Ok(Value::Float(22.5))).await;
    }
    hall.command("fault hall json bad");
    hall.reader.until("hall", "json", |outcome| outcome.is_err()).await;
    hall.command("freeze hall packed");
    hall.command("wire hall delay 300ms");
    hall.command("set hall raw 8");
    hall.until("hall", "raw", Ok(Value::Integer(8))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_node_dies_is_misunderstood_and_comes_back() {
    let mut hall = Rehearsal::start().await;
    hall.command("set line temp 30.5");
    hall.until("line", "temp", Ok(Value::Float(30.5))).await;
    // Silent for a second: cut off, so the broker says its death, and then it is born again.
    hall.command("drop line 1s");
    hall.until("line", "temp", Err(NoValue::LinkDown)).await;
    hall.until("line", "temp", Ok(Value::Float(30.5))).await;
    hall.command("fault line temp bad");
    hall.until("line", "temp", Err(NoValue::Refused)).await;
    hall.command("fault line temp good");
    hall.until("line", "temp", Ok(Value::Float(30.5))).await;
    // A message that makes no sense: births are asked for, and come.
    hall.command("wire line garbage");
    hall.command("set line temp 31.5");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    hall.command("wire line fine");
    hall.command("set line temp 32.5");
    hall.until("line", "temp", Ok(Value::Float(32.5))).await;
}
