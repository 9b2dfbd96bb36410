//! Alarms of a foreign server (Python asyncua): events become values, what stands is known at once, and only the writing
//! half acknowledges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::rich::{Rich, at, device};
use common::{Line, PATIENCE, Reader, point, settings};
use std::time::Duration;
use tally_connector_api::LinkState;
use tally_connector_opcua::{Hand, HandFault};
use tally_model::{Address, AlarmPart, Encoding, NoValue, PointSpec, Value};

fn alarm_at(condition: &str, part: AlarmPart) -> String {
    format!("alarm:nsu=urn:tallystick:rich;s={condition}#/{part}")
}

fn alarm(condition: &str, part: AlarmPart) -> PointSpec {
    point(&format!("{}_{part}", condition.to_lowercase()), &alarm_at(condition, part), Encoding::Auto)
}

fn points() -> Vec<PointSpec> {
    use AlarmPart::{Acked, Active, Confirmed, Enabled, Message, Severity};
    let mut points: Vec<_> =
        [Active, Acked, Confirmed, Enabled, Severity, Message].map(|part| alarm("Overheat", part)).into();
    points.insert(2, at("speed", "Speed"));
    points.push(alarm("Hidden", Active));
    points
}

#[tokio::test]
async fn what_happens_to_an_alarm_is_told_as_values() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let mut reader = Reader::start(vec![device(server.port, points())], settings(pki.path(), false));
    // What stands, read from the condition's nodes.
    reader.value("overheat_active", Value::Bool(false)).await;
    reader.value("overheat_acked", Value::Bool(true)).await;
    reader.value("overheat_severity", Value::Integer(1)).await;
    // Neither shown nor told: no value, not "all is well".
    reader.sample("hidden_active", |sample| sample.outcome == Err(NoValue::NoSuchAddress)).await;
    reader.value("speed", Value::Float(1.0)).await;

    server.tell("alarm Overheat on 700 spindle too hot").await;
    let active = reader.value("overheat_active", Value::Bool(true)).await;
    assert!(active.source_time <= active.received && active.received.since(active.source_time) < PATIENCE);
    reader.value("overheat_acked", Value::Bool(false)).await;
    reader.value("overheat_enabled", Value::Bool(true)).await;
    reader.value("overheat_severity", Value::Integer(700)).await;
    reader.value("overheat_message", Value::Text("spindle too hot".into())).await;
    // This server knows no confirming.
    reader.sample("overheat_confirmed", |sample| sample.outcome == Err(NoValue::NoSuchAddress)).await;
    server.tell("alarm Hidden on 5 somewhere").await;
    reader.value("hidden_active", Value::Bool(true)).await;
    // An older state that waits for somebody is not what is now; what comes after it is.
    server.tell("branch Overheat").await;
    server.tell("alarm Overheat on 800 spindle very hot").await;
    assert_eq!(reader.sample("overheat_active", |_| true).await.outcome, Ok(Value::Bool(true)));
    reader.value("overheat_severity", Value::Integer(800)).await;
    server.tell("alarm Overheat off 800 spindle well").await;
    reader.value("overheat_active", Value::Bool(false)).await;
    reader.value("overheat_message", Value::Text("spindle well".into())).await;
    server.tell("set Speed 2").await;
    reader.value("speed", Value::Float(2.0)).await;
    assert_eq!(reader.status.borrow().connects, 1);
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn what_stands_is_told_anew_after_an_outage() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let line = Line::to(server.port).await;
    // Alarms alone: there is nothing else to subscribe to.
    let watched = vec![alarm("Overheat", AlarmPart::Active), alarm("Hidden", AlarmPart::Active)];
    let mut device = device(line.port, watched);
    device.opcua.history = Some(Duration::from_secs(3_600));
    let mut reader = Reader::start(vec![device], settings(pki.path(), false));
    reader.value("overheat_active", Value::Bool(false)).await;
    line.cut();
    reader.sample("overheat_active", |sample| sample.outcome == Err(NoValue::LinkDown)).await;
    server.tell("alarm Overheat on 700 hot").await;
    server.tell("alarm Hidden on 5 x").await;
    line.mend();
    reader.value("overheat_active", Value::Bool(true)).await;
    // Not shown as a node: known because the server was asked to tell anew what stands.
    reader.value("hidden_active", Value::Bool(true)).await;
    assert!(matches!(reader.status.borrow().state, LinkState::Up { .. }));
    assert!(reader.history.try_recv().is_err(), "events are not the history of a variable");
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn only_the_writing_half_acknowledges() {
    let pki = tempfile::tempdir().unwrap();
    let mut server = Rich::start(0, &[]).await;
    let settings = settings(pki.path(), false);
    let watched = vec![alarm("Overheat", AlarmPart::Active), alarm("Overheat", AlarmPart::Acked)];
    let device = device(server.port, watched);
    let mut reader = Reader::start(vec![device.clone()], settings.clone());
    server.tell("alarm Overheat on 700 hot").await;
    reader.value("overheat_active", Value::Bool(true)).await;
    reader.value("overheat_acked", Value::Bool(false)).await;
    let url = device.endpoint.to_string();
    let hand = Hand::open(&url, &device.security, &settings, &Default::default(), PATIENCE).await.unwrap();
    let condition = |name: &str| Address::parse_opcua(&alarm_at(name, AlarmPart::Active)).unwrap();
    hand.acknowledge(&condition("Overheat"), "seen by the night shift").await.unwrap();
    reader.value("overheat_acked", Value::Bool(true)).await;
    assert_eq!(server.tell("acked Overheat").await, "seen by the night shift");
    // Over and acknowledged: there is nothing to acknowledge. A variable is no alarm, and no alarm is a variable.
    server.tell("alarm Overheat off 700 well").await;
    reader.value("overheat_active", Value::Bool(false)).await;
    let fault = hand.acknowledge(&condition("Nobody"), "x").await.unwrap_err();
    assert!(matches!(fault, HandFault::NothingToAcknowledge(_)), "{fault}");
    let speed = Address::parse_opcua("nsu=urn:tallystick:rich;s=Speed").unwrap();
    assert!(matches!(hand.acknowledge(&speed, "x").await, Err(HandFault::NoSuchNode(_))));
    let written = hand.write(&condition("Overheat"), &Value::Bool(false)).await;
    assert!(matches!(written, Err(HandFault::NoSuchNode(_))));
    hand.close().await;
    reader.stop().await;
    server.kill().await;
}
