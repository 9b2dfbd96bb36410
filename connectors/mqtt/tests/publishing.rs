//! The publishing side against a real mosquitto that is killed, and a line that is cut: nothing acknowledged is
//! missing, nothing is acknowledged that the broker did not acknowledge.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "common/gate.rs"]
mod gate;
#[path = "common/listener.rs"]
mod listener;

use common::{Mosquitto, PATIENCE, STOP_MAX, wait_for};
use gate::Gate;
use listener::Listener;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{LinkFault, LinkState, LinkStatus, StatusReporter};
use tally_connector_mqtt::{Message, MqttPublisher, PublishError, Publisher, PublisherConfig, QoS};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// No queue limit and no window towards subscribers, or the broker itself would lose messages when it is killed.
const LOSSLESS: &str = "allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n";

struct Mouth {
    publisher: MqttPublisher,
    status: watch::Receiver<LinkStatus>,
    stop: CancellationToken,
}

fn config(port: u16) -> PublisherConfig {
    PublisherConfig {
        broker: tally_model::MqttBroker::plain("127.0.0.1", port),
        tls: tally_model::Tls::default(),
        client_id: "agent".into(),
        user: None,
        password: None,
        in_flight_max: 100,
        will: None,
        birth: None,
    }
}

fn start(config: PublisherConfig) -> Mouth {
    let (reporter, status) = StatusReporter::new("scada");
    let stop = CancellationToken::new();
    Mouth { publisher: MqttPublisher::start(config, stop.clone(), reporter), status, stop }
}

impl Mouth {
    async fn until_up(&mut self) {
        wait_for(&mut self.status, |status| matches!(status.state, LinkState::Up { .. })).await;
    }
}

fn message(topic: &str, payload: impl Into<Vec<u8>>) -> Message {
    Message { topic: topic.into(), payload: payload.into(), qos: QoS::AtLeastOnce, retain: false }
}

/// Publishes `numbers` with 200 callers at a time, which is more than may be in flight. Each caller's "sent" is held
/// against what the broker said on the wire.
async fn publish_all(publisher: &MqttPublisher, gate: &Arc<Gate>, numbers: std::ops::Range<u32>) {
    let callers = Arc::new(Semaphore::new(200));
    let mut calls = JoinSet::new();
    for number in numbers {
        let permit = callers.clone().acquire_owned().await.unwrap();
        let (publisher, gate) = (publisher.clone(), gate.clone());
        calls.spawn(async move {
            publisher.publish(message("line/1", number.to_string())).await.unwrap();
            assert!(
                gate.has_acknowledged(number.to_string().as_bytes()),
                "{number} counts as sent, but nobody said so"
            );
            drop(permit);
        });
        while let Some(call) = calls.try_join_next() {
            call.unwrap();
        }
    }
    calls.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_line_is_cut() {
    const MESSAGES: u32 = 10_000;
    let broker = Mosquitto::start_with(LOSSLESS);
    let gate = Arc::new(Gate::open_to(broker.port).await);
    let listener = Listener::start(broker.port, "line/#").await;
    let mouth = start(config(gate.port));
    let (publisher, door) = (mouth.publisher.clone(), gate.clone());
    let publishing = tokio::spawn(async move { publish_all(&publisher, &door, 0..MESSAGES).await });
    for cut in 1..=4 {
        let cut_at = u64::from(MESSAGES) * cut / 5;
        while gate.published() < cut_at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gate.slam();
        gate.open();
    }
    tokio::time::timeout(4 * PATIENCE, publishing).await.expect("published in time").unwrap();
    assert!(gate.connections() >= 5, "four cuts");
    listener.until_heard_all(MESSAGES as usize).await;
    let counts = listener.counts();
    let lost = (0..MESSAGES).filter(|number| !counts.contains_key(number.to_string().as_bytes())).count();
    let repeated: u32 = counts.values().map(|times| times - 1).sum();
    println!("{MESSAGES} messages, 4 cuts: {lost} lost, {repeated} repeated");
    assert_eq!(lost, 0);
    assert_eq!(gate.acknowledged().len(), MESSAGES as usize);
    // At most what was in flight is repeated at each cut.
    assert!(repeated <= 4 * 100, "{repeated} repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_is_killed() {
    const MESSAGES: u32 = 4_000;
    let mut broker = Mosquitto::start_with(LOSSLESS);
    let gate = Arc::new(Gate::open_to(broker.port).await);
    let mut listener = Listener::start(broker.port, "line/#").await;
    let mouth = start(config(gate.port));
    let (publisher, door) = (mouth.publisher.clone(), gate.clone());
    let publishing = tokio::spawn(async move { publish_all(&publisher, &door, 0..MESSAGES).await });
    for kill in 1..=4 {
        let kill_at = u64::from(MESSAGES) * kill / 6;
        while gate.published() < kill_at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let subscribed = listener.times_subscribed();
        broker.kill();
        // A killed mosquitto forgets its subscribers: ours is let in first, or it would miss what the broker took.
        gate.slam();
        broker.run();
        listener.until_subscribed(subscribed + 1).await;
        gate.open();
    }
    tokio::time::timeout(4 * PATIENCE, publishing).await.expect("published in time").unwrap();
    listener.until_heard_all(MESSAGES as usize).await;
    let counts = listener.counts();
    let lost: Vec<_> = (0..MESSAGES).filter(|number| !counts.contains_key(number.to_string().as_bytes())).collect();
    println!("{MESSAGES} messages, 4 kills: {} lost, {} heard", lost.len(), listener.heard().len());
    assert!(lost.is_empty(), "{lost:?}");
    assert!(gate.connections() >= 5, "four kills");
    assert_eq!(gate.acknowledged().len(), MESSAGES as usize);
}

#[tokio::test]
async fn one_caller_sees_its_order_kept_across_cuts() {
    let broker = Mosquitto::start_with(LOSSLESS);
    let gate = Gate::open_to(broker.port).await;
    let listener = Listener::start(broker.port, "line/#").await;
    let mouth = start(config(gate.port));
    for number in 0..200_u32 {
        if number % 60 == 59 {
            gate.slam();
            gate.open();
        }
        mouth.publisher.publish(message("line/1", number.to_string())).await.unwrap();
    }
    listener.until_heard_all(200).await;
    let mut heard: Vec<u32> =
        listener.heard().iter().map(|(_, payload)| String::from_utf8_lossy(payload).parse().unwrap()).collect();
    heard.dedup();
    assert_eq!(heard, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_absent_broker_is_waited_for() {
    let mut broker = Mosquitto::start();
    broker.kill();
    let mut mouth = start(config(broker.port));
    let publisher = mouth.publisher.clone();
    let early = tokio::spawn(async move { publisher.publish(message("a", "early")).await });
    let down = |status: &LinkStatus| matches!(status.state, LinkState::Down { fault: LinkFault::Line(_), .. });
    wait_for(&mut mouth.status, down).await;
    assert!(!mouth.publisher.is_connected());
    assert!(!mouth.publisher.try_publish_lossy(message("live", "1")));
    assert_eq!(mouth.publisher.dropped(), 1);
    assert!(!early.is_finished());
    broker.run();
    assert_eq!(tokio::time::timeout(PATIENCE, early).await.unwrap().unwrap(), Ok(()));
    mouth.until_up().await;
    assert!(mouth.publisher.is_connected());
}

#[tokio::test]
async fn live_values_arrive_or_are_counted() {
    let broker = Mosquitto::start_with(LOSSLESS);
    let listener = Listener::start(broker.port, "live/#").await;
    let mut mouth = start(config(broker.port));
    mouth.until_up().await;
    // One thread, no await: the connection cannot take anything meanwhile, so only the queue's 1,024 are kept.
    let queued = (0..5_000_u32).filter(|n| mouth.publisher.try_publish_lossy(message("live/1", n.to_string()))).count();
    assert_eq!((queued, mouth.publisher.dropped()), (1_024, 5_000 - 1_024));
    listener.until_heard(|heard| heard.len() == queued).await;
    assert_eq!(listener.heard()[1_023].1, b"1023");
    assert!(mouth.publisher.try_publish_lossy(message("live/1", "again")));
    assert!(!mouth.publisher.try_publish_lossy(message("live/#", "never")));
    listener.until_heard(|heard| heard.len() == queued + 1).await;
    // QoS 1 gets through beside a flood of live values.
    mouth.publisher.publish(message("live/alarm", "!")).await.unwrap();
}

/// A note has arrived when the broker answered what was sent behind it: one that stands still answers nothing.
#[tokio::test]
async fn what_a_silent_broker_was_sent_has_not_arrived() {
    let broker = Mosquitto::start_with(LOSSLESS);
    let listener = Listener::start(broker.port, "live/#").await;
    let mut mouth = start(config(broker.port));
    mouth.until_up().await;
    let queue = |place: u64| {
        assert!(mouth.publisher.try_publish_lossy(message("live/1", place.to_string())));
        assert!(mouth.publisher.try_note(place));
    };
    queue(7);
    assert_eq!(mouth.publisher.arrived(), 0, "nobody has answered yet");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while mouth.publisher.arrived() < 7 {
        assert!(tokio::time::Instant::now() < deadline, "the broker answers every ping");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(listener.heard()[0].1, b"7");
    broker.signal("STOP");
    queue(8);
    wait_for(&mut mouth.status, |status| matches!(status.state, LinkState::Down { .. })).await;
    assert_eq!(mouth.publisher.arrived(), 7);
    broker.signal("CONT");
    mouth.until_up().await;
    assert!(mouth.publisher.try_note(9));
    while mouth.publisher.arrived() < 9 {
        assert!(tokio::time::Instant::now() < deadline, "the broker answers again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn birth_and_will_are_said_by_the_right_side() {
    let broker = Mosquitto::start();
    let gate = Gate::open_to(broker.port).await;
    let listener = Listener::start(broker.port, "state").await;
    let state = |text: &str| Some(Message { retain: true, ..message("state", text) });
    let mut mouth = start(PublisherConfig { will: state("gone"), birth: state("here"), ..config(gate.port) });
    mouth.until_up().await;
    listener.until_heard(|heard| heard.len() == 1).await;
    gate.slam();
    listener.until_heard(|heard| heard.len() == 2).await;
    gate.open();
    listener.until_heard(|heard| heard.len() == 3).await;
    mouth.stop.cancel();
    tokio::time::timeout(STOP_MAX, mouth.publisher.finished()).await.expect("stops");
    assert_eq!(mouth.status.borrow().state, LinkState::Stopped);
    listener.until_heard(|heard| heard.len() == 4).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let said: Vec<_> = listener.heard().into_iter().map(|(_, payload)| String::from_utf8(payload).unwrap()).collect();
    assert_eq!(said, ["here", "gone", "here", "gone"], "after an orderly stop the broker does not say it again");
    assert_eq!(mouth.publisher.publish(message("a", "b")).await, Err(PublishError::Stopped));
}

#[tokio::test]
async fn a_refused_login_is_told_and_the_stop_answers_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start_with(&Mosquitto::password_lines(dir.path(), "tally", "secret"));
    let mut mouth = start(config(broker.port));
    let refused =
        |status: &LinkStatus| matches!(status.state, LinkState::Down { fault: LinkFault::Credentials(_), .. });
    wait_for(&mut mouth.status, refused).await;
    let publisher = mouth.publisher.clone();
    let waiting = tokio::spawn(async move { publisher.publish(message("a", "b")).await });
    tokio::task::yield_now().await;
    mouth.stop.cancel();
    assert_eq!(tokio::time::timeout(STOP_MAX, waiting).await.unwrap().unwrap(), Err(PublishError::Stopped));
    mouth.publisher.finished().await;
}

#[tokio::test]
async fn what_can_never_be_sent_is_refused_at_once() {
    let mouth = start(config(common::free_port()));
    for topic in ["", "a/+", "a/#", "a\0"] {
        let fault = mouth.publisher.publish(message(topic, "x")).await.unwrap_err();
        assert!(matches!(fault, PublishError::Topic { .. }), "{fault}");
    }
    let fault = mouth.publisher.publish(message("a", vec![0; (256 << 10) + 1])).await.unwrap_err();
    assert_eq!(fault.to_string(), "a payload for `a` has 262145 bytes, allowed are 262144");
}

#[tokio::test]
async fn the_largest_payload_gets_through() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port, "big").await;
    let mouth = start(config(broker.port));
    mouth.publisher.publish(message("big", vec![7; 256 << 10])).await.unwrap();
    listener.until_heard(|heard| heard.len() == 1).await;
    assert_eq!(listener.heard()[0].1.len(), 256 << 10);
}

#[tokio::test]
async fn two_with_one_name_are_told_and_do_not_spin() {
    let broker = Mosquitto::start();
    let (mut one, mut two) = (start(config(broker.port)), start(config(broker.port)));
    for mouth in [&mut one, &mut two] {
        wait_for(&mut mouth.status, |status| status.faults >= 1).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let faults = one.status.borrow().faults + two.status.borrow().faults;
    assert!((2..40).contains(&faults), "they throw each other out with growing pauses: {faults}");
}
