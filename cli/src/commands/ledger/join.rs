//! `tally ledger join|promote`: a second node's data folder, copied from the first and checked; and the day it takes over.

use super::Found;
use crate::answer::{Context, Fault};
use crate::flags::{AccessFlags, address};
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tally_evidence::VerifyingKey;
use tally_ledger_client::NodeAddress;
use tally_ledger_node::NodeConfig;
use tally_ledger_node::follow::{Progress, Source, join, promote};

/// How often progress is told: on a terminal, and into a log.
const TOLD_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Arguments of `join`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tally ledger join --from tls:node.plant:7460 --ca ca.pem --token copy.token --ledger-key press-line.pub.pem --data /var/lib/tallystick/copy
Nothing the other node says is believed: every seal, root and digest is checked against the key you give, which you must have from
elsewhere. Broken off, the same command goes on where it stopped. Then start a node on the folder; its node.yaml has, instead of `key`,
  follow: {from: tls:node.plant:7460, ledger_key: press-line.pub.pem, tls: {ca: ca.pem}, token: copy.token}
It takes every further block, executes it and compares; it answers questions, and it never orders or seals anything.")]
pub struct JoinArgs {
    /// The node to copy from: tls:host:port, tcp:host:port or unix:/path/to/socket
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub from: NodeAddress,
    /// The ledger's public key as you know it (SPKI PEM)
    #[arg(long, value_name = "FILE")]
    pub ledger_key: PathBuf,
    /// The data folder to make; a folder without a ledger
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tallystick/node")]
    pub data: PathBuf,
    /// Who we are.
    #[command(flatten)]
    pub shown: AccessFlags,
}

/// A whole path, because in node.yaml paths begin at the folder of that file, which may be another one.
fn whole(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// What stands under `follow` in node.yaml: as the copy was made.
fn follow(args: &JoinArgs) -> String {
    let mut text = format!("from: \"{}\", ledger_key: {}", args.from, whole(&args.ledger_key));
    let AccessFlags { ca, cert, token, .. } = &args.shown;
    let key = args.shown.key_file();
    let tls = [("ca", ca), ("certificate", cert), ("key", &key)];
    let tls: Vec<_> =
        tls.into_iter().filter_map(|(name, file)| Some(format!("{name}: {}", whole(file.as_deref()?)))).collect();
    if matches!(args.from, NodeAddress::Tls { .. }) && !tls.is_empty() {
        text += &format!(", tls: {{{}}}", tls.join(", "));
    }
    if let Some(token) = token {
        text += &format!(", token: {}", whole(token));
    }
    text
}

/// Arguments of `promote`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, after node.yaml names `key` instead of `follow` and the old machine was taken out of service:
  tally ledger promote --config /etc/tallystick/node.yaml --old tcp:10.0.0.5:7460 --old-never-orders-again
What the old node acknowledged behind the last block here is not in this ledger: agents that still have it in their outbox send it again;
receipts of it prove that it was. If the old node ever orders again, there are two histories, and whoever compares them sees it.")]
pub struct PromoteArgs {
    /// The node's configuration file; it names the ledger's private key under `key`
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    pub config: PathBuf,
    /// Where the node answered that ordered until now; it must not answer any more
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub old: NodeAddress,
    /// Your word that it never will: a node that does not answer may only be out of reach
    #[arg(long, required = true)]
    pub old_never_orders_again: bool,
}

pub(super) async fn make(args: &JoinArgs, is_json: bool) -> Result<Found, Fault> {
    let pem = std::fs::read_to_string(&args.ledger_key).context(args.ledger_key.display())?;
    let key = VerifyingKey::from_pem(&pem).context(args.ledger_key.display())?;
    let mut told = Telling::new(is_json);
    let made =
        join(&Source::new(args.from.clone()).with_access(args.shown.access()?), &key, &args.data, &mut |progress| {
            told.tell(&progress)
        })
        .await;
    told.end();
    let made = made.context("no ledger was made")?;
    let mut text = format!(
        "{}: {} entries in {} blocks are in {}, every byte checked under key {}\n",
        made.ledger,
        made.entries,
        made.height + 1,
        args.data.display(),
        made.key
    );
    text += &match made.executed_from {
        0 => "every block was executed again and compared\n".to_owned(),
        from => format!(
            "blocks from {from} on were executed again and compared; the state before them has the root that the ledger sealed\n"
        ),
    };
    text += &format!(
        "to go on from here, node.yaml has:\n  ledger: {}\n  data: {}\n  follow: {{{}}}\n",
        made.ledger,
        whole(&args.data),
        follow(args),
    );
    Ok(Found::new(json!(made), text))
}

pub(super) async fn take_over(args: &PromoteArgs) -> Result<Found, Fault> {
    let config = NodeConfig::load(&args.config).context(args.config.display())?;
    let last = promote(&config, &Source::new(args.old.clone())).await.context("the folder follows as before")?;
    let text = format!(
        "{} may be opened with the ledger's key from now on; the next block is {}\n",
        config.data.display(),
        last.height + 1
    );
    let json = json!({"ledger": last.ledger, "height": last.height, "size": last.size, "time": last.time.to_string()});
    Ok(Found::new(json, text))
}

/// Says how far it is: one line that changes on a terminal, a line now and then elsewhere.
struct Telling {
    is_quiet: bool,
    is_terminal: bool,
    last: Option<Instant>,
}

impl Telling {
    fn new(is_quiet: bool) -> Self {
        Self { is_quiet, is_terminal: std::io::stderr().is_terminal(), last: None }
    }

    fn tell(&mut self, progress: &Progress) {
        let every = if self.is_terminal { TOLD_EVERY.0 } else { TOLD_EVERY.1 };
        let is_due = self.last.is_none_or(|last| last.elapsed() >= every);
        let words = match progress {
            Progress::Copied { bytes, of } if is_due || bytes == of => format!("copied {bytes} of {of} bytes"),
            Progress::Executing => "executing again what was copied".to_owned(),
            Progress::Block { height, of } if is_due || height == of => format!("at block {height} of {of}"),
            _ => return,
        };
        self.last = Some(Instant::now());
        if self.is_quiet {
            return;
        }
        if self.is_terminal { eprint!("\r\u{1b}[K{words}") } else { eprintln!("{words}") }
    }

    fn end(&self) {
        if self.is_terminal && !self.is_quiet && self.last.is_some() {
            eprintln!();
        }
    }
}
