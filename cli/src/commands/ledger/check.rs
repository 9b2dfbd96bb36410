//! `tally ledger check`: a whole ledger, offline, from its bytes.

use crate::answer::{Answer, Context, Fault, print_json};
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tally_evidence::VerifyingKey;
use tally_ledger_node::NodeConfig;
use tally_ledger_node::checkup::{Checkup, Stage, checkup};

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Arguments of `ledger check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples, with the node stopped:
  tally ledger check --config /etc/tallystick/node.yaml
  tally ledger check --data /mnt/copy --ledger-key press-line.pub.pem      a folder of tally ledger join, or a restored backup
Every byte of the log is read; kept files, seals, chain and tree are followed from block 0; all that the log still has is executed again and
compared; the signers' seals and the node's own index are checked. Of a pruned ledger the state before its snapshot is compared with the root
that was sealed. Some ten thousand entries a second. Nothing is changed, but a torn end is cut off as at every start.")]
pub struct CheckArgs {
    /// The node's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml", conflicts_with_all = ["data", "ledger_key"])]
    pub config: PathBuf,
    /// The data folder, without a configuration
    #[arg(long, value_name = "DIR", requires = "ledger_key")]
    pub data: Option<PathBuf>,
    /// The ledger's public key as you know it (SPKI PEM)
    #[arg(long, value_name = "FILE", requires = "data")]
    pub ledger_key: Option<PathBuf>,
}

pub fn run(args: &CheckArgs, json: bool) -> Result<Answer, Fault> {
    let (data, key) = match (&args.data, &args.ledger_key) {
        (Some(data), Some(file)) => {
            let pem = std::fs::read_to_string(file).context(file.display())?;
            (data.clone(), VerifyingKey::from_pem(&pem).context(file.display())?)
        }
        _ => {
            let config = NodeConfig::load(&args.config).context(args.config.display())?;
            let key = config.load_public_key()?;
            (config.data, key)
        }
    };
    let mut last = Instant::now();
    let is_told = !json && std::io::stderr().is_terminal();
    let found = checkup(&data, &key, &mut |stage| match stage {
        _ if !is_told => {}
        Stage::Begins(what) => eprintln!("checking: {what}"),
        Stage::Executed(height) if last.elapsed() >= TOLD_EVERY => {
            last = Instant::now();
            eprintln!("executed up to block {height}");
        }
        Stage::Executed(_) => {}
    });
    let found = found.context("nothing was checked")?;
    if json {
        print_json(&found)?;
    } else {
        show(&found);
    }
    Ok(found.holds.into())
}

fn show(found: &Checkup) {
    for check in &found.checks {
        let verdict = if check.holds { "holds" } else { "DOES NOT HOLD" };
        println!("{:<10} {verdict}: {}", check.what, check.words);
    }
    let ledger = found.ledger.as_deref().unwrap_or("(unknown)");
    match (found.holds, found.height, found.entries) {
        (true, Some(height), Some(entries)) => {
            println!("all of {ledger} holds: {entries} entries up to block {height}, under key {}", found.key);
        }
        _ => println!("{}", super::red(&format!("{ledger} DOES NOT HOLD under key {}", found.key))),
    }
}
