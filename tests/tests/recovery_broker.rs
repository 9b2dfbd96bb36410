//! What SCADA hears when its broker, the line to it or the agent dies: nothing is lost, live values come within ten seconds,
//! and what was missed comes behind them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tally_connector_api::StatusReporter;
use tally_connector_mqtt::{Message, MqttPublisher, Publisher, PublisherConfig, QoS};
use tally_tests::{
    Ear, Mosquitto, Process, Proxy, Simulator, Site, TIME_TO_DATA, eventually, free_port, press, simulated_press,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const LIVE: &str = "tallystick/line/press-01/load";
const HISTORY: &str = "tallystick/line/press-01/history";

fn simulation(port: u16) -> String {
    let load = "{id: load, at: \"holding:0\", type: f32, from: {ramp: {from: 0, per_second: 1.5, until: 100}}}";
    simulated_press(port, &format!("    signals:\n      - {load}\n"))
}

fn mapping(port: u16) -> String {
    press(port, "    every: 50ms\n    points:\n      - {id: load, at: \"holding:0\", type: f32, unit: \"%\"}\n")
}

/// Numbers of the readings heard, live and late. One point, so they have no gaps.
fn heard(ear: &Ear) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut live, mut late) = (BTreeSet::new(), BTreeSet::new());
    for message in ear.since(0) {
        if message.topic == LIVE {
            live.extend(message.json["n"].as_u64());
        }
        if message.topic == HISTORY {
            for one in message.json["history"].as_array().unwrap() {
                assert!(one["r"].is_string() && one["r"] == one["t"], "Modbus knows one time: {one}");
                late.extend(one["n"].as_u64());
            }
        }
    }
    (live, late)
}

/// The agent is held until SCADA is back: what is published before reaches nobody, and the agent could not know.
async fn restart(broker: &mut Mosquitto, ear: &Ear, agent: &Process) {
    let often = ear.subscriptions();
    agent.hold().await;
    broker.restart().await;
    ear.subscribed(often + 1).await;
    agent.signal("CONT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_scada_missed_comes_later_also_after_kill_9_of_broker_and_agent() {
    let outside = tempfile::tempdir().unwrap();
    let port = free_port();
    let _sim = Simulator::start(outside.path(), &simulation(port)).await;
    let mut broker = Mosquitto::start(outside.path()).await;
    let site = Site::new(&mapping(port), Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let mut agent = site.start_agent().await;
    ear.until(0, LIVE, |json| json["n"].as_u64() >= Some(40)).await;

    broker.kill().await;
    sleep(Duration::from_secs(2)).await;
    agent.kill().await;
    let mut agent = site.start_agent().await;
    sleep(Duration::from_secs(2)).await;
    let missed = site.readings("press-01").await;
    let mark = ear.mark();
    restart(&mut broker, &ear, &agent).await;
    let back = Instant::now();
    ear.until(mark, LIVE, |json| json["n"].as_u64() >= Some(missed)).await;
    let took = back.elapsed();
    eprintln!("broker killed: live values again after {took:.1?}");
    assert!(took < TIME_TO_DATA, "{took:?}");
    every_number_was_heard(&ear).await;
    assert!(heard(&ear).1.contains(&(missed - 1)), "what was missed came as history");
    assert_eq!(site.counter("history_lost").await, 0);
    eventually("an empty spool", async || (site.counter("spool_bytes").await == 0).then_some(())).await;
    assert!(agent.is_running(), "{}", agent.tail());
}

/// A line that swallows takes live values along that the agent believed sent: they come again.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_vanished_in_a_half_open_line_come_again() {
    let outside = tempfile::tempdir().unwrap();
    let port = free_port();
    let _sim = Simulator::start(outside.path(), &simulation(port)).await;
    let broker = Mosquitto::start(outside.path()).await;
    let proxy = Proxy::start(broker.port).await;
    let site = Site::new(&mapping(port), Some(&format!("mqtt://127.0.0.1:{}", proxy.port))).await;
    // The ear listens at the broker itself: only the agent's line is bad.
    let ear = Ear::listen(broker.port).await;
    let mut agent = site.start_agent().await;
    ear.until(0, LIVE, |json| json["n"].as_u64() >= Some(40)).await;
    proxy.swallow(true);
    sleep(Duration::from_secs(9)).await;
    let (mark, missed) = (ear.mark(), site.readings("press-01").await);
    proxy.swallow(false);
    // What still sits in the dead connections must not arrive after all.
    proxy.cut();
    let back = Instant::now();
    ear.until(mark, LIVE, |json| json["n"].as_u64() >= Some(missed)).await;
    let took = back.elapsed();
    eprintln!("half-open line to the broker: live values again after {took:.1?}");
    assert!(took < TIME_TO_DATA, "{took:?}");
    every_number_was_heard(&ear).await;
    assert!(agent.is_running(), "{}", agent.tail());
}

/// From the first number heard to the last, none is missing.
async fn every_number_was_heard(ear: &Ear) {
    eventually("every number, live or as history", async || {
        let (live, late) = heard(ear);
        let all: BTreeSet<_> = live.union(&late).copied().collect();
        let (first, last) = (*all.first()?, *live.last()?);
        (all.range(first..=last).count() as u64 == last - first + 1).then_some(())
    })
    .await;
}

/// The publisher alone, against mosquitto and counted by mosquitto's own subscriber.
#[tokio::test(flavor = "multi_thread")]
async fn four_cuts_lose_none_of_a_hundred_thousand_messages() {
    const MESSAGES: u32 = 100_000;
    let outside = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start_with(outside.path(), "max_queued_messages 0\nmax_inflight_messages 0\n").await;
    let proxy = Proxy::start(broker.port).await;
    let counter = broker.subscriber("count/#");
    let (quit, config) = (CancellationToken::new(), publisher(proxy.port));
    let publisher = MqttPublisher::start(config, quit.clone(), StatusReporter::new("test").0);
    // The subscription stands when the first message is heard.
    let mut counter = counter;
    let hello = publisher.clone();
    let hello = tokio::spawn(async move {
        loop {
            hello.publish(message("hello".to_owned())).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(counter.line().await, "hello");
    hello.abort();

    let send = async {
        let all = (0..MESSAGES).map(|number| {
            let publisher = publisher.clone();
            async move {
                publisher.publish(message(number.to_string())).await.unwrap();
                number
            }
        });
        let mut sent = futures_util::stream::iter(all).buffered(64);
        let mut cuts = 0;
        while let Some(number) = sent.next().await {
            if number == MESSAGES / 5 * (cuts + 1) && cuts < 4 {
                cuts += 1;
                proxy.cut();
            }
        }
        assert_eq!(cuts, 4);
    };
    let (mut found, mut different, mut repeated) = (vec![false; MESSAGES as usize], 0, 0);
    // The last one may be heard before others that a cut has put behind it. One that never comes is waited for in vain.
    let count = async {
        while different < MESSAGES {
            let line = counter.line().await;
            let Ok(number) = line.parse::<usize>() else { continue };
            let is_new = !std::mem::replace(&mut found[number], true);
            different += u32::from(is_new);
            repeated += u32::from(!is_new);
        }
    };
    tokio::join!(send, count);
    eprintln!("{MESSAGES} messages, four cuts: none lost, {repeated} repeated, {} connections", proxy.accepted());
    assert!(proxy.accepted() >= 5, "the line was cut");
    quit.cancel();
    publisher.finished().await;
}

fn message(payload: String) -> Message {
    Message { topic: "count/a".to_owned(), payload: payload.into_bytes(), qos: QoS::AtLeastOnce, retain: false }
}

fn publisher(port: u16) -> PublisherConfig {
    PublisherConfig {
        broker: tally_model::MqttBroker::plain("127.0.0.1", port),
        tls: tally_model::Tls::default(),
        client_id: "cut".to_owned(),
        user: None,
        password: None,
        in_flight_max: 64,
        will: None,
        birth: None,
    }
}
