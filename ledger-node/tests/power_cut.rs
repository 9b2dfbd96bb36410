//! The whole store loses power: log, index and trees stand on one disk, and what neither synced survives in part and in any order.
//! After each cut the ledger is opened again and looked at from outside: log, tree, state recomputed from the log, totals,
//! and every receipt that was ever given.
//!
//! Seeded: `TALLY_TEST_SEED=… cargo test -p tally-ledger-node --test power_cut` repeats one run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "common/outside.rs"]
mod outside;
#[path = "common/seeds.rs"]
mod seeds;

use common::{OnMem, START, TestClock, config, fingerprint, in_time, plant, totals_are_zero};
use outside::{audit, recompute};
use seeds::{Named, seeds};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tally_evidence::StatementId;
use tally_journal::testing::{Careless, DiskFault, MemStorage, Random, Slip};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{
    Committed, Engine, FlushLimits, IndexDisk, LogDisk, NodeState, NotNow, OpenLedgerError, RunLimits, SubmitError,
};

/// Seeded runs, three lives each.
const RUNS: u64 = 30;
/// So that the index is made durable while statements come, not only at the end, and their ids become runs that are merged.
const FLUSH: FlushLimits =
    FlushLimits { blocks: 3, entries: 1_000, runs: RunLimits { ids: 2, merge: 2 }, aside: false };

/// Bytes of a segment of the log.
const SEGMENT_BYTES: u64 = 6_000;

/// A node's machine: its disk, what its users were told, and what they still want.
struct Machine {
    plant: Plant,
    disk: MemStorage,
    clock: Arc<TestClock>,
    random: Random,
    /// Statements in the order in which their signers number them.
    script: Vec<Vec<u8>>,
    told: BTreeMap<usize, (Committed, Vec<u8>)>,
    /// How often an index had to be thrown away.
    thrown_away: Arc<AtomicU32>,
    cuts: u32,
    slip: Slip,
    /// Whether a thread of its own writes the index: a seed does not give the same run again then, for the two threads mix.
    aside: bool,
}

impl Machine {
    fn new(seed: u64, statements: usize) -> Self {
        let plant = plant();
        // Two agents, each numbering its own triggers.
        let worn = |n: usize| plant.worn(n % 2, (n / 2) as u64, &format!("fault-{n}")).unwrap();
        let script = (0..statements).map(worn).collect();
        let (disk, clock, told) = (MemStorage::new(), TestClock::at(START), BTreeMap::new());
        let (random, thrown_away) = (Random(seed), Arc::default());
        Machine { plant, disk, clock, random, script, told, thrown_away, cuts: 0, slip: Slip::None, aside: false }
    }

    fn open(&self) -> Result<Engine, OpenLedgerError> {
        let mut config = config(&self.plant, Path::new("/nowhere"));
        config.clock = Arc::<TestClock>::clone(&self.clock);
        config.flush = FlushLimits { aside: self.aside, ..FLUSH };
        let (disk, thrown_away, opened) = (self.disk.clone(), Arc::clone(&self.thrown_away), AtomicU32::new(0));
        let index = IndexDisk::Backend(Arc::new(move |name| {
            if name == "state.redb" && opened.fetch_add(1, Ordering::SeqCst) > 0 {
                // With the power off this fails, and so does everything that follows.
                let is_removed = disk.remove_file("state.redb").is_ok();
                thrown_away.fetch_add(u32::from(is_removed), Ordering::SeqCst);
            }
            Box::new(OnMem(disk.file(name)))
        }));
        let log = LogDisk::new(Careless::new(self.disk.clone(), self.slip));
        // Segments of a few blocks: cuts fall into sealing them, and into keeping and reading what is known of them.
        let log = log.with_segments(SEGMENT_BYTES).reading_last_segment();
        Engine::open_on(config, log, &index)
    }

    /// Submits the next statements of the script, both signers at once now and then, until `count` went or it fails.
    async fn submit(&mut self, engine: &Engine, count: usize) {
        let mut left = count;
        while left > 0 && self.told.len() < self.script.len() {
            // A signer's next statement goes when the one before was answered.
            let next = (0..self.script.len()).find(|n| !self.told.contains_key(n)).unwrap();
            let together = 1 + self.random.below(2.min(left));
            let batch: Vec<_> = (next..self.script.len().min(next + together)).collect();
            let answers = batch.iter().map(|n| engine.submit(self.script[*n].clone()));
            let answers = futures_util::future::join_all(answers).await;
            let is_failed = answers.iter().any(Result::is_err);
            for (n, answer) in batch.into_iter().zip(answers) {
                match answer {
                    Ok(committed) => self.hear(engine, n, committed),
                    Err(SubmitError::NotNow(NotNow::Failed(_) | NotNow::Stopping)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            if is_failed {
                return;
            }
            left -= together.min(left);
        }
    }

    /// Stopped: it says so, and takes neither what is new nor what it has.
    async fn refuses_all(&self, engine: &Engine) {
        let mut state = engine.watch_state();
        let failed = state.wait_for(|state| matches!(state, NodeState::Failed(_)));
        in_time("the node to know that it failed", failed).await.unwrap();
        for statement in &self.script {
            let answer = engine.submit(statement.clone()).await;
            assert!(matches!(answer, Err(SubmitError::NotNow(NotNow::Failed(_)))), "{answer:?}");
        }
    }

    fn hear(&mut self, engine: &Engine, n: usize, committed: Committed) {
        assert_eq!(committed.refusal, 0, "statement {n} was executed twice or out of order");
        // The receipt is made after the answer, from the tree on disk: when the power went in between, nobody was told.
        let receipt = match engine.receipt(&committed) {
            Ok(receipt) => receipt,
            Err(fault) => return assert!(format!("{fault:?}").contains("power cut"), "{fault:?}"),
        };
        let first = self.told.entry(n).or_insert_with(|| (committed.clone(), receipt.clone()));
        assert_eq!(*first, (committed, receipt), "statement {n} was told something else before");
    }

    /// Some minutes forth, or hours back.
    fn jump(&mut self) {
        let back = self.random.below(3) == 0;
        let micros = i64::try_from(self.random.below(3_600_000_000)).unwrap();
        self.clock.set(START + if back { -micros } else { micros / 60 });
    }

    /// What everybody was told holds: same entry, same block, same receipt, whether looked up or submitted again.
    async fn check_told(&self, engine: &Engine) {
        for (n, (committed, receipt)) in &self.told {
            let (found, bytes) = engine.find(&committed.id).unwrap().expect("an acknowledged statement is lost");
            assert_eq!((&found, &bytes), (committed, &self.script[*n]));
            assert_eq!(&engine.receipt(&found).unwrap(), receipt);
        }
        if let Some((n, (committed, receipt))) = self.told.last_key_value() {
            let again = engine.submit(self.script[*n].clone()).await.unwrap();
            assert_eq!((&again, &engine.receipt(&again).unwrap()), (committed, receipt));
        }
    }

    /// Opens without faults, checks, closes, and lets an auditor look.
    async fn examine(&mut self) {
        let engine = self.open().expect("opens after a power cut");
        self.check_told(&engine).await;
        assert!(totals_are_zero(&engine));
        let before = fingerprint(&engine);
        engine.close();
        drop(engine);
        let found = audit(self.disk.restart(), self.plant.key.public());
        assert_eq!(found.ids.len() as u64, before.1);
        let ids: Vec<StatementId> =
            self.script.iter().map(|bytes| tally_evidence::SignedStatement::parse(bytes).unwrap().id).collect();
        // The genesis, then the script from its beginning without a hole: whatever is there was submitted, in its order.
        let mut unknown = found.ids[1..].iter().filter(|id| !ids.contains(id));
        assert_eq!(unknown.next(), None, "an invented entry");
        for signer in 0..2 {
            let own: Vec<_> = ids.iter().skip(signer).step_by(2).collect();
            let in_log: Vec<_> = found.ids.iter().filter(|id| own.contains(id)).collect();
            assert_eq!(in_log, own[..in_log.len()], "the statements of a signer have a hole or another order");
        }
        recompute(&self.plant, self.disk.restart(), &before);
        self.disk = self.disk.restart();
    }

    fn cut(&mut self) {
        self.cuts += 1;
        let seed = self.random.bits();
        self.disk = if seed.is_multiple_of(4) { self.disk.restart() } else { self.disk.power_cut(seed) };
    }
}

/// The error of an opening that the power cut ended.
#[track_caller]
fn is_power(error: &OpenLedgerError) {
    let mut words = error.to_string();
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        words = format!("{words}: {inner}");
        cause = inner;
    }
    assert!(words.contains("power cut") || words.contains("I/O error"), "{words}");
}

/// Three lives, each ended by a cut while the node opens, works or closes, and an examination.
async fn live(machine: &mut Machine) {
    for _ in 0..3 {
        let after = 1 + machine.random.below(150) as u64;
        machine.disk.fail_operation(after, DiskFault::PowerOff);
        machine.jump();
        match machine.open() {
            Ok(engine) => {
                machine.check_told(&engine).await;
                let count = machine.random.below(8);
                machine.submit(&engine, count).await;
                if machine.random.below(2) == 0 {
                    engine.close();
                }
                machine.cut();
            }
            Err(error) => {
                is_power(&error);
                machine.cut();
            }
        }
    }
    machine.examine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeded_cuts_at_any_moment() {
    let (mut cuts, mut thrown_away, mut entries) = (0, 0, 0);
    for (seed, aside) in seeds(RUNS).flat_map(|seed| [(seed, false), (seed, true)]) {
        let _named = Named(seed);
        let mut machine = Machine { aside, ..Machine::new(seed, 14) };
        live(&mut machine).await;
        cuts += machine.cuts;
        thrown_away += machine.thrown_away.load(Ordering::SeqCst);
        entries += machine.told.len();
    }
    println!("{cuts} cuts, {entries} entries acknowledged, {thrown_away} indexes thrown away");
}

/// The cuts are only worth something if they would show a log that does not sync.
#[test]
fn a_log_that_does_not_sync_would_be_seen() {
    let shows = |seed| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let run = std::panic::AssertUnwindSafe(|| {
            let mut machine = Machine::new(seed, 14);
            machine.slip = Slip::NoFileSync;
            runtime.block_on(live(&mut machine));
        });
        std::panic::catch_unwind(run).is_err()
    };
    let seen = (0..30).find(|seed| shows(*seed));
    assert!(seen.is_some(), "it passes 30 runs unseen");
}

/// One scenario, the power going at each operation of log and index in turn: none is forgotten by chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_every_operation_of_log_and_index() {
    let operations = fail_each(DiskFault::PowerOff, 1).await;
    println!("cut at each of {operations} operations");
    assert!(operations > 40, "{operations} operations are too few for a log and an index");
}

/// The same with a disk that fails and is well again, or is full for a moment: the ledger does not try its luck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_and_a_full_disk_under_log_and_index() {
    assert!(fail_each(DiskFault::Io, 4).await > 40);
    assert!(fail_each(DiskFault::NoSpace, 6).await > 40);
}

/// Lets every `step`-th operation fail in turn; gives how many there are.
async fn fail_each(fault: DiskFault, step: usize) -> u64 {
    let mut operations = 0;
    for operation in (1..).step_by(step) {
        let mut machine = Machine::new(operation, 5);
        machine.disk.fail_operation(operation, fault);
        if let Ok(engine) = machine.open() {
            machine.submit(&engine, 5).await;
            if machine.told.len() < 5 {
                machine.refuses_all(&engine).await;
            }
            engine.close();
        }
        let is_over = machine.disk.is_fault_pending();
        machine.disk =
            if operation.is_multiple_of(2) { machine.disk.restart() } else { machine.disk.power_cut(operation) };
        machine.examine().await;
        if is_over {
            break;
        }
        operations = operation;
    }
    operations
}
