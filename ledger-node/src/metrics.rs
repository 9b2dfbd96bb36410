//! Numbers for Prometheus. The labels are the codes of the errors, so text and counter cannot drift apart.

use crate::execute::ExecutedEntry;
use crate::order::Phases;
use prometheus::{
    CounterVec, Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    exponential_buckets,
};

/// The node's counters.
pub struct Metrics {
    registry: Registry,
    pub admitted: IntCounter,
    pub repeated: IntCounter,
    refused: IntCounterVec,
    not_now: IntCounterVec,
    contract_refused: IntCounterVec,
    blocks: IntCounter,
    entries: IntCounter,
    batched: IntCounter,
    terms: IntCounter,
    phases: CounterVec,
    sync_seconds: Histogram,
    block_seconds: Histogram,
    block_entries: Histogram,
    pub height: IntGauge,
    pub projection_height: IntGauge,
    pub index_waiting: IntGauge,
    pub queue: IntGauge,
    pub failed: IntGauge,
    pub log_bytes: IntGauge,
    pub kept_below: IntGauge,
    pub data_bytes: IntGauge,
    pub data_bytes_over: IntGauge,
    pub retention_failed: IntGauge,
    pub following_behind: IntGauge,
    pub following_fault: IntGauge,
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let make = Maker { registry: Registry::new() };
        Ok(Self {
            admitted: make.counter("tally_admitted_total", "statements let in")?,
            repeated: make.counter("tally_repeated_total", "statements that were in the ledger already")?,
            refused: make.counters("tally_refused_total", "statements refused at the door", "code")?,
            not_now: make.counters("tally_not_now_total", "statements told to come again", "code")?,
            contract_refused: make.counters(
                "tally_contract_refused_total",
                "entries the contracts refused",
                "number",
            )?,
            blocks: make.counter("tally_blocks_total", "blocks committed since start")?,
            entries: make.counter("tally_entries_total", "entries committed since start")?,
            batched: make.counter("tally_batched_triggers_total", "triggers committed in batches since start")?,
            terms: make.counter("tally_terms_total", "terms that ran out since start")?,
            phases: make.keep(CounterVec::new(
                Opts::new("tally_block_phase_seconds_total", "where the time of blocks went"),
                &["phase"],
            )?)?,
            sync_seconds: make.histogram("tally_log_sync_seconds", "append and sync of a block", SECONDS)?,
            block_seconds: make.histogram("tally_block_seconds", "a block from queue to answer", SECONDS)?,
            block_entries: make.histogram("tally_block_entries", "entries of a block", (1.0, 13))?,
            height: make.gauge("tally_height", "height of the last block")?,
            projection_height: make
                .gauge("tally_projection_height", "last block in the tables for questions; -1 when none is")?,
            index_waiting: make
                .gauge("tally_index_waiting_blocks", "blocks that the file of the index does not have yet")?,
            queue: make.gauge("tally_queue", "statements and batched triggers waiting for their block")?,
            failed: make.gauge("tally_failed", "1 when the node stopped at a failure")?,
            log_bytes: make.gauge("tally_log_bytes", "bytes of the log on disk")?,
            kept_below: make.gauge("tally_kept_below_height", "blocks below this height were pruned")?,
            data_bytes: make.gauge("tally_data_bytes", "bytes of the data folder at the last retention pass")?,
            data_bytes_over: make.gauge("tally_data_bytes_over", "bytes above retention.disk that must stay")?,
            retention_failed: make.gauge("tally_retention_failed", "1 when the last retention pass failed")?,
            following_behind: make.gauge(
                "tally_following_behind_blocks",
                "blocks of the node that orders that are not here; 0 where it orders",
            )?,
            following_fault: make.gauge("tally_following_fault", "1 while following stands still")?,
            registry: make.registry,
        })
    }

    pub fn refused(&self, code: &'static str) {
        self.refused.with_label_values(&[code]).inc();
    }

    pub fn not_now(&self, code: &'static str) {
        self.not_now.with_label_values(&[code]).inc();
    }

    pub fn block_made(&self, height: u64, terms: usize, entries: &[ExecutedEntry], seconds: &Phases) {
        self.blocks.inc();
        self.entries.inc_by(entries.len() as u64);
        self.batched.inc_by(entries.iter().map(|entry| entry.triggers.len() as u64).sum());
        self.terms.inc_by(terms as u64);
        self.block_entries.observe(f64::from(u32::try_from(entries.len()).unwrap_or(u32::MAX)));
        let refusals =
            entries.iter().flat_map(|entry| std::iter::once(entry.refusal).chain(entry.triggers.iter().copied()));
        for number in refusals.filter(|number| *number != 0) {
            self.contract_refused.with_label_values(&[&number.to_string()]).inc();
        }
        self.sync_seconds.observe(seconds.log);
        let Phases { execute, prove, log, index } = *seconds;
        for (phase, seconds) in [("execute", execute), ("prove", prove), ("log", log), ("index", index)] {
            self.phases.with_label_values(&[phase]).inc_by(seconds);
        }
        self.height.set(i64::try_from(height).unwrap_or(i64::MAX));
    }

    /// Everyone who waits for a block is about to be answered, `seconds` after it was begun.
    pub fn block_answered(&self, seconds: f64, queued: usize) {
        self.block_seconds.observe(seconds);
        self.queue.set(i64::try_from(queued).unwrap_or(i64::MAX));
    }

    /// Where the time of all blocks went.
    pub fn phases(&self) -> Phases {
        let seconds = |phase| self.phases.with_label_values(&[phase]).get();
        Phases { execute: seconds("execute"), prove: seconds("prove"), log: seconds("log"), index: seconds("index") }
    }

    /// In Prometheus' text format.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(8 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        text
    }
}

/// Buckets from 0.1 ms (a quiet host's sync) to 3.3 s, each twice the one before.
const SECONDS: (f64, usize) = (0.000_1, 16);

/// Makes and registers.
struct Maker {
    registry: Registry,
}

impl Maker {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), &[label])?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.keep(IntGauge::new(name, help)?)
    }

    /// Buckets double from the first.
    fn histogram(&self, name: &str, help: &str, buckets: (f64, usize)) -> Result<Histogram, prometheus::Error> {
        let buckets = exponential_buckets(buckets.0, 2.0, buckets.1)?;
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    fn keep<T: prometheus::core::Collector + Clone + 'static>(&self, collector: T) -> Result<T, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}
