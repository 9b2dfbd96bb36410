//! Whole Modbus plants: what the signals say is what our own connector reads, and every fault shows as it should.
//! (The connector itself is checked against servers that are not ours in `connectors/modbus`.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{PATIENCE, Reader, fails, plant, specs};
use std::path::Path;
use std::time::Duration;
use tally_model::{Address, ByteOrder, DeviceId, Encoding, Endpoint, NoValue, Outcome, PointId, Value};
use tally_simulator::{SimConfig, SimHandle, run};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

const PRESS: &str = r#"
models:
  bearing: {kind: wear, healthy: 2.0, worn: 9.0, wears_out_in: 500ms, noise: 0.1}
devices:
  - id: press
    serve: "modbus+tcp://127.0.0.1:0?unit=1"
    signals:
      - {id: vibration, at: holding:18, type: f32, order: CDAB, from: {model: bearing}}
      - {id: big, at: holding:20, type: u64, order: BADC, from: {constant: 18446744073709551615}}
      - {id: small, at: holding:24, type: i64, order: DCBA, from: {constant: -9007199254740993}}
      - {id: tenths, at: holding:28, type: i16, scale: 0.1, offset: -40, from: {constant: 21.5}}
      - {id: name, at: holding:30, type: text, length: 9, order: BADC, from: {constant: PRESS-01x}}
      - {id: flag, at: holding:36.3, from: {constant: true}}
      - {id: other_flag, at: holding:36.4, from: {constant: false}}
      - {id: exact, at: input:0, type: f64, order: CDAB, from: {constant: 3.141592653589793}}
      - {id: running, at: coil:1, from: {constant: true}}
      - {id: door, at: discrete:9, from: {constant: false}}
  - id: lathe
    serve: "modbus+tcp://127.0.0.1:0?unit=2"
    signals:
      - {id: strokes, at: holding:0, type: u32, from: {constant: 7}}
"#;

#[tokio::test]
async fn what_signals_say_is_what_the_connector_reads() {
    let config = plant(PRESS);
    let handle = SimHandle::start(config.clone()).await.unwrap();
    assert_eq!(handle.port("press"), handle.port("lathe"), "two units, one socket");
    handle.set("press", "vibration", Value::Float(7.8125));
    let mut reader = Reader::start(specs(&config, &handle));
    let is = |value: Value| move |outcome: &Outcome| *outcome == Ok(value.clone());
    reader.until("press", "vibration", is(Value::Float(7.8125))).await;
    reader.until("press", "big", is(Value::Unsigned(u64::MAX))).await;
    reader.until("press", "small", is(Value::Integer(-9_007_199_254_740_993))).await;
    reader.until("press", "tenths", is(Value::Float(615.0 * 0.1 - 40.0))).await;
    reader.until("press", "name", is(Value::Text("PRESS-01x".into()))).await;
    reader.until("press", "flag", is(Value::Bool(true))).await;
    reader.until("press", "other_flag", is(Value::Bool(false))).await;
    reader.until("press", "exact", is(Value::Float(std::f64::consts::PI))).await;
    reader.until("press", "running", is(Value::Bool(true))).await;
    reader.until("press", "door", is(Value::Bool(false))).await;
    reader.until("lathe", "strokes", is(Value::Integer(7))).await;
    handle.set("press", "door", Value::Bool(true));
    reader.until("press", "door", is(Value::Bool(true))).await;
    handle.stop().await;
    reader.until("press", "door", |outcome| *outcome == Err(NoValue::LinkDown)).await;
}

#[tokio::test]
async fn a_bearing_wears_out_and_is_repaired() {
    let config = plant(PRESS);
    let handle = SimHandle::start(config.clone()).await.unwrap();
    let mut reader = Reader::start(specs(&config, &handle));
    let number = |outcome: &Outcome| outcome.as_ref().ok().and_then(Value::as_f64);
    reader.until("press", "vibration", |outcome| number(outcome).is_some_and(|number| number > 8.5)).await;
    assert_eq!(handle.command("repair press"), "ok repaired bearing");
    reader.until("press", "vibration", |outcome| number(outcome).is_some_and(|number| number < 5.0)).await;
    reader.until("press", "vibration", |outcome| number(outcome).is_some_and(|number| number > 8.5)).await;
    assert_eq!(handle.command("repair lathe"), "error nothing of `lathe` wears out");
    handle.stop().await;
}

#[tokio::test]
async fn every_fault_shows_as_its_own_reason_and_heals() {
    let config = plant(PRESS);
    let handle = SimHandle::start(config.clone()).await.unwrap();
    let mut reader = Reader::start(specs(&config, &handle));
    for (command, reason) in [
        ("wire press garbage", NoValue::Timeout), // its length field promises more than ever comes
        ("wire press half", NoValue::Timeout),
        ("wire press exception 6", NoValue::Refused),
        ("wire press delay 400ms", NoValue::Timeout),
    ] {
        assert!(handle.command(command).starts_with("ok"), "{command}");
        reader.until("press", "running", fails(reason)).await;
        reader.until("lathe", "strokes", Result::is_ok).await;
        assert!(handle.command("wire press fine").starts_with("ok"));
        reader.until("press", "running", Result::is_ok).await;
    }
    assert!(handle.command("drop press 600ms").starts_with("ok"));
    reader.until("press", "running", fails(NoValue::Timeout)).await;
    reader.until("lathe", "strokes", Result::is_ok).await;
    reader.until("press", "running", Result::is_ok).await;
    // A bad signal is refused, its neighbours in the same request are not.
    assert_eq!(handle.command("fault press big bad"), "ok");
    reader.until("press", "big", fails(NoValue::Refused)).await;
    reader.until("press", "small", Result::is_ok).await;
    assert_eq!(handle.command("fault press big good"), "ok");
    reader.until("press", "big", Result::is_ok).await;
    handle.stop().await;
}

#[tokio::test]
async fn addresses_nobody_serves_are_refused_one_by_one() {
    let config = plant(PRESS);
    let handle = SimHandle::start(config.clone()).await.unwrap();
    let mut devices = specs(&config, &handle);
    let mut beyond = devices[0].points[0].clone();
    beyond.id = PointId::try_new("beyond").unwrap();
    beyond.address = Address::parse_modbus("holding:40").unwrap();
    beyond.encoding = Encoding::U16;
    beyond.order = ByteOrder::Abcd;
    devices[0].points.push(beyond);
    devices[1].endpoint =
        Endpoint::parse(&format!("modbus+tcp://127.0.0.1:{}?unit=9", handle.port("press").unwrap())).unwrap();
    devices[1].id = DeviceId::try_new("nobody").unwrap();
    let mut reader = Reader::start(devices);
    reader.until("press", "beyond", |outcome| *outcome == Err(NoValue::NoSuchAddress)).await;
    reader.until("press", "flag", Result::is_ok).await;
    reader.until("nobody", "strokes", |outcome| *outcome == Err(NoValue::Timeout)).await;
    handle.stop().await;
}

#[tokio::test]
async fn as_a_program_it_is_driven_by_lines() {
    let (mut commands, theirs) = tokio::io::duplex(1024);
    let (answers, ours) = tokio::io::duplex(4096);
    let stop = CancellationToken::new();
    let plant = tokio::spawn(run(plant(PRESS), BufReader::new(theirs), answers, stop.clone()));
    let mut lines = BufReader::new(ours).lines();
    let ready = lines.next_line().await.unwrap().unwrap();
    assert!(
        ready.starts_with("ready lathe=modbus+tcp://127.0.0.1:") && ready.contains(" press=modbus+tcp://"),
        "{ready}"
    );
    for (command, answer) in [
        ("set press vibration 9.5", "ok press/vibration is held at 9.5"),
        ("get press vibration", "ok 9.5"),
        ("set press running maybe", "error `maybe` is not a Bool as press/running is"),
        ("set press nothing 1", "error press has no signal `nothing`; it has: big, door, exact"),
        ("freeze press vibration", "ok"),
        ("release press vibration", "ok"),
        ("release press nothing", "error press has no signal"),
        ("fault press vibration rotten", "error `rotten` is no quality"),
        ("drop press soon", "error `soon` is not a duration"),
        ("wire press purple", "error write `wire DEVICE"),
        ("repair prss", "error there is no device `prss`; there are: lathe, press"),
        ("explode press", "error `explode press` is no command"),
        ("", "error `` is no command"),
        ("help", "ok devices | signals DEVICE"),
    ] {
        commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        assert!(line.starts_with(answer), "`{command}` was answered `{line}` instead of `{answer}…`");
    }
    // The end of the commands is not the end of the plant.
    drop(commands);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!plant.is_finished());
    stop.cancel();
    tokio::time::timeout(PATIENCE, plant).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_taken_port_is_said_with_its_address() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let yaml = PRESS.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let fault = SimHandle::start(plant(&yaml)).await.err().unwrap().to_string();
    assert!(fault.contains(&format!("cannot listen on 127.0.0.1:{port} for press, lathe")), "{fault}");
}

#[tokio::test]
async fn the_example_line_listens_on_the_ports_it_names() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/press-line.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    let free_ports = |name: &str| Some(if name.ends_with("_PORT") { "0" } else { "secret" }.to_owned());
    // The climate sensor has no broker here and must not hinder its neighbours.
    let handle = SimHandle::start(SimConfig::parse(&yaml, &file, &free_ports).unwrap()).await.unwrap();
    for device in ["press-01", "cnc-02"] {
        let port = handle.port(device).unwrap();
        assert_ne!(port, 0, "{device}");
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }
    let get = |line| handle.command(line).strip_prefix("ok ").and_then(|number| number.parse::<f64>().ok());
    assert!((1.9..=9.2).contains(&get("get press-01 vibration").unwrap()));
    assert!((25.0..=55.0).contains(&get("get cnc-02 spindle_load").unwrap()));
    assert!((19.0..=23.0).contains(&get("get hall-climate temperature").unwrap()));
    handle.stop().await;
}
