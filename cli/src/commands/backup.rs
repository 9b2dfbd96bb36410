//! `tally backup` and `tally restore`: a checked copy of the ledger while the node works, and a ledger made from one.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::shutdown::runtime;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use tally_ledger_client::{Client, NodeAddress, RequestError};
use tally_ledger_node::backup::{Copied, Manifest, copy, restore};
use tally_ledger_node::{Listen, NodeConfig};

/// How long the node may take to publish a block that was being written while it was copied.
const CONFIRM_TRIES: u32 = 50;
const CONFIRM_PAUSE: Duration = Duration::from_millis(200);

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
The node goes on working. The copy holds the log, which is all there is to keep; the ledger's key is not in it: keep that apart.
Examples:
  tally backup /media/backup/2026-11-21 --config /etc/tallystick/node.yaml
  tally restore /media/backup/2026-11-21 --config /etc/tallystick/node.yaml    on an empty data folder, node stopped")]
pub struct BackupArgs {
    /// Folder for the copy; new or empty
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The node's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    pub config: PathBuf,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every byte is compared with the manifest, and every block is executed again and compared with what was sealed, before anything is
put in its place. The data folder must hold no ledger, and the key named in node.yaml must be the ledger's own.
What was acknowledged after the copy was made is not in it: who has receipts of it can prove that it was.")]
pub struct RestoreArgs {
    /// Folder of the copy
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The node's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    pub config: PathBuf,
}

pub fn save(args: &BackupArgs, json: bool) -> Result<Answer, Fault> {
    let config = NodeConfig::load(&args.config).context(args.config.display())?;
    let copied = copy(&config, &args.dir).context("no copy was made")?;
    if copied.is_live {
        confirm(&config, &copied)?;
    }
    let manifest = copied.finish().context("no copy was made")?;
    tell(&manifest, json, &format!("copied to {}, and checked", args.dir.display()))
}

pub fn bring_back(args: &RestoreArgs, json: bool) -> Result<Answer, Fault> {
    let config = NodeConfig::load(&args.config).context(args.config.display())?;
    let manifest = restore(&config, &args.dir).context("nothing was restored")?;
    tell(&manifest, json, &format!("restored to {}: every block executed again and compared", config.data.display()))
}

/// The last block of the copy may have been written and not yet synced. Once the node shows it, it is there for ever: a copy
/// must never be ahead of its ledger.
fn confirm(config: &NodeConfig, copied: &Copied) -> Result<(), Fault> {
    // We are on the node's machine: there is a place that needs no certificate, or there should be.
    let local = config.listen.iter().find(|place| !matches!(place, Listen::Tls(_)));
    let local = local.ok_or("the node listens with TLS only; add a local socket to `listen`, for its own machine")?;
    let address: NodeAddress = local.to_string().parse()?;
    let client = Client::new(address.clone());
    let path = format!("/checkpoints/{}", copied.manifest.height);
    let shown = runtime()?.block_on(async {
        for _ in 0..CONFIRM_TRIES {
            match client.get_bytes(&path).await {
                Err(RequestError::Refused { status: 404, .. }) => tokio::time::sleep(CONFIRM_PAUSE).await,
                other => return other.map(Some),
            }
        }
        Ok(None)
    });
    let shown =
        shown.context(format_args!("asking the node at {address} whether the copy is behind it; it is not whole"))?;
    match shown {
        Some(sealed) if hex::encode(&sealed) == copied.manifest.checkpoint => Ok(()),
        Some(_) => Err(format!("block {} of the copy is not the node's: copy again", copied.manifest.height).into()),
        None => Err(format!("the node does not show block {} of the copy: copy again", copied.manifest.height).into()),
    }
}

fn tell(manifest: &Manifest, json: bool, done: &str) -> Result<Answer, Fault> {
    if json {
        print_json(manifest)?;
        return Ok(Answer::Yes);
    }
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    println!("{} {done}", manifest.ledger);
    println!(
        "{} entries in {} blocks, the last with block time {}",
        manifest.entries,
        manifest.height + 1,
        manifest.time
    );
    println!("{bytes} bytes in {} files, key {}", manifest.files.len(), manifest.key);
    Ok(Answer::Yes)
}
