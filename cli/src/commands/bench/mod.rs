//! `tally bench`: figures of this machine, each with its method, durability and a baseline of the same run.

mod anchors;
mod batches;
mod field;
mod ledger;
mod links;
mod machine;
mod path;
mod plant;
mod registry;
mod scale;
mod stats;

use crate::answer::{Answer, Context, Fault, print_json};
use clap::{Args, ValueEnum};
use machine::Machine;
use serde::Serialize;
use std::path::Path;
use std::path::PathBuf;
use tally_ledger_node::bench::Orders;

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every figure is printed with the machine, the durability mode, the method, p50/p99 where there is a latency, and its
ratio to a baseline measured in the same run. Build with --release, or the figures mean nothing.")]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    pub what: BenchWhat,
    /// Where test data is written (durable figures depend on this disk)
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Seconds per figure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Modbus points of the field side, a quarter of them as OPC UA variables; 20000 when not said, which is what is promised
    #[arg(long, value_name = "POINTS", value_parser = points)]
    pub points: Option<usize>,
    /// Entries that `scale` fills the ledger with; 1000000 when not said. 2 to 3 GB of disk a million
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u64).range(10..=100_000_000))]
    pub entries: Option<u64>,
    /// Let each entry of `scale` open an order that stays open for ever, the most that a ledger can grow by. Otherwise orders are opened,
    /// accepted, done and confirmed, four entries each
    #[arg(long)]
    pub open_orders: bool,
    /// How often `scale` looks at each size when it compares ledgers, of which the middle look counts; about three minutes each
    #[arg(long, value_name = "TIMES", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub turns: u32,
    /// Devices that `registry` registers; 1000000 when not said. About 1 GB of disk a million
    #[arg(long, value_name = "DEVICES", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub devices: Option<u64>,
}

/// What `bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// All of it
    All,
    /// The vault; then devices, agent and broker as processes: processor time, memory and delay at 20,000 points
    Field,
    /// Triggers admitted, executed and synced by the node; readings covered by anchors
    Ledger,
    /// Register change → executed order, through real processes' code on loopback
    Path,
    /// Resident memory of the agent at 1,000 points
    Memory,
    /// A ledger filled with `--entries` entries of orders: memory on the way, bytes on disk, opening it again; then throughput and latency, in
    /// turns with smaller ones. Up to half an hour; not part of `all`
    Scale,
    /// `--devices` registered in bulk, and one looked up among all of them. Not part of `all`
    Registry,
}

/// As many as fit the gateways of the bench.
fn points(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(points @ 1..=100_000) => Ok(points),
        _ => Err("a number from 1 to 100000".to_owned()),
    }
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value with its unit.
    pub value: String,
    /// What this project promises for a machine of 2 cores, where it does.
    pub promise: Option<&'static str>,
    /// How it was measured, and how durable.
    pub method: String,
    /// Ratio to a baseline of the same run.
    pub baseline: Option<String>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Seconds per figure.
    pub seconds: u64,
    /// Modbus points of the field side; the promise's when nobody says otherwise.
    pub points: Option<usize>,
    /// Entries of the ledger that is filled; a million when nobody says otherwise.
    pub entries: Option<u64>,
    /// What becomes of the orders in it.
    pub orders: Orders,
    /// Looks at each size when ledgers of several are compared.
    pub turns: u32,
    /// Devices that are registered; a million when nobody says otherwise.
    pub devices: Option<u64>,
}

pub fn run(args: &BenchArgs, json: bool) -> Result<Answer, Fault> {
    let BenchArgs { seconds, points, entries, turns, devices, .. } = *args;
    let orders = if args.open_orders { Orders::Open } else { Orders::Ended };
    let sizes = Sizes { seconds, points, entries, orders, turns, devices };
    // A rehearsal in little is what a test of the bench itself needs; whoever forgot `--release` did not ask for one.
    if cfg!(debug_assertions) && sizes.points.is_none() && sizes.entries.is_none() && sizes.devices.is_none() {
        return Err("this is a debug build, its figures would mean nothing: `cargo run --release -- bench`".into());
    }
    let temporary = tempfile::tempdir().context("making a folder for test data")?;
    let dir = args.dir.as_deref().unwrap_or_else(|| temporary.path());
    let machine = Machine::look(dir);
    if !json {
        println!("{machine}");
    }
    let mut figures = Vec::new();
    for (what, measure) in [
        (BenchWhat::Field, (|dir, sizes| field(dir, sizes)) as Measure),
        (BenchWhat::Ledger, |dir, sizes| ledger(dir, sizes)),
        (BenchWhat::Path, |dir, sizes| path::measure(dir, sizes.seconds)),
        (BenchWhat::Memory, |dir, sizes| path::measure_memory(dir, sizes.seconds)),
        (BenchWhat::Scale, |dir, sizes| scale::measure(dir, sizes)),
        (BenchWhat::Registry, |dir, sizes| registry::measure(dir, sizes.devices.unwrap_or(registry::DEVICES))),
    ] {
        // `path` shows the memory of its agent as well: once is enough. `scale` and `registry` take minutes and gigabytes.
        let is_common = !matches!(what, BenchWhat::Memory | BenchWhat::Scale | BenchWhat::Registry);
        let wanted = args.what == what || (args.what == BenchWhat::All && is_common);
        if wanted {
            if !json {
                eprintln!("measuring {what:?} …");
            }
            let measured = measure(dir, &sizes)?;
            if !json {
                measured.iter().for_each(show);
            }
            figures.extend(measured);
        }
    }
    if json {
        print_json(&serde_json::json!({
            "machine": machine, "debug_build": cfg!(debug_assertions), "figures": figures,
        }))?;
    }
    Ok(Answer::Yes)
}

type Measure = fn(&Path, &Sizes) -> Result<Vec<Figure>, Fault>;

/// The vault alone in this process, then the whole field side.
fn field(dir: &Path, sizes: &Sizes) -> Result<Vec<Figure>, Fault> {
    let mut figures = field::measure(dir, sizes.seconds)?;
    figures.extend(plant::measure(dir, sizes)?);
    Ok(figures)
}

/// The node's engine, how fast its evidence is checked, then what the agent's anchors cover.
fn ledger(dir: &Path, sizes: &Sizes) -> Result<Vec<Figure>, Fault> {
    let mut figures = ledger::measure(dir, sizes.seconds)?;
    figures.extend(batches::measure(dir, sizes.seconds)?);
    figures.extend(links::measure(dir, sizes.seconds)?);
    figures.extend(anchors::measure(dir, sizes.seconds)?);
    Ok(figures)
}

fn show(figure: &Figure) {
    println!("\n{}: {}", figure.name, figure.value);
    println!("  method    {}", figure.method);
    if let Some(baseline) = &figure.baseline {
        println!("  baseline  {baseline}");
    }
    if let Some(promise) = figure.promise {
        println!("  promise   {promise}");
    }
}
