//! What a laptop can rehearse: structures, arrays, enumerations, history, clocks and slowness of the simulator, read as a
//! plant would be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{PATIENCE, Plant, Reader, cnc, point, settings};
use std::time::Duration;
use tally_connector_api::{LinkFault, LinkState};
use tally_connector_opcua::{BrowseOptions, Hand, Visit};
use tally_model::{Address, DeviceSpec, Encoding, NoValue, OpcUaPolicy, Quality, Value};
use tally_simulator::{Defect, Flaw, OpcUaOptions};

const CELL: &str = "
devices:
  - id: cnc
    serve: opc.tcp://127.0.0.1:0
    signals:
      - {id: speed, at: 'nsu=urn:cell;s=Speed', from: {constant: 1.5}}
      - {id: position, at: 'nsu=urn:cell;s=Axis#/Position', from: {constant: 2.5}}
      - {id: homed, at: 'nsu=urn:cell;s=Axis#/Homed', type: bool, from: {constant: true}}
      - {id: lower, at: 'nsu=urn:cell;s=Axis#/Limits/0', type: f32, from: {constant: -100.0}}
      - {id: upper, at: 'nsu=urn:cell;s=Axis#/Limits/1', type: f32, from: {constant: 100.0}}
      - {id: inner, at: 'nsu=urn:cell;s=Axis#/Motor/Name', type: text, from: {constant: M1}}
      - {id: first, at: 'nsu=urn:cell;s=Axes#/0/Position', type: f64, from: {constant: 10.0}}
      - {id: second, at: 'nsu=urn:cell;s=Axes#/1/Position', type: f64, from: {constant: 20.0}}
      - {id: corner, at: 'nsu=urn:cell;s=Matrix#/0/0', type: i64, from: {constant: 1}}
      - {id: middle, at: 'nsu=urn:cell;s=Matrix#/0/1', from: {constant: 2}}
      - {id: below, at: 'nsu=urn:cell;s=Matrix#/1/0', from: {constant: 3}}
      - {id: end, at: 'nsu=urn:cell;s=Matrix#/1/1', type: i64, from: {constant: 4}}
      - {id: mode, at: 'nsu=urn:cell;s=Mode', labels: {0: off, 1: setup, 2: auto}, from: {constant: auto}}
";

async fn cell(options: OpcUaOptions) -> Plant {
    let plant = Plant::start_yaml(0, options, CELL).await;
    // The test drives the signals itself, so that nothing moves by itself.
    for (signal, value) in [
        ("speed", Value::Float(1.5)),
        ("position", Value::Float(2.5)),
        ("homed", Value::Bool(true)),
        ("lower", Value::Float(-100.0)),
        ("upper", Value::Float(100.0)),
        ("inner", Value::Text("M1".into())),
        ("first", Value::Float(10.0)),
        ("second", Value::Float(20.0)),
        ("corner", Value::Integer(1)),
        ("middle", Value::Integer(2)),
        ("below", Value::Integer(3)),
        ("end", Value::Integer(4)),
        ("mode", Value::Text("auto".into())),
    ] {
        plant.state.set("cnc", signal, value);
    }
    plant
}

/// The mapping of the same addresses.
fn mapping(port: u16) -> DeviceSpec {
    let mut device = cnc(port, OpcUaPolicy::None);
    let at = |id: &str, place: &str| point(id, &format!("nsu=urn:cell;s={place}"), Encoding::Auto);
    device.points = vec![
        at("speed", "Speed"),
        at("position", "Axis#/Position"),
        at("upper", "Axis#/Limits/1"),
        at("inner", "Axis#/Motor/Name"),
        at("second", "Axes#/1/Position"),
        at("below", "Matrix#/1/0"),
        at("mode", "Mode"),
    ];
    device
}

#[tokio::test]
async fn structures_arrays_and_enumerations_are_served_as_they_are_mapped() {
    let pki = tempfile::tempdir().unwrap();
    let plant = cell(OpcUaOptions::default()).await;
    let mut reader = Reader::start(vec![mapping(plant.port)], settings(pki.path(), false));
    reader.value("position", Value::Float(2.5)).await;
    reader.value("upper", Value::Float(100.0)).await;
    reader.value("inner", Value::Text("M1".into())).await;
    reader.value("second", Value::Float(20.0)).await;
    reader.value("below", Value::Integer(3)).await;
    // An enumeration is carried as its number.
    reader.value("mode", Value::Integer(2)).await;
    plant.state.set("cnc", "position", Value::Float(7.25));
    plant.state.set("cnc", "mode", Value::Text("setup".into()));
    reader.value("position", Value::Float(7.25)).await;
    reader.value("mode", Value::Integer(1)).await;
    // One bad part makes the whole bad, because a value has one status.
    plant.state.set_quality("cnc", "lower", Quality::Bad);
    reader.sample("position", |sample| sample.outcome == Err(NoValue::Refused)).await;
    plant.state.set("cnc", "speed", Value::Float(3.0));
    reader.value("speed", Value::Float(3.0)).await;
    reader.stop().await;

    // Walked, it shows the same.
    let device = mapping(plant.port);
    plant.state.set_quality("cnc", "lower", Quality::Good);
    let url = device.endpoint.to_string();
    let visit =
        Visit::open(&url, &device.security, &settings(pki.path(), false), &Default::default(), PATIENCE).await.unwrap();
    let survey = visit.browse(&BrowseOptions::default()).await.unwrap();
    for place in ["Speed", "Axis#/Homed", "Axis#/Limits/0", "Axis#/Motor/Name", "Axes#/0/Position", "Mode"] {
        let address = format!("nsu=urn:cell;s={place}");
        assert!(survey.points.iter().any(|point| point.address == address), "{address}: {survey:#?}");
    }
    visit.close().await;
    plant.stop().await;
}

#[tokio::test]
async fn what_happened_while_the_server_was_away_is_filled_from_its_history() {
    let (pki, server_pki) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let history = Some(Duration::from_secs(3_600));
    let plant =
        cell(OpcUaOptions { history, pki: Some(server_pki.path().to_owned()), ..OpcUaOptions::default() }).await;
    let mut device = mapping(plant.port);
    device.opcua.history = history;
    let mut reader = Reader::start(vec![device], settings(pki.path(), false));
    reader.value("speed", Value::Float(1.5)).await;
    plant.state.afflict("cnc", Flaw { defect: Defect::Drop, signals: Vec::new() }, None);
    reader.sample("speed", |sample| sample.outcome == Err(NoValue::LinkDown)).await;
    // The machine looks at its signals every 50 ms, on a busy computer less often.
    for number in 2..=6 {
        plant.state.set("cnc", "speed", Value::Float(f64::from(number)));
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    plant.state.heal("cnc");
    reader.value("speed", Value::Float(6.0)).await;
    let mut told = Vec::new();
    while told.len() < 4 {
        let batch = tokio::time::timeout(PATIENCE, reader.history.recv()).await.expect("the hole is filled").unwrap();
        told.extend(batch.samples.into_iter().filter(|sample| sample.point.as_str() == "speed"));
    }
    let values: Vec<_> = told.iter().map(|sample| sample.outcome.clone()).collect();
    assert_eq!(values, [2.0, 3.0, 4.0, 5.0].map(|number| Ok(Value::Float(number))));
    assert!(told.windows(2).all(|pair| pair[0].source_time < pair[1].source_time));
    reader.stop().await;
    plant.stop().await;
}

#[tokio::test]
async fn a_wrong_clock_and_a_slow_server_are_rehearsed() {
    let pki = tempfile::tempdir().unwrap();
    let plant = cell(OpcUaOptions::default()).await;
    let mut reader = Reader::start(vec![mapping(plant.port)], settings(pki.path(), false));
    reader.value("speed", Value::Float(1.5)).await;
    let flaw = |what: &str, of: &str| Flaw { defect: Defect::parse(what, Some(of)).unwrap(), signals: Vec::new() };
    plant.state.afflict("cnc", flaw("clock", "1h"), None);
    plant.state.set("cnc", "speed", Value::Float(2.0));
    let ahead = reader.value("speed", Value::Float(2.0)).await;
    assert!(ahead.source_time.since(ahead.received) > Duration::from_secs(3_500), "{ahead:?}");
    plant.state.heal("cnc");
    plant.state.set("cnc", "speed", Value::Float(3.0));
    let right = reader.value("speed", Value::Float(3.0)).await;
    assert!(right.source_time <= right.received, "{right:?}");
    reader.stop().await;

    // Slower than the device may be: the link says so, and reads when it is over.
    plant.state.afflict("cnc", flaw("delay", "8s"), None);
    let mut reader = Reader::start(vec![mapping(plant.port)], settings(pki.path(), false));
    reader.down(|fault| matches!(fault, LinkFault::Line(_))).await;
    plant.state.heal("cnc");
    reader.value("speed", Value::Float(3.0)).await;
    assert!(matches!(reader.status.borrow().state, LinkState::Up { .. }));
    reader.stop().await;
    plant.stop().await;
}

const ALARMS: &str = "
devices:
  - id: cnc
    serve: opc.tcp://127.0.0.1:0
    signals:
      - {id: speed, at: 'nsu=urn:cell;s=Speed', from: {constant: 1.5}}
      - {id: hot, at: 'alarm:nsu=urn:cell;s=Overheat#/active', from: {constant: false}}
      - {id: how_bad, at: 'alarm:nsu=urn:cell;s=Overheat#/severity', from: {constant: 700}}
      - {id: says, at: 'alarm:nsu=urn:cell;s=Overheat#/message', from: {constant: spindle too hot}}
      - {id: door, at: 'alarm:nsu=urn:cell;i=17#/active', from: {constant: false}}
";

#[tokio::test]
async fn alarms_are_raised_acknowledged_and_over() {
    let pki = tempfile::tempdir().unwrap();
    let plant = Plant::start_yaml(0, OpcUaOptions::default(), ALARMS).await;
    plant.state.set("cnc", "speed", Value::Float(1.5));
    plant.state.set("cnc", "hot", Value::Bool(false));
    plant.state.set("cnc", "how_bad", Value::Integer(700));
    plant.state.set("cnc", "says", Value::Text("spindle too hot".into()));
    let mut device = cnc(plant.port, OpcUaPolicy::None);
    let alarm = |id: &str, at: &str| point(id, &format!("alarm:nsu=urn:cell;{at}"), Encoding::Auto);
    device.points = vec![
        alarm("hot", "s=Overheat#/active"),
        alarm("acked", "s=Overheat#/acked"),
        alarm("confirmed", "s=Overheat#/confirmed"),
        alarm("severity", "s=Overheat#/severity"),
        alarm("message", "s=Overheat#/message"),
        alarm("door", "i=17#/active"),
        point("speed", "nsu=urn:cell;s=Speed", Encoding::Auto),
    ];
    let settings = settings(pki.path(), false);
    let mut reader = Reader::start(vec![device.clone()], settings.clone());
    reader.value("hot", Value::Bool(false)).await;
    reader.value("acked", Value::Bool(true)).await;
    reader.value("speed", Value::Float(1.5)).await;
    plant.state.set("cnc", "hot", Value::Bool(true));
    reader.value("hot", Value::Bool(true)).await;
    reader.value("acked", Value::Bool(false)).await;
    reader.value("severity", Value::Integer(700)).await;
    reader.value("message", Value::Text("spindle too hot".into())).await;
    plant.state.set("cnc", "door", Value::Bool(true));
    reader.value("door", Value::Bool(true)).await;

    let url = device.endpoint.to_string();
    let hand = Hand::open(&url, &device.security, &settings, &Default::default(), PATIENCE).await.unwrap();
    let overheat = Address::parse_opcua("alarm:nsu=urn:cell;s=Overheat#/active").unwrap();
    hand.acknowledge(&overheat, "seen").await.unwrap();
    reader.value("acked", Value::Bool(true)).await;
    let again = hand.acknowledge(&overheat, "seen").await.unwrap_err().to_string();
    assert!(again.contains("AlreadyAcked"), "{again}");
    hand.close().await;
    plant.state.set("cnc", "hot", Value::Bool(false));
    reader.value("hot", Value::Bool(false)).await;
    // Raised while the reader is away: known when it comes back.
    plant.state.afflict("cnc", Flaw { defect: Defect::Drop, signals: Vec::new() }, None);
    reader.sample("hot", |sample| sample.outcome == Err(NoValue::LinkDown)).await;
    plant.state.set("cnc", "hot", Value::Bool(true));
    plant.state.heal("cnc");
    reader.value("hot", Value::Bool(true)).await;
    reader.value("acked", Value::Bool(false)).await;
    reader.stop().await;
    plant.stop().await;
}
