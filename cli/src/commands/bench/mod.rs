//! `tally bench`: figures of this machine, each with its method, durability and a baseline of the same run.

mod field;
mod ledger;
mod machine;
mod path;
mod stats;

use crate::answer::{Answer, Context, Fault, print_json};
use crate::args::{BenchArgs, BenchWhat};
use machine::Machine;
use serde::Serialize;
use std::path::Path;

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

pub fn run(args: &BenchArgs, json: bool) -> Result<Answer, Fault> {
    if cfg!(debug_assertions) {
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
        (BenchWhat::Field, field::measure as fn(&Path, u64) -> Result<Vec<Figure>, Fault>),
        (BenchWhat::Ledger, ledger::measure),
        (BenchWhat::Path, path::measure),
        (BenchWhat::Memory, path::measure_memory),
    ] {
        // `path` shows the memory of its agent as well: once is enough.
        let wanted = args.what == what || (args.what == BenchWhat::All && what != BenchWhat::Memory);
        if wanted {
            if !json {
                eprintln!("measuring {what:?} …");
            }
            let measured = measure(dir, args.seconds)?;
            if !json {
                measured.iter().for_each(show);
            }
            figures.extend(measured);
        }
    }
    if json {
        print_json(&serde_json::json!({"machine": machine, "figures": figures}))?;
    }
    Ok(Answer::Yes)
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
