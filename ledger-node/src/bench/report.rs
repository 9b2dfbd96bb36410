//! What was measured, as numbers and as text.

use super::{Contention, Paced, Projected};
use serde::Serialize;
use std::fmt;

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
    /// The same as `per_second`, with the signed receipt of each.
    pub receipted_per_second: f64,
    /// How long a client waits for its final receipt: at 100 triggers a second, then at 10 %, 50 % and 90 % of
    /// `receipted_per_second`.
    pub paced: Vec<Paced>,
    /// What it costs when all calls hit one account, where that was measured.
    pub contention: Option<Contention>,
    /// What it costs to keep the ledger as tables too.
    pub projected: Projected,
    /// Processor time of the whole process for each trigger, in microseconds; with all cores busy, cores × 10⁶ over it is the
    /// most there can be.
    pub cpu_us_per_trigger: f64,
    /// Share of the fast part's time in which the contracts ran (order thread).
    pub share_execute: f64,
    /// Share in which outcomes and trees were hashed (keeping thread, beside the order thread).
    pub share_prove: f64,
    /// Share in which the log was written and synced (keeping thread).
    pub share_log: f64,
    /// Share in which blocks were brought to where readers find them; the index is written behind that (keeping thread).
    pub share_index: f64,
    /// Baseline: blocks of that size appended and synced a second, nothing else.
    pub baseline_syncs_per_second: f64,
    /// Baseline: seals verified a second on one core, nothing else.
    pub baseline_verifications_per_second: f64,
    /// Baseline: statements parsed and verified a second on one core, nothing else.
    pub baseline_admissions_per_second: f64,
}

impl fmt::Display for Paced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, p50_ms, p99_ms, longest_ms, .. } = self;
        write!(
            f,
            "submit → final receipt at {per_second:.0}/s: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, the longest {longest_ms:.0} ms"
        )
    }
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
            "  order thread: execute {:.0} % of the time; keeping thread: prove {:.0} %, log and sync {:.0} %, apply {:.0} %",
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
        writeln!(f, "  with the signed receipt of each: {:.0}/s", self.receipted_per_second)?;
        for paced in &self.paced {
            writeln!(f, "  {paced}")?;
        }
        if let Some(found) = &self.contention {
            writeln!(
                f,
                "  money from as many accounts as devices: {:.0}/s, from one account: {:.0}/s, all about one device: {:.0}/s",
                found.spread_per_second, found.one_account_per_second, found.one_device_per_second
            )?;
        }
        let Projected { without_per_second, with_per_second, tables_per_second } = self.projected;
        writeln!(
            f,
            "  projection: {without_per_second:.0}/s without, {with_per_second:.0}/s with it; in the tables {tables_per_second:.0}/s"
        )?;
        writeln!(f, "  baselines: {:.0} bare appends with sync/s of such blocks;", self.baseline_syncs_per_second)?;
        write!(
            f,
            "  on one core {:.0} verifications/s, {:.0} parsed and verified/s",
            self.baseline_verifications_per_second, self.baseline_admissions_per_second
        )
    }
}
