//! What our Sparkplug edge node says to a broker that is not ours (mosquitto), decoded by two libraries that are not ours:
//! npm `sparkplug-payload` and PyPI `pysparkplug`. Both read every message, and read the values that were told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_connector_api::StatusReporter;
use tally_connector_mqtt::sparkplug::{EdgeNode, EdgeNodeConfig, Metric, MetricValue, Name, Payload, Update};
use tally_model::{
    Address, DeviceId, DeviceSpec, Encoding, Endpoint, NoValue, Outcome, PointId, PointSpec, Sample, Timestamp, Unit,
    Value,
};
use tally_tests::{Mosquitto, PATIENCE, eventually, node, python, root};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const POINTS: [(&str, Encoding); 9] = [
    ("f64", Encoding::F64),
    ("f32", Encoding::F32),
    ("i16", Encoding::I16),
    ("u16", Encoding::U16),
    ("i32", Encoding::I32),
    ("u32", Encoding::U32),
    ("i64", Encoding::I64),
    ("flag", Encoding::Bool),
    ("text", Encoding::Text),
];

/// Two rounds of values, one for each point; the extremes where signs and widths go wrong.
fn rounds() -> [Vec<Value>; 2] {
    let integer = Value::Integer;
    [
        vec![
            Value::Float(-273.15),
            Value::Float(0.5),
            integer(-1),
            integer(65_535),
            integer(i64::from(i32::MIN)),
            integer(4_294_967_295),
            integer(-9_007_199_254_740_991),
            Value::Bool(false),
            Value::Text("Überlast Ω".into()),
        ],
        vec![
            Value::Float(1e300),
            Value::Float(-1.25),
            integer(-32_768),
            integer(0),
            integer(-2),
            integer(1),
            integer(9_007_199_254_740_991),
            Value::Bool(true),
            Value::Text(String::new()),
        ],
    ]
}

fn device() -> DeviceSpec {
    let point = |(id, encoding): (&str, Encoding)| {
        PointSpec::new(
            PointId::try_new(id).unwrap(),
            Address::parse_mqtt(id).unwrap(),
            encoding,
            Unit::try_new("Cel").unwrap(),
        )
    };
    DeviceSpec {
        points: POINTS.map(point).to_vec(),
        ..DeviceSpec::new(press(), Endpoint::parse("mqtt://127.0.0.1").unwrap())
    }
}

fn press() -> DeviceId {
    DeviceId::try_new("press").unwrap()
}

fn sample(point: &str, outcome: Outcome, millis: i64) -> Sample {
    let at = Timestamp::from_micros(1_763_000_000_000_000 + millis * 1_000);
    Sample::at(PointId::try_new(point).unwrap(), outcome, Unit::try_new("Cel").unwrap(), at)
}

fn samples(values: Vec<Value>, millis: i64) -> Vec<Sample> {
    POINTS.iter().zip(values).map(|((point, _), value)| sample(point, Ok(value), millis)).collect()
}

type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Hears all of Sparkplug's topics; also says what a host would.
async fn listen(port: u16) -> (AsyncClient, Heard) {
    let mut options = MqttOptions::new("recorder", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut events) = AsyncClient::new(options, 16);
    client.subscribe("spBv1.0/#", QoS::AtMostOnce).await.unwrap();
    let (heard, ready) = (Heard::default(), Arc::new(tokio::sync::Notify::new()));
    let (book, done) = (heard.clone(), ready.clone());
    tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            match event {
                Event::Incoming(Packet::SubAck(_)) => done.notify_one(),
                Event::Incoming(Packet::Publish(publish)) => {
                    book.lock().unwrap().push((publish.topic.clone(), publish.payload.to_vec()));
                }
                _ => {}
            }
        }
    });
    tokio::time::timeout(PATIENCE, ready.notified()).await.unwrap();
    (client, heard)
}

async fn heard(book: &Heard, kind: &str, times: usize) {
    let count = || book.lock().unwrap().iter().filter(|(topic, _)| topic.split('/').nth(2) == Some(kind)).count();
    eventually(&format!("{times} {kind}"), async || (count() >= times).then_some(())).await;
}

fn start(port: u16, dir: &Path, stop: &CancellationToken) -> EdgeNode {
    let name = |text| Name::try_new(text).unwrap();
    let config = EdgeNodeConfig {
        servers: vec![tally_model::MqttBroker::plain("127.0.0.1", port)],
        tls: tally_model::Tls::default(),
        client_id: "edge".to_owned(),
        user: None,
        password: None,
        group: name("works"),
        edge_node: name("agent-01"),
        primary_host: None,
        bd_seq_file: dir.join("bdseq"),
        devices: vec![device()],
        history_values_per_second: 1_000,
        commands: None,
    };
    EdgeNode::start(config, stop.clone(), StatusReporter::new("edge").0).unwrap()
}

/// A session with births, data of every type, a value that is missing, history, a rebirth, a lost device and an end.
async fn session(port: u16, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (host, book) = listen(port).await;
    let stop = CancellationToken::new();
    let edge = start(port, dir, &stop);
    let [first, second] = rounds();
    let tell = async |samples| assert!(edge.tell(Update { device: press(), samples, place: 1 }).await);
    tell(samples(first, 0)).await;
    heard(&book, "DBIRTH", 1).await;
    tell(samples(second, 1_000)).await;
    tell(vec![sample("i16", Err(NoValue::Timeout), 2_000)]).await;
    heard(&book, "DDATA", 2).await;
    let past = vec![sample("f64", Ok(Value::Float(7.5)), -5_000), sample("f64", Ok(Value::Float(8.5)), -4_000)];
    assert!(edge.tell_history(Update { device: press(), samples: past, place: 1 }).await);
    heard(&book, "DDATA", 3).await;
    let name = Some("Node Control/Rebirth".to_owned());
    let rebirth = Metric { name, value: Some(MetricValue::Boolean(true)), ..Metric::default() };
    let command = Payload { metrics: vec![rebirth], ..Payload::default() };
    host.publish("spBv1.0/works/NCMD/agent-01", QoS::AtMostOnce, false, command.to_bytes()).await.unwrap();
    heard(&book, "NBIRTH", 2).await;
    heard(&book, "DBIRTH", 2).await;
    tell(POINTS.iter().map(|(point, _)| sample(point, Err(NoValue::LinkDown), 3_000)).collect()).await;
    heard(&book, "DDEATH", 1).await;
    stop.cancel();
    heard(&book, "NDEATH", 1).await;
    let heard = book.lock().unwrap().clone();
    heard.into_iter().filter(|(topic, _)| !topic.contains("/NCMD/")).collect()
}

async fn decoded(mut command: Command, session: &[(String, Vec<u8>)]) -> Json {
    let mut lines = String::new();
    for (topic, payload) in session {
        writeln!(lines, "{topic}\t{}", hex::encode(payload)).unwrap();
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Name to value of one decoded message.
fn values(message: &Json) -> std::collections::BTreeMap<String, Json> {
    let metrics = message["metrics"].as_array().unwrap().iter();
    metrics.map(|metric| (metric["name"].as_str().unwrap().to_owned(), metric["value"].clone())).collect()
}

fn check(messages: &Json, has_quality: bool) {
    let all = messages.as_array().unwrap();
    let kinds: Vec<_> =
        all.iter().map(|message| message["topic"].as_str().unwrap().split('/').nth(2).unwrap()).collect();
    let expected = ["NBIRTH", "DBIRTH", "DDATA", "DDATA", "DDATA", "NBIRTH", "DBIRTH", "DDEATH", "NDEATH"];
    assert_eq!(kinds, expected);
    let numbers: Vec<_> = all.iter().map(|message| message["seq"].clone()).collect();
    assert_eq!(json!(numbers), json!([0, 1, 2, 3, 4, 0, 1, 2, null]));
    for birth in [&all[0], &all[5]] {
        assert_eq!(json!(values(birth)), json!({"bdSeq": 0, "Node Control/Rebirth": false}));
    }
    assert_eq!(values(&all[8]), [("bdSeq".to_owned(), json!(0))].into());
    for (message, round) in [&all[1], &all[2]].into_iter().zip(rounds()) {
        let told = POINTS.iter().zip(round).map(|((point, _), value)| ((*point).to_owned(), json!(value)));
        let found = values(message);
        for (point, value) in told {
            let same =
                found[&point] == value || found[&point].as_f64().is_some_and(|found| Some(found) == value.as_f64());
            assert!(same, "{point}: {value} was told, {} was read", found[&point]);
        }
    }
    assert_eq!(values(&all[3]), [("i16".to_owned(), Json::Null)].into());
    let past: Vec<_> =
        all[4]["metrics"].as_array().unwrap().iter().map(|metric| (&metric["value"], &metric["historical"])).collect();
    assert_eq!(past, [(&json!(7.5), &json!(true)), (&json!(8.5), &json!(true))]);
    if has_quality {
        assert_eq!((&all[3]["metrics"][0]["quality"], &all[1]["metrics"][0]["quality"]), (&json!(0), &json!(192)));
    }
    assert_eq!(values(&all[6])["i16"], Json::Null, "reborn with what is known now");
    assert_eq!(values(&all[6])["text"], json!(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_foreign_libraries_read_what_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start(dir.path()).await;
    let session = session(mosquitto.port, dir.path()).await;
    let mut script = Command::new(python());
    script.arg(root().join("tests/interop/sparkplug_decode.py"));
    check(&decoded(script, &session).await, false);
    let mut script = node();
    script.arg(root().join("tests/interop/node/sparkplug_decode.js"));
    check(&decoded(script, &session).await, true);
}
