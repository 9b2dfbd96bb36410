//! A disk that hangs: the agent says so while it lasts, and is well again afterwards without a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, agent_key, wait};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tally_connector_api::{Batch, SystemClock};
use tally_edge_agent::ingest::{Ingest, VaultLimits};
use tally_edge_agent::seal::Sealer;
use tally_edge_agent::status::Status;
use tally_edge_agent::store::{Journals, Sizes, Stores, open_journal};
use tally_edge_agent::watch::Watches;
use tally_journal::testing::MemStorage;
use tally_journal::{Options, SegmentName, Storage};
use tally_model::{DeviceId, PartyId, PointId, Quality, Sample, Timestamp, Unit, Value};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// A disk in memory whose syncs can be made to hang.
#[derive(Clone)]
struct HangingDisk {
    disk: MemStorage,
    hangs: Arc<AtomicBool>,
}

impl Storage for HangingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        self.disk.create(segment)
    }

    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(segment, offset, bytes)
    }

    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        while self.hangs.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.disk.sync(segment)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(segment, offset, into)
    }

    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        self.disk.truncate(segment, length)
    }

    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        self.disk.delete(segment)
    }

    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        self.disk.len(segment)
    }
}

fn ingest(hangs: &Arc<AtomicBool>, status: &Arc<Status>) -> Ingest<HangingDisk> {
    let journal = |store| {
        let disk = HangingDisk { disk: MemStorage::new(), hangs: hangs.clone() };
        open_journal(store, disk, Options::default()).unwrap()
    };
    let journals = Journals {
        vault: journal("vault"),
        outbox: journal("outbox"),
        receipts: journal("receipts"),
        dead: journal("dead letters"),
        secret: [9; 32].into(),
    };
    let sizes = Sizes { vault_bytes_max: 1 << 30, outbox_bytes_max: 1 << 20 };
    let sealer =
        || Sealer { agent: PartyId::try_new("agent-01").unwrap(), ledger: LEDGER.to_owned(), key: agent_key() };
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
        changes: mpsc::channel(1).1,
        late: mpsc::channel(1).1,
    }
}

fn batch() -> Batch {
    let sample = Sample {
        point: PointId::try_new("p").unwrap(),
        outcome: Ok(Value::Integer(1)),
        unit: Unit::one(),
        quality: Quality::Good,
        source_time: Timestamp::default(),
        received: Timestamp::default(),
    };
    Batch { device: DeviceId::try_new("press-01").unwrap(), samples: vec![sample] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_not_ready_and_readings_wait_for_it() {
    let (hangs, status) = (Arc::new(AtomicBool::new(false)), Arc::new(Status::default()));
    let ingest = ingest(&hangs, &status);
    let (sink, source) = mpsc::channel(8);
    let runtime = Handle::current();
    let thread = std::thread::spawn(move || ingest.run(source, &runtime));
    sink.send(batch()).await.unwrap();
    wait("a reading", || status.count.readings.get() == 1).await;
    assert_eq!(status.not_ready(), Vec::<String>::new());

    hangs.store(true, Ordering::Relaxed);
    sink.send(batch()).await.unwrap();
    wait("a word about the disk", || status.not_ready().iter().any(|reason| reason.contains("made durable"))).await;
    assert!(status.is_alive(), "a restart would not make the disk faster");
    assert!(status.metrics().unwrap().contains("\ntally_agent_ready 0\n"));
    // The channel is bounded: it fills, and the connectors wait.
    for _ in 0..8 {
        sink.try_send(batch()).unwrap();
    }
    assert!(sink.try_send(batch()).is_err());

    hangs.store(false, Ordering::Relaxed);
    wait("a ready agent", || status.not_ready().is_empty()).await;
    wait("what waited", || status.count.readings.get() == 10).await;
    drop(sink);
    thread.join().unwrap().unwrap();
}
