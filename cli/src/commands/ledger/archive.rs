//! `tally ledger prune|archive|import|check-archive`: what the ledger forgets, and where it is kept.

use super::Found;
use crate::answer::{Context, Fault};
use crate::show::word;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use tally_evidence::VerifyingKey;
use tally_ledger_client::Client;
use tally_ledger_node::NodeConfig;
use tally_ledger_node::retain::{archive, import};

/// Arguments of `archive`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tally ledger archive --to /mnt/archive --config /etc/tallystick/node.yaml
Files that are there already are compared only. The file that still takes blocks is not copied: tally backup copies that too.")]
pub struct ArchiveArgs {
    /// Folder of the archive; made when missing
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The node's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    pub config: PathBuf,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tally ledger import --from /mnt/archive --config /etc/tallystick/node.yaml
Into a pruned data folder: its log is whole again. Into an empty one: a ledger that ends where the archive ends.")]
pub struct ImportArgs {
    /// Folder of the archive
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The node's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    pub config: PathBuf,
}

/// Arguments of `check-archive`.
#[derive(Debug, Args)]
pub struct CheckArchiveArgs {
    /// Folder of the archive
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The ledger's public key (SPKI PEM)
    #[arg(long, value_name = "FILE")]
    pub ledger_key: PathBuf,
}

pub(super) async fn prune(client: &Client, is_dry: bool) -> Result<Found, Fault> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut text = String::new();
    if is_dry {
        let shown = client.get_json("/retention").await?;
        let plan = &shown["plan"];
        let rows = plan["segments"].as_array().map(Vec::as_slice).unwrap_or_default();
        for row in rows {
            let why = if row["reason"] == "age" { "older than `payloads`" } else { "above `disk`" };
            let (first, last, to) = (word(&row["first_block"]), word(&row["last_block"]), word(&row["to"]));
            let _ = writeln!(text, "{:>14}  blocks {first} to {last}, until {to}: {why}", number(&row["bytes"]));
        }
        let going: u64 = rows.iter().map(|row| number(&row["bytes"])).sum();
        let _ = writeln!(text, "{going:>14}  of {} bytes would go", number(&plan["bytes"]));
        say_over(&mut text, number(&plan["over"]));
        return Ok(Found::new(shown, text));
    }
    let done = client.post("/retention").await?;
    let _ = writeln!(text, "{:>14}  bytes of {} files of the log went", number(&done["freed"]), done["segments"]);
    let _ = writeln!(text, "{:>14}  bytes are left in the data folder", number(&done["bytes"]));
    say_over(&mut text, number(&done["over"]));
    Ok(Found::new(done, text))
}

fn say_over(text: &mut String, over: u64) {
    if over > 0 {
        let _ = writeln!(text, "{over:>14}  above `retention.disk`: all of it must stay; give it more");
    }
}

pub(super) fn save(args: &ArchiveArgs) -> Result<Found, Fault> {
    let config = NodeConfig::load(&args.config).context(args.config.display())?;
    let key = config.load_public_key()?;
    let saved = archive::put_all(&config.data, &key, &args.to).context("not all of it was archived")?;
    let bytes: u64 = saved.iter().map(|manifest| manifest.bytes).sum();
    let mut text =
        format!("{} files of the log, {bytes} bytes, are in {} and compared\n", saved.len(), args.to.display());
    if let (Some(first), Some(last)) = (saved.first(), saved.last()) {
        let _ = writeln!(text, "blocks {} to {}, {} to {}", first.first_block, last.last_block, first.from, last.to);
    }
    Ok(Found::new(json!({"segments": saved}), text))
}

pub(super) fn bring_back(args: &ImportArgs) -> Result<Found, Fault> {
    let config = NodeConfig::load(&args.config).context(args.config.display())?;
    let done = import(&config, &args.from).context("nothing usable was brought back")?;
    let text = format!(
        "{} files of the log brought back; every block executed again and compared: {} entries in {} blocks\n",
        done.segments,
        done.entries,
        done.height + 1
    );
    Ok(Found::new(json!(done), text))
}

pub(super) fn check(args: &CheckArchiveArgs) -> Result<Found, Fault> {
    let pem = std::fs::read_to_string(&args.ledger_key).context(args.ledger_key.display())?;
    let key = VerifyingKey::from_pem(&pem).context(args.ledger_key.display())?;
    match archive::verify(&args.dir, &key) {
        Ok(found) => {
            let mut text = format!(
                "holds: {} files, blocks {} to {} of {}, {} entries from entry {}\n",
                found.segments, found.first_block, found.last_block, found.ledger, found.entries, found.first_entry
            );
            if !found.roots {
                text += "it does not begin at block 0: seals and hash chains were checked, the roots of the tree were not\n";
            }
            Ok(Found::new(json!({"holds": true, "archive": found}), text))
        }
        Err(fault) => {
            let text = format!("DOES NOT HOLD: {fault}\n");
            Ok(Found { json: json!({"holds": false, "fault": fault.to_string()}), text, answer: false.into() })
        }
    }
}
