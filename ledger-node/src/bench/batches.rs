//! Signed batches: a thousand triggers under one seal, through the whole engine.
//!
//! **Method.** As for single statements ([`super`]), but each agent seals its triggers a thousand at a time. Two runs, each on an empty
//! ledger of its own: triggers that ask for nothing (checked, executed, recorded, each with its outcome), and triggers that open a
//! maintenance order each, with escrow and dispatch. A trigger counts when its batch is answered: synced to the log and found by
//! readers. Every one of them must have been done. In the same run, on the same disk: blocks of the same size appended and synced
//! with nothing else.

use super::baseline::baseline_sync;
use super::fast::{IN_FLIGHT, Receipts, run_fast};
use super::load::Statement;
use super::numbers::{cores, cpu_seconds, percentile};
use super::{BenchError, BenchOptions, block_sizes};
use crate::engine::{Engine, EngineConfig};
use crate::order::Phases;
use crate::testing::Plant;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;
use tally_evidence::BATCH_TRIGGERS_MAX;
use tally_model::Priority;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct BatchReport {
    /// Triggers under one seal.
    pub triggers_per_batch: u32,
    /// Triggers that ask for nothing: recorded and executed, no order opened.
    pub recorded: BatchFigures,
    /// Triggers that open an order each, with escrow and dispatch.
    pub orders: BatchFigures,
}

/// One of the two runs.
#[derive(Debug, Clone, Serialize)]
pub struct BatchFigures {
    /// Triggers submitted, all of which were done.
    pub triggers: usize,
    /// From the first submission to the last answer.
    pub seconds: f64,
    /// Triggers admitted, executed and synced a second.
    pub per_second: f64,
    /// Submission of a batch to durable, under full load, in milliseconds.
    pub loaded_p50_ms: f64,
    /// The same.
    pub loaded_p99_ms: f64,
    /// Triggers of a block on average.
    pub block_triggers_mean: f64,
    /// Bytes of the log for each trigger.
    pub log_bytes_per_trigger: f64,
    /// Processor time of the whole process for each trigger, in microseconds.
    pub cpu_us_per_trigger: f64,
    /// Share of the time in which the contracts ran (order thread).
    pub share_execute: f64,
    /// Share in which outcomes and trees were hashed (keeping thread).
    pub share_prove: f64,
    /// Share in which the log was written and synced (keeping thread).
    pub share_log: f64,
    /// Share in which blocks were brought to where readers find them; the index is written behind that (keeping thread).
    pub share_index: f64,
    /// Baseline: triggers a second if the same blocks were appended and synced and nothing else was done.
    pub baseline_per_second: f64,
    /// `per_second` over it.
    pub ratio_to_baseline: f64,
}

/// Measures in the folder `dir`, which must not exist or be empty, and leaves its files there.
///
/// # Errors
/// [`BenchError`].
pub fn bench_batches(dir: &Path, options: &BenchOptions) -> Result<BatchReport, BenchError> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        return Err(BenchError::NotEmpty(dir.to_owned()));
    }
    Ok(BatchReport {
        triggers_per_batch: BATCH_TRIGGERS_MAX,
        recorded: run(&dir.join("recorded"), options, false)?,
        orders: run(&dir.join("orders"), options, true)?,
    })
}

fn run(dir: &Path, options: &BenchOptions, opens_orders: bool) -> Result<BatchFigures, BenchError> {
    let plant = Plant::new("bench", options.agents, options.devices)?;
    let (lanes, triggers) = sealed(&plant, options, opens_orders)?;
    let mut config = EngineConfig::new("bench", dir.join("ledger"), plant.key.clone()).with_genesis(plant.genesis()?);
    config.block = options.block;
    config.limits.in_flight_max = IN_FLIGHT;
    config.limits.per_signer_per_second = u32::MAX;
    let engine = Engine::open(config)?;
    let from = engine.store().head().map_or(0, |head| head.checkpoint.height + 1);
    let (before, bytes) = (engine.metrics().phases(), engine.store().log_bytes());
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let waits = run_fast(&engine, lanes, Receipts::NotAskedFor)?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let bytes = (engine.store().log_bytes() - bytes) as f64;
    let after = engine.metrics().phases();
    let share = |phase: fn(&Phases) -> f64| (phase(&after) - phase(&before)) / seconds;
    let blocks = block_sizes(&engine, from).len().max(1) as f64;
    engine.close();
    let (count, per_second) = (triggers as f64, triggers as f64 / seconds);
    let baseline_per_second = baseline_sync(&dir.join("baseline"), bytes / blocks)? * count / blocks;
    Ok(BatchFigures {
        triggers,
        seconds,
        per_second,
        loaded_p50_ms: percentile(&waits, 0.50),
        loaded_p99_ms: percentile(&waits, 0.99),
        block_triggers_mean: count / blocks,
        log_bytes_per_trigger: bytes / count,
        cpu_us_per_trigger: cpu * 1e6 / count,
        share_execute: share(|phases| phases.execute),
        share_prove: share(|phases| phases.prove),
        share_log: share(|phases| phases.log),
        share_index: share(|phases| phases.index),
        baseline_per_second,
        ratio_to_baseline: per_second / baseline_per_second,
    })
}

/// A lane of batches for each core, and how many triggers there are in all; an agent's batches are all in one lane, in order.
fn sealed(
    plant: &Plant,
    options: &BenchOptions,
    opens_orders: bool,
) -> Result<(Vec<Vec<Statement>>, usize), BenchError> {
    let cores = cores();
    let size = BATCH_TRIGGERS_MAX as usize;
    let batches = options.triggers.div_ceil(size).max(options.agents);
    let lane = |core: usize| -> Result<Vec<Statement>, BenchError> {
        let mine = (0..batches).filter(|batch| batch % options.agents % cores == core);
        mine.map(|batch| one(plant, options, batch, opens_orders)).collect()
    };
    let lanes: Result<_, BenchError> = std::thread::scope(|scope| {
        let lane = &lane;
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || lane(core))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| BenchError::Thread)?).collect()
    });
    Ok((lanes?, batches * size))
}

/// Batch `batch` of the run: the agents take turns, and each goes round its devices.
fn one(plant: &Plant, options: &BenchOptions, batch: usize, opens_orders: bool) -> Result<Statement, BenchError> {
    let (agent, size) = (batch % options.agents, BATCH_TRIGGERS_MAX as usize);
    let first = batch / options.agents * size;
    let devices = (options.devices / options.agents).max(1);
    let triggers = (first..first + size).map(|number| {
        let device = (agent + number % devices * options.agents) % options.devices.max(1);
        let mut body = plant.body(device, 0, number as u64, &format!("fault-{agent}-{number}"), Priority::High)?;
        body.call = body.call.filter(|_| opens_orders);
        Ok(body)
    });
    let triggers = triggers.collect::<Result<Vec<_>, BenchError>>()?;
    Ok(plant.batch(agent, &triggers)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_executes_every_trigger_of_every_batch() {
        let dir = tempfile::tempdir().unwrap();
        let options = BenchOptions { triggers: 1_500, agents: 2, devices: 4, ..BenchOptions::default() };
        let report = bench_batches(dir.path(), &options).unwrap();
        assert_eq!((report.recorded.triggers, report.orders.triggers), (2_000, 2_000));
        assert!(report.recorded.per_second > 0.0 && report.orders.ratio_to_baseline > 0.0);
        assert!(matches!(bench_batches(dir.path(), &options), Err(BenchError::NotEmpty(_))));
    }
}
