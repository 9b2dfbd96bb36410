//! How fast the ledger is: sealed triggers through the whole engine, in this process, without the network.
//!
//! **Method.** Several agents' triggers are sealed beforehand. Then one thread per core submits them, each agent's in order, as
//! fast as the queue takes them: parsed, seal verified, ordered, executed (each opens a maintenance order with escrow and
//! dispatch), synced to the log, indexed, answered. Receipts are not signed: whoever asks for one pays for it. In the same run,
//! on the same disk: the same blocks appended and synced with nothing else, and seals verified on one core with nothing else.

mod baseline;
mod fast;
mod load;
mod numbers;
mod options;
mod paced;
mod report;

pub use options::{BenchError, BenchOptions};
pub use report::BenchReport;

use crate::engine::{Engine, EngineConfig};
use crate::order::Phases;
use crate::testing::Plant;
use baseline::{baseline_sync, baseline_verify};
use fast::{IN_FLIGHT, run_fast};
use load::{sealed, split};
use numbers::{cpu_seconds, mean, percentile};
use paced::{PACE, run_paced};
use std::path::Path;
use std::time::Instant;

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
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let paced_count = (options.paced_seconds * PACE) as usize;
    let lanes = sealed(&plant, options, cores, paced_count)?;
    let mut config = EngineConfig::new("bench", dir.join("ledger"), plant.key.clone()).with_genesis(plant.genesis()?);
    config.block = options.block;
    config.limits.in_flight_max = IN_FLIGHT;
    config.limits.per_signer_per_second = 1_000_000;
    let engine = Engine::open(config)?;
    let verify = baseline_verify(lanes.first().map_or(&[][..], |lane| &lane[..lane.len().min(500)]))?;
    let (paced, fast) = split(lanes, paced_count);
    let paced_ms = run_paced(&engine, &paced)?;
    let from = engine.store().head().map_or(0, |head| head.checkpoint.height + 1);
    let before = engine.metrics().phases();
    let bytes_before = engine.store().log_bytes();
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let loaded_ms = run_fast(&engine, fast)?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let bytes = engine.store().log_bytes() - bytes_before;
    let after = engine.metrics().phases();
    let share = |phase: fn(&Phases) -> f64| (phase(&after) - phase(&before)) / seconds;
    let sizes = block_sizes(&engine, from);
    engine.close();
    let mean = mean(&sizes);
    let block_bytes = bytes as f64 / sizes.len().max(1) as f64;
    let syncs = baseline_sync(&dir.join("baseline"), block_bytes)?;
    Ok(BenchReport {
        cores,
        triggers: loaded_ms.len(),
        seconds,
        per_second: loaded_ms.len() as f64 / seconds,
        loaded_p50_ms: percentile(&loaded_ms, 0.50),
        loaded_p99_ms: percentile(&loaded_ms, 0.99),
        blocks: sizes.len(),
        block_entries_mean: mean,
        block_entries_max: sizes.iter().copied().max().unwrap_or(0),
        log_bytes_per_trigger: bytes as f64 / loaded_ms.len().max(1) as f64,
        paced_p50_ms: percentile(&paced_ms, 0.50),
        paced_p99_ms: percentile(&paced_ms, 0.99),
        cpu_us_per_trigger: cpu * 1e6 / loaded_ms.len().max(1) as f64,
        share_execute: share(|phases| phases.execute),
        share_prove: share(|phases| phases.prove),
        share_log: share(|phases| phases.log),
        share_index: share(|phases| phases.index),
        baseline_syncs_per_second: syncs,
        baseline_verifications_per_second: verify.0,
        baseline_admissions_per_second: verify.1,
    })
}

fn block_sizes(engine: &Engine, from: u64) -> Vec<usize> {
    let last = engine.store().head().map_or(0, |head| head.checkpoint.height);
    let size = |height| Some(engine.store().block(height).ok()??.entries.len());
    (from..=last).filter_map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockLimits;

    #[test]
    fn a_small_run_opens_every_order() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            BenchOptions { triggers: 60, agents: 4, devices: 8, paced_seconds: 0, block: BlockLimits::default() };
        let report = bench_triggers(dir.path(), &options).unwrap();
        assert_eq!(report.triggers, 60);
        assert!(report.blocks > 0 && report.per_second > 0.0);
        assert!(matches!(bench_triggers(dir.path(), &options), Err(BenchError::NotEmpty(_))));
    }
}
