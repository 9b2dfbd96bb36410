//! A ledger that grows: what stays the same on the way.

use super::{Figure, Sizes};
use crate::answer::{Context, Fault};
use crate::shutdown::{on_signal, runtime};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally_ledger_node::bench::{
    BenchOptions, Opening, Orders, Paced, ScalePart, ScaleReport, ScaleWatch, Spread, Turn, Turns, bench_scale,
};

/// Entries when nobody says otherwise.
const ENTRIES: u64 = 1_000_000;
/// Seconds at each pace: they grow the ledger on which they are measured.
const PACED_SECONDS_MAX: u64 = 5;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Fills a ledger with so many entries of orders, looks at it on the way, closes and opens it, compares it with smaller ones, and removes
/// them; also when it was stopped by Ctrl-C, or failed.
pub fn measure(dir: &Path, sizes: &Sizes) -> Result<Vec<Figure>, Fault> {
    let entries = sizes.entries.unwrap_or(ENTRIES);
    let options = BenchOptions {
        paced_seconds: u32::try_from(sizes.seconds.min(PACED_SECONDS_MAX)).unwrap_or(1),
        orders: sizes.orders,
        turns: sizes.turns,
        ..BenchOptions::default()
    };
    let folder = dir.join("scale");
    if folder.exists() {
        return Err(
            format!("{} is there already; remove it, or name another folder with --dir", folder.display()).into()
        );
    }
    let runtime = runtime()?;
    let signal = runtime.block_on(async { on_signal() })?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    runtime.spawn(async move {
        signal.cancelled().await;
        told.store(true, Ordering::Relaxed);
    });
    let mut shown = Shown { entries, next: Instant::now() + PROGRESS, is_first: true };
    let report = bench_scale(&folder, entries, &options, &stop, &mut shown).context("filling the ledger");
    std::fs::remove_dir_all(&folder).context("removing the ledger that was filled")?;
    let report = report?;
    let Some(last) = report.parts.last() else { return Ok(Vec::new()) };
    Ok(vec![
        throughput(&report.sizes, &options),
        receipted(&report.sizes),
        paced(&report.sizes, &options),
        growing(&report, last),
        memory(&report, last),
        disk(&report, last),
        opening(&report, last),
    ])
}

/// What is shown on standard error while it goes on: it takes minutes.
struct Shown {
    entries: u64,
    next: Instant,
    is_first: bool,
}

impl ScaleWatch for Shown {
    fn progress(&mut self, entries: u64, per_second: f64) {
        if Instant::now() >= self.next {
            self.next = Instant::now() + PROGRESS;
            eprintln!("  {entries} of {} are in, the last ones at {per_second:.0}/s", self.entries);
        }
    }

    fn look(&mut self, part: &ScalePart) {
        if std::mem::take(&mut self.is_first) {
            eprintln!("{}", ScalePart::COLUMNS);
        }
        eprintln!("{part}");
    }

    fn turn(&mut self, entries: u64, turn: &Turn) {
        eprintln!("{entries:>10} entries in their turn: {turn}");
    }
}

/// How much more or less than `before`, in per cent.
fn change(before: f64, after: f64) -> f64 {
    (after / before - 1.0) * 100.0
}

/// Bytes in millions.
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What is promised of each size.
const FLAT: &str = "flat within 20 % from 10,000 to 10 million entries";

/// A figure at each size, and how much the last one differs from the first.
fn compared(sizes: &[Turns], of: impl Fn(&Turns) -> Spread) -> String {
    let spreads: Vec<_> = sizes.iter().map(|size| of(size).to_string()).collect();
    let ends = sizes.first().zip(sizes.last()).filter(|_| sizes.len() > 1);
    let differs = ends.map(|(first, last)| format!(": {:+.0} %", change(of(first).middle, of(last).middle)));
    format!("{}{}", spreads.join("; "), differs.unwrap_or_default())
}

/// The sizes that are compared.
fn named(sizes: &[Turns]) -> String {
    sizes.iter().map(|size| size.entries.to_string()).collect::<Vec<_>>().join(", ")
}

fn throughput(sizes: &[Turns], options: &BenchOptions) -> Figure {
    let (p50, p99) = (
        compared(sizes, |size| size.spread(|turn| turn.p50_ms)),
        compared(sizes, |size| size.spread(|turn| turn.p99_ms)),
    );
    Figure {
        name: format!("entries a second in a ledger of {} of them", named(sizes)),
        value: format!(
            "{} /s\n    answered within p50 {p50} ms\n                    p99 {p99} ms",
            compared(sizes, |size| size.spread(|turn| turn.per_second))
        ),
        promise: Some(FLAT),
        method: format!(
            "the middle of {} looks at each size, all sizes in turn (least to most); 100,000 statements by {} agents and a technician about \
             {} devices, sealed in batches while the clock is stopped: {}; as fast as the ledger takes them, the block of each fdatasynced before it \
             is answered; executing is on one thread, proving, logging and applying follow one another on another, a third one writes the index",
            options.turns,
            options.agents,
            options.devices,
            lives(options.orders)
        ),
        baseline: Some(format!(
            "P-256 seals verified by all cores, nothing else, behind each batch: {} /s; the ledger takes so many for 100 of them: {}",
            compared(sizes, |size| size.spread(|turn| turn.baseline_verifications_per_second)),
            compared(sizes, |size| size.spread(|turn| turn.ratio_to_baseline() * 100.0)),
        )),
    }
}

const fn lives(orders: Orders) -> &'static str {
    match orders {
        Orders::Ended => {
            "orders are opened, accepted, done, and confirmed and paid, four entries each, some 15,000 of them under way"
        }
        Orders::Open => "each opens an order that stays open, the most that a ledger can grow by",
    }
}

fn receipted(sizes: &[Turns]) -> Figure {
    Figure {
        name: format!("entries a second with a signed receipt each, in a ledger of {} of them", named(sizes)),
        value: format!("{} /s", compared(sizes, |size| size.spread(|turn| turn.receipted_per_second))),
        promise: Some(FLAT),
        method: "the same looks; 50,000 statements, each with the receipt that whoever submits it gets".into(),
        baseline: None,
    }
}

fn paced(sizes: &[Turns], options: &BenchOptions) -> Figure {
    let paces = sizes.iter().flat_map(|size| &size.turns).map(|turn| turn.paced.len()).max().unwrap_or(0);
    let lines = (0..paces).flat_map(|pace| {
        let line = |what: &str, of: fn(&Paced) -> f64| {
            format!("\n    {what:>6} {}", compared(sizes, |size| size.paced(pace, of)))
        };
        [
            line("at /s", |paced| paced.per_second),
            line("p50 ms", |paced| paced.p50_ms),
            line("p99 ms", |paced| paced.p99_ms),
        ]
    });
    Figure {
        name: format!("submit → final receipt at steady paces, in a ledger of {} entries", named(sizes)),
        value: lines.collect(),
        promise: Some(FLAT),
        method: format!(
            "the same looks; when the disk has what was filled in, at 10 %, 50 % and 90 % of the middle of what the ledger took with receipts so far, for \
             {} s at the last and longer at the others; from when a statement was due to when its signed receipt was there, its block \
             fdatasynced",
            options.paced_seconds
        ),
        baseline: None,
    }
}

fn growing(report: &ScaleReport, last: &ScalePart) -> Figure {
    let looks = report.parts.iter().map(|part| {
        let phases = &part.phases;
        format!(
            "\n    {:>10} entries: {:>7.0}/s, p50 {:.0} ms, p99 {:.0} ms; {:.1} µs of processor time each ({:.1} on the order thread, {:.1} on the keeping thread, {:.1} on the \
             thread of the index); on the clock {:.1} µs executing, {:.1} proving, {:.1} logging, {:.1} applying; {:.1} KB written",
            part.entries,
            part.per_second,
            part.p50_ms,
            part.p99_ms,
            part.cpu_us_per_statement,
            part.order_us_per_statement,
            part.keep_us_per_statement,
            part.index_us_per_statement,
            phases.execute,
            phases.prove,
            phases.log,
            phases.index,
            part.written_per_statement / 1e3
        )
    });
    Figure {
        name: format!("a ledger grows to {} entries", last.entries),
        value: looks.collect(),
        promise: None,
        method: "as fast as it takes them; a look counts from the one before. How fast the machine was changes meanwhile: what is promised is compared in turns".into(),
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
        method: "/proc/self/status of this process, which holds the node, the keys of all agents and one batch of sealed statements".into(),
        baseline: None,
    }
}

fn disk(report: &ScaleReport, last: &ScalePart) -> Figure {
    let sum: u64 = report.folder.iter().map(|(.., bytes)| bytes).sum();
    let parts =
        report.folder.iter().map(|(place, what, bytes)| format!("\n    {:>10.1} MB  {place}: {what}", mb(*bytes)));
    let looks = report
        .parts
        .iter()
        .map(|part| format!("\n    {:>10} entries: {:.1} MB on the disk", part.entries, mb(part.disk_bytes)));
    Figure {
        name: "the data folder".into(),
        value: format!(
            "{:.1} MB on the disk, {:.0} bytes an entry; its files are {:.1} MB long{}{}",
            mb(last.disk_bytes),
            last.disk_bytes as f64 / last.entries.max(1) as f64,
            mb(sum),
            looks.collect::<String>(),
            parts.collect::<String>()
        ),
        promise: None,
        method: "before closing, as `tally ledger du` tells it; the parts are lengths, and the index makes its file longer before it fills it".into(),
        baseline: None,
    }
}

fn opening(report: &ScaleReport, last: &ScalePart) -> Figure {
    let opened = report.parts.iter().filter_map(|part| part.opening.map(|opening| (part.entries, opening)));
    let looks = opened.map(|(entries, Opening { close_seconds, open_seconds })| {
        format!("\n    {entries:>10} entries: {open_seconds:.2} s; closing took {close_seconds:.2} s")
    });
    let Opening { close_seconds, open_seconds } = last.opening.unwrap_or_default();
    Figure {
        name: format!("opening a ledger of {} entries", last.entries),
        value: format!("{open_seconds:.2} s; closing took {close_seconds:.2} s{}", looks.collect::<String>()),
        promise: Some("under 2 s at 10 million entries"),
        method: "after closing in good order, in the same process, so the system may still have the files in memory; until the next statement is \
                 durable"
            .into(),
        baseline: None,
    }
}
