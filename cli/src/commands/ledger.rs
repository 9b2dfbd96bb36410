//! `tally ledger show|entries|du|alarms|prune|archive|import|check-archive|join|promote|check|project|block|entry|state|proof`: looking around in the ledger.

pub mod alarms;
pub mod archive;
pub mod check;
mod entries;
pub mod join;
pub mod project;
mod proof;
mod show;
pub mod state;

use crate::answer::{Answer, Fault, print_json};
use crate::flags::NodeFlag;
use crate::show::one_line;
use crate::shutdown::runtime;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use tally_ledger_client::RequestError;

/// Arguments of `ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What to look at.
    #[command(subcommand)]
    pub command: LedgerCommand,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

/// Commands of `ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Name, key, size and roots
    Show,
    /// List entries, newest first
    Entries {
        /// The newest entry to show; the last one when not said
        #[arg(long, value_name = "ENTRY")]
        from: Option<u64>,
        /// How many
        #[arg(long, value_name = "COUNT", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },
    /// Explain every byte of the node's data folder
    Du,
    /// What somebody has to look at: two histories, readings told twice. Without a word more: the list
    Alarms(alarms::AlarmsArgs),
    /// Forget now what `retention` in node.yaml no longer wants kept; the node does it by itself every 30 s
    Prune {
        /// Only show what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Copy all complete files of the log into an archive, with manifests, and compare; the node may go on
    Archive(archive::ArchiveArgs),
    /// Bring files of the log back from an archive; node stopped. Everything is checked, and executed again from block 0
    Import(archive::ImportArgs),
    /// Check an archive with nothing but the ledger's public key; exit code 0 only if all of it holds
    CheckArchive(archive::CheckArchiveArgs),
    /// Make a second node's data folder from a node, over the network, checking all of it; broken off, it goes on where it stopped
    Join(join::JoinArgs),
    /// Let a folder that followed another node order from now on, when that node is gone for ever; node stopped
    Promote(join::PromoteArgs),
    /// Check a whole ledger from its bytes, offline: log, chain, snapshots, state executed again, index; exit code 0 only if all holds
    Check(check::CheckArgs),
    /// Make the tables for questions anew from the log, or compare them with ones made anew; the node must be stopped
    Project(project::ProjectArgs),
    /// Show a block: its roots, its entries, the terms that ran out in it
    Block {
        /// Its height
        #[arg(value_name = "HEIGHT")]
        height: u64,
    },
    /// Show an entry: who sealed what, and what the contracts made of it
    Entry {
        /// Its index, or its statement id (64 hexadecimal digits)
        #[arg(value_name = "ENTRY")]
        id: String,
    },
    /// Show what the ledger's state says of a key, or that it is not there; exit code 0 only if it is proved and as asked
    State(state::StateArgs),
    /// Check that an entry is in the ledger; exit code 0 only if the proof holds
    Proof {
        /// Its index, or its statement id (64 hexadecimal digits)
        #[arg(value_name = "ENTRY")]
        id: String,
        /// The ledger's public key as you know it (SPKI PEM); without it the node's word is taken and shown
        #[arg(long, value_name = "FILE")]
        ledger_key: Option<PathBuf>,
        /// Also write statement.cose and receipt.cose there, for other people's tools
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

pub fn run(args: &LedgerArgs, json: bool) -> Result<Answer, Fault> {
    // A connection to PostgreSQL, which makes its own runtime, cannot be made in ours.
    match &args.command {
        LedgerCommand::Project(args) => return project::run(args, json),
        LedgerCommand::Check(args) => return check::run(args, json),
        _ => {}
    }
    let found = runtime()?.block_on(ask(args, json));
    let Some(found) = found.or_else(in_words)? else { return Ok(Answer::No) };
    if json {
        print_json(&found.json)?;
    } else {
        print!("{}", found.text);
    }
    Ok(found.answer)
}

async fn ask(args: &LedgerArgs, json: bool) -> Result<Option<Found>, Fault> {
    let client = args.node.client()?;
    let found = match &args.command {
        LedgerCommand::Show => show::show(&client).await,
        LedgerCommand::Entries { from, limit } => entries::entries(&client, *from, *limit).await,
        LedgerCommand::Alarms(args) => alarms::run(&client, args).await,
        LedgerCommand::Du => show::du(&client).await,
        LedgerCommand::Prune { dry_run } => archive::prune(&client, *dry_run).await,
        LedgerCommand::Archive(args) => archive::save(args),
        LedgerCommand::Import(args) => archive::bring_back(args),
        LedgerCommand::CheckArchive(args) => archive::check(args),
        LedgerCommand::Join(args) => join::make(args, json).await,
        LedgerCommand::Promote(args) => join::take_over(args).await,
        LedgerCommand::Block { height } => entries::block(&client, *height).await,
        LedgerCommand::Entry { id } => entries::entry(&client, id).await,
        LedgerCommand::Project(_) | LedgerCommand::Check(_) => Err("it needs no node".into()),
        LedgerCommand::State(args) => state::state(&client, args).await,
        LedgerCommand::Proof { id, ledger_key, output } => {
            proof::proof(&client, id, ledger_key.as_deref(), output.as_deref()).await
        }
    };
    found.map(Some)
}

/// What the node says when something is not there, or not yet; any other fault is one.
fn in_words(fault: Fault) -> Result<Option<Found>, Fault> {
    match fault.downcast_ref::<RequestError>() {
        Some(RequestError::Refused { status: 404, text, .. }) => {
            eprintln!("{}", one_line(text));
            Ok(None)
        }
        Some(RequestError::OnItsWay { state, text, .. }) => Ok(Some(Found {
            json: json!({"state": state, "detail": text}),
            text: format!("{state}: {text}\n"),
            answer: Answer::No,
        })),
        _ => Err(fault),
    }
}

/// An answer in both forms.
struct Found {
    json: Value,
    text: String,
    answer: Answer,
}

impl Found {
    const fn new(json: Value, text: String) -> Self {
        Self { json, text, answer: Answer::Yes }
    }
}

/// Red on a terminal that has not said NO_COLOR.
pub(super) fn red(text: &str) -> String {
    let is_plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    if is_plain { text.to_owned() } else { format!("\u{1b}[31m{text}\u{1b}[0m") }
}

/// CBOR for people: byte strings in hexadecimal.
fn to_json(value: &tally_evidence::cbor::Cbor) -> Value {
    use tally_evidence::cbor::Cbor;
    let key = |key: &Cbor| key.as_text().map_or_else(|| to_json(key).to_string(), str::to_owned);
    match value {
        Cbor::Integer(number) => {
            i64::try_from(*number).map_or_else(|_| i128::from(*number).to_string().into(), Value::from)
        }
        Cbor::Bytes(bytes) => hex::encode(bytes).into(),
        Cbor::Text(text) => text.as_str().into(),
        Cbor::Bool(flag) => (*flag).into(),
        Cbor::Float(number) => (*number).into(),
        Cbor::Array(items) => items.iter().map(to_json).collect(),
        Cbor::Map(pairs) => Value::Object(pairs.iter().map(|(name, value)| (key(name), to_json(value))).collect()),
        _ => Value::Null,
    }
}
