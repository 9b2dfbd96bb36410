//! One look at a ledger that grows, and the counters it is made of.

use super::super::numbers::{cpu_seconds, percentile, thread_cpu_seconds, written_bytes};
use crate::engine::Engine;
use crate::order::Phases;
use serde::Serialize;

/// One look: since the one before, where nothing else is said.
#[derive(Debug, Clone, Serialize)]
pub struct ScalePart {
    /// Entries in the ledger behind it.
    pub entries: u64,
    /// Statements of this look.
    pub statements: u64,
    /// Statements admitted, executed, synced and answered a second.
    pub per_second: f64,
    /// Submission to durable under full load, in milliseconds.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// Processor time of the process for each statement, in microseconds.
    pub cpu_us_per_statement: f64,
    /// Of that, on the order thread: executing.
    pub order_us_per_statement: f64,
    /// Of that, on the keeping thread: proving and logging.
    pub keep_us_per_statement: f64,
    /// Of that, on the thread that writes the index.
    pub index_us_per_statement: f64,
    /// Time on the clock of each phase of a block, in microseconds a statement. The last three follow one another, the first goes beside
    /// them, and so does the writing of the index.
    pub phases: PhaseMicros,
    /// Bytes that the system is to write to the disk for each statement (`write_bytes` of `proc_pid_io(5)`).
    pub written_per_statement: f64,
    /// What the folder takes on the disk by now: less than its files are long, the index is made longer before it is filled.
    pub disk_bytes: u64,
    /// Memory of the process by now.
    pub memory: Memory,
    /// Closed and opened again there.
    pub opening: Option<Opening>,
}

/// Where the time of a block goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PhaseMicros {
    /// The contracts, with what they read.
    pub execute: f64,
    /// Outcomes, trees, checkpoint: nearly all of it the state tree.
    pub prove: f64,
    /// Append and sync.
    pub log: f64,
    /// To where readers find it; with the waiting for blocks before it to be written to the index, when those are too many.
    pub index: f64,
}

/// A ledger closed and opened again, in the same process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Opening {
    /// To stop with everything on disk, in seconds.
    pub close_seconds: f64,
    /// From the start of opening until the next statement was durable, in seconds.
    pub open_seconds: f64,
}

/// Memory of this process, in bytes (`proc_pid_status(5)`); 0 where the system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// `VmRSS`: all that is in memory.
    pub resident: u64,
    /// `RssAnon`: that of it which is no page of a file and cannot be dropped.
    pub anonymous: u64,
}

/// What only grows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Time on the clock, of what was measured.
    seconds: f64,
    cpu: f64,
    order: f64,
    keep: f64,
    index: f64,
    written: f64,
    phases: Phases,
    /// Seals of the baseline, and the seconds they took.
    verified: f64,
    verifying: f64,
}

impl Counters {
    /// As they are; what is only added stays 0.
    pub fn now(engine: &Engine) -> Self {
        Self {
            cpu: cpu_seconds(),
            order: thread_cpu_seconds("tally-order"),
            keep: thread_cpu_seconds("tally-keep"),
            index: thread_cpu_seconds("tally-index"),
            written: written_bytes(),
            phases: engine.metrics().phases(),
            ..Self::default()
        }
    }

    /// Adds a piece of the baseline.
    pub fn add_baseline(&mut self, (verified, seconds): (usize, f64)) {
        self.verified += verified as f64;
        self.verifying += seconds;
    }

    /// Adds what was counted between two moments, `seconds` apart.
    pub fn add(&mut self, seconds: f64, before: &Self, after: &Self) {
        self.seconds += seconds;
        self.cpu += after.cpu - before.cpu;
        self.order += after.order - before.order;
        self.keep += after.keep - before.keep;
        self.index += after.index - before.index;
        self.written += after.written - before.written;
        self.phases.execute += after.phases.execute - before.phases.execute;
        self.phases.prove += after.phases.prove - before.phases.prove;
        self.phases.log += after.phases.log - before.phases.log;
        self.phases.index += after.phases.index - before.phases.index;
    }
}

/// A piece of the filling.
#[derive(Debug, Default)]
pub struct Filled {
    pub counters: Counters,
    /// Milliseconds from submission to answer.
    pub waits: Vec<f64>,
}

impl Filled {
    /// Statements a second.
    pub fn per_second(&self) -> f64 {
        self.waits.len() as f64 / self.counters.seconds.max(f64::MIN_POSITIVE)
    }

    /// Milliseconds within which this share of them was answered.
    pub fn percentile(&self, share: f64) -> f64 {
        percentile(&self.waits, share)
    }

    /// Seals of the baseline a second.
    pub fn baseline(&self) -> f64 {
        self.counters.verified / self.counters.verifying.max(f64::MIN_POSITIVE)
    }
}

impl ScalePart {
    pub(super) fn new(engine: &Engine, filled: &Filled) -> Self {
        let Filled { counters, waits } = filled;
        let count = waits.len().max(1) as f64;
        let micros = |seconds: f64| seconds * 1e6 / count;
        let Phases { execute, prove, log, index } = counters.phases;
        let folder = engine.store().folder();
        Self {
            entries: engine.store().head().map_or(0, |head| head.checkpoint.size),
            statements: waits.len() as u64,
            per_second: filled.per_second(),
            p50_ms: filled.percentile(0.50),
            p99_ms: filled.percentile(0.99),
            cpu_us_per_statement: micros(counters.cpu),
            order_us_per_statement: micros(counters.order),
            keep_us_per_statement: micros(counters.keep),
            index_us_per_statement: micros(counters.index),
            phases: PhaseMicros {
                execute: micros(execute),
                prove: micros(prove),
                log: micros(log),
                index: micros(index),
            },
            written_per_statement: counters.written / count,
            disk_bytes: folder.and_then(|folder| crate::store::folder_disk_bytes(folder).ok()).unwrap_or(0),
            memory: Memory::now(),
            opening: None,
        }
    }
}

impl Memory {
    pub(in crate::bench) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse().map_or(0, |kib: u64| kib * 1024)
        };
        Self { resident: bytes("VmRSS:"), anonymous: bytes("RssAnon:") }
    }
}
