//! `cargo xtask fuzz`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tally_fuzz::{TARGETS, run};

/// Mutates input of every parser of outside bytes, until the time is over or something breaks.
#[derive(Parser)]
#[command(name = "cargo xtask fuzz")]
struct Arguments {
    /// Which parsers; all of them, one after the other, when none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Minutes for each
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// Where the dice begin: the same number tries the same inputs
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Show the names and end
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(unknown) = arguments.targets.iter().find(|name| !TARGETS.iter().any(|target| target.name == **name)) {
        eprintln!("`{unknown}` is no target; --list shows them");
        return ExitCode::from(2);
    }
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"));
    let time = Duration::from_secs_f64(arguments.minutes.clamp(0.01, 600.0) * 60.0);
    let mut is_well = true;
    // A panic is an answer here, and is shown at the end.
    std::panic::set_hook(Box::new(|_| {}));
    for target in TARGETS {
        if !arguments.targets.is_empty() && !arguments.targets.iter().any(|name| name == target.name) {
            continue;
        }
        if arguments.list {
            println!("{}", target.name);
            continue;
        }
        let report = run(target, &folder, time, arguments.seed);
        let (tried, answers, took) = (report.tried, report.answers, report.took.as_secs());
        println!("{:20} {tried:>12} inputs in {took:>4} s, {answers:>5} different answers", target.name);
        if let Some((file, text)) = report.found {
            println!("{:20} BROKE: {text}\n{:20} with {}", target.name, "", file.display());
            is_well = false;
        }
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
