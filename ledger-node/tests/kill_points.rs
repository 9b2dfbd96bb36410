//! The process dies at each of its writes in turn: before every create, write, length change, sync and delete of log,
//! index and trees, and half-way through every write, on real files in a real process. After each death the folder is opened again and
//! looked at from outside. Once with each block in the index before it is answered, and once with a thread of its own writing the index: the
//! moments are others each time then, and those of log and index mix.
//!
//! The dying process is this test program once more, told by its environment to play the node ([`the_one_that_dies`]).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "common/outside.rs"]
mod outside;

use common::{START, TestClock, config, fingerprint, plant, totals_are_zero};
use outside::{audit, recompute};
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tally_journal::{DirStorage, SegmentName, Storage};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Engine, FlushLimits, IndexDisk, LogDisk, RunLimits};

/// Statements of one life.
const STATEMENTS: u64 = 2;
/// Lives at once.
const WORKERS: usize = 2;
/// The folder and the number of the write to die at, for the one that dies.
const FOLDER: &str = "TALLY_KILL_FOLDER";
const POINT: &str = "TALLY_KILL_POINT";
/// Set when the index is written by a thread of its own.
const ASIDE: &str = "TALLY_KILL_ASIDE";

/// Counts what changes the disk, and ends the process when its time has come.
#[derive(Debug)]
struct Fate {
    done: AtomicU64,
    point: u64,
}

impl Fate {
    fn step(&self) {
        if self.is_now() {
            std::process::abort();
        }
    }

    fn is_now(&self) -> bool {
        self.done.fetch_add(1, Ordering::SeqCst) + 1 == self.point
    }

    /// A write counts twice: before, and half-way.
    fn write(&self, bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.step();
        if self.is_now() {
            let _ = write(&bytes[..bytes.len() / 2]);
            std::process::abort();
        }
        write(bytes)
    }
}

struct MortalLog(DirStorage, Arc<Fate>);

impl Storage for MortalLog {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        self.1.step();
        self.0.create(segment)
    }
    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Self(files, fate) = self;
        fate.write(bytes, |bytes| files.write_at(segment, offset, bytes))
    }
    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        self.1.step();
        self.0.sync(segment)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.1.step();
        self.0.sync_directory()
    }
    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(segment, offset, into)
    }
    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        self.1.step();
        self.0.truncate(segment, length)
    }
    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        self.1.step();
        self.0.delete(segment)
    }
    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        self.0.len(segment)
    }
    fn put_summary(&mut self, segment: SegmentName, summary: &[u8]) -> io::Result<()> {
        let Self(files, fate) = self;
        fate.write(summary, |summary| files.put_summary(segment, summary))
    }
    fn summary(&self, segment: SegmentName) -> io::Result<Option<Vec<u8>>> {
        self.0.summary(segment)
    }
}

#[derive(Debug)]
struct MortalIndex(FileBackend, Arc<Fate>);

impl StorageBackend for MortalIndex {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.1.step();
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.1.step();
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.1.write(data, |bytes| self.0.write(offset, bytes))
    }
    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}

/// Not a test by itself: does nothing unless [`every_write_is_the_last_one_once`] started it.
#[tokio::test]
async fn the_one_that_dies() {
    let (Ok(folder), Ok(point)) = (std::env::var(FOLDER), std::env::var(POINT)) else { return };
    let fate = Arc::new(Fate { done: AtomicU64::new(0), point: point.parse().unwrap() });
    let engine = open_mortal(&plant(), Path::new(&folder), &fate);
    for statement in statements(&plant()) {
        let committed = engine.submit(statement).await.unwrap();
        let receipt = engine.receipt(&committed).unwrap();
        // Once this line is out somebody may rely on it. Written past the test harness, which keeps lines back.
        let line = format!("\ntold {} {} {}\n", committed.entry, committed.id, hex::encode(receipt));
        io::stdout().write_all(line.as_bytes()).unwrap();
        io::stdout().flush().unwrap();
    }
    engine.close();
    let line = format!("\nlived {}\n", fate.done.load(Ordering::SeqCst));
    io::stdout().write_all(line.as_bytes()).unwrap();
    io::stdout().flush().unwrap();
}

fn statements(plant: &Plant) -> Vec<Vec<u8>> {
    (0..STATEMENTS).map(|n| plant.worn(0, n, &format!("fault-{n}")).unwrap()).collect()
}

fn open_mortal(plant: &Plant, folder: &Path, fate: &Arc<Fate>) -> Engine {
    let mut config = config(plant, folder);
    config.clock = TestClock::at(START);
    config.flush = FlushLimits {
        blocks: 1,
        entries: 1_000,
        runs: RunLimits { ids: 1, merge: 2 },
        aside: std::env::var_os(ASIDE).is_some(),
    };
    let log = DirStorage::open(folder.join("log")).unwrap().with_summaries(folder.join("summary"));
    for name in ["tree", "statements"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let (folder, at) = (folder.to_owned(), Arc::clone(fate));
    let index = IndexDisk::Backend(Arc::new(move |name| {
        let file = folder.join(name);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(file).unwrap();
        Box::new(MortalIndex(FileBackend::new(file).unwrap(), Arc::clone(&at)))
    }));
    // Each block has a segment of its own.
    let log = LogDisk::new(MortalLog(log, Arc::clone(fate))).with_segments(100).reading_last_segment();
    Engine::open_on(config, log, &index).unwrap()
}

/// What the dead one had told, by statement id: entry and receipt; and whether it reached its end.
struct Died {
    told: BTreeMap<String, (u64, String)>,
    lived: bool,
}

fn live_until(folder: &Path, point: u64, aside: bool) -> Died {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_one_that_dies", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).env(POINT, point.to_string()).stderr(Stdio::piped());
    if aside {
        command.env(ASIDE, "1");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut died = Died { told: BTreeMap::new(), lived: false };
    for line in said.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["told", entry, id, receipt] => {
                died.told.insert(id.to_owned(), (entry.parse().unwrap(), receipt.to_owned()));
            }
            ["lived", _] => died.lived = true,
            _ => {}
        }
    }
    let is_abort = output.status.code().is_none();
    assert!(died.lived || is_abort, "it ended otherwise: {said}{}", String::from_utf8_lossy(&output.stderr));
    died
}

#[test]
fn every_write_is_the_last_one_once() {
    let points = die_at_each(false);
    assert!(points > 60, "{points} writes are too few for a log, an index and trees");
}

#[test]
fn every_write_is_the_last_one_once_while_blocks_go_on() {
    let points = die_at_each(true);
    assert!(points > 40, "{points} writes are too few for a log, an index and trees");
}

/// Gives at how many.
fn die_at_each(aside: bool) -> u64 {
    let next = AtomicU64::new(1);
    let (end, told) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(1, Ordering::SeqCst);
                    if point >= end.load(Ordering::SeqCst) {
                        return;
                    }
                    let (lived, count) = die_at(point, aside);
                    told.fetch_add(count, Ordering::SeqCst);
                    if lived {
                        end.fetch_min(point, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let points = end.into_inner() - 1;
    println!("died at each of {points} writes; {} receipts were out", told.into_inner());
    points
}

/// Whether it outlived its last write, and how many receipts were out.
fn die_at(point: u64, aside: bool) -> (bool, u64) {
    let folder = tempfile::tempdir().unwrap();
    let died = live_until(folder.path(), point, aside);
    if died.lived && !aside {
        // Three blocks, three runs of statement ids, and one made of two of them: it died at each write of all that.
        let runs = std::fs::read_dir(folder.path().join("statements")).unwrap().count();
        assert!(runs > 3, "{runs} runs were written, and none merged");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(examine(&plant(), folder.path(), &died, point));
    (died.lived, died.told.len() as u64)
}

async fn examine(plant: &Plant, folder: &Path, died: &Died, point: u64) {
    let mut config = config(plant, folder);
    config.clock = TestClock::at(START);
    let engine = Engine::open(config).unwrap();
    for (id, (entry, receipt)) in &died.told {
        let (found, _) = engine.entry(*entry).unwrap().expect("an acknowledged statement is lost");
        assert_eq!((found.id.to_string(), hex::encode(engine.receipt(&found).unwrap())), (id.clone(), receipt.clone()));
    }
    // Whoever got no answer sends the same again: each is there once, done.
    for (n, statement) in (1..).zip(statements(plant)) {
        let committed = engine.submit(statement).await.unwrap();
        assert_eq!((committed.entry, committed.refusal), (n, 0));
    }
    assert!(totals_are_zero(&engine));
    let last = fingerprint(&engine);
    engine.close();
    drop(engine);
    let found = audit(DirStorage::open(folder.join("log")).unwrap(), plant.key.public());
    assert_eq!(found.ids.len() as u64, STATEMENTS + 1);
    // The slowest look; neighbouring deaths leave the same log.
    if point.is_multiple_of(3) {
        recompute(plant, DirStorage::open(folder.join("log")).unwrap(), &last);
    }
}
