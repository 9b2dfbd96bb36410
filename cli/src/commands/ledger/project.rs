//! `tally ledger project`: the tables for questions, made anew from the log of a stopped node, or compared with such.

use crate::answer::{Answer, Context, Fault, print_json};
use std::path::PathBuf;
use tally_ledger_node::{NodeConfig, check, rebuild};

/// Arguments of `ledger project`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The tables (`projection:` in node.yaml) follow from the log alone: they can be removed at any time, and a running node makes them anew
by itself. With the node stopped, these do it at once, and say whether they were right:
  tally ledger project --rebuild --config /etc/tallystick/node.yaml
  tally ledger project --check   --config /etc/tallystick/node.yaml      exit code 0 only if every row is as the log says
On a ledger whose old segments were pruned they are made of what was kept, and say from which block on they are complete: keep a copy of the
tables, or bring the segments back first (`tally ledger import`).")]
#[command(group = clap::ArgGroup::new("what").required(true).args(["rebuild", "check"]))]
pub struct ProjectArgs {
    /// Make them anew from the log
    #[arg(long)]
    rebuild: bool,
    /// Bring them up to the last block, make others anew beside them, and compare all rows
    #[arg(long)]
    check: bool,
    /// The node's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    config: PathBuf,
}

pub(super) fn run(args: &ProjectArgs, json: bool) -> Result<Answer, Fault> {
    let config = NodeConfig::load(&args.config).context(args.config.display())?;
    if args.check { compare(&config, json) } else { make(&config, json) }
}

fn make(config: &NodeConfig, json: bool) -> Result<Answer, Fault> {
    let made = rebuild(config).context("the projection was not made")?;
    if json {
        print_json(&serde_json::json!({
            "place": made.place, "height": made.at.height, "checkpoint": made.at.checkpoint, "entries": made.at.entries,
            "complete_from": made.at.complete_from,
        }))?;
    } else {
        println!(
            "{} made anew from the log: {} entries, up to block {}",
            made.place,
            made.at.entries,
            made.at.next() - 1
        );
        if made.at.complete_from > 0 {
            println!(
                "complete from block {} on: what lies before was pruned, and of it only what the ledger kept is there \
                 (registrations, what was open then, refusals). `tally ledger import` brings the rest back from an archive",
                made.at.complete_from
            );
        }
    }
    Ok(Answer::Yes)
}

fn compare(config: &NodeConfig, json: bool) -> Result<Answer, Fault> {
    let checked = check(config).context("the projection was not compared")?;
    let differences = &checked.found.differences;
    if json {
        print_json(&serde_json::json!({
            "place": checked.place, "height": checked.at.height, "checkpoint": checked.at.checkpoint,
            "rows": checked.found.rows, "differences": differences, "equal": differences.is_empty(),
        }))?;
        return Ok(differences.is_empty().into());
    }
    if differences.is_empty() {
        println!(
            "{}: all {} rows are as the log says, up to block {}",
            checked.place,
            checked.found.rows,
            checked.at.next() - 1
        );
    } else {
        println!("{}: NOT as the log says; `tally ledger project --rebuild` makes it anew", checked.place);
        differences.iter().for_each(|difference| println!("  {difference}"));
    }
    Ok(differences.is_empty().into())
}
