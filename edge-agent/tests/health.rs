//! A disk that hangs: the agent says so while it lasts, and is well again afterwards without a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::wait;
use std::sync::Arc;
use tally_connector_api::{Batch, SystemClock};
use tally_edge_agent::ingest::Ingest;
use tally_edge_agent::status::Status;
use tally_edge_agent::store::open_journal;
use tally_journal::Options;
use tally_journal::testing::MemStorage;
use tally_model::{DeviceId, PointId, Quality, Sample, Timestamp, Unit, Value};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

fn ingest(vault: &MemStorage, status: &Arc<Status>) -> Ingest<MemStorage> {
    let disk = |store| if store == "vault" { vault.clone() } else { MemStorage::new() };
    let journal = |store| open_journal(store, disk(store), Options::default()).unwrap();
    common::ingest::ingest(journal, status.clone(), Arc::new(SystemClock::default()))
}

fn batch() -> Batch {
    let sample = Sample {
        seal: None,
        point: PointId::try_new("p").unwrap(),
        outcome: Ok(Value::Integer(1)),
        unit: Unit::one(),
        quality: Quality::Good,
        source_time: Timestamp::default(),
        received: Timestamp::default(),
    };
    Batch { device: DeviceId::try_new("press-01").unwrap(), samples: vec![sample], origin: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_not_ready_and_readings_wait_for_it() {
    let (vault, status) = (MemStorage::new(), Arc::new(Status::default()));
    let ingest = ingest(&vault, &status);
    let (sink, source) = mpsc::channel(8);
    let runtime = Handle::current();
    let thread = std::thread::spawn(move || ingest.run(source, &runtime));
    sink.send(batch()).await.unwrap();
    wait("a reading", || status.count.readings.get() == 1).await;
    assert_eq!(status.not_ready(), Vec::<String>::new());

    vault.set_hanging(true);
    sink.send(batch()).await.unwrap();
    wait("a word about the disk", || status.not_ready().iter().any(|reason| reason.contains("made durable"))).await;
    assert!(status.is_alive(), "a restart would not make the disk faster");
    assert!(status.metrics(&[], Timestamp::default()).unwrap().contains("\ntally_agent_ready 0\n"));
    // The channel is bounded: it fills, and the connectors wait.
    for _ in 0..8 {
        sink.try_send(batch()).unwrap();
    }
    assert!(sink.try_send(batch()).is_err());

    vault.set_hanging(false);
    wait("a ready agent", || status.not_ready().is_empty()).await;
    wait("what waited", || status.count.readings.get() == 10).await;
    drop(sink);
    thread.join().unwrap().unwrap();
}
