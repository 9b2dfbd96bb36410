//! What stays the same while a ledger grows: orders ([`Orders`](super::Orders)) go their way, as fast as the queue takes their statements, looked
//! at as they go ([`ScalePart`]). At 10,000, 1 million and 10 million entries, and at the end, the ledger is closed and opened again; at each of
//! these sizes 100,000 entries are looked at by themselves, and then what clients wait at steady paces ([`Paced`]): shares of what the ledger
//! takes there, when nothing of the filling is on its way to the disk any more.
//!
//! **Method.** As in [`bench_triggers`](super::bench_triggers), but sealed on the fly in batches ([`BATCH`]) while the clock is stopped, so
//! that the process holds the node and one batch. Memory is the whole process's, with what the bench needs.

mod look;
mod report;

pub use look::{Memory, Opening, PhaseMicros, ScalePart};
pub use report::ScaleReport;

use super::baseline::verify_on;
use super::fast::{Receipts, receipted_per_second, run_fast};
use super::load::{Lanes, Load, Statement};
use super::numbers::cores;
use super::paced::run_shares;
use super::{BenchError, BenchOptions, Paced};
use crate::engine::Engine;
use crate::testing::Plant;
use look::Counters;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Statements sealed at once.
const BATCH: usize = 20_000;
/// Looks on the way, besides those at the marks.
const PARTS: u64 = 10;
/// Where a ledger is closed and opened again, besides at its end: the sizes of which something is promised.
const MARKS: [u64; 3] = [10_000, 1_000_000, 10_000_000];
/// The look at a mark is at so many entries: behind the first mark, before the others, so that each is long enough to say something.
const WINDOW: u64 = 100_000;
/// Where the look at the first mark ends.
const FIRST_WINDOW: u64 = MARKS[0] + WINDOW;
/// Seals of a batch that each core verifies for the baseline behind it: a tenth of the time that the batch takes.
const SAMPLE: usize = 2_000;
/// Statements, each with its receipt, that say what the paces at a size are shares of.
const CAPACITY: usize = 50_000;

/// Who watches a ledger being filled, and may stop it.
pub trait ScaleWatch {
    /// So many entries are in, the last ones at this pace; every [`BATCH`].
    fn progress(&mut self, entries: u64, per_second: f64);
    /// A look was had.
    fn look(&mut self, part: &ScalePart);
}

/// Nobody watches.
impl ScaleWatch for () {
    fn progress(&mut self, _: u64, _: f64) {}
    fn look(&mut self, _: &ScalePart) {}
}

/// Fills a ledger in the empty folder `dir` with so many entries, and leaves its files there. `stop` ends it between two batches.
///
/// # Errors
/// [`BenchError`]; [`BenchError::Stopped`].
pub fn bench_scale(
    dir: &Path,
    entries: u64,
    options: &BenchOptions,
    stop: &AtomicBool,
    watch: &mut dyn ScaleWatch,
) -> Result<ScaleReport, BenchError> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        return Err(BenchError::NotEmpty(dir.to_owned()));
    }
    let plant = Plant::new("bench", options.agents, options.devices)?;
    let load = Load::new(&plant, options.agents, options.devices).of(options.orders);
    let mut run = Run { dir, options, stop, plant: &plant, load };
    let mut engine = run.open()?;
    let (mut parts, mut folder) = (Vec::new(), Vec::new());
    for target in looks(entries) {
        // What is sent at steady paces may have gone beyond it.
        if run.sealed() >= target && target != entries {
            continue;
        }
        let mut part = run.fill(&engine, target, is_compared(target, entries), watch)?;
        if target == entries {
            let usage = engine.store().usage().map(|usage| usage.parts).unwrap_or_default();
            folder = usage.into_iter().map(|part| (part.place, part.what, part.bytes)).collect();
        }
        if is_compared(target, entries) {
            let (receipted, paced) = run.pace(&engine, entries)?;
            (part.receipted_per_second, part.paced) = (Some(receipted), paced);
        }
        if target == entries || MARKS.contains(&target) {
            let (again, opening) = run.reopen(engine)?;
            (engine, part.opening) = (again, Some(opening));
        }
        watch.look(&part);
        parts.push(part);
    }
    let open_memory = Memory::now();
    engine.close();
    Ok(ScaleReport { parts, folder, open_memory })
}

/// Up to how many entries each look at a ledger reaches: tenths, marks, and the beginning of the last piece before a mark.
fn looks(entries: u64) -> Vec<u64> {
    let marks = MARKS.into_iter().chain([entries]).filter(|mark| *mark <= entries);
    let windows = marks.clone().filter(|mark| *mark > FIRST_WINDOW).map(|mark| mark - WINDOW);
    // The paces behind it fill a smaller ledger by themselves.
    let first = Some(FIRST_WINDOW).filter(|first| first * 5 < entries);
    let mut looks: Vec<_> =
        (1..=PARTS).map(|part| entries * part / PARTS).chain(marks).chain(windows).chain(first).collect();
    looks.sort_unstable();
    looks.dedup();
    looks
}

/// Whether this look is held against the others of its kind: the last 100,000 of a size.
fn is_compared(target: u64, entries: u64) -> bool {
    target == entries || target == FIRST_WINDOW || MARKS[1..].contains(&target)
}

/// What the baseline verifies behind a batch.
fn sample_of(lanes: &Lanes) -> Vec<Statement> {
    lanes.first().into_iter().flatten().take(SAMPLE).cloned().collect()
}

/// What a ledger is filled with, and where.
struct Run<'a> {
    dir: &'a Path,
    options: &'a BenchOptions,
    stop: &'a AtomicBool,
    plant: &'a Plant,
    load: Load<'a>,
}

impl Run<'_> {
    fn open(&self) -> Result<Engine, BenchError> {
        super::open(&self.dir.join("ledger"), self.plant, self.options)
    }

    fn sealed(&self) -> u64 {
        self.load.sealed() as u64
    }

    /// Fills the ledger up to `target` entries, and looks at it; with the baseline where looks are compared.
    fn fill(
        &mut self,
        engine: &Engine,
        target: u64,
        is_compared: bool,
        watch: &mut dyn ScaleWatch,
    ) -> Result<ScalePart, BenchError> {
        let (mut counters, mut waits) = (Counters::default(), Vec::new());
        while self.sealed() < target {
            self.go_on()?;
            let missing = usize::try_from(target - self.sealed()).unwrap_or(BATCH);
            let lanes = self.load.lanes(BATCH.min(missing), cores())?;
            let sample = is_compared.then(|| sample_of(&lanes));
            let (before, began) = (Counters::now(engine), Instant::now());
            let answered = run_fast(engine, lanes, Receipts::NotAskedFor)?;
            let seconds = began.elapsed().as_secs_f64();
            counters.add(seconds, &before, &Counters::now(engine));
            if let Some(sample) = sample {
                counters.add_baseline(verify_on(cores(), &sample)?);
            }
            watch.progress(self.sealed(), answered.len() as f64 / seconds.max(f64::MIN_POSITIVE));
            waits.extend(answered);
        }
        Ok(ScalePart::new(engine, &counters, &waits))
    }

    /// How many statements a second it takes, each with its receipt, and how long clients wait at steady paces below that.
    fn pace(&mut self, engine: &Engine, entries: u64) -> Result<(f64, Vec<Paced>), BenchError> {
        self.go_on()?;
        let count = CAPACITY.min(usize::try_from(entries).unwrap_or(CAPACITY));
        let capacity = receipted_per_second(engine, self.load.lanes(count, cores())?)?;
        self.settle()?;
        let paced = run_shares(engine, &mut self.load, capacity, self.options.paced_seconds)?;
        Ok((capacity, paced))
    }

    /// Waits until the disk has everything.
    fn settle(&self) -> Result<(), BenchError> {
        Ok(rustix::fs::syncfs(File::open(self.dir)?).map_err(std::io::Error::from)?)
    }

    fn go_on(&self) -> Result<(), BenchError> {
        if self.stop.load(Ordering::Relaxed) { Err(BenchError::Stopped(self.sealed())) } else { Ok(()) }
    }

    /// Closes the ledger and opens it again, until the next statement is durable.
    fn reopen(&mut self, engine: Engine) -> Result<(Engine, Opening), BenchError> {
        let closing = Instant::now();
        engine.close();
        let close_seconds = closing.elapsed().as_secs_f64();
        drop(engine);
        let next = self.load.lanes(1, 1)?;
        let opening = Instant::now();
        let engine = self.open()?;
        run_fast(&engine, next, Receipts::NotAskedFor)?;
        Ok((engine, Opening { close_seconds, open_seconds: opening.elapsed().as_secs_f64() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was told while the ledger was filled.
    #[derive(Default)]
    struct Heard {
        progress: Vec<u64>,
        looks: Vec<u64>,
    }

    impl ScaleWatch for Heard {
        fn progress(&mut self, entries: u64, per_second: f64) {
            assert!(per_second > 0.0);
            self.progress.push(entries);
        }
        fn look(&mut self, part: &ScalePart) {
            self.looks.push(part.entries);
        }
    }

    fn few() -> BenchOptions {
        BenchOptions { agents: 4, devices: 8, paced_seconds: 0, ..BenchOptions::default() }
    }

    #[test]
    fn a_small_ledger_is_filled_closed_and_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (mut heard, go) = (Heard::default(), AtomicBool::new(false));
        let report = bench_scale(dir.path(), 60, &few(), &go, &mut heard).unwrap();
        let entries: Vec<_> = report.parts.iter().map(|part| part.entries).collect();
        assert_eq!(entries, (1..=PARTS).map(|part| part * 6 + 1).collect::<Vec<_>>());
        assert_eq!((&heard.looks, heard.progress.last()), (&entries, Some(&60)));
        assert!(report.parts.iter().all(|part| part.per_second > 0.0 && part.memory.resident > part.memory.anonymous));
        assert!(report.parts.iter().all(|part| part.disk_bytes > 0 && part.phases.log > 0.0));
        let opened: Vec<_> = report.parts.iter().filter(|part| part.opening.is_some()).collect();
        assert_eq!(opened.len(), 1, "at its end");
        assert_eq!(opened[0].paced.len(), 3);
        assert!(opened[0].ratio_to_baseline().is_some_and(|ratio| ratio > 0.0));
        assert!(opened[0].paced.iter().all(|paced| paced.statements == 1 && paced.longest_ms >= paced.p99_ms));
        assert!(report.folder.iter().any(|(place, ..)| place.starts_with("tree/")), "{report}");
        let again = bench_scale(dir.path(), 60, &few(), &go, &mut ());
        assert!(matches!(again, Err(BenchError::NotEmpty(_))));
    }

    #[test]
    fn it_ends_when_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let stopped = bench_scale(dir.path(), 60, &few(), &AtomicBool::new(true), &mut ());
        assert!(matches!(stopped, Err(BenchError::Stopped(0))), "{stopped:?}");
    }

    #[test]
    fn ten_millions_are_looked_at_where_something_is_promised() {
        let looks = looks(10_000_000);
        assert!(looks.is_sorted_by(|a, b| a < b));
        assert_eq!((looks[0], looks[1], looks.last()), (10_000, 110_000, Some(&10_000_000)));
        for mark in [1_000_000, 10_000_000] {
            let place = looks.iter().position(|look| *look == mark).unwrap();
            assert_eq!(looks[place - 1], mark - WINDOW);
        }
    }
}
