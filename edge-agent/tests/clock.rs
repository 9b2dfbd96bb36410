//! The computer's clock jumps, both ways and by years: readings go on, their times never fall, triggers stay true and in order, and
//! nothing is deleted for an age that only a leap gave it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Node, Site, Wall, check_disclosure, check_story, rule};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tally_connector_api::{Batch, Clock, ClockHealth, SystemClock};
use tally_edge_agent::ingest::Ingest;
use tally_edge_agent::store::open_journal;
use tally_journal::Options;
use tally_journal::testing::MemStorage;
use tally_model::{ClockState, DeviceId, PointId, Priority, Quality, Sample, Timestamp, Unit, Value};

const HOUR: i64 = 3_600_000_000;
const YEAR: i64 = 8_766 * HOUR;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_clock_does_the_story_is_one() {
    let (node, wall) = (Node::start().await, Wall::default());
    let site = Site::new(&node.address);
    let agent = site.start_by(wall.clock());
    node.wait_for(2).await;
    // Set right after a start without battery; back again; and far too far.
    for step in [3 * HOUR, -5 * HOUR, 20 * YEAR] {
        wall.step(step);
        let (triggers, readings) =
            (node.bodies().len(), agent.status().await["counters"]["readings"].as_u64().unwrap());
        // A round of the recording takes 1.2 s: whoever stood still for hours would not bring two more triggers.
        node.wait_for(triggers + 2).await;
        agent.wait_for("readings", readings + 30).await;
    }
    let status = agent.wait_for("clock_leapt_seconds", 1).await;
    assert_eq!(status["ready"], true, "{status:#}");
    assert!(status["alarms"].to_string().contains("leapt forward by"), "{status:#}");

    // The clock is set right: receive times run on where they were, and it is said.
    wall.step(-20 * YEAR);
    let triggers = node.bodies().len();
    node.wait_for(triggers + 2).await;
    let status = agent.wait_for("clock_ahead_seconds", 19 * 8_766 * 3_600).await;
    assert!(status["alarms"].to_string().contains("behind the readings on disk"), "{status:#}");
    agent.stop().await;

    // A restart knows of it from the disk.
    let agent = site.start_by(wall.clock());
    let triggers = node.bodies().len();
    node.wait_for(triggers + 2).await;
    agent.wait_for("clock_ahead_seconds", 19 * 8_766 * 3_600).await;
    // Times that never fall, numbers without gaps, raised and cleared in turn; and each follows from its readings.
    let (bodies, ids) = (node.bodies(), node.ids());
    check_story(&bodies);
    for (id, body) in ids.into_iter().zip(&bodies).take(triggers) {
        let disclosure = agent.client.get_bytes(&format!("/disclosures/{id}")).await.unwrap();
        check_disclosure(body, &disclosure, &rule(Priority::High));
    }
    agent.stop().await;
}

/// The computer's clock, and what a test says of it.
struct Told(SystemClock, Arc<Mutex<ClockState>>);

impl Clock for Told {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn health(&self) -> ClockHealth {
        ClockHealth { wall: *self.1.lock().unwrap(), ..ClockHealth::default() }
    }
}

/// A trigger that is sealed while the clock is so.
async fn sealed_while(node: &Node, state: ClockState) {
    let before = node.bodies().len();
    for more in 1.. {
        node.wait_for(before + more).await;
        // What was sealed before the agent looked again says what was true then.
        if node.bodies()[before..].iter().any(|body| body.clock == Some(state)) {
            return;
        }
        assert!(more < 20, "{more} triggers say something else than {state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trigger_says_how_good_the_clock_was() {
    let (node, told) = (Node::start().await, Arc::new(Mutex::new(ClockState::Synchronised { error_us: 1_250 })));
    let site = Site::new(&node.address);
    let asked = told.clone();
    let agent = site.start_by(Box::new(|latest| Arc::new(Told(SystemClock::starting_at(latest), asked))));
    let metrics = async || String::from_utf8(agent.client.get_bytes("/metrics").await.unwrap()).unwrap();

    node.wait_for(1).await;
    // The first one too: the agent looks before it takes anything in.
    assert_eq!(node.bodies()[0].clock, Some(ClockState::Synchronised { error_us: 1_250 }));
    let clock = agent.status().await["clock"].clone();
    assert_eq!(clock, json!({"state": "synchronised", "error_us": 1_250, "text": "synchronised, ± 1.250 ms"}));
    let text = metrics().await;
    assert!(text.contains("\ntally_agent_clock_synchronised 1\n"), "{text}");
    assert!(text.contains("\ntally_agent_clock_error_seconds 0.00125\n"), "{text}");

    *told.lock().unwrap() = ClockState::FreeRunning;
    sealed_while(&node, ClockState::FreeRunning).await;
    assert_eq!(agent.status().await["clock"]["state"], "free-running");
    let text = metrics().await;
    assert!(text.contains("\ntally_agent_clock_synchronised 0\n"), "{text}");
    assert!(!text.contains("clock_error_seconds"), "nobody promises a bound\n{text}");

    *told.lock().unwrap() = ClockState::Unknown;
    sealed_while(&node, ClockState::Unknown).await;
    assert_eq!(agent.status().await["clock"]["state"], "unknown");
    assert!(metrics().await.contains("\ntally_agent_clock_synchronised 0\n"), "nobody says that it is kept right");

    *told.lock().unwrap() = ClockState::Synchronised { error_us: 7 };
    sealed_while(&node, ClockState::Synchronised { error_us: 7 }).await;
    check_story(&node.bodies());
    agent.stop().await;
}

/// An ingest over disks in memory whose vault begins a new segment every few batches.
fn ingest(wall: &Wall) -> Ingest<MemStorage> {
    let journal = |store| {
        let options = Options { segment_bytes_max: 3_000, ..Options::default() };
        open_journal(store, MemStorage::new(), options).unwrap()
    };
    common::ingest::ingest(journal, Arc::default(), wall.clock()(Timestamp::default()))
}

fn batch(now: Timestamp) -> Batch {
    let sample = |place: i64| Sample {
        seal: None,
        point: PointId::try_new("p").unwrap(),
        outcome: Ok(Value::Integer(place)),
        unit: Unit::one(),
        quality: Quality::Good,
        source_time: now,
        received: now,
    };
    Batch { device: DeviceId::try_new("press-01").unwrap(), samples: (0..100).map(sample).collect(), origin: None }
}

#[test]
fn a_leap_forward_deletes_nothing_and_time_that_passes_does() {
    let wall = Wall::default();
    let mut ingest = ingest(&wall);
    for _ in 0..20 {
        ingest.take([batch(ingest.clock.now())]).unwrap();
    }
    ingest.sync().unwrap();
    wall.step(20 * YEAR);
    ingest.take([batch(ingest.clock.now())]).unwrap();
    ingest.sync().unwrap();
    ingest.retain().unwrap();
    assert_eq!(ingest.stores.vault().first_place(), 0, "a leap makes nothing old");
    // Of the next life the leap is none: there was a night of twenty years between the two, for all it knows.
    ingest.clock = wall.clock()(ingest.stores.vault().latest());
    ingest.retain().unwrap();
    assert!(ingest.stores.vault().first_place() > 10, "what is old goes");
    assert_eq!(ingest.stores.vault().next_number(&DeviceId::try_new("press-01").unwrap()), 2_100);
}
