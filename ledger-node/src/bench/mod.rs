//! How fast the ledger is: sealed triggers through the whole engine, in this process, without the network.
//!
//! **Method.** Several agents' triggers are sealed beforehand. Then one thread per core submits them, each agent's in order, as
//! fast as the queue takes them: parsed, seal verified, ordered, executed (each opens a maintenance order with escrow and
//! dispatch), synced to the log, indexed, answered. Once without receipts: whoever asks for one pays for it; once with the
//! signed receipt of each, and at 10 %, 50 % and 90 % of what that gives, to see how long a client waits ([`Paced`]). In the
//! same run, on the same disk: the same blocks appended and synced with nothing else, seals verified on one core with nothing
//! else, calls that all hit one account against calls that do not ([`Contention`]), and a ledger that is also kept as tables against
//! one that is not ([`Projected`]).

mod baseline;
mod batches;
mod contention;
mod evidence;
mod fast;
mod load;
mod numbers;
mod options;
mod paced;
mod projected;
mod registry;
mod report;
mod scale;

pub use batches::{BatchFigures, BatchReport, bench_batches};
pub use contention::Contention;
pub use evidence::evidence_files;
pub use options::{BenchError, BenchOptions, Orders};
pub use paced::Paced;
pub use projected::Projected;
pub use registry::{RegistryReport, bench_registry};
pub use report::BenchReport;
pub use scale::{Memory, Opening, PhaseMicros, ScalePart, ScaleReport, ScaleWatch, Spread, Turn, Turns, bench_scale};

use crate::engine::{Engine, EngineConfig};
use crate::order::Phases;
use crate::testing::Plant;
use baseline::{baseline_sync, baseline_verify};
use contention::contention;
use fast::{IN_FLIGHT, Receipts, receipted_per_second, run_fast};
use load::{Lanes, Load};
use numbers::{cores, cpu_seconds, mean, percentile};
use paced::{run_seconds, run_shares};
use projected::projected;
use std::path::Path;
use std::time::Instant;

/// Triggers a second of a ledger that has hardly anything to do.
const IDLE_PACE: f64 = 100.0;
/// Share of the fast part's triggers that are submitted once more with receipts.
const RECEIPTED: usize = 4;
/// Statements of the verification baseline.
const SAMPLE: usize = 500;

/// Measures in the empty folder `dir`, which decides about the disk, and leaves its files there.
///
/// # Errors
/// [`BenchError`].
pub fn bench_triggers(dir: &Path, options: &BenchOptions) -> Result<BenchReport, BenchError> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        return Err(BenchError::NotEmpty(dir.to_owned()));
    }
    let plant = Plant::new("bench", options.agents, options.devices)?;
    let cores = cores();
    let mut load = Load::new(&plant, options.agents, options.devices);
    let engine = open(&dir.join("ledger"), &plant, options)?;
    let lanes = load.lanes(options.triggers, cores)?;
    let verify = baseline_verify(lanes.first().map_or(&[][..], |lane| &lane[..lane.len().min(SAMPLE)]))?;
    let fast = Fast::measure(&engine, lanes)?;
    let lanes = load.lanes(options.triggers / RECEIPTED, cores)?;
    let receipted = receipted_per_second(&engine, lanes)?;
    let mut paced = vec![run_seconds(&engine, &mut load, IDLE_PACE, f64::from(options.paced_seconds))?];
    paced.extend(run_shares(&engine, &mut load, receipted, options.paced_seconds)?);
    engine.close();
    let syncs = baseline_sync(&dir.join("baseline"), fast.bytes as f64 / fast.blocks.len().max(1) as f64)?;
    let contention =
        (options.contended > 0).then(|| contention(&dir.join("contention"), options, cores)).transpose()?;
    let tables = projected(&dir.join("projected"), options, cores)?;
    Ok(fast.report(cores, receipted, paced, contention, tables, verify, syncs))
}

/// A ledger of its own that lets the bench send as fast as it can.
fn open(dir: &Path, plant: &Plant, options: &BenchOptions) -> Result<Engine, BenchError> {
    let mut config = EngineConfig::new(plant.ledger.as_str(), dir, plant.key.clone()).with_genesis(plant.genesis()?);
    config.block = options.block;
    config.limits.in_flight_max = IN_FLIGHT;
    config.limits.per_signer_per_second = 1_000_000;
    Ok(Engine::open(config)?)
}

/// The fast part, measured.
struct Fast {
    /// Milliseconds from submission to answer.
    waits: Vec<f64>,
    seconds: f64,
    cpu_seconds: f64,
    /// Entries of each block.
    blocks: Vec<usize>,
    /// Bytes of the log.
    bytes: u64,
    /// Where the time of the blocks went.
    phases: Phases,
}

impl Fast {
    fn measure(engine: &Engine, lanes: Lanes) -> Result<Self, BenchError> {
        let from = engine.store().head().map_or(0, |head| head.checkpoint.height + 1);
        let (before, bytes) = (engine.metrics().phases(), engine.store().log_bytes());
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let waits = run_fast(engine, lanes, Receipts::NotAskedFor)?;
        let (seconds, cpu_seconds) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let after = engine.metrics().phases();
        let phases = Phases {
            execute: after.execute - before.execute,
            prove: after.prove - before.prove,
            log: after.log - before.log,
            index: after.index - before.index,
        };
        let bytes = engine.store().log_bytes() - bytes;
        Ok(Self { waits, seconds, cpu_seconds, blocks: block_sizes(engine, from), bytes, phases })
    }

    #[allow(clippy::too_many_arguments)] // the parts of one run, once
    fn report(
        self,
        cores: usize,
        receipted_per_second: f64,
        paced: Vec<Paced>,
        contention: Option<Contention>,
        projected: Projected,
        (verifications, admissions): (f64, f64),
        syncs: f64,
    ) -> BenchReport {
        let Self { waits, seconds, cpu_seconds, blocks, bytes, phases } = self;
        let triggers = waits.len().max(1) as f64;
        BenchReport {
            cores,
            triggers: waits.len(),
            seconds,
            per_second: waits.len() as f64 / seconds,
            loaded_p50_ms: percentile(&waits, 0.50),
            loaded_p99_ms: percentile(&waits, 0.99),
            blocks: blocks.len(),
            block_entries_mean: mean(&blocks),
            block_entries_max: blocks.iter().copied().max().unwrap_or(0),
            log_bytes_per_trigger: bytes as f64 / triggers,
            receipted_per_second,
            paced,
            contention,
            projected,
            cpu_us_per_trigger: cpu_seconds * 1e6 / triggers,
            share_execute: phases.execute / seconds,
            share_prove: phases.prove / seconds,
            share_log: phases.log / seconds,
            share_index: phases.index / seconds,
            baseline_syncs_per_second: syncs,
            baseline_verifications_per_second: verifications,
            baseline_admissions_per_second: admissions,
        }
    }
}

fn block_sizes(engine: &Engine, from: u64) -> Vec<usize> {
    let last = engine.store().head().map_or(0, |head| head.checkpoint.height);
    let size = |height| Some(engine.store().block(height).ok()??.entries.len());
    (from..=last).filter_map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_opens_every_order() {
        let dir = tempfile::tempdir().unwrap();
        let options = BenchOptions {
            triggers: 60,
            agents: 4,
            devices: 8,
            paced_seconds: 1,
            contended: 30,
            ..BenchOptions::default()
        };
        let report = bench_triggers(dir.path(), &options).unwrap();
        assert_eq!(report.triggers, 60);
        assert!(report.blocks > 0 && report.per_second > 0.0 && report.receipted_per_second > 0.0);
        assert_eq!(report.paced[0].statements, 100);
        assert!(report.paced.iter().all(|paced| paced.p50_ms > 0.0 && paced.p50_ms <= paced.p99_ms));
        let contention = report.contention.unwrap();
        assert!(report.projected.without_per_second > 0.0 && report.projected.tables_per_second > 0.0);
        assert!(contention.spread_per_second > 0.0 && contention.one_device_per_second > 0.0);
        assert!(matches!(bench_triggers(dir.path(), &options), Err(BenchError::NotEmpty(_))));
    }
}
