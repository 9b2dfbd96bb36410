//! The commands of a developer: `cargo xtask test` passes on a fresh Debian or Ubuntu with a Rust toolchain,
//! `cargo xtask check` does what the pipeline does. Each step also runs alone.
//!
//! Exit codes: 0 = done, cargo's own code when a step of cargo failed, 2 = the machine lacks something (the text says
//! what to type).

mod fuzz;
mod run;
mod steps;
mod tools;

use clap::{Parser, Subcommand};
use run::{Failure, Report};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tools, floors, tests: the commands of a developer")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the tools, build everything, run all tests of the workspace
    Test {
        /// For `cargo test`, after `--`: for example `-- -p tally-model`, or `-- --test floors -- --nocapture`
        #[arg(last = true)]
        extra: Vec<String>,
    },
    /// Install what the tests talk to, pinned: Python packages in .tools/venv, the Debian package mosquitto
    Tools,
    /// Format, lints, floors, tests: what must be green before a change is shared
    Check,
    /// Compare the floor table of ARCHITECTURE.md with the crates
    Floors,
    /// Let libFuzzer run over every parser of outside bytes; inputs that broke something lie in fuzz/found afterwards
    Fuzz(fuzz::FuzzArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::start();
    let outcome = match arguments.command {
        Command::Test { extra } => steps::test(&mut report, &extra),
        Command::Tools => steps::tools(&mut report),
        Command::Check => steps::check(&mut report),
        Command::Floors => steps::floors(&mut report),
        Command::Fuzz(arguments) => fuzz::fuzz(&mut report, &arguments),
    };
    report.finish(outcome.as_ref().err());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Step { code, .. }) => ExitCode::from(code),
        Err(Failure::Machine(_)) => ExitCode::from(2),
    }
}
