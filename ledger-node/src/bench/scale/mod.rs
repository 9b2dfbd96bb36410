//! What stays the same while a ledger grows: orders ([`Orders`](super::Orders)) go their way, as fast as the queue takes their statements, looked
//! at as they go ([`ScalePart`]). At 10,000, 1 million and 10 million entries, and at the end, the ledger is closed and opened again. Then ledgers of
//! these sizes are compared ([`turns`]).
//!
//! **Method.** As in [`bench_triggers`](super::bench_triggers), but sealed on the fly in batches while the clock is stopped, so
//! that the process holds the node and one batch. Memory is the whole process's, with what the bench needs.

mod look;
mod report;
mod run;
mod turns;

pub use look::{Memory, Opening, PhaseMicros, ScalePart};
pub use report::ScaleReport;
pub use turns::{Spread, Turn, Turns};

use super::fast::{Receipts, run_fast};
use super::{BenchError, BenchOptions};
use crate::engine::Engine;
use crate::testing::Plant;
use run::{Baseline, Means, Run};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Looks on the way, besides those at the marks.
const PARTS: u64 = 10;
/// Where a ledger is closed and opened again, besides at its end: the sizes of which something is promised.
const MARKS: [u64; 3] = [10_000, 1_000_000, 10_000_000];

/// Who watches a ledger being filled, and may stop it.
pub trait ScaleWatch {
    /// So many entries are in, the last ones at this pace; every [`BATCH`].
    fn progress(&mut self, entries: u64, per_second: f64);
    /// A look was had.
    fn look(&mut self, part: &ScalePart);
    /// A ledger of so many entries was looked at in its turn.
    fn turn(&mut self, entries: u64, turn: &Turn);
}

/// Nobody watches.
impl ScaleWatch for () {
    fn progress(&mut self, _: u64, _: f64) {}
    fn look(&mut self, _: &ScalePart) {}
    fn turn(&mut self, _: u64, _: &Turn) {}
}

/// Fills a ledger in the empty folder `dir` with so many entries, compares it with smaller ones, and leaves its files there. `stop` ends it
/// between two batches.
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
    let means = Means { options, plant: &plant, stop };
    let mut run = Run::new(dir.join("ledger"), means);
    let mut report = grow(&mut run, entries, watch)?;
    let sizes: Vec<_> = MARKS.into_iter().filter(|mark| *mark < entries).chain([entries]).collect();
    report.sizes = turns::take_turns(dir, means, &sizes, run, watch)?;
    Ok(report)
}

/// Fills a ledger with so many entries.
fn grow(run: &mut Run<'_>, entries: u64, watch: &mut dyn ScaleWatch) -> Result<ScaleReport, BenchError> {
    let mut engine = run.open()?;
    let (mut parts, mut folder) = (Vec::new(), Vec::new());
    for target in looks(entries) {
        let filled = run.fill(&engine, target, Baseline::None, watch)?;
        let mut part = ScalePart::new(&engine, &filled);
        if target == entries {
            let usage = engine.store().usage().map(|usage| usage.parts).unwrap_or_default();
            folder = usage.into_iter().map(|part| (part.place, part.what, part.bytes)).collect();
        }
        if target == entries || MARKS.contains(&target) {
            let (again, opening) = reopen(run, engine)?;
            (engine, part.opening) = (again, Some(opening));
        }
        watch.look(&part);
        parts.push(part);
    }
    let open_memory = Memory::now();
    engine.close();
    Ok(ScaleReport { parts, folder, open_memory, sizes: Vec::new() })
}

/// Up to how many entries each look at a ledger reaches: tenths and marks.
fn looks(entries: u64) -> Vec<u64> {
    let marks = MARKS.into_iter().filter(|mark| *mark <= entries);
    let mut looks: Vec<_> = (1..=PARTS).map(|part| entries * part / PARTS).chain(marks).collect();
    looks.sort_unstable();
    looks.dedup();
    looks
}

/// Closes the ledger and opens it again, until the next statement is durable.
fn reopen(run: &mut Run<'_>, engine: Engine) -> Result<(Engine, Opening), BenchError> {
    let closing = Instant::now();
    engine.close();
    let close_seconds = closing.elapsed().as_secs_f64();
    drop(engine);
    let next = run.load.lanes(1, 1)?;
    let opening = Instant::now();
    let engine = run.open()?;
    run_fast(&engine, next, Receipts::NotAskedFor)?;
    Ok((engine, Opening { close_seconds, open_seconds: opening.elapsed().as_secs_f64() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was told while the ledger was filled.
    #[derive(Default)]
    struct Heard {
        progress: Vec<u64>,
        looks: Vec<u64>,
        turns: Vec<u64>,
    }

    impl ScaleWatch for Heard {
        fn progress(&mut self, entries: u64, per_second: f64) {
            assert!(per_second > 0.0);
            self.progress.push(entries);
        }
        fn look(&mut self, part: &ScalePart) {
            self.looks.push(part.entries);
        }
        fn turn(&mut self, entries: u64, turn: &Turn) {
            assert!(turn.entries > entries);
            self.turns.push(entries);
        }
    }

    fn few() -> BenchOptions {
        BenchOptions { agents: 4, devices: 8, paced_seconds: 0, turns: 2, ..BenchOptions::default() }
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
        let [size] = &report.sizes[..] else { panic!("{report}") };
        assert_eq!((size.entries, size.turns.len(), &heard.turns), (60, 2, &vec![60, 60]));
        for turn in &size.turns {
            assert!(turn.per_second > 0.0 && turn.ratio_to_baseline() > 0.0 && turn.receipted_per_second > 0.0);
            assert!(turn.entries > 120 && turn.paced.len() == 3, "{turn:?}");
            assert!(turn.paced.iter().all(|paced| paced.statements == 1 && paced.longest_ms >= paced.p99_ms));
        }
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
        assert_eq!((looks[0], looks[1], looks.last(), looks.len()), (10_000, 1_000_000, Some(&10_000_000), 11));
    }
}
