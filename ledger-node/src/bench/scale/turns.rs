//! Ledgers of several sizes, looked at in turns.
//!
//! **Why in turns.** A machine is faster in one minute than in the next, most of all a shared one, and what the slowest hundredth of all
//! waits for is the chance of a few moments in each look: two looks at the same ledger differ by half or more. So each size is looked at several times,
//! all sizes one behind the other, in the opposite order every other time, and of each figure the middle one counts ([`Spread`]).
//!
//! **A look** ([`Turn`]): 100,000 entries as fast as the ledger takes them, with seals verified between them; 50,000 with a receipt each; then,
//! when the disk has everything, steady paces, which are shares of the middle of what it took with receipts so far. Of a ledger that was
//! closed meanwhile the state tree is read once before, and it takes 100,000 entries: the system has of its files what it has of a ledger that
//! has been at work for long.

use super::ScaleWatch;
use super::run::{Baseline, Means, Run};
use crate::bench::numbers::percentile;
use crate::bench::paced::run_shares;
use crate::bench::{BenchError, Paced};
use serde::Serialize;
use std::path::Path;

/// Entries of a look at full load.
const WINDOW: u64 = 100_000;
/// Statements, each with its receipt, that say what the paces are shares of.
const CAPACITY: usize = 50_000;
/// A look makes a smaller ledger than this several times as large: it is made anew each time.
const ANEW_BELOW: u64 = 500_000;

/// All looks at ledgers of one size.
#[derive(Debug, Clone, Serialize)]
pub struct Turns {
    /// Entries they have at the beginning of the first look; small ones, which are made anew each time, at that of each.
    pub entries: u64,
    /// The looks, in order.
    pub turns: Vec<Turn>,
}

/// One look.
#[derive(Debug, Clone, Serialize)]
pub struct Turn {
    /// Entries at its end.
    pub entries: u64,
    /// Statements admitted, executed, synced and answered a second.
    pub per_second: f64,
    /// Submission to durable meanwhile, so mostly time in the queue, in milliseconds.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// Seals verified a second on all cores, nothing else, between them.
    pub baseline_verifications_per_second: f64,
    /// Statements a second, each with its receipt.
    pub receipted_per_second: f64,
    /// How long clients wait for their receipts at 10 %, 50 % and 90 % of that.
    pub paced: Vec<Paced>,
}

/// What came out of several looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The least of them.
    pub least: f64,
    /// The middle one; of an even number the higher one of two.
    pub middle: f64,
    /// The most of them.
    pub most: f64,
}

impl Turn {
    /// Statements to each seal that all cores verify meanwhile.
    #[must_use]
    pub fn ratio_to_baseline(&self) -> f64 {
        self.per_second / self.baseline_verifications_per_second.max(f64::MIN_POSITIVE)
    }
}

impl Turns {
    /// The spread of a figure.
    pub fn spread(&self, of: impl Fn(&Turn) -> f64) -> Spread {
        let values: Vec<_> = self.turns.iter().map(of).collect();
        let [least, middle, most] = [0.0, 0.5, 1.0].map(|share| percentile(&values, share));
        Spread { least, middle, most }
    }

    /// The spread of a figure at the pace with this number.
    pub fn paced(&self, pace: usize, of: impl Fn(&Paced) -> f64) -> Spread {
        self.spread(|turn| turn.paced.get(pace).map_or(0.0, &of))
    }
}

/// Ledgers of one size.
struct Stand<'a> {
    looks: Turns,
    /// The ledger; `None` where it is made anew for each look.
    kept: Option<Run<'a>>,
    means: Means<'a>,
    length: Length,
}

/// How long a look is: a rehearsal in little has little ones.
#[derive(Clone, Copy)]
struct Length {
    window: u64,
    capacity: usize,
}

/// Looks several times at ledgers of each of these `sizes`, in `dir`; `grown`, which was filled and closed, is the last of them, and the
/// largest.
pub fn take_turns(
    dir: &Path,
    means: Means<'_>,
    sizes: &[u64],
    grown: Run<'_>,
    watch: &mut dyn ScaleWatch,
) -> Result<Vec<Turns>, BenchError> {
    let entries = sizes.last().copied().unwrap_or(0);
    let length = Length {
        window: WINDOW.min(entries),
        capacity: usize::try_from(entries).map_or(CAPACITY, |entries| CAPACITY.min(entries)),
    };
    let mut stands = Vec::new();
    let mut grown = Some(grown);
    for size in sizes {
        let kept = match size {
            ..ANEW_BELOW => None,
            _ if *size == entries => grown.take(),
            _ => Some(filled(dir, means, *size, watch)?),
        };
        stands.push(Stand { looks: Turns { entries: *size, turns: Vec::new() }, kept, means, length });
    }
    for number in 0..means.options.turns {
        let mut order: Vec<_> = stands.iter_mut().collect();
        if number % 2 > 0 {
            order.reverse();
        }
        for stand in order {
            stand.look(dir, watch)?;
        }
    }
    Ok(stands.into_iter().map(|stand| stand.looks).collect())
}

/// A ledger of so many entries.
fn filled<'a>(dir: &Path, means: Means<'a>, size: u64, watch: &mut dyn ScaleWatch) -> Result<Run<'a>, BenchError> {
    let mut run = Run::new(dir.join(format!("ledger-{size}")), means);
    let engine = run.open()?;
    run.fill(&engine, size, Baseline::None, watch)?;
    engine.close();
    Ok(run)
}

impl Stand<'_> {
    /// Looks once.
    fn look(&mut self, dir: &Path, watch: &mut dyn ScaleWatch) -> Result<(), BenchError> {
        if let Some(mut run) = self.kept.take() {
            run.warm()?;
            let before = run.sealed() + self.length.window;
            self.turn(&mut run, before, watch)?;
            self.kept = Some(run);
            return Ok(());
        }
        let entries = self.looks.entries;
        let mut run = Run::new(dir.join(format!("ledger-{entries}-anew")), self.means);
        self.turn(&mut run, entries, watch)?;
        run.remove()
    }

    /// Looks at this ledger, when it has so many entries.
    fn turn(&mut self, run: &mut Run<'_>, entries: u64, watch: &mut dyn ScaleWatch) -> Result<(), BenchError> {
        let Length { window, capacity } = self.length;
        let engine = run.open()?;
        run.fill(&engine, entries, Baseline::None, &mut ())?;
        let full = run.fill(&engine, entries + window, Baseline::Seals, &mut ())?;
        let receipted = run.receipted(&engine, capacity)?;
        run.settle()?;
        let taken: Vec<_> = self.looks.turns.iter().map(|turn| turn.receipted_per_second).chain([receipted]).collect();
        let (capacity, seconds) = (percentile(&taken, 0.5), self.means.options.paced_seconds);
        let turn = Turn {
            per_second: full.per_second(),
            p50_ms: full.percentile(0.50),
            p99_ms: full.percentile(0.99),
            baseline_verifications_per_second: full.baseline(),
            receipted_per_second: receipted,
            paced: run_shares(&engine, &mut run.load, capacity, seconds)?,
            entries: run.sealed(),
        };
        engine.close();
        watch.turn(self.looks.entries, &turn);
        self.looks.turns.push(turn);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_looks_the_middle_one_counts() {
        let turn = |per_second: f64| Turn {
            entries: 10,
            per_second,
            p50_ms: 1.0,
            p99_ms: 2.0,
            baseline_verifications_per_second: 40.0,
            receipted_per_second: 5.0,
            paced: vec![Paced { per_second, p50_ms: per_second / 2.0, p99_ms: 9.0, longest_ms: 10.0, statements: 3 }],
        };
        let looks = Turns { entries: 10, turns: [30.0, 10.0, 70.0, 20.0, 60.0].map(turn).to_vec() };
        assert_eq!(looks.spread(|turn| turn.per_second), Spread { least: 10.0, middle: 30.0, most: 70.0 });
        assert_eq!(looks.paced(0, |paced| paced.p50_ms), Spread { least: 5.0, middle: 15.0, most: 35.0 });
        assert_eq!(looks.paced(1, |paced| paced.p50_ms), Spread::default());
        assert!((looks.spread(Turn::ratio_to_baseline).middle - 0.75).abs() < 1e-9);
    }
}
