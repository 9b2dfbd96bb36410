//! The link against a foreign server (Python asyncua) with history, structures, moving namespaces, and none of the
//! subscription services.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::rich::{Rich, at, device};
use common::{Line, PATIENCE, Reader, settings};
use std::time::{Duration, Instant};
use tally_connector_api::{LinkFault, LinkState};
use tally_connector_opcua::{BrowseOptions, Hand, HandFault, Visit, link};
use tally_model::{Address, NoValue, OpcUaRead, Quality, Value};

#[tokio::test]
async fn a_hole_is_filled_from_history_once_in_order_and_apart_from_live_values() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let line = Line::to(server.port).await;
    let mut device = device(line.port, vec![at("speed", "Speed"), at("torque", "Torque"), at("steady", "Steady")]);
    device.opcua.history = Some(Duration::from_secs(3_600));
    let mut reader = Reader::start(vec![device], settings(pki.path(), false));
    server.tell("set Speed 100").await;
    reader.value("speed", Value::Float(100.0)).await;
    reader.value("steady", Value::Float(5.0)).await;
    line.cut();
    reader.sample("speed", |sample| sample.outcome == Err(NoValue::LinkDown)).await;
    // Missed: more than one page of a thousand values, and a point without history.
    const MISSED: u32 = 1_500;
    for number in 0..MISSED {
        server.tell(&format!("set Speed {number}")).await;
    }
    server.tell("set Torque 7").await;
    line.mend();
    // The newest of the missed values is live again, and is not told as history.
    reader.value("speed", Value::Float(f64::from(MISSED - 1))).await;
    server.tell("set Speed 5000").await;
    reader.value("speed", Value::Float(5_000.0)).await;
    let mut told = Vec::new();
    while told.len() < usize::try_from(MISSED).unwrap() - 1 {
        let batch = tokio::time::timeout(PATIENCE, reader.history.recv()).await.expect("more history").unwrap();
        assert_eq!(batch.device.as_str(), "cnc-02");
        told.extend(batch.samples);
    }
    let numbers: Vec<_> = told.iter().map(|sample| sample.outcome.clone().unwrap()).collect();
    let expected: Vec<_> = (0..MISSED - 1).map(|number| Value::Float(f64::from(number))).collect();
    assert!(numbers == expected, "{numbers:?}");
    assert!(told.iter().all(|sample| sample.point.as_str() == "speed" && sample.source_time < sample.received));
    assert!(told.windows(2).all(|pair| pair[0].source_time < pair[1].source_time));
    assert!(tokio::time::timeout(Duration::from_millis(500), reader.history.recv()).await.is_err(), "told twice");
    assert!(matches!(reader.status.borrow().state, LinkState::Up { .. }));
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn without_the_mappings_word_nothing_is_filled() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let line = Line::to(server.port).await;
    let mut reader = Reader::start(vec![device(line.port, vec![at("speed", "Speed")])], settings(pki.path(), false));
    reader.value("speed", Value::Float(1.0)).await;
    line.cut();
    reader.sample("speed", |sample| sample.outcome == Err(NoValue::LinkDown)).await;
    server.tell("set Speed 2").await;
    server.tell("set Speed 3").await;
    line.mend();
    reader.value("speed", Value::Float(3.0)).await;
    assert!(tokio::time::timeout(Duration::from_millis(700), reader.history.recv()).await.is_err());
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn parts_of_structures_and_arrays_are_points() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let mut mode = at("mode", "Mode");
    let labels = [(0, "off"), (1, "setup"), (2, "auto")].map(|(number, name)| (number, name.to_owned()));
    mode.options.labels = Some(std::sync::Arc::new(labels.into()));
    let points = vec![
        at("position", "Axis#/Position"),
        at("homed", "Axis#/Homed"),
        at("upper", "Axis#/Limits/1"),
        at("second", "Axes#/1/Position"),
        at("nested", "Cell#/Main/Position"),
        at("name", "Cell#/Name"),
        at("cell", "Matrix#/1/2"),
        at("whole", "Axis"),
        at("nowhere", "Axis#/Colour"),
        at("speed", "Speed"),
        mode,
    ];
    let mut reader = Reader::start(vec![device(server.port, points)], settings(pki.path(), false));
    reader.value("position", Value::Float(1.5)).await;
    reader.value("homed", Value::Bool(true)).await;
    reader.value("upper", Value::Float(100.0)).await;
    reader.value("second", Value::Float(20.0)).await;
    reader.value("nested", Value::Float(3.25)).await;
    reader.value("name", Value::Text("cell-7".into())).await;
    reader.value("cell", Value::Integer(6)).await;
    reader.value("mode", Value::Text("auto".into())).await;
    reader.sample("whole", |sample| sample.outcome == Err(NoValue::Nonsense)).await;
    reader.sample("nowhere", |sample| sample.outcome == Err(NoValue::Nonsense)).await;
    reader.value("speed", Value::Float(1.0)).await;
    server.tell("axis 42.5").await;
    reader.value("position", Value::Float(42.5)).await;
    reader.value("second", Value::Float(42.5)).await;
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn namespaces_may_move_while_the_server_is_away() {
    let pki = tempfile::tempdir().unwrap();
    let port = common::ports::free_port();
    let server = Rich::start(port, &[]).await;
    let mut reader = Reader::start(vec![device(port, vec![at("speed", "Speed")])], settings(pki.path(), false));
    reader.value("speed", Value::Float(1.0)).await;
    server.kill().await;
    reader.down(|fault| matches!(fault, LinkFault::Line(_))).await;
    let mut server = Rich::start(port, &["--before", "urn:a", "--before", "urn:b"]).await;
    reader.value("speed", Value::Float(1.0)).await;
    server.tell("set Speed 8").await;
    reader.value("speed", Value::Float(8.0)).await;
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn a_server_that_knows_no_subscriptions_is_polled_and_one_told_to_subscribe_says_why_not() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &["--no-subscriptions"]).await;
    let points = vec![at("speed", "Speed"), at("ghost", "No.Such.Node"), at("torque", "Torque")];
    let mut best = device(server.port, points);
    best.opcua.limits.nodes_per_read = Some(2);
    let mut reader = Reader::start(vec![best.clone()], settings(pki.path(), false));
    reader.value("torque", Value::Float(2.0)).await;
    reader.sample("ghost", |sample| sample.outcome == Err(NoValue::NoSuchAddress)).await;
    server.tell("set Speed 77").await;
    let sample = reader.value("speed", Value::Float(77.0)).await;
    assert_eq!(sample.quality, Quality::Good);
    // Polled: it comes again although nothing changed.
    reader.value("speed", Value::Float(77.0)).await;
    assert_eq!(reader.status.borrow().connects, 1);
    reader.stop().await;
    best.opcua.read = OpcUaRead::Subscribe;
    let mut reader = Reader::start(vec![best], settings(pki.path(), false));
    let fault = reader.down(|fault| matches!(fault, LinkFault::Refused(_))).await.to_string();
    assert!(fault.contains("create a subscription") && fault.contains("BadServiceUnsupported"), "{fault}");
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn polling_keeps_its_pace_and_a_removed_node_stops_no_neighbour() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let mut polled = device(server.port, vec![at("speed", "Speed"), at("torque", "Torque")]);
    polled.opcua.read = OpcUaRead::Poll;
    polled.every = Duration::from_millis(100);
    let mut reader = Reader::start(vec![polled], settings(pki.path(), false));
    reader.value("speed", Value::Float(1.0)).await;
    let began = Instant::now();
    for _ in 0..10 {
        reader.value("speed", Value::Float(1.0)).await;
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(700), "{took:?}");
    server.tell("remove Speed").await;
    reader.sample("speed", |sample| sample.outcome == Err(NoValue::NoSuchAddress)).await;
    server.tell("set Torque 9").await;
    reader.value("torque", Value::Float(9.0)).await;
    let word = |status: &tally_connector_api::LinkStatus| status.words.values().any(|word| word == "BadNodeIdUnknown");
    assert!(word(&reader.status.borrow()), "{:?}", reader.status.borrow().words);
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn a_server_that_filters_keeps_small_changes_to_itself() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let mut device = device(server.port, vec![at("speed", "Speed"), at("name", "Cell#/Name"), at("mode", "Mode")]);
    device.opcua.server_deadband = true;
    device.opcua.sampling = Some(Duration::from_millis(20));
    for point in &mut device.points {
        point.deadband = Some(0.5);
    }
    assert!(link(vec![device.clone()], settings(pki.path(), false)).is_ok());
    let mut reader = Reader::start(vec![device], settings(pki.path(), false));
    reader.value("speed", Value::Float(1.0)).await;
    reader.value("name", Value::Text("cell-7".into())).await;
    for number in ["1.1", "1.2", "1.3", "4"] {
        server.tell(&format!("set Speed {number}")).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let next = reader.sample("speed", |_| true).await;
    assert_eq!(next.outcome, Ok(Value::Float(4.0)), "the server did not filter");
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn a_walk_finds_values_parts_of_structures_and_their_names() {
    let pki = tempfile::tempdir().unwrap();
    let server = Rich::start(0, &[]).await;
    let device = device(server.port, Vec::new());
    let url = device.endpoint.to_string();
    let limits = tally_model::OpcUaLimits { nodes_per_browse: Some(1), ..Default::default() };
    let settings = settings(pki.path(), false);
    let visit = Visit::open(&url, &device.security, &settings, &limits, PATIENCE).await.unwrap();
    let survey = visit.browse(&BrowseOptions::default()).await.unwrap();
    let found = |address: &str| {
        let address = format!("nsu=urn:tallystick:rich;{address}");
        survey.points.iter().find(|point| point.address == address).unwrap_or_else(|| panic!("{address}: {survey:#?}"))
    };
    assert_eq!(found("s=Speed").path, ["Machine", "Speed"]);
    assert_eq!(found("s=Speed").kind.as_deref(), Some("Double"));
    assert_eq!(found("s=Axis#/Position").path, ["Machine", "Axis", "Position"]);
    found("s=Axis#/Limits/1");
    found("s=Cell#/Main/Homed");
    found("s=Axes#/1/Position");
    assert!(survey.points.iter().all(|point| Address::parse_opcua(&point.address).is_ok()), "{survey:#?}");
    assert!(!survey.is_cut && survey.nodes > 3);
    let few = visit.browse(&BrowseOptions { points_max: 2, ..BrowseOptions::default() }).await.unwrap();
    assert!(few.is_cut && few.points.len() == 2);
    let inside =
        BrowseOptions { from: Address::parse_opcua("nsu=urn:tallystick:rich;s=Machine").ok(), ..Default::default() };
    assert_eq!(visit.browse(&inside).await.unwrap().points.len(), survey.points.len());
    visit.close().await;
    server.kill().await;
}

#[tokio::test]
async fn the_writing_half_writes_in_the_nodes_type_and_calls_methods() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let device = device(server.port, Vec::new());
    let url = device.endpoint.to_string();
    let settings = settings(pki.path(), false);
    let hand = Hand::open(&url, &device.security, &settings, &Default::default(), PATIENCE).await.unwrap();
    let node = |place: &str| Address::parse_opcua(&format!("nsu=urn:tallystick:rich;s={place}")).unwrap();
    hand.write(&node("Speed"), &Value::Integer(12)).await.unwrap();
    assert_eq!(server.tell("get Speed").await, "12.0");
    let wrong = hand.write(&node("Speed"), &Value::Text("fast".into())).await.unwrap_err();
    assert!(matches!(wrong, HandFault::Type { .. }), "{wrong}");
    assert!(matches!(hand.write(&node("No.Such.Node"), &Value::Bool(true)).await, Err(HandFault::NoSuchNode(_))));
    assert!(matches!(hand.write(&node("Axis#/Position"), &Value::Float(1.0)).await, Err(HandFault::NoSuchNode(_))));
    let refused = hand.write(&node("Mode"), &Value::Integer(1)).await.unwrap_err();
    assert!(matches!(&refused, HandFault::Refused { .. }), "{refused}");
    assert_eq!(server.tell("get Speed").await, "12.0");
    let product =
        hand.call(&node("Machine"), &node("Multiply"), &[Value::Float(6.0), Value::Integer(7)]).await.unwrap();
    assert_eq!(product, [Ok(Value::Float(42.0))]);
    let few = hand.call(&node("Machine"), &node("Multiply"), &[Value::Float(6.0)]).await.unwrap_err();
    assert!(few.to_string().contains("takes 2 arguments, found 1"), "{few}");
    hand.close().await;
    server.kill().await;
}
