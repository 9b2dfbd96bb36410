//! Triggers admitted, executed and synced by the node's engine, in this process.

use super::Figure;
use crate::answer::{Context, Fault};
use std::path::Path;
use tally_ledger_node::bench::{BenchOptions, BenchReport, Contention, Paced, Projected, bench_triggers};

/// Triggers a second of measuring: near what two cores do, so that `--seconds` is about right.
const TRIGGERS_PER_SECOND: u64 = 20_000;
/// Seconds at the fastest pace, slower ones go on longer; and a fifth of the triggers for each kind of contention. The whole takes some three times
/// `--seconds`, and half a minute.
const PACED_SECONDS_MAX: u64 = 3;

/// Throughput at full load, waiting at several loads, and what contention costs.
pub fn measure(dir: &Path, seconds: u64) -> Result<Vec<Figure>, Fault> {
    let triggers = usize::try_from(seconds * TRIGGERS_PER_SECOND).unwrap_or(200_000);
    let options = BenchOptions {
        triggers,
        paced_seconds: u32::try_from(seconds.min(PACED_SECONDS_MAX)).unwrap_or(1),
        contended: triggers / 5,
        ..BenchOptions::default()
    };
    let report = bench_triggers(&dir.join("ledger"), &options).context("measuring the ledger")?;
    let mut figures = vec![throughput(&report, &options), waiting(&report)];
    figures.extend(report.contention.map(|found| contention(&found, &options)));
    figures.push(tables(&report));
    Ok(figures)
}

fn tables(report: &BenchReport) -> Figure {
    let Projected { without_per_second: without, with_per_second, tables_per_second } = report.projected;
    Figure {
        name: "the same with the projection kept beside it".into(),
        value: format!(
            "{with_per_second:.0}/s ({:.0} % slower); in the tables {tables_per_second:.0}/s",
            (1.0 - with_per_second / without) * 100.0
        ),
        promise: None,
        method: "the same load on two new ledgers, of which one is also kept as tables (embedded SQLite)".into(),
        baseline: Some(format!("the ledger without tables: {without:.0}/s")),
    }
}

fn throughput(report: &BenchReport, options: &BenchOptions) -> Figure {
    let verified = report.baseline_verifications_per_second;
    let appended = report.baseline_syncs_per_second * report.block_entries_mean;
    Figure {
        name: "sealed triggers admitted, executed and synced".into(),
        value: format!(
            "{:.0}/s; with the signed receipt of each: {:.0}/s",
            report.per_second, report.receipted_per_second
        ),
        promise: Some("at least 25,000/s on 2 cores"),
        method: format!(
            "{} triggers by {} agents over {} devices, sealed beforehand; each is parsed, its seal verified, ordered, executed (opens \
             an order with escrow and dispatch), its block ({:.0} entries on average) appended to the log and fdatasynced, then \
             answered; {:.1} µs of processor time each, all threads; the second figure adds making and signing its receipt",
            report.triggers, options.agents, options.devices, report.block_entries_mean, report.cpu_us_per_trigger
        ),
        baseline: Some(format!(
            "{:.2} × one core that only verifies P-256 seals ({verified:.0}/s), {:.3} × a bare loop that appends and syncs such \
             blocks ({:.0} blocks/s, {appended:.0} entries/s)",
            report.per_second / verified,
            report.per_second / appended,
            report.baseline_syncs_per_second
        )),
    }
}

fn waiting(report: &BenchReport) -> Figure {
    let at = |Paced { per_second, p50_ms, p99_ms, longest_ms, .. }: &Paced| {
        let share = per_second / report.receipted_per_second * 100.0;
        format!(
            "at {per_second:.0}/s ({share:.0} %): p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, the longest {longest_ms:.0} ms"
        )
    };
    Figure {
        name: "submit → final receipt".into(),
        value: report.paced.iter().map(at).collect::<Vec<_>>().join("; "),
        promise: None,
        method: format!(
            "the same engine at a steady pace, shares of the {:.0}/s with receipts; from when a trigger was due to when its signed \
             receipt was there, its block fdatasynced; submitting at full load waits for the queue: p50 {:.0} ms, p99 {:.0} ms",
            report.receipted_per_second, report.loaded_p50_ms, report.loaded_p99_ms
        ),
        baseline: Some(format!("one bare append with fdatasync: {:.2} ms", 1e3 / report.baseline_syncs_per_second)),
    }
}

fn contention(found: &Contention, options: &BenchOptions) -> Figure {
    let Contention { spread_per_second: spread, one_account_per_second, one_device_per_second } = *found;
    let cost = |rate: f64| (1.0 - rate / spread) * 100.0;
    Figure {
        name: "100 % of calls hitting one account".into(),
        value: format!(
            "{one_account_per_second:.0}/s ({:.0} % slower than spread); all about one device as well: {one_device_per_second:.0}/s \
             ({:.0} % slower)",
            cost(one_account_per_second),
            cost(one_device_per_second)
        ),
        promise: Some("at most 20 % slower than spread over many accounts"),
        method: format!(
            "{} triggers each on a ledger of its own, best of two: escrow from as many owners' accounts as devices, from one owner's \
             account, and by one agent about one device, whose triggers stay in order and so come through one thread",
            options.contended
        ),
        baseline: Some(format!("spread over {} accounts: {spread:.0}/s", options.devices)),
    }
}
