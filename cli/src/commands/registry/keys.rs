//! `tally registry rotate`, `recoverers` and `recover`: another key for a party, by itself or by those it named.

use super::{Arguments, ask, micros};
use crate::answer::{Answer, Context, Fault};
use crate::commands::keys::open_key;
use crate::flags::CallerFlags;
use crate::shutdown::runtime;
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tally_evidence::cbor::{Cbor, bytes, int, text};
use tally_evidence::{SealFault, SealingKey, possession};
use tally_ledger_client::Client;
use tally_model::PartyId;

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The new key, as `tally keys new` makes it: a file (PKCS#8 PEM) or in a token (pkcs11:…)
    #[arg(long, value_name = "FILE")]
    new_key: PathBuf,
    /// Whose key; your own when not said. A firm may rotate those of its people, agents and devices
    #[arg(long, value_name = "ID")]
    party: Option<String>,
    /// How long the old key speaks on, at most 90d; 0s when the old one is lost or stolen
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    overlap: String,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
pub(super) struct RecoverersArgs {
    /// Persons, organisations or regulators, at most 16
    #[arg(required = true, value_name = "PARTY")]
    admins: Vec<String>,
    /// How many of them it takes
    #[arg(long, value_name = "NUMBER")]
    needed: u64,
    /// How long a change of this must wait, at most 90d: what a thief of your key has to wait before he can lock them out
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    delay: String,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// The organisation that lost its key
    #[arg(value_name = "PARTY")]
    party: String,
    /// Its new key: a file (PKCS#8 PEM) or in a token (pkcs11:…). Whoever made it hands out `--proof` files instead of the key
    #[arg(long, value_name = "FILE", required_unless_present = "proof", conflicts_with = "proof")]
    new_key: Option<PathBuf>,
    /// Approve what this file shows (made with `--write-proof`)
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// Only write the new key's public half and its proof into this file, for those who approve
    #[arg(long, value_name = "FILE", requires = "new_key")]
    write_proof: Option<PathBuf>,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

async fn ledger_of(client: &Client) -> Result<String, Fault> {
    let status = client.get_json("/status").await.context("asking the node for its name")?;
    Ok(status["ledger"].as_str().ok_or("the node does not say which ledger it is")?.to_owned())
}

/// The new key, and that somebody holds it.
fn new_key(ledger: &str, party: &PartyId, key: &SealingKey) -> Result<Arguments, SealFault> {
    let public = key.public()?;
    let proof = key.sign(&possession(ledger, party, &public))?;
    Ok(vec![("party", text(party.as_str())), ("key", bytes(public.sec1().to_vec())), ("proof", bytes(proof.to_vec()))])
}

pub(super) fn rotate(args: &RotateArgs, json: bool) -> Result<Answer, Fault> {
    let party = PartyId::try_new(args.party.as_ref().unwrap_or(&args.caller.party)).context("--party")?;
    let (key, overlap) = (open_key(&args.new_key)?, micros(&args.overlap, "--overlap")?);
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let mut arguments = new_key(&ledger_of(&client).await?, &party, &key)?;
        arguments.push(("overlap", overlap));
        ask(&client, &args.caller, "rotate-key", arguments, json).await
    })
}

pub(super) fn recoverers(args: &RecoverersArgs, json: bool) -> Result<Answer, Fault> {
    let admins = Cbor::Array(args.admins.iter().map(text).collect());
    let arguments = vec![("admins", admins), ("needed", int(args.needed)), ("delay", micros(&args.delay, "--delay")?)];
    runtime()?.block_on(ask(&args.caller.client()?, &args.caller, "set-recovery", arguments, json))
}

pub(super) fn recover(args: &RecoverArgs, json: bool) -> Result<Answer, Fault> {
    let party = PartyId::try_new(&args.party).context("PARTY")?;
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let arguments = match (&args.new_key, &args.proof) {
            (Some(file), _) => new_key(&ledger_of(&client).await?, &party, &open_key(file)?)?,
            (None, Some(file)) => read_proof(file, &party)?,
            (None, None) => return Err("name --new-key or --proof".into()),
        };
        if let Some(file) = &args.write_proof {
            let shown: BTreeMap<_, _> = arguments.iter().map(|(name, value)| (*name, shown(value))).collect();
            let shown = serde_json::to_string_pretty(&shown)? + "\n";
            crate::commands::evidence::write_whole(file, shown.as_bytes())?;
            println!("wrote {}: hand it to those who approve", file.display());
            return Ok(Answer::Yes);
        }
        ask(&client, &args.caller, "approve-recovery", arguments, json).await
    })
}

fn shown(value: &Cbor) -> String {
    match value {
        Cbor::Bytes(bytes) => hex::encode(bytes),
        Cbor::Text(text) => text.clone(),
        _ => String::new(),
    }
}

/// What `--write-proof` wrote.
fn read_proof(file: &std::path::Path, party: &PartyId) -> Result<Arguments, Fault> {
    let shown = file.display();
    let read = std::fs::read_to_string(file).context(format_args!("reading {shown}"))?;
    let read: BTreeMap<String, String> = serde_json::from_str(&read).context(format_args!("{shown}"))?;
    if read.get("party").map(String::as_str) != Some(party.as_str()) {
        return Err(format!("{shown} is for {:?}, not for {party}", read.get("party")).into());
    }
    let field = |name: &str| -> Result<Cbor, Fault> {
        let digits = read.get(name).ok_or_else(|| format!("{shown} has no `{name}`"))?;
        Ok(bytes(hex::decode(digits).context(format_args!("`{name}` of {shown}"))?))
    };
    Ok(vec![("party", text(party.as_str())), ("key", field("key")?), ("proof", field("proof")?)])
}
