//! Signed batches through the node's engine, in this process.

use super::Figure;
use crate::answer::{Context, Fault};
use std::path::Path;
use tally_ledger_node::bench::{BatchFigures, BenchOptions, bench_batches};

/// Triggers a second of measuring: near what two cores do, so that `--seconds` is about right for both runs together.
const TRIGGERS_PER_SECOND: u64 = 40_000;

/// Throughput of triggers that are recorded, and of triggers that open an order.
pub fn measure(dir: &Path, seconds: u64) -> Result<Vec<Figure>, Fault> {
    let triggers = usize::try_from(seconds * TRIGGERS_PER_SECOND).unwrap_or(400_000);
    let options = BenchOptions { triggers, ..BenchOptions::default() };
    let report = bench_batches(&dir.join("batches"), &options).context("measuring signed batches")?;
    let size = report.triggers_per_batch;
    let promise = Some("at least 100,000/s on 2 cores");
    let opening = "opens an order with escrow and dispatch";
    Ok(vec![
        figure("triggers in signed batches, recorded", &report.recorded, promise, (size, "asks for nothing"), &options),
        figure("triggers in signed batches, an order each", &report.orders, None, (size, opening), &options),
    ])
}

fn figure(
    name: &str,
    run: &BatchFigures,
    promise: Option<&'static str>,
    (size, what): (u32, &str),
    options: &BenchOptions,
) -> Figure {
    let percent = |share: f64| share * 100.0;
    Figure {
        name: name.to_owned(),
        value: format!(
            "{:.0}/s; a batch, submit → durable at full load: p50 {:.1} ms, p99 {:.1} ms",
            run.per_second, run.loaded_p50_ms, run.loaded_p99_ms
        ),
        promise,
        method: format!(
            "{} triggers by {} agents over {} devices, {size} under a seal, sealed beforehand; each batch is parsed, its seal verified, its \
             triggers hashed and read, ordered; each trigger is checked and executed ({what}) with an outcome of its own; \
             its block ({:.0} triggers on average) is appended to the log and fdatasynced, can be found, then is answered. Order thread: \
             execute {:.0} %; keeping thread: prove {:.0} %, log {:.0} %, apply {:.0} %; {:.1} µs of processor time and {:.0} log bytes a trigger",
            run.triggers,
            options.agents,
            options.devices,
            run.block_triggers_mean,
            percent(run.share_execute),
            percent(run.share_prove),
            percent(run.share_log),
            percent(run.share_index),
            run.cpu_us_per_trigger,
            run.log_bytes_per_trigger,
        ),
        baseline: Some(format!(
            "{:.2} × the same blocks appended and synced with nothing else ({:.0} triggers/s)",
            run.ratio_to_baseline, run.baseline_per_second
        )),
    }
}
