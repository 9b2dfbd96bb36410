//! Brokers that refuse, lie, talk garbage, or say nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use bytes::BytesMut;
use common::{Running, device, point, wait_for};
use rumqttc::{ConnAck, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode};
use std::time::Duration;
use tally_connector_api::{LinkFault, LinkState, LinkStatus, StatusReporter};
use tally_connector_mqtt::{Message, MqttPublisher, Publisher, PublisherConfig};
use tally_model::{DeviceSpec, Encoding, MqttBroker, NoValue, Tls, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const GRANTED: SubscribeReasonCode = SubscribeReasonCode::Success(QoS::AtLeastOnce);

/// A broker played by the test, one connection at a time.
struct Stage {
    listener: TcpListener,
    port: u16,
}

/// One client on the stage.
struct Client {
    stream: TcpStream,
    unread: BytesMut,
}

impl Stage {
    async fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    /// The next client, before its CONNECT was read.
    async fn accept(&self) -> Client {
        let (stream, _) = tokio::time::timeout(common::PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        Client { stream, unread: BytesMut::new() }
    }

    /// The next client, let in.
    async fn welcome(&self) -> Client {
        let mut client = self.accept().await;
        assert!(matches!(client.read().await, Packet::Connect(_)));
        client.write(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))).await;
        client
    }

    /// The next client, let in, with these answers to its one SUBSCRIBE.
    async fn welcome_reader(&self, codes: Vec<SubscribeReasonCode>) -> Client {
        let mut client = self.welcome().await;
        let Packet::Subscribe(asked) = client.read().await else { panic!("a SUBSCRIBE was expected") };
        assert!(asked.filters.iter().all(|filter| filter.qos == QoS::AtLeastOnce));
        client.write(Packet::SubAck(SubAck::new(asked.pkid, codes))).await;
        client
    }
}

impl Client {
    async fn read(&mut self) -> Packet {
        loop {
            if let Ok(packet) = Packet::read(&mut self.unread, 1 << 20) {
                return packet;
            }
            let read = tokio::time::timeout(common::PATIENCE, self.stream.read_buf(&mut self.unread)).await;
            assert_ne!(read.expect("a packet in time").unwrap(), 0, "the client left");
        }
    }

    async fn write(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, 1 << 20).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn publish(&mut self, topic: &str, packet_id: u16, payload: &str) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.pkid = packet_id;
        self.write(Packet::Publish(publish)).await;
    }
}

fn sensor(port: u16) -> DeviceSpec {
    device(port, vec![point("a", "t/a", Encoding::Auto), point("b", "t/b", Encoding::Auto)])
}

fn down_with(expected: fn(&LinkFault) -> bool) -> impl FnMut(&LinkStatus) -> bool {
    move |status| matches!(&status.state, LinkState::Down { fault, .. } if expected(fault))
}

fn start_publisher(port: u16, in_flight_max: u16) -> (MqttPublisher, tokio::sync::watch::Receiver<LinkStatus>) {
    let (reporter, status) = StatusReporter::new("scada");
    let config = PublisherConfig {
        broker: MqttBroker::plain("127.0.0.1", port),
        tls: Tls::default(),
        client_id: "agent".into(),
        user: None,
        password: None,
        in_flight_max,
        will: None,
        birth: None,
    };
    (MqttPublisher::start(config, CancellationToken::new(), reporter), status)
}

fn message(payload: &str) -> Message {
    Message { topic: "t".into(), payload: payload.into(), qos: tally_connector_mqtt::QoS::AtLeastOnce, retain: false }
}

#[tokio::test]
async fn every_refusal_has_its_words() {
    for (code, words) in [
        (ConnectReturnCode::RefusedProtocolVersion, "MQTT 3.1.1"),
        (ConnectReturnCode::BadClientId, "client id"),
        (ConnectReturnCode::ServiceUnavailable, "does not serve"),
        (ConnectReturnCode::BadUserNamePassword, "password"),
        (ConnectReturnCode::NotAuthorized, "not authorized"),
    ] {
        let stage = Stage::new().await;
        let mut link = Running::start(vec![sensor(stage.port)], "reader", 10);
        let mut client = stage.accept().await;
        client.read().await;
        client.write(Packet::ConnAck(ConnAck::new(code, false))).await;
        let is_login = matches!(code, ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized);
        let status = link.until(|status| matches!(status.state, LinkState::Down { .. })).await;
        let LinkState::Down { fault, .. } = &status.state else { unreachable!() };
        assert_eq!(fault.class(), if is_login { "bad-credentials" } else { "refused" });
        assert!(format!("{:?}", status.state).contains(words), "{status:?}");
    }
}

#[tokio::test]
async fn a_refused_topic_costs_its_points_only() {
    let stage = Stage::new().await;
    let mut link = Running::start(vec![sensor(stage.port)], "reader", 10);
    let mut client = stage.welcome().await;
    let Packet::Subscribe(asked) = client.read().await else { panic!() };
    let codes = asked.filters.iter().map(|filter| match filter.path.as_str() {
        "t/a" => SubscribeReasonCode::Failure,
        _ => GRANTED,
    });
    client.write(Packet::SubAck(SubAck::new(asked.pkid, codes.collect()))).await;
    assert_eq!(link.outcomes().await, [("a".to_owned(), Err(NoValue::Refused))]);
    link.until_up().await;
    client.publish("t/b", 1, "7").await;
    assert_eq!(link.outcomes().await, [("b".to_owned(), Ok(Value::Integer(7)))]);
}

#[tokio::test]
async fn acknowledgements_follow_the_sink_in_order() {
    let stage = Stage::new().await;
    let mut link = Running::start(vec![sensor(stage.port)], "reader", 1);
    let mut client = stage.welcome_reader(vec![GRANTED; 2]).await;
    link.until_up().await;
    for packet_id in [5, 3, 9] {
        client.publish("t/a", packet_id, "1").await;
    }
    assert_eq!(client.read().await, Packet::PubAck(PubAck::new(5)), "the first fits into the sink");
    let early = tokio::time::timeout(Duration::from_millis(200), client.read()).await;
    assert!(early.is_err(), "nobody took the second: {early:?}");
    link.next().await;
    assert_eq!(client.read().await, Packet::PubAck(PubAck::new(3)));
    link.next().await;
    assert_eq!(client.read().await, Packet::PubAck(PubAck::new(9)));
}

#[tokio::test]
async fn a_late_acknowledgement_never_reaches_the_next_connection() {
    let stage = Stage::new().await;
    let mut link = Running::start(vec![sensor(stage.port)], "reader", 1);
    let mut client = stage.welcome_reader(vec![GRANTED; 2]).await;
    for packet_id in [1, 2] {
        client.publish("t/a", packet_id, "old").await;
    }
    assert_eq!(client.read().await, Packet::PubAck(PubAck::new(1)));
    drop(client);
    link.until(down_with(|fault| matches!(fault, LinkFault::Line(_)))).await;
    let mut client = stage.welcome_reader(vec![GRANTED; 2]).await;
    // A new message under the packet id of one that is still waiting for the agent.
    client.publish("t/b", 2, "new").await;
    for expected in ["old", "old"] {
        assert_eq!(link.outcome().await, Ok(Value::Text(expected.into())));
    }
    assert_eq!(link.next().await.len(), 2, "the link was down");
    assert_eq!(link.outcome().await, Ok(Value::Text("new".into())));
    assert_eq!(client.read().await, Packet::PubAck(PubAck::new(2)));
    let more = tokio::time::timeout(Duration::from_millis(200), client.read()).await;
    assert!(more.is_err(), "one message, one acknowledgement: {more:?}");
}

#[tokio::test]
async fn half_open_lines_are_noticed() {
    let stage = Stage::new().await;
    let mut link = Running::start(vec![sensor(stage.port)], "reader", 10);
    let _client = stage.welcome_reader(vec![GRANTED; 2]).await;
    link.until_up().await;
    // The stage keeps the connection and answers no ping.
    link.until(down_with(|fault| matches!(fault, LinkFault::Line(text) if text.contains("ping")))).await;
}

#[tokio::test]
async fn a_silent_port_is_no_broker_and_stopping_is_quick() {
    let stage = Stage::new().await;
    let mut link = Running::start(vec![sensor(stage.port)], "reader", 10);
    let _client = stage.accept().await;
    link.until(down_with(|fault| matches!(fault, LinkFault::Line(_)))).await;
    let _next = stage.accept().await;
    assert!(link.stop().await < common::STOP_MAX, "in the middle of a connect");
}

#[tokio::test]
async fn whoever_does_not_speak_mqtt_is_told_so() {
    for garbage in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\xff\xff\xff\xff\xff", b"\x30\x05\x00\x03abc", b"\x20\x00"]
    {
        let stage = Stage::new().await;
        let mut link = Running::start(vec![sensor(stage.port)], "reader", 10);
        let mut client = stage.accept().await;
        client.read().await;
        client.stream.write_all(garbage).await.unwrap();
        client.stream.shutdown().await.unwrap();
        link.until(down_with(|fault| matches!(fault, LinkFault::Nonsense(_)))).await;
    }
}

#[tokio::test]
async fn garbage_in_the_middle_is_survived() {
    let stage = Stage::new().await;
    let mut link = Running::start(vec![sensor(stage.port)], "reader", 10);
    for garbage in [
        &b"\x32\xff\xff\xff\xff\xff"[..],
        b"\x90\x03\x00\x01\x07",
        b"\xe0\x00",
        b"\x20\x02\x00\x00",
        b"\x40\x02\x00\x63",
    ] {
        let mut client = stage.welcome_reader(vec![GRANTED; 2]).await;
        link.until_up().await;
        client.publish("t/a", 1, "1").await;
        client.stream.write_all(garbage).await.unwrap();
        assert_eq!(link.outcome().await, Ok(Value::Integer(1)), "what came before the garbage counts");
        assert_eq!(link.next().await.len(), 2, "then the link was down");
        // The end of this connection must not be taken for the end of the next.
        link.until(|status| matches!(status.state, LinkState::Down { .. })).await;
    }
}

#[tokio::test]
async fn only_its_own_acknowledgement_ends_a_publish() {
    let stage = Stage::new().await;
    let (publisher, mut status) = start_publisher(stage.port, 2);
    let publish = |payload: &'static str| {
        let publisher = publisher.clone();
        tokio::spawn(async move { publisher.publish(message(payload)).await })
    };
    let mut client = stage.welcome().await;
    let first = publish("first");
    let Packet::Publish(sent) = client.read().await else { panic!() };
    assert_eq!((&sent.payload[..], sent.dup), (&b"first"[..], false));
    // An acknowledgement for a message that was never sent: this broker is not to be trusted.
    client.write(Packet::PubAck(PubAck::new(sent.pkid + 1))).await;
    wait_for(&mut status, down_with(|fault| matches!(fault, LinkFault::Nonsense(_)))).await;
    assert!(!first.is_finished());
    let mut client = stage.welcome().await;
    let Packet::Publish(again) = client.read().await else { panic!() };
    assert_eq!(&again.payload[..], b"first");
    let second = publish("second");
    let Packet::Publish(other) = client.read().await else { panic!() };
    // Out of order is allowed.
    client.write(Packet::PubAck(PubAck::new(other.pkid))).await;
    assert_eq!(second.await.unwrap(), Ok(()));
    assert!(!first.is_finished());
    // The window of two has one place; packet ids come round and must not meet the first one's.
    let third = publish("third");
    let Packet::Publish(other) = client.read().await else { panic!() };
    assert_ne!(other.pkid, again.pkid);
    client.write(Packet::PubAck(PubAck::new(other.pkid))).await;
    assert_eq!(third.await.unwrap(), Ok(()));
    client.write(Packet::PubAck(PubAck::new(again.pkid))).await;
    assert_eq!(first.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_slow_broker_slows_the_callers_and_nobody_else() {
    let stage = Stage::new().await;
    let (publisher, _status) = start_publisher(stage.port, 4);
    let mut client = stage.welcome().await;
    let calls: Vec<_> = (0..12)
        .map(|number| {
            let publisher = publisher.clone();
            tokio::spawn(async move { publisher.publish(message(&number.to_string())).await })
        })
        .collect();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let Packet::Publish(sent) = client.read().await else { panic!() };
        ids.push(sent.pkid);
    }
    let fifth = tokio::time::timeout(Duration::from_millis(200), client.read()).await;
    assert!(fifth.is_err(), "four may be in flight: {fifth:?}");
    for acknowledged in 1..=12 {
        client.write(Packet::PubAck(PubAck::new(ids.remove(0)))).await;
        if acknowledged <= 8 {
            let Packet::Publish(sent) = client.read().await else { panic!() };
            ids.push(sent.pkid);
        }
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(()));
    }
}
