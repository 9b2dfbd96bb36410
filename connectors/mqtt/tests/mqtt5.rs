//! What MQTT 5 has before 3.1.1, with a real mosquitto: reasons, limits that are known, sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Mosquitto, Running, device, login, point};
use tally_connector_api::{LinkFault, LinkState, StatusReporter};
use tally_connector_mqtt::{Message, MqttPublisher, PublishError, Publisher, PublisherConfig, QoS};
use tally_model::{DeviceSpec, Encoding, Endpoint, MqttBroker, MqttVersion, NoValue, Secret, Tls, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

fn sensor(port: u16, version: MqttVersion) -> DeviceSpec {
    let mut device = device(port, vec![point("a", "open/a", Encoding::Auto), point("b", "closed/b", Encoding::Text)]);
    device.endpoint = Endpoint::Mqtt(MqttBroker { version, ..MqttBroker::plain("127.0.0.1", port) });
    device
}

fn publisher(port: u16, version: MqttVersion) -> MqttPublisher {
    let config = PublisherConfig {
        broker: MqttBroker { version, ..MqttBroker::plain("127.0.0.1", port) },
        tls: Tls::default(),
        client_id: format!("publisher-{}", version.word()),
        user: Some("tally".into()),
        password: Some(Secret::new("secret".into())),
        in_flight_max: 10,
        will: None,
        birth: None,
    };
    MqttPublisher::start(config, CancellationToken::new(), StatusReporter::new("scada").0)
}

fn message(topic: &str) -> Message {
    Message { topic: topic.into(), payload: b"7".to_vec(), qos: QoS::AtLeastOnce, retain: false }
}

/// A broker whose access list leaves `tally` only what begins with `open/`.
fn choosy(dir: &std::path::Path) -> Mosquitto {
    let list = dir.join("acl");
    std::fs::write(&list, "user tally\ntopic readwrite open/#\n").unwrap();
    let passwords = Mosquitto::password_lines(dir, "tally", "secret");
    Mosquitto::start_with(&format!("{passwords}acl_file {}\n", list.display()))
}

#[tokio::test]
async fn a_forbidden_topic_is_refused_with_a_reason_where_3_1_1_drops_it_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let broker = choosy(dir.path());
    let old = publisher(broker.port, MqttVersion::V311);
    assert_eq!(old.publish(message("closed/x")).await, Ok(()), "[MQTT-3.3.5-2]: acknowledged and dropped");
    let new = publisher(broker.port, MqttVersion::V5);
    assert_eq!(new.publish(message("open/x")).await, Ok(()));
    let Err(PublishError::Refused { topic, reason }) = new.publish(message("closed/x")).await else { panic!() };
    assert_eq!(topic, "closed/x");
    assert!(reason.contains("access list"), "{reason}");
    assert_eq!(new.publish(message("open/y")).await, Ok(()), "the queue goes on");
}

#[tokio::test]
async fn a_forbidden_subscription_costs_its_points_only() {
    let dir = tempfile::tempdir().unwrap();
    let broker = choosy(dir.path());
    let device = login(sensor(broker.port, MqttVersion::V5), "tally", "secret");
    let mut link = Running::start(vec![device], "reader", 10);
    link.until_up().await;
    publisher(broker.port, MqttVersion::V5).publish(message("open/a")).await.unwrap();
    // mosquitto 2.0 grants what it will never deliver unless it is told otherwise; then the topic is silent, not refused.
    loop {
        match link.outcomes().await.remove(0) {
            (point, Err(NoValue::Refused)) => assert_eq!(point, "b"),
            (point, outcome) => {
                assert_eq!((point.as_str(), outcome), ("a", Ok(Value::Integer(7))));
                break;
            }
        }
    }
}

/// mosquitto 2.0.11 says nothing when it throws somebody out; others do as the standard has it (§3.14.2.1, 0x8E).
#[tokio::test]
async fn a_second_program_of_our_name_is_told_as_such() {
    let stage = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = stage.local_addr().unwrap().port();
    let mut link = Running::start(vec![sensor(port, MqttVersion::V5)], "same-name", 10);
    let (mut client, _) = stage.accept().await.unwrap();
    let mut bytes = [0; 1_000];
    assert_eq!(client.read(&mut bytes).await.map(|_| bytes[0]).unwrap(), 0x10, "CONNECT");
    client.write_all(b"\x20\x03\x00\x00\x00").await.unwrap();
    assert_eq!(client.read(&mut bytes).await.map(|_| bytes[0]).unwrap(), 0x82, "SUBSCRIBE");
    // SUBACK: the packet id, no properties, QoS 1 for both filters; then DISCONNECT in its shortest form.
    client.write_all(&[0x90, 5, bytes[2], bytes[3], 0, 1, 1, 0xe0, 1, 0x8e]).await.unwrap();
    let is_named = |state: &LinkState| matches!(state, LinkState::Down { fault: LinkFault::Refused(text), .. } if text.contains("our client id"));
    link.until(|status| is_named(&status.state)).await;
    assert_eq!(link.status.borrow().connects, 1);
}

#[tokio::test]
async fn a_message_too_large_is_not_sent_to_us_at_all() {
    let broker = Mosquitto::start();
    let mut link = Running::start(vec![sensor(broker.port, MqttVersion::V5)], "reader", 10);
    link.until_up().await;
    broker.publish("closed/b", &vec![b'x'; 17 << 20]);
    broker.publish("open/a", b"8");
    assert_eq!(link.outcomes().await, [("a".to_owned(), Ok(Value::Integer(8)))]);
    assert_eq!(link.status.borrow().faults, 0, "the connection never suffered");
}

#[tokio::test]
async fn a_session_survives_and_what_came_meanwhile_is_read() {
    let broker = Mosquitto::start();
    let mut link = Running::start(vec![sensor(broker.port, MqttVersion::V5)], "reader", 10);
    link.until_up().await;
    link.stop().await;
    broker.publish("open/a", b"9");
    let mut link = Running::start(vec![sensor(broker.port, MqttVersion::V5)], "reader", 10);
    assert_eq!(link.outcomes().await, [("a".to_owned(), Ok(Value::Integer(9)))]);
}
