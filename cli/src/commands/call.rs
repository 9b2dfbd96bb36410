//! `tally call CONTRACT ACTION`: a sealed wish, and what the contract made of it.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::flags::CallerFlags;
use crate::show::one_line;
use crate::shutdown::runtime;
use clap::Args;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use tally_evidence::cbor::{self, Cbor};
use tally_evidence::{
    CallBody, Commitment, OPENING_BYTES_MAX, Opening, Presented, SealingKey, SignedStatement, StatementKind, sign_with,
};
use tally_ledger_client::{Client, SubmitError};
use tally_model::{AgreementId, PartyId, Timestamp};

/// Arguments of `call`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tally call maintenance-order accept --agreement mo-1 --as tina --key keys/tina.key
  tally call accounts transfer --as acme --key keys/acme.key --arg to=fixit --arg amount=5000 --arg currency=EUR \
      --private remark='wage of T. Muster'")]
pub struct CallArgs {
    /// Contract: native (registry, accounts, access, privacy) or from the library
    #[arg(value_name = "CONTRACT")]
    pub contract: String,
    /// What to ask for
    #[arg(value_name = "ACTION")]
    pub action: String,
    /// The agreement it concerns, such as mo-1
    #[arg(long, value_name = "ID")]
    pub agreement: Option<String>,
    /// An argument; whole numbers and true/false are taken as such, @FILE as the bytes of a file, everything else as text.
    /// Repeatable
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub args: Vec<String>,
    /// A private argument: sealed as a salted digest, its text kept beside the ledger until `tally purge` erases it. For arguments
    /// that are texts to the contract; values as in --arg, at most 64 KiB. Repeatable
    #[arg(long = "private", value_name = "NAME=VALUE")]
    pub private: Vec<String>,
    /// Who asks.
    #[command(flatten)]
    pub caller: CallerFlags,
}

pub fn run(args: CallArgs, json: bool) -> Result<Answer, Fault> {
    let signer = args.caller.signer()?;
    let agreement = args.agreement.as_deref().map(AgreementId::try_new).transpose().context("--agreement")?;
    let mut arguments = BTreeMap::new();
    for text in &args.args {
        add(&mut arguments, argument("--arg", text)?)?;
    }
    let mut openings = Vec::new();
    for text in &args.private {
        let (name, value) = argument("--private", text)?;
        let opening = Opening { salt: random()?, value, name: name.clone() }.encode();
        if opening.len() > OPENING_BYTES_MAX {
            return Err(format!(
                "--private {name}: {} bytes; at most {OPENING_BYTES_MAX} with salt and name",
                opening.len()
            )
            .into());
        }
        add(&mut arguments, (name, Commitment::to(&opening).to_argument()))?;
        openings.push(opening);
    }
    let wish = Wish { contract: &args.contract, action: &args.action, agreement, arguments };
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let done = submit_with(&client, &signer, wish, openings).await?;
        show(&done, json)?;
        Ok(done.refusal.is_none().into())
    })
}

/// What a call asks for.
pub struct Wish<'a> {
    /// Contract.
    pub contract: &'a str,
    /// Action.
    pub action: &'a str,
    /// The agreement it concerns.
    pub agreement: Option<AgreementId>,
    /// Arguments.
    pub arguments: BTreeMap<String, Cbor>,
}

/// What came of a call.
#[derive(Debug, serde::Serialize)]
pub struct Done {
    /// The statement's id.
    pub statement: String,
    /// Its place in the ledger.
    pub entry: u64,
    /// Number of the contract's refusal, if it said no.
    pub refusal: Option<u16>,
    /// The refusal in words.
    pub reason: Option<String>,
    /// What its receipt waits for, when it is not final.
    pub waits_for: Option<String>,
    /// What happened.
    pub outcome: serde_json::Value,
}

/// Seals and submits a call, and reads its outcome.
///
/// # Errors
/// When the node cannot be reached or does not admit the statement.
pub async fn submit(client: &Client, signer: &(PartyId, SealingKey), wish: Wish<'_>) -> Result<Done, Fault> {
    submit_with(client, signer, wish, Vec::new()).await
}

/// The same with what opens its private fields beside it.
async fn submit_with(
    client: &Client,
    (party, key): &(PartyId, SealingKey),
    wish: Wish<'_>,
    openings: Vec<Vec<u8>>,
) -> Result<Done, Fault> {
    let status = client.get_json("/status").await.context("asking the node for its name")?;
    let ledger = status["ledger"].as_str().ok_or("the node does not say which ledger it is")?;
    let statement = seal(ledger, party, key, wish)?;
    let id = SignedStatement::parse(&statement)?.id;
    let sent = if openings.is_empty() { statement } else { Presented { statement, openings }.encode()? };
    let waits_for = match client.submit(&sent).await {
        Ok(_) => None,
        // Executed and synced: nothing is gained by making the person wait, and another call would be another statement.
        // Its hint is for who has the statement's bytes, and they end with this command.
        Err(SubmitError::NotFinal { cause }) => cause.split(';').next().map(str::to_owned),
        Err(error) => return Err(error).context("the node did not take the call"),
    };
    let outcome = client.get_json(&format!("/entries/{id}/outcome")).await.context("reading the outcome")?;
    let entry = outcome["entry"].as_u64().ok_or("the node does not say which entry it is")?;
    let refusal =
        outcome["refusal"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
    let reason = refusal.map(|number| why_refused(&outcome, number));
    Ok(Done { statement: id.to_string(), entry, refusal, reason, waits_for, outcome })
}

/// The node's words for this very case; else what the number means.
pub fn why_refused(outcome: &serde_json::Value, number: u16) -> String {
    outcome["refusal_detail"].as_str().unwrap_or(tally_contracts::Refusal::describe(number)).to_owned()
}

fn seal(ledger: &str, party: &PartyId, key: &SealingKey, wish: Wish<'_>) -> Result<Vec<u8>, Fault> {
    let nonce = random()?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX));
    let body = CallBody {
        contract: wish.contract.parse().context("the contract's name")?,
        action: wish.action.parse().context("the action's name")?,
        agreement: wish.agreement,
        args: wish.arguments,
        nonce,
        at,
    };
    Ok(sign_with(StatementKind::Call, key, party, body.subject(), ledger, at.as_seconds(), body.encode())?)
}

fn random() -> Result<[u8; 16], Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| tally_evidence::KeyFault::Randomness)?;
    Ok(bytes)
}

fn add(arguments: &mut BTreeMap<String, Cbor>, (name, value): (String, Cbor)) -> Result<(), Fault> {
    match arguments.insert(name.clone(), value) {
        None => Ok(()),
        Some(_) => Err(format!("`{name}` is given twice; name each argument once, under --arg or --private").into()),
    }
}

/// `flag` is the one it came with.
fn argument(flag: &str, text: &str) -> Result<(String, Cbor), Fault> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{flag} {text}: write NAME=VALUE"))?;
    if let Some(file) = value.strip_prefix('@') {
        let bytes = std::fs::read(file).context(format_args!("{flag} {name}: reading {file}"))?;
        return Ok((name.to_owned(), cbor::bytes(bytes)));
    }
    let value = match value.parse::<i64>() {
        Ok(number) => cbor::int(number),
        Err(_) => match value {
            "true" => Cbor::Bool(true),
            "false" => Cbor::Bool(false),
            other => cbor::text(other),
        },
    };
    Ok((name.to_owned(), value))
}

/// Tells what came of a call.
///
/// # Errors
/// When standard output is gone.
pub fn show(done: &Done, json: bool) -> Result<(), Fault> {
    if json {
        return print_json(done);
    }
    match (done.refusal, &done.reason) {
        (Some(number), Some(reason)) => println!("refused ({number}): {}", one_line(reason)),
        _ => println!("done: entry {}", done.entry),
    }
    if let Some(waits_for) = &done.waits_for {
        println!("not final yet: {waits_for}");
        println!(
            "  it is in the ledger and stays: do not call again, that would be another call; `tally ledger entry {}` says when it is final",
            done.entry
        );
    }
    for event in done.outcome["events"].as_array().into_iter().flatten() {
        println!(
            "  {} {} {}",
            event["kind"].as_str().unwrap_or("?"),
            event["subject"].as_str().unwrap_or("?"),
            event["data"]
        );
    }
    Ok(())
}
