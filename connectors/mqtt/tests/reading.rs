//! The reading side against a real mosquitto, with values set by other processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Mosquitto, PATIENCE, Running, STOP_MAX, device, login, point};
use std::time::Duration;
use tally_connector_api::{LinkFault, LinkState};
use tally_model::{Encoding, NoValue, Quality, Timestamp, Value};

fn climate(port: u16) -> tally_model::DeviceSpec {
    let mut humidity = point("humidity", "hall/climate#/humidity/rel", Encoding::F64);
    humidity.scale = 100.0;
    humidity.range = Some((0.0, 100.0));
    let points = vec![
        point("temperature", "hall/climate#/temperature", Encoding::Auto),
        humidity,
        point("door", "hall/door", Encoding::Bool),
        point("count", "hall/count", Encoding::Auto),
        point("mode", "hall/mode", Encoding::Text),
    ];
    device(port, points)
}

#[tokio::test]
async fn values_published_equal_values_read() {
    let broker = Mosquitto::start();
    let mut link = Running::start(vec![climate(broker.port)], "reader", 100);
    link.until_up().await;
    let payload = br#"{"temperature": 21.7, "humidity": {"rel": 0.455}, "timestamp": "2026-11-21T03:05:00.250Z"}"#;
    broker.publish("hall/climate", payload);
    let samples = link.next().await;
    assert_eq!(samples[0].outcome, Ok(Value::Float(21.7)));
    assert_eq!(samples[1].outcome, Ok(Value::Float(45.5)));
    assert_eq!(samples[0].unit.as_str(), "Cel");
    assert_eq!(samples[0].quality, Quality::Good);
    assert_eq!(samples[0].source_time, Timestamp::parse_rfc3339("2026-11-21T03:05:00.25Z").unwrap());
    assert_ne!(samples[0].received, samples[0].source_time);
    for (topic, payload, expected) in [
        ("hall/door", "ON", Value::Bool(true)),
        ("hall/count", "18446744073709551615", Value::Unsigned(u64::MAX)),
        ("hall/count", "0.1", Value::Float(0.1)),
        ("hall/mode", "Wartung läuft", Value::Text("Wartung läuft".into())),
    ] {
        broker.publish(topic, payload.as_bytes());
        assert_eq!(link.outcome().await, Ok(expected), "{topic}");
    }
    assert!(link.stop().await < STOP_MAX);
}

#[tokio::test]
async fn a_thousand_values_arrive_in_order() {
    let broker = Mosquitto::start();
    let mut link = Running::start(vec![climate(broker.port)], "reader", 4);
    link.until_up().await;
    let lines: String = (0..1_000).map(|number| format!("{number}\n")).collect();
    // `-l` sends each line as a message.
    let publishing = std::thread::spawn(move || {
        broker.publish_lines("hall/count", &lines);
        broker
    });
    for number in 0..1_000 {
        assert_eq!(link.outcome().await, Ok(Value::Integer(number)));
    }
    publishing.join().unwrap();
}

#[tokio::test]
async fn a_killed_broker_is_told_once_and_survived() {
    let mut broker = Mosquitto::start();
    let mut link = Running::start(vec![climate(broker.port)], "reader", 100);
    link.until_up().await;
    broker.publish("hall/count", b"1");
    assert_eq!(link.outcome().await, Ok(Value::Integer(1)));
    broker.kill();
    let down = link.outcomes().await;
    assert_eq!(down.len(), 5);
    assert!(down.iter().all(|(_, outcome)| *outcome == Err(NoValue::LinkDown)));
    let status = link.until(|status| status.faults >= 3).await;
    assert!(matches!(status.state, LinkState::Down { fault: LinkFault::Line(_), .. }));
    assert!(link.batches.try_recv().is_err(), "an outage is told once, however many attempts fail");
    broker.run();
    link.until_up().await;
    broker.publish("hall/count", b"2");
    assert_eq!(link.outcome().await, Ok(Value::Integer(2)));
    assert_eq!(link.status.borrow().connects, 2);
}

#[tokio::test]
async fn a_refused_password_is_a_refusal_and_the_right_one_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start_with(&Mosquitto::password_lines(dir.path(), "tally", "secret-4711"));
    let refused = |status: &tally_connector_api::LinkStatus| matches!(&status.state, LinkState::Down { fault: LinkFault::Credentials(text), .. } if text.contains("password"));
    let mut wrong = Running::start(vec![login(climate(broker.port), "tally", "guess")], "wrong", 100);
    let status = wrong.until(refused).await;
    assert!(!format!("{status:?}").contains("guess"), "a password must not show");
    assert!(wrong.outcomes().await.iter().all(|(_, outcome)| *outcome == Err(NoValue::LinkDown)));
    let mut anonymous = Running::start(vec![climate(broker.port)], "anonymous", 100);
    anonymous.until(refused).await;
    let mut right = Running::start(vec![login(climate(broker.port), "tally", "secret-4711")], "right", 100);
    right.until_up().await;
}

#[tokio::test]
async fn what_the_agent_did_not_take_comes_again() {
    let broker = Mosquitto::start();
    // The sink takes one batch and nobody reads it.
    let mut link = Running::start(vec![climate(broker.port)], "reader", 1);
    link.until_up().await;
    for number in 0..5 {
        broker.publish("hall/count", number.to_string().as_bytes());
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while link.batches.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nothing was taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Its acknowledgement goes out, and the others wait before the sink.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(link.stop().await < STOP_MAX, "a full sink does not hold up the stop");
    // While nobody is connected, the broker keeps messages for our session.
    broker.publish("hall/count", b"5");
    let mut link = Running::start(vec![climate(broker.port)], "reader", 100);
    for number in 1..=5 {
        assert_eq!(link.outcome().await, Ok(Value::Integer(number)), "0 was taken and acknowledged, the rest was not");
    }
}

#[tokio::test]
async fn nonsense_costs_its_own_points_only() {
    let broker = Mosquitto::start();
    let mut link = Running::start(vec![climate(broker.port)], "reader", 100);
    link.until_up().await;
    let both = |first: Result<Value, NoValue>, second: Result<Value, NoValue>| {
        vec![("temperature".to_owned(), first), ("humidity".to_owned(), second)]
    };
    let nonsense = || Err(NoValue::Nonsense);
    for (payload, expected) in [
        (&b"\xff\xfe\x00garbage"[..], both(nonsense(), nonsense())),
        (b"", both(nonsense(), nonsense())),
        (b"{\"temperature\": 1", both(nonsense(), nonsense())),
        (b"{\"temperature\": 20}", both(Ok(Value::Integer(20)), nonsense())),
        (b"{\"temperature\": [], \"humidity\": {\"rel\": null}}", both(nonsense(), Err(NoValue::NotANumber))),
        (b"{\"temperature\": -1, \"humidity\": {\"rel\": 7}}", both(Ok(Value::Integer(-1)), Err(NoValue::OutOfRange))),
    ] {
        broker.publish("hall/climate", payload);
        assert_eq!(link.outcomes().await, expected, "{}", String::from_utf8_lossy(payload));
    }
    broker.publish("hall/door", b"ajar");
    assert_eq!(link.outcome().await, nonsense());
    broker.publish("hall/mode", &vec![b'x'; 300 << 10]);
    assert_eq!(link.outcome().await, nonsense());
    broker.publish("hall/count", b"3");
    assert_eq!(link.outcome().await, Ok(Value::Integer(3)));
    assert_eq!(link.status.borrow().faults, 0, "the link itself never suffered");
}

#[tokio::test]
async fn a_message_too_large_to_receive_is_got_rid_of() {
    let broker = Mosquitto::start();
    let mut link = Running::start(vec![climate(broker.port)], "reader", 100);
    link.until_up().await;
    // 17 MiB at QoS 1: as long as the broker keeps our session, it would be sent to us again and again.
    broker.publish("hall/mode", &vec![b'x'; 17 << 20]);
    link.until(|status| status.faults == 1).await;
    assert!(link.outcomes().await.iter().all(|(_, outcome)| *outcome == Err(NoValue::LinkDown)));
    link.until(|status| status.connects == 2).await;
    broker.publish("hall/count", b"4");
    assert_eq!(link.outcome().await, Ok(Value::Integer(4)));
    assert_eq!(link.status.borrow().faults, 1);
    // The new session is a lasting one again.
    link.stop().await;
    broker.publish("hall/count", b"5");
    let mut link = Running::start(vec![climate(broker.port)], "reader", 100);
    assert_eq!(link.outcome().await, Ok(Value::Integer(5)));
}

#[tokio::test]
async fn retained_values_are_taken_with_doubt() {
    let broker = Mosquitto::start();
    broker.publish_with("hall/count", b"7", &["-r"]);
    let mut link = Running::start(vec![climate(broker.port)], "reader", 100);
    let samples = link.next().await;
    assert_eq!((&samples[0].outcome, samples[0].quality), (&Ok(Value::Integer(7)), Quality::Uncertain));
    broker.publish_with("hall/count", b"8", &["-r"]);
    let samples = link.next().await;
    assert_eq!((&samples[0].outcome, samples[0].quality), (&Ok(Value::Integer(8)), Quality::Good));
}

#[tokio::test]
async fn a_changed_mapping_drops_old_topics() {
    let broker = Mosquitto::start();
    let mut before = Running::start(vec![climate(broker.port)], "reader", 100);
    before.until_up().await;
    before.stop().await;
    let only_door = device(broker.port, vec![point("door", "hall/door", Encoding::Bool)]);
    let mut after = Running::start(vec![only_door], "reader", 100);
    after.until_up().await;
    // The broker still sends what the old mapping subscribed; it is acknowledged and not handed over.
    for number in 0..100 {
        broker.publish("hall/count", number.to_string().as_bytes());
    }
    broker.publish("hall/door", b"off");
    assert_eq!(after.outcome().await, Ok(Value::Bool(false)));
}

#[tokio::test]
async fn many_topics_and_devices_share_a_link() {
    let broker = Mosquitto::start();
    let points = |prefix: &str| {
        (0..150).map(|number| point(&format!("p{number}"), &format!("{prefix}/{number}"), Encoding::Auto)).collect()
    };
    let (one, mut two) = (device(broker.port, points("a")), device(broker.port, points("b")));
    two.id = tally_model::DeviceId::try_new("second").unwrap();
    let mut link = Running::start(vec![one, two], "reader", 100);
    link.until_up().await;
    broker.publish("a/149", b"1");
    assert_eq!(link.outcomes().await, [("p149".to_owned(), Ok(Value::Integer(1)))]);
    broker.publish("b/0", b"2");
    let batch = link.batches.recv().await.unwrap();
    assert_eq!((batch.device.as_str(), &batch.samples[0].outcome), ("second", &Ok(Value::Integer(2))));
}
