//! Power cuts and failing disks at every operation: nothing acknowledged is lost, nothing is executed twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, config, in_time, plant, state_of, totals_are_zero};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tally_journal::testing::{DiskFault, MemStorage};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{
    Committed, Engine, FlushLimits, IndexDisk, LogDisk, NodeState, NotNow, OpenLedgerError, RunLimits, SubmitError,
};

const STATEMENTS: u64 = 4;

fn open_on(plant: &Plant, log: MemStorage, index: &IndexDisk) -> Result<Engine, OpenLedgerError> {
    let mut config = config(plant, Path::new("/nowhere"));
    config.clock = TestClock::at(START);
    Engine::open_on(config, LogDisk::new(log), index)
}

fn fresh_index() -> IndexDisk {
    IndexDisk::Backend(Arc::new(|_| Box::new(InMemoryBackend::new())))
}

fn statements(plant: &Plant) -> Vec<Vec<u8>> {
    (0..STATEMENTS).map(|number| plant.worn(0, number, &format!("fault-{number}")).unwrap()).collect()
}

/// Submits all, one after the other; those acknowledged come back with their receipts. Panics when a failed node takes more.
async fn submit_all(engine: &Engine, statements: &[Vec<u8>]) -> Vec<(Vec<u8>, Committed, Vec<u8>)> {
    let mut acknowledged = Vec::new();
    let mut failed = false;
    for statement in statements {
        match engine.submit(statement.clone()).await {
            Ok(committed) => {
                assert!(!failed, "a failed node took a statement");
                let receipt = engine.receipt(&committed).unwrap();
                acknowledged.push((statement.clone(), committed, receipt));
            }
            Err(SubmitError::NotNow(NotNow::Failed(_))) => failed = true,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(failed, matches!(engine.state(), NodeState::Failed(_)));
    acknowledged
}

/// After the restart: what was acknowledged is there under the same receipt, and the rest can be submitted again.
async fn check(engine: &Engine, statements: &[Vec<u8>], acknowledged: &[(Vec<u8>, Committed, Vec<u8>)]) {
    for (statement, committed, receipt) in acknowledged {
        let (found, bytes) = engine.find(&committed.id).unwrap().expect("an acknowledged statement is lost");
        assert_eq!((&found, &bytes), (committed, statement));
        assert_eq!(&engine.receipt(&found).unwrap(), receipt);
    }
    let again = submit_all(engine, statements).await;
    assert!(again.iter().all(|(_, committed, _)| committed.refusal == 0), "executed twice: {again:?}");
    // Genesis and each statement once, in order, each with its own order.
    let entries: Vec<_> = again.iter().map(|(_, committed, _)| committed.entry).collect();
    assert_eq!(entries, (1..=STATEMENTS).collect::<Vec<_>>());
    assert_eq!(engine.store().head().unwrap().checkpoint.size, STATEMENTS + 1);
    assert_eq!(state_of(engine, &format!("mo-{STATEMENTS}")), "reported");
    assert_eq!(state_of(engine, &format!("mo-{}", STATEMENTS + 1)), "none");
    assert!(totals_are_zero(engine));
}

/// Fails operation after operation of the log's disk until a whole run meets no failure; gives how many there were.
async fn fail_each_operation(fault: DiskFault) -> u64 {
    let plant = plant();
    let statements = statements(&plant);
    for operation in 1.. {
        let disk = MemStorage::new();
        open_on(&plant, disk.clone(), &fresh_index()).unwrap().close();
        let disk = disk.restart();
        let engine = open_on(&plant, disk.clone(), &fresh_index()).unwrap();
        disk.fail_operation(operation, fault);
        let acknowledged = submit_all(&engine, &statements).await;
        engine.close();
        drop(engine);
        for seed in 0..3 {
            let disk = if seed == 0 { disk.restart() } else { disk.power_cut(seed + operation) };
            let engine = open_on(&plant, disk, &fresh_index()).unwrap();
            check(&engine, &statements, &acknowledged).await;
            engine.close();
        }
        if acknowledged.len() == statements.len() {
            return operation - 1;
        }
    }
    0
}

#[tokio::test]
async fn an_io_error_at_any_operation() {
    assert!(fail_each_operation(DiskFault::Io).await >= 2 * STATEMENTS);
}

#[tokio::test]
async fn a_full_disk_at_any_operation() {
    assert!(fail_each_operation(DiskFault::NoSpace).await >= 2 * STATEMENTS);
}

#[tokio::test]
async fn a_power_cut_at_any_operation() {
    assert!(fail_each_operation(DiskFault::PowerOff).await >= 2 * STATEMENTS);
}

#[tokio::test]
async fn a_power_cut_while_the_ledger_begins() {
    let plant = plant();
    let mut begun_at_once = false;
    for operation in 1..40 {
        let disk = MemStorage::new();
        disk.fail_operation(operation, DiskFault::PowerOff);
        begun_at_once = open_on(&plant, disk.clone(), &fresh_index()).map(|engine| engine.close()).is_ok();
        let engine = open_on(&plant, disk.power_cut(operation), &fresh_index()).unwrap();
        check(&engine, &statements(&plant), &[]).await;
        engine.close();
        if begun_at_once {
            break;
        }
    }
    assert!(begun_at_once);
}

#[tokio::test]
async fn a_full_disk_stops_the_node_and_room_brings_it_back() {
    let plant = plant();
    let disk = MemStorage::new();
    let engine = open_on(&plant, disk.clone(), &fresh_index()).unwrap();
    let statements = statements(&plant);
    let first = submit_all(&engine, &statements[..1]).await;
    disk.set_bytes_max(Some(0));
    let none = submit_all(&engine, &statements[1..]).await;
    assert!(none.is_empty());
    let NodeState::Failed(reason) = engine.state() else { panic!("{:?}", engine.state()) };
    assert!(reason.contains("cannot write"), "{reason}");
    // Room alone does not help: what is on the disk is certain only after opening it again.
    disk.set_bytes_max(None);
    assert!(submit_all(&engine, &statements).await.is_empty());
    engine.close();
    drop(engine);
    let engine = open_on(&plant, disk.restart(), &fresh_index()).unwrap();
    check(&engine, &statements, &first).await;
}

/// An index whose disk fails after so many writes and syncs.
#[derive(Debug)]
struct Failing {
    inner: InMemoryBackend,
    left: Arc<AtomicI64>,
}

impl Failing {
    fn disk(left: &Arc<AtomicI64>) -> IndexDisk {
        let left = Arc::clone(left);
        let make = move |_: &str| -> Box<dyn StorageBackend> {
            Box::new(Self { inner: InMemoryBackend::new(), left: Arc::clone(&left) })
        };
        IndexDisk::Backend(Arc::new(make))
    }

    fn count(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(io::Error::other("simulated I/O error")) }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.count()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.count()?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.count()?;
        self.inner.write(offset, data)
    }
}

#[tokio::test]
async fn a_failing_index_stops_the_node_and_the_log_brings_everything_back() {
    let plant = plant();
    let statements = statements(&plant);
    let mut failures = 0;
    for operations in 0.. {
        let (disk, left) = (MemStorage::new(), Arc::new(AtomicI64::new(i64::MAX)));
        let engine = open_on(&plant, disk.clone(), &Failing::disk(&left)).unwrap();
        left.store(operations, Ordering::SeqCst);
        let acknowledged = submit_all(&engine, &statements).await;
        engine.close();
        let failed = matches!(engine.state(), NodeState::Failed(_));
        drop(engine);
        let engine = open_on(&plant, disk.restart(), &fresh_index()).unwrap();
        check(&engine, &statements, &acknowledged).await;
        engine.close();
        failures += u32::from(failed);
        if !failed {
            break;
        }
    }
    // Blocks are written to the index in memory; its disk is touched when it is made durable, at the latest when closing.
    assert!(failures > 0);
}

/// Opens a ledger on an index whose disk fails after so many operations behind that; each block goes to that disk at once.
fn open_failing(plant: &Plant, log: &MemStorage, operations: i64, aside: bool) -> Engine {
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let mut config = config(plant, Path::new("/nowhere"));
    config.clock = TestClock::at(START);
    config.flush = FlushLimits { blocks: 1, entries: 1, runs: RunLimits { ids: 1, merge: 2 }, aside };
    let engine = Engine::open_on(config, LogDisk::new(log.clone()), &Failing::disk(&left)).unwrap();
    left.store(operations, Ordering::SeqCst);
    engine
}

/// The block is in the log all the same, and is found when the ledger is opened.
async fn is_in_the_log(plant: &Plant, log: &MemStorage, statement: Vec<u8>) {
    let engine = open_on(plant, log.restart(), &fresh_index()).unwrap();
    assert_eq!(engine.submit(statement).await.unwrap().entry, 1);
    engine.close();
}

/// The index fails alone: whoever waits is told at once, and the node says so although nobody sends anything more.
#[tokio::test]
async fn a_failing_index_is_told_without_another_statement() {
    let plant = plant();
    let mut met = 0;
    for operations in 0..6 {
        let disk = MemStorage::new();
        let engine = open_failing(&plant, &disk, operations, false);
        let statement = plant.worn(0, 0, "bearing").unwrap();
        let answer = in_time("an answer to the submitter", engine.submit(statement.clone())).await;
        let mut state = engine.watch_state();
        if answer.is_err() {
            assert!(matches!(answer, Err(SubmitError::NotNow(NotNow::Failed(_)))), "{answer:?}");
            let failed = state.wait_for(|state| matches!(state, NodeState::Failed(_)));
            in_time("the node to know that it failed", failed).await.unwrap();
            met += 1;
        }
        engine.close();
        drop(engine);
        is_in_the_log(&plant, &disk, statement).await;
    }
    assert!(met > 2, "the index met {met} failures");
}

/// It fails while blocks go on: what was answered is in the log, and the node says what happened and takes nothing more.
#[tokio::test]
async fn an_index_that_fails_aside_stops_the_node() {
    let plant = plant();
    for operations in 0..6 {
        let disk = MemStorage::new();
        let engine = open_failing(&plant, &disk, operations, true);
        let [first, second] = [0, 1].map(|n| plant.worn(0, n, "bearing").unwrap());
        let answer = in_time("an answer to the submitter", engine.submit(first.clone())).await;
        assert!(matches!(answer, Ok(_) | Err(SubmitError::NotNow(NotNow::Failed(_)))), "{answer:?}");
        let mut state = engine.watch_state();
        let failed = state.wait_for(|state| matches!(state, NodeState::Failed(_)));
        let NodeState::Failed(why) = in_time("the node to know that it failed", failed).await.unwrap().clone() else {
            unreachable!()
        };
        assert!(why.contains("the index: ") || why.contains("simulated I/O error"), "{why}");
        let answer = engine.submit(second).await;
        assert!(matches!(answer, Err(SubmitError::NotNow(NotNow::Failed(_)))), "{answer:?}");
        engine.close();
        drop(engine);
        is_in_the_log(&plant, &disk, first).await;
    }
}

#[tokio::test]
async fn an_index_damaged_anywhere_is_rebuilt() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = common::open(&plant, dir.path());
    let statements = statements(&plant);
    let acknowledged = submit_all(&engine, &statements).await;
    engine.close();
    drop(engine);
    let index = dir.path().join("state.redb");
    let whole = std::fs::read(&index).unwrap();
    let mut random = tally_journal::testing::Random(7);
    for _ in 0..30 {
        let mut damaged = whole.clone();
        for _ in 0..=random.below(40) {
            let place = random.below(damaged.len());
            damaged[place] ^= random.byte();
        }
        damaged.truncate(if random.below(4) == 0 { random.below(damaged.len()) } else { damaged.len() });
        std::fs::write(&index, damaged).unwrap();
        let engine = common::open(&plant, dir.path());
        check(&engine, &statements, &acknowledged).await;
        engine.close();
    }
}
