//! How fast the ledger is: sealed triggers through the whole engine, in this process, without the network.
//!
//! **Method.** Several agents' triggers are sealed beforehand. Then one thread per core submits them, each agent's in order, as
//! fast as the queue takes them: parsed, seal verified, ordered, executed (each opens a maintenance order with escrow and
//! dispatch), synced to the log, indexed, answered. Receipts are not signed: whoever asks for one pays for it. In the same run,
//! on the same disk: the same blocks appended and synced with nothing else, and seals verified on one core with nothing else.

use crate::engine::{Engine, EngineConfig, Ticket};
use crate::order::{BlockLimits, OpenLedgerError, Phases};
use crate::testing::{Plant, PlantFault};
use crate::{NotNow, SubmitError};
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_evidence::SignedStatement;
use tally_journal::{Journal, JournalError, OpenError, Options};

/// Triggers between submission and answer in the fast part.
const IN_FLIGHT: usize = 4_000;
/// Triggers a second in the paced part.
const PACE: u32 = 100;
/// Seals verified for the baseline.
const VERIFIED: usize = 20_000;
/// Syncs for the baseline.
const SYNCED: usize = 100;

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Triggers submitted as fast as possible.
    pub triggers: usize,
    /// Agents that sealed them.
    pub agents: usize,
    /// Devices they are about.
    pub devices: usize,
    /// Seconds of the paced part.
    pub paced_seconds: u32,
    /// How blocks are cut.
    pub block: BlockLimits,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self { triggers: 200_000, agents: 8, devices: 64, paced_seconds: 5, block: BlockLimits::default() }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The plant.
    #[error(transparent)]
    Plant(#[from] PlantFault),
    /// The ledger does not open.
    #[error(transparent)]
    Open(Box<OpenLedgerError>),
    /// A trigger was not taken, so the rest means nothing.
    #[error("a trigger was not taken: {0}")]
    Submit(#[from] SubmitError),
    /// A trigger was refused by the contract, so no order was opened.
    #[error("the contract refused a trigger: {0}")]
    Refused(u16),
    /// The folder is in use.
    #[error("{} is not empty; the bench wants a folder of its own", .0.display())]
    NotEmpty(PathBuf),
    /// The disk, in the baseline.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk, in the baseline.
    #[error(transparent)]
    OpenJournal(#[from] OpenError),
    /// The folder.
    #[error("cannot use the folder")]
    Io(#[from] std::io::Error),
    /// A thread died.
    #[error("a thread of the bench died")]
    Thread,
}

impl From<OpenLedgerError> for BenchError {
    fn from(error: OpenLedgerError) -> Self {
        Self::Open(Box::new(error))
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Cores the process may use.
    pub cores: usize,
    /// Triggers submitted, all of which opened an order.
    pub triggers: usize,
    /// From the first submission to the last answer.
    pub seconds: f64,
    /// Triggers admitted, executed and synced a second.
    pub per_second: f64,
    /// Submission to durable, under full load (so mostly time in the queue), in milliseconds.
    pub loaded_p50_ms: f64,
    /// The same.
    pub loaded_p99_ms: f64,
    /// Blocks made.
    pub blocks: usize,
    /// Entries of a block on average.
    pub block_entries_mean: f64,
    /// Entries of the largest block.
    pub block_entries_max: usize,
    /// Bytes of the log for each trigger.
    pub log_bytes_per_trigger: f64,
    /// Submission to durable at 100 triggers a second, in milliseconds.
    pub paced_p50_ms: f64,
    /// The same.
    pub paced_p99_ms: f64,
    /// Processor time of the whole process for each trigger, in microseconds; with all cores busy, cores × 10⁶ over it is the
    /// most there can be.
    pub cpu_us_per_trigger: f64,
    /// Share of the fast part's time in which the contracts ran (order thread).
    pub share_execute: f64,
    /// Share in which outcomes and trees were hashed (order thread).
    pub share_prove: f64,
    /// Share in which the log was written and synced (order thread).
    pub share_log: f64,
    /// Share in which state and indexes were written (index thread, beside the order thread).
    pub share_index: f64,
    /// Baseline: blocks of that size appended and synced a second, nothing else.
    pub baseline_syncs_per_second: f64,
    /// Baseline: seals verified a second on one core, nothing else.
    pub baseline_verifications_per_second: f64,
    /// Baseline: statements parsed and verified a second on one core, nothing else.
    pub baseline_admissions_per_second: f64,
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ledger (solo): {:.0} sealed triggers/s admitted, executed and synced", self.per_second)?;
        writeln!(
            f,
            "  {} triggers in {:.2} s, {} cores, log synced (fdatasync) for each block",
            self.triggers, self.seconds, self.cores
        )?;
        writeln!(
            f,
            "  {} blocks, {:.0} entries on average, {} at most, {:.0} log bytes a trigger",
            self.blocks, self.block_entries_mean, self.block_entries_max, self.log_bytes_per_trigger
        )?;
        writeln!(
            f,
            "  order thread: execute {:.0} %, prove {:.0} %, log and sync {:.0} % of the time; index thread: {:.0} %",
            self.share_execute * 100.0,
            self.share_prove * 100.0,
            self.share_log * 100.0,
            self.share_index * 100.0
        )?;
        writeln!(f, "  {:.1} µs of processor time a trigger, all threads", self.cpu_us_per_trigger)?;
        writeln!(
            f,
            "  submit → durable at full load: p50 {:.1} ms, p99 {:.1} ms",
            self.loaded_p50_ms, self.loaded_p99_ms
        )?;
        writeln!(
            f,
            "  submit → durable at {PACE}/s: p50 {:.2} ms, p99 {:.2} ms",
            self.paced_p50_ms, self.paced_p99_ms
        )?;
        writeln!(f, "  baselines: {:.0} bare appends with sync/s of such blocks;", self.baseline_syncs_per_second)?;
        write!(
            f,
            "  on one core {:.0} verifications/s, {:.0} parsed and verified/s",
            self.baseline_verifications_per_second, self.baseline_admissions_per_second
        )
    }
}

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

/// Processor time of this process so far; 0 where the system does not say (`proc_pid_stat(5)`, fields 14 and 15).
fn cpu_seconds() -> f64 {
    /// `USER_HZ`: 100 on every Linux architecture Rust knows.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in the second field may hold anything, but nothing behind it a parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

type Statement = Arc<[u8]>;

/// One lane of statements for each thread; an agent's are all in one lane, in order.
fn sealed(
    plant: &Plant,
    options: &BenchOptions,
    cores: usize,
    paced: usize,
) -> Result<Vec<Vec<Statement>>, BenchError> {
    let total = options.triggers + paced;
    let lane = |core: usize| -> Result<Vec<Statement>, BenchError> {
        let mut numbers = vec![0; options.agents];
        let mut statements = Vec::with_capacity(total / cores + 1);
        for trigger in 0..total {
            let device = trigger % options.devices;
            let agent = plant.agent_of(device);
            if agent % cores == core {
                let statement = plant.worn(device, numbers[agent], &format!("fault-{trigger}"))?;
                numbers[agent] += 1;
                statements.push(statement.into());
            }
        }
        Ok(statements)
    };
    std::thread::scope(|scope| {
        let lane = &lane;
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || lane(core))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| BenchError::Thread)?).collect()
    })
}

/// The first `paced` statements of the first lane, and the rest.
fn split(mut lanes: Vec<Vec<Statement>>, paced: usize) -> (Vec<Statement>, Vec<Vec<Statement>>) {
    let first = lanes.first_mut().map_or_else(Vec::new, |lane| {
        let rest = lane.split_off(paced.min(lane.len()));
        std::mem::replace(lane, rest)
    });
    (first, lanes)
}

/// Submits at a steady pace; gives milliseconds from submission to answer.
fn run_paced(engine: &Engine, statements: &[Statement]) -> Result<Vec<f64>, BenchError> {
    let (interval, began) = (Duration::from_secs(1) / PACE, Instant::now());
    let mut waits = Vec::with_capacity(statements.len());
    for (place, statement) in (0u32..).zip(statements) {
        std::thread::sleep((interval * place).saturating_sub(began.elapsed()));
        let submitted = Instant::now();
        let Ticket::Waiting(answer) = engine.admit(Arc::clone(statement))? else { continue };
        let committed = answer.blocking_recv().map_err(|_| SubmitError::from(engine.gone()))?;
        waits.push(submitted.elapsed().as_secs_f64() * 1e3);
        is_done(committed.refusal)?;
    }
    Ok(waits)
}

/// Submits as fast as the queue takes; gives milliseconds from submission to answer.
fn run_fast(engine: &Engine, lanes: Vec<Vec<Statement>>) -> Result<Vec<f64>, BenchError> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = lanes.into_iter().map(|lane| scope.spawn(move || run_lane(engine, lane))).collect();
        let mut waits = Vec::new();
        for thread in threads {
            waits.extend(thread.join().map_err(|_| BenchError::Thread)??);
        }
        Ok(waits)
    })
}

fn run_lane(engine: &Engine, lane: Vec<Statement>) -> Result<Vec<f64>, BenchError> {
    let mut waits = Vec::with_capacity(lane.len());
    let mut open = VecDeque::with_capacity(IN_FLIGHT);
    for statement in lane {
        loop {
            match engine.admit(Arc::clone(&statement)) {
                Ok(Ticket::Waiting(answer)) => {
                    open.push_back((Instant::now(), answer));
                    settle_ready(&mut open, &mut waits)?;
                    break;
                }
                Ok(Ticket::Known(_)) => break,
                // Full: wait for the oldest answer, then try the same one again.
                Err(SubmitError::NotNow(NotNow::Busy)) => settle_one(engine, &mut open, &mut waits)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
    while !open.is_empty() {
        settle_one(engine, &mut open, &mut waits)?;
    }
    Ok(waits)
}

type Open = VecDeque<(Instant, tokio::sync::oneshot::Receiver<crate::Committed>)>;

/// Waits for the oldest, then takes all that came with it.
fn settle_one(engine: &Engine, open: &mut Open, waits: &mut Vec<f64>) -> Result<(), BenchError> {
    let Some((submitted, answer)) = open.pop_front() else {
        std::thread::sleep(Duration::from_micros(100));
        return Ok(());
    };
    let committed = answer.blocking_recv().map_err(|_| SubmitError::from(engine.gone()))?;
    waits.push(submitted.elapsed().as_secs_f64() * 1e3);
    is_done(committed.refusal)?;
    settle_ready(open, waits)
}

/// Takes all that are answered: the time counts when it is over, not when the queue happens to be full.
fn settle_ready(open: &mut Open, waits: &mut Vec<f64>) -> Result<(), BenchError> {
    while let Some((submitted, answer)) = open.front_mut() {
        let Ok(committed) = answer.try_recv() else { break };
        waits.push(submitted.elapsed().as_secs_f64() * 1e3);
        is_done(committed.refusal)?;
        open.pop_front();
    }
    Ok(())
}

const fn is_done(refusal: u16) -> Result<(), BenchError> {
    if refusal == 0 { Ok(()) } else { Err(BenchError::Refused(refusal)) }
}

fn block_sizes(engine: &Engine, from: u64) -> Vec<usize> {
    let last = engine.store().head().map_or(0, |head| head.checkpoint.height);
    let size = |height| Some(engine.store().block(height).ok()??.entries.len());
    (from..=last).filter_map(size).collect()
}

/// Seals alone, and parsing with seals, a second on one core.
fn baseline_verify(statements: &[Statement]) -> Result<(f64, f64), BenchError> {
    let parse = |statement: &Statement| SignedStatement::parse(statement).ok();
    let parsed: Vec<_> = statements.iter().filter_map(parse).collect();
    let keys = parsed.iter().map(|parsed| crate::testing::key_of(parsed.issuer.as_str()));
    let keys = keys.collect::<Result<Vec<_>, _>>().map_err(PlantFault::from)?;
    let rounds = VERIFIED.div_ceil(parsed.len().max(1));
    let began = Instant::now();
    let mut held = 0;
    for _ in 0..rounds {
        held += parsed.iter().zip(&keys).filter(|(parsed, key)| parsed.seal_holds_under(key.public())).count();
    }
    let verified = held as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut admitted = 0;
    for _ in 0..rounds {
        let holds = |(statement, key): &(&Statement, &tally_evidence::SigningKey)| {
            parse(statement).is_some_and(|parsed| parsed.seal_holds_under(key.public()))
        };
        admitted += statements.iter().zip(&keys).filter(holds).count();
    }
    Ok((verified, admitted as f64 / began.elapsed().as_secs_f64()))
}

/// Records of that size appended and synced a second.
fn baseline_sync(dir: &Path, bytes: f64) -> Result<f64, BenchError> {
    let mut journal = Journal::open(dir, Options::default())?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the size of a block: far below 2⁵³
    let record = vec![0xa5; bytes.max(1.0) as usize];
    let began = Instant::now();
    for _ in 0..SYNCED {
        journal.append(&record)?;
        journal.sync()?;
    }
    Ok(SYNCED as f64 / began.elapsed().as_secs_f64())
}

fn mean(sizes: &[usize]) -> f64 {
    sizes.iter().sum::<usize>() as f64 / sizes.len().max(1) as f64
}

fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an index
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
