//! Triggers admitted, executed and synced by the node's engine, in this process.

use super::Figure;
use crate::answer::{Context, Fault};
use std::path::Path;
use tally_ledger_node::bench::{BenchOptions, bench_triggers};

/// Triggers a second of measuring: near what two cores do, so that `--seconds` is about right.
const TRIGGERS_PER_SECOND: u64 = 20_000;

/// Throughput at full load, latency at 100/s.
pub fn measure(dir: &Path, seconds: u64) -> Result<Vec<Figure>, Fault> {
    let options = BenchOptions {
        triggers: usize::try_from(seconds * TRIGGERS_PER_SECOND).unwrap_or(200_000),
        paced_seconds: u32::try_from(seconds.min(10)).unwrap_or(5),
        ..BenchOptions::default()
    };
    let report = bench_triggers(&dir.join("ledger"), &options).context("measuring the ledger")?;
    let per_core = report.baseline_verifications_per_second;
    let throughput = Figure {
        name: "sealed triggers admitted, executed and synced".into(),
        value: format!("{:.0}/s", report.per_second),
        promise: Some("at least 20,000/s on 2 cores"),
        method: format!(
            "{} triggers by {} agents over {} devices, sealed beforehand; each is parsed, its seal verified, ordered, executed (opens \
             an order with escrow and dispatch), its block ({:.0} entries on average) appended to the log and fdatasynced, then \
             answered; receipts are signed when asked for and not counted",
            report.triggers, options.agents, options.devices, report.block_entries_mean
        ),
        baseline: Some(format!(
            "{:.2} × one core that only verifies P-256 seals ({per_core:.0}/s); bare append+sync of such blocks: {:.0} blocks/s",
            report.per_second / per_core,
            report.baseline_syncs_per_second
        )),
    };
    let latency = Figure {
        name: "submit → durable".into(),
        value: format!(
            "at 100/s: p50 {:.2} ms, p99 {:.2} ms; at full load: p50 {:.1} ms, p99 {:.1} ms",
            report.paced_p50_ms, report.paced_p99_ms, report.loaded_p50_ms, report.loaded_p99_ms
        ),
        promise: None,
        method: "the same engine; from handing over the statement to its block being synced".into(),
        baseline: None,
    };
    Ok(vec![throughput, latency])
}
