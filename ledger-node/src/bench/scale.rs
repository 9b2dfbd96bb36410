//! What stays the same while a ledger grows: triggers that each open an order, as fast as the queue takes them, looked at tenth by
//! tenth; then how long it takes to close and to open.
//!
//! **Method.** As in [`bench_triggers`](super::bench_triggers), but sealed on the fly in batches ([`BATCH`]) while the clock is stopped, so
//! that the process holds the node and one batch. Memory is the whole process's, with what the bench needs.

use super::fast::{IN_FLIGHT, Receipts, run_fast};
use super::load::Statement;
use super::numbers::{cpu_seconds, percentile};
use super::{BenchError, BenchOptions};
use crate::engine::{Engine, EngineConfig};
use crate::store::Part;
use crate::testing::Plant;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Instant;

/// Triggers sealed at once.
const BATCH: u64 = 20_000;
/// Looks on the way.
const PARTS: u64 = 10;

/// One look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScalePart {
    /// Entries in the ledger behind it.
    pub entries: u64,
    /// Triggers admitted, executed, synced and answered a second since the look before.
    pub per_second: f64,
    /// Submission to durable under full load, in milliseconds.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// Processor time of the process for each trigger, in microseconds.
    pub cpu_us_per_trigger: f64,
    /// Memory of the process.
    pub memory: Memory,
}

/// Memory of this process, in bytes (`proc_pid_status(5)`); 0 where the system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// `VmRSS`: all that is in memory.
    pub resident: u64,
    /// `RssAnon`: that of it which is no page of a file and cannot be dropped.
    pub anonymous: u64,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScaleReport {
    /// The looks, in order.
    pub parts: Vec<ScalePart>,
    /// Bytes of the data folder: place, what they are, how many.
    pub folder: Vec<(String, String, u64)>,
    /// What the folder takes on the disk: less than its files are long, the index is made longer before it is filled.
    pub disk_bytes: u64,
    /// To stop with everything on disk, in seconds.
    pub close_seconds: f64,
    /// From the start of opening to the first answer, in seconds.
    pub open_seconds: f64,
    /// Memory of the process behind opening. What was freed when the first engine closed may still be in it.
    pub open_memory: Memory,
}

/// Fills a ledger in the empty folder `dir` with so many entries, and leaves its files there.
///
/// # Errors
/// [`BenchError`].
pub fn bench_scale(dir: &Path, entries: u64, options: &BenchOptions) -> Result<ScaleReport, BenchError> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        return Err(BenchError::NotEmpty(dir.to_owned()));
    }
    let mut plant = Filling::new(options)?;
    let config = |plant: &Plant| -> Result<EngineConfig, BenchError> {
        let mut config = EngineConfig::new("bench", dir.join("ledger"), plant.key.clone());
        config.genesis = Some(plant.genesis()?);
        config.block = options.block;
        config.limits.in_flight_max = IN_FLIGHT;
        config.limits.per_signer_per_second = 1_000_000;
        Ok(config)
    };
    let engine = Engine::open(config(&plant.plant)?)?;
    let parts = (1..=PARTS).map(|part| plant.fill(&engine, entries * part / PARTS)).collect::<Result<_, _>>()?;
    let usage = engine.store().usage();
    let (usage, disk_bytes) = usage.map(|usage| (usage.parts, usage.disk_bytes)).unwrap_or_default();
    let closing = Instant::now();
    engine.close();
    let close_seconds = closing.elapsed().as_secs_f64();
    drop(engine);
    let opening = Instant::now();
    let engine = Engine::open(config(&plant.plant)?)?;
    run_fast(&engine, vec![vec![plant.next()?]], Receipts::NotAskedFor)?;
    let open_seconds = opening.elapsed().as_secs_f64();
    let folder = usage.into_iter().map(|Part { place, what, bytes }| (place, what, bytes)).collect();
    let open_memory = Memory::now();
    engine.close();
    Ok(ScaleReport { parts, folder, disk_bytes, close_seconds, open_seconds, open_memory })
}

/// The plant, and how far its agents have counted.
struct Filling {
    plant: Plant,
    devices: usize,
    numbers: Vec<u64>,
    sealed: u64,
}

impl Filling {
    fn new(options: &BenchOptions) -> Result<Self, BenchError> {
        let plant = Plant::new("bench", options.agents, options.devices)?;
        Ok(Self { plant, devices: options.devices, numbers: vec![0; options.agents], sealed: 0 })
    }

    /// The next trigger.
    fn next(&mut self) -> Result<Statement, BenchError> {
        Ok(self.lanes(1, 1)?.into_iter().flatten().next().unwrap_or_default())
    }

    /// `count` triggers for `cores` threads; an agent's are all on one, in order.
    fn lanes(&mut self, count: u64, cores: usize) -> Result<Vec<Vec<Statement>>, BenchError> {
        let mut planned = vec![Vec::new(); cores];
        for trigger in self.sealed..self.sealed + count {
            let device = usize::try_from(trigger).unwrap_or(usize::MAX) % self.devices;
            let agent = self.plant.agent_of(device);
            planned[agent % cores].push((device, self.numbers[agent], trigger));
            self.numbers[agent] += 1;
        }
        self.sealed += count;
        let plant = &self.plant;
        let seal = |(device, number, trigger): (usize, u64, u64)| -> Result<Statement, BenchError> {
            Ok(plant.worn(device, number, &format!("fault-{trigger}"))?.into())
        };
        std::thread::scope(|scope| {
            let seal = &seal;
            let start = |lane: Vec<_>| scope.spawn(move || lane.into_iter().map(seal).collect::<Result<Vec<_>, _>>());
            let threads: Vec<_> = planned.into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| BenchError::Thread)?).collect()
        })
    }

    /// Fills the ledger up to `target` triggers.
    fn fill(&mut self, engine: &Engine, target: u64) -> Result<ScalePart, BenchError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut seconds, mut cpu, mut waits) = (0.0, 0.0, Vec::new());
        while self.sealed < target {
            let lanes = self.lanes(BATCH.min(target - self.sealed), cores)?;
            let (began, cpu_before) = (Instant::now(), cpu_seconds());
            waits.extend(run_fast(engine, lanes, Receipts::NotAskedFor)?);
            seconds += began.elapsed().as_secs_f64();
            cpu += cpu_seconds() - cpu_before;
        }
        let count = waits.len().max(1) as f64;
        Ok(ScalePart {
            entries: engine.store().head().map_or(0, |head| head.checkpoint.size),
            per_second: waits.len() as f64 / seconds.max(f64::MIN_POSITIVE),
            p50_ms: percentile(&waits, 0.50),
            p99_ms: percentile(&waits, 0.99),
            cpu_us_per_trigger: cpu * 1e6 / count,
            memory: Memory::now(),
        })
    }
}

impl Memory {
    pub(super) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse().map_or(0, |kib: u64| kib * 1024)
        };
        Self { resident: bytes("VmRSS:"), anonymous: bytes("RssAnon:") }
    }
}

/// Bytes in millions.
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl fmt::Display for ScaleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>10} {:>11} {:>9} {:>9} {:>10} {:>9} {:>11}",
            "entries", "triggers/s", "p50 ms", "p99 ms", "cpu µs", "VmRSS MB", "RssAnon MB"
        )?;
        for part in &self.parts {
            let ScalePart { entries, per_second, p50_ms, p99_ms, cpu_us_per_trigger: cpu, memory } = part;
            let (all, own) = (mb(memory.resident), mb(memory.anonymous));
            writeln!(
                f,
                "{entries:>10} {per_second:>11.0} {p50_ms:>9.1} {p99_ms:>9.1} {cpu:>10.1} {all:>9.1} {own:>11.1}"
            )?;
        }
        writeln!(f, "closed in {:.2} s, open again in {:.2} s", self.close_seconds, self.open_seconds)?;
        let Memory { resident, anonymous } = self.open_memory;
        writeln!(f, "memory then {:.1} MB, RssAnon {:.1} MB", mb(resident), mb(anonymous))?;
        for (place, what, bytes) in &self.folder {
            writeln!(f, "{:>10.1} MB  {place}: {what}", mb(*bytes))?;
        }
        let sum: u64 = self.folder.iter().map(|part| part.2).sum();
        write!(f, "{:>10.1} MB  together, {:.1} MB on the disk", mb(sum), mb(self.disk_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_ledger_is_filled_closed_and_opened() {
        let dir = tempfile::tempdir().unwrap();
        let options = BenchOptions { agents: 4, devices: 8, ..BenchOptions::default() };
        let report = bench_scale(dir.path(), 60, &options).unwrap();
        let entries: Vec<_> = report.parts.iter().map(|part| part.entries).collect();
        assert_eq!(entries, (1..=PARTS).map(|part| part * 6 + 1).collect::<Vec<_>>());
        assert!(report.parts.iter().all(|part| part.per_second > 0.0 && part.memory.resident > part.memory.anonymous));
        assert!(report.disk_bytes > 0);
        assert!(report.folder.iter().any(|(place, ..)| place.starts_with("tree/")), "{report}");
        assert!(matches!(bench_scale(dir.path(), 60, &options), Err(BenchError::NotEmpty(_))));
    }
}
