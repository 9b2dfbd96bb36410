//! A ledger that grows: what stays the same on the way.

use super::Figure;
use crate::answer::{Context, Fault};
use std::path::Path;
use tally_ledger_node::bench::{BenchOptions, ScalePart, ScaleReport, bench_scale};

/// Entries when nobody says otherwise.
pub const ENTRIES: u64 = 1_000_000;

/// Fills a ledger with `entries` triggers that each open an order, looks at it tenth by tenth, closes and opens it, and removes it.
pub fn measure(dir: &Path, entries: u64) -> Result<Vec<Figure>, Fault> {
    let options = BenchOptions::default();
    let folder = dir.join("scale");
    let report = bench_scale(&folder, entries, &options).context("filling the ledger")?;
    std::fs::remove_dir_all(&folder).context("removing the ledger that was filled")?;
    let Some((first, last)) = report.parts.first().zip(report.parts.last()) else { return Ok(Vec::new()) };
    Ok(vec![
        throughput(&report, (first, last), &options),
        waiting(first, last),
        memory(&report, last),
        disk(&report, last),
        opening(&report, last),
    ])
}

/// How much more or less than `before`, in per cent.
fn change(before: f64, after: f64) -> f64 {
    (after / before - 1.0) * 100.0
}

/// Bytes in millions.
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn throughput(report: &ScaleReport, (first, last): (&ScalePart, &ScalePart), options: &BenchOptions) -> Figure {
    let looks = report.parts.iter().map(|part| {
        format!(
            "\n    {:>10} entries: {:>7.0}/s, {:.1} µs of processor time each",
            part.entries, part.per_second, part.cpu_us_per_trigger
        )
    });
    Figure {
        name: format!("triggers a second while a ledger grows to {} entries", last.entries),
        value: format!(
            "{:.0}/s in the first tenth, {:.0}/s in the last ({:+.0} %){}",
            first.per_second,
            last.per_second,
            change(first.per_second, last.per_second),
            looks.collect::<String>()
        ),
        promise: Some("flat within 20 % from 10,000 to 10 million entries"),
        method: format!(
            "triggers by {} agents over {} devices, sealed in batches while the clock is stopped; each opens an order, and its block is \
             fdatasynced before it is answered",
            options.agents, options.devices
        ),
        baseline: None,
    }
}

fn waiting(first: &ScalePart, last: &ScalePart) -> Figure {
    Figure {
        name: "submit → durable while it grows, at full load".into(),
        value: format!(
            "p50 {:.0} ms, p99 {:.0} ms in the first tenth; p50 {:.0} ms ({:+.0} %), p99 {:.0} ms ({:+.0} %) in the last",
            first.p50_ms,
            first.p99_ms,
            last.p50_ms,
            change(first.p50_ms, last.p50_ms),
            last.p99_ms,
            change(first.p99_ms, last.p99_ms)
        ),
        promise: Some("flat within 20 % from 10,000 to 10 million entries"),
        method: "the same run; the queue is kept full, so most of it is waiting in line".into(),
        baseline: None,
    }
}

fn memory(report: &ScaleReport, last: &ScalePart) -> Figure {
    let looks = report.parts.iter().map(|part| {
        let (all, own) = (mb(part.memory.resident), mb(part.memory.anonymous));
        format!("\n    {:>10} entries: {all:.0} MB, {own:.0} MB of it no file's", part.entries)
    });
    let open = report.open_memory;
    Figure {
        name: "resident memory while it grows".into(),
        value: format!(
            "VmRSS {:.0} MB (RssAnon {:.0} MB) at {} entries; {:.0} MB ({:.0} MB) when opened again{}",
            mb(last.memory.resident),
            mb(last.memory.anonymous),
            last.entries,
            mb(open.resident),
            mb(open.anonymous),
            looks.collect::<String>()
        ),
        promise: Some("under 150 MB at 1 million entries"),
        method: "/proc/self/status of this process, which holds the node, the keys of all agents and one batch of sealed triggers".into(),
        baseline: None,
    }
}

fn disk(report: &ScaleReport, last: &ScalePart) -> Figure {
    let sum: u64 = report.folder.iter().map(|(.., bytes)| bytes).sum();
    let parts =
        report.folder.iter().map(|(place, what, bytes)| format!("\n    {:>10.1} MB  {place}: {what}", mb(*bytes)));
    Figure {
        name: "the data folder".into(),
        value: format!(
            "{:.1} MB on the disk, {:.0} bytes an entry; its files are {:.1} MB long{}",
            mb(report.disk_bytes),
            report.disk_bytes as f64 / last.entries.max(1) as f64,
            mb(sum),
            parts.collect::<String>()
        ),
        promise: None,
        method: "before closing, as `tally ledger du` tells it; the parts are lengths, and the index makes its file longer before it fills it".into(),
        baseline: None,
    }
}

fn opening(report: &ScaleReport, last: &ScalePart) -> Figure {
    Figure {
        name: format!("opening a ledger of {} entries", last.entries),
        value: format!("{:.2} s; closing took {:.2} s", report.open_seconds, report.close_seconds),
        promise: Some("under 2 s at 10 million entries"),
        method: "after closing in good order, in the same process, so the system may still have the files in memory; until the next trigger is \
                 durable"
            .into(),
        baseline: None,
    }
}
