//! A ledger of the bench's own, and what it is filled with.

use super::ScaleWatch;
use super::look::{Counters, Filled};
use crate::bench::baseline::verify_on;
use crate::bench::fast::{Receipts, receipted_per_second, run_fast};
use crate::bench::load::{Lanes, Load, Statement};
use crate::bench::numbers::cores;
use crate::bench::{BenchError, BenchOptions};
use crate::engine::Engine;
use crate::testing::Plant;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Statements sealed at once.
const BATCH: usize = 20_000;
/// Seals of a batch that each core verifies for the baseline behind it: a tenth of the time that the batch takes.
const SAMPLE: usize = 2_000;

/// Whether the machine is measured as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// All cores verify some of the seals of each batch, nothing else, behind it: what else the machine has to do shows in both.
    Seals,
    /// No.
    None,
}

/// What all ledgers of a bench are made with.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    pub options: &'a BenchOptions,
    pub plant: &'a Plant,
    pub stop: &'a AtomicBool,
}

/// A ledger, open or not, and how far its orders are.
pub struct Run<'a> {
    folder: PathBuf,
    means: Means<'a>,
    pub load: Load<'a>,
}

impl<'a> Run<'a> {
    /// A ledger to be made in this folder.
    pub fn new(folder: PathBuf, means: Means<'a>) -> Self {
        let BenchOptions { agents, devices, orders, .. } = *means.options;
        Self { folder, means, load: Load::new(means.plant, agents, devices).of(orders) }
    }

    pub fn open(&self) -> Result<Engine, BenchError> {
        crate::bench::open(&self.folder, self.means.plant, self.means.options)
    }

    /// Statements sealed for it so far.
    pub fn sealed(&self) -> u64 {
        self.load.sealed() as u64
    }

    /// Fills it until `target` statements were sealed for it.
    pub fn fill(
        &mut self,
        engine: &Engine,
        target: u64,
        baseline: Baseline,
        watch: &mut dyn ScaleWatch,
    ) -> Result<Filled, BenchError> {
        let mut filled = Filled::default();
        while self.sealed() < target {
            self.go_on()?;
            let missing = usize::try_from(target - self.sealed()).unwrap_or(BATCH);
            let lanes = self.load.lanes(BATCH.min(missing), cores())?;
            let sample = (baseline == Baseline::Seals).then(|| sample_of(&lanes));
            let (before, began) = (Counters::now(engine), Instant::now());
            let answered = run_fast(engine, lanes, Receipts::NotAskedFor)?;
            let seconds = began.elapsed().as_secs_f64();
            filled.counters.add(seconds, &before, &Counters::now(engine));
            if let Some(sample) = sample {
                filled.counters.add_baseline(verify_on(cores(), &sample)?);
            }
            watch.progress(self.sealed(), answered.len() as f64 / seconds.max(f64::MIN_POSITIVE));
            filled.waits.extend(answered);
        }
        Ok(filled)
    }

    /// How many of `count` statements a second it takes, each with its receipt.
    pub fn receipted(&mut self, engine: &Engine, count: usize) -> Result<f64, BenchError> {
        self.go_on()?;
        receipted_per_second(engine, self.load.lanes(count, cores())?)
    }

    /// Reads the state tree once: the system keeps of it what there is room for, as it does of a ledger that has been at work for long.
    pub fn warm(&self) -> Result<(), BenchError> {
        let mut pages = File::open(self.folder.join("tree/state.pages"))?;
        std::io::copy(&mut pages, &mut std::io::sink())?;
        Ok(())
    }

    /// Waits until the disk has everything.
    pub fn settle(&self) -> Result<(), BenchError> {
        Ok(rustix::fs::syncfs(File::open(&self.folder)?).map_err(std::io::Error::from)?)
    }

    /// Removes it.
    pub fn remove(&self) -> Result<(), BenchError> {
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }

    /// Nobody told it to stop.
    pub fn go_on(&self) -> Result<(), BenchError> {
        if self.means.stop.load(Ordering::Relaxed) { Err(BenchError::Stopped(self.sealed())) } else { Ok(()) }
    }
}

/// What the baseline verifies behind a batch.
fn sample_of(lanes: &Lanes) -> Vec<Statement> {
    lanes.first().into_iter().flatten().take(SAMPLE).cloned().collect()
}
