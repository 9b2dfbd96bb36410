//! `tally`: from a PLC register to a paid work order.
//!
//! Exit codes: 0 yes or done, 1 the answer is no, 2 usage or environment.

mod answer;
mod args;
mod child;
mod clock_state;
mod commands;
mod demo;
mod flags;
mod footprint;
mod mapping_copy;
mod output;
mod ports;
mod private;
mod rehearsal;
mod show;
mod shutdown;
mod site;

use answer::Answer;
use args::{Cli, Command};
use clap::Parser;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Statements are allocated by the threads that admit them and freed by the thread that orders them: glibc's arenas contend
/// there, and gave a ledger a tenth less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli);
    if cli.command.holds_keys() {
        private::keep_out();
    }
    match output::told(|| run(cli)) {
        Some(Ok(Answer::Yes)) => ExitCode::SUCCESS,
        Some(Ok(Answer::No)) => ExitCode::from(1),
        Some(Err(fault)) => {
            // Also when standard error is gone.
            let _ = writeln!(std::io::stderr(), "tally: {}", show::lines(&answer::with_causes(fault.as_ref())));
            ExitCode::from(2)
        }
        None => ExitCode::from(2),
    }
}

fn run(cli: Cli) -> Result<Answer, answer::Fault> {
    let json = cli.json;
    match cli.command {
        Command::Demo(args) => demo::run(args, json),
        Command::Agent(args) => commands::agent::run(&args),
        Command::Node(args) => commands::node::run(&args),
        Command::Witness(args) => commands::witness::run(args, json),
        Command::Init(args) => commands::init::run(args, json),
        Command::Sim(args) => commands::sim::run(&args),
        Command::Check(args) => commands::check::run(&args, json),
        Command::Plan(args) => commands::plan::run(&args, json),
        Command::Probe(args) => commands::probe::run(&args, json),
        Command::Browse(args) => commands::browse::run(&args, json),
        Command::Trust(args) => commands::trust::run(&args, json),
        Command::Keys(args) => commands::keys::run(&args, json),
        Command::Ca(args) => commands::ca::run(&args, json),
        Command::Enrol(args) => commands::enrol::run(&args),
        Command::Token(args) => commands::token::run(&args, json),
        Command::Call(args) => commands::call::run(args, json),
        Command::Access(args) => commands::access::run(args, json),
        Command::Registry(args) => commands::registry::run(args, json),
        Command::Orders(args) => commands::order::list(&args, json),
        Command::Order(args) => commands::order::show(&args, json),
        Command::Balance(args) => commands::balance::run(&args, json),
        Command::Ledger(args) => commands::ledger::run(&args, json),
        Command::Query(args) => commands::query::run(&args, json),
        Command::Backup(args) => commands::backup::save(&args, json),
        Command::Restore(args) => commands::backup::bring_back(&args, json),
        Command::Evidence(args) => commands::evidence::run(&args, json),
        Command::Disclose(args) => commands::private::disclose(&args, json),
        Command::Purge(args) => commands::private::purge(&args, json),
        Command::Prove(args) => commands::prove::run(&args, json),
        Command::Timestamp(args) => commands::timestamp::run(&args, json),
        Command::Verify(args) => commands::verify::run(&args, json),
        Command::Convert(args) => commands::convert::run(&args, json),
        Command::Status(args) => commands::status::run(&args, json),
        Command::Reload(args) => commands::reload::run(&args, json),
        Command::Bench(args) => commands::bench::run(&args, json),
    }
}

/// Logs go to standard error: as text for people, as JSON lines with `--log json`.
fn start_logging(cli: &Cli) {
    use tracing_subscriber::EnvFilter;
    let quiet = if matches!(cli.command, Command::Agent(_) | Command::Node(_) | Command::Sim(_) | Command::Witness(_)) {
        "info"
    } else {
        "warn"
    };
    // The OPC UA and broker libraries log every failed attempt as an error; our links log the first failure and the recovery.
    let quiet = format!("{quiet},opcua_client=off,opcua_core=off,opcua_crypto=off,opcua_server=off");
    let filter = EnvFilter::try_from_env("TALLY_LOG").unwrap_or_else(|_| EnvFilter::new(quiet));
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match cli.log {
        args::LogForm::Text => logging.init(),
        args::LogForm::Json => logging.json().init(),
    }
}
