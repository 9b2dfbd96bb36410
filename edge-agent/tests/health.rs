//! A disk that hangs: the agent says so while it lasts, and is well again afterwards without a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, agent_key, wait};
use std::sync::Arc;
use tally_connector_api::{Batch, SystemClock};
use tally_edge_agent::ingest::{Ingest, VaultLimits};
use tally_edge_agent::seal::Sealer;
use tally_edge_agent::status::Status;
use tally_edge_agent::store::{Journals, Sizes, Stores, open_journal};
use tally_edge_agent::watch::Watches;
use tally_journal::Options;
use tally_journal::testing::MemStorage;
use tally_model::{DeviceId, PartyId, PointId, Quality, Sample, Timestamp, Unit, Value};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

fn ingest(vault: &MemStorage, status: &Arc<Status>) -> Ingest<MemStorage> {
    let journal = |store, disk| open_journal(store, disk, Options::default()).unwrap();
    let journals = Journals {
        vault: journal("vault", vault.clone()),
        outbox: journal("outbox", MemStorage::new()),
        receipts: journal("receipts", MemStorage::new()),
        unsealed: journal("unsealed triggers", MemStorage::new()),
        dead: journal("dead letters", MemStorage::new()),
        secret: [9; 32].into(),
    };
    let sizes = Sizes { vault_bytes_max: 1 << 30, outbox_bytes_max: 1 << 20 };
    let sealer =
        || Sealer { agent: PartyId::try_new("agent-01").unwrap(), ledger: LEDGER.to_owned(), key: agent_key().into() };
    let mut watches = Watches::new(&[]);
    let (stores, _) = Stores::recover(journals, sizes, &mut watches, &sealer()).unwrap();
    Ingest {
        stores: Arc::new(stores),
        watches,
        sealer: sealer(),
        status: status.clone(),
        sealed: watch::channel(0).0,
        live: None,
        clock: Arc::new(SystemClock::default()),
        limits: VaultLimits { days: 90, bytes_max: 1 << 30 },
        batch: None,
        changes: mpsc::channel(1).1,
        late: mpsc::channel(1).1,
    }
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
