//! `tally registry retirement`: how long ended agreements stay in the state of a ledger that runs.

use crate::answer::{Answer, Fault, print_json};
use crate::commands::call::{self, Done, Wish, submit};
use crate::flags::CallerFlags;
use crate::shutdown::runtime;
use clap::Args;
use std::collections::BTreeMap;
use tally_evidence::SealingKey;
use tally_evidence::cbor::{Cbor, text};
use tally_ledger_client::Client;
use tally_model::PartyId;

#[derive(Debug, Args)]
#[command(after_help = "\
What ended is told, proved and verified as before, also when it has left the state; what ends from the block of this call on goes by
the new time. docs/operator/contracts.md says what leaves the state and what stays.")]
pub struct RetirementArgs {
    /// How long behind its end an agreement stays: 90d, or never
    #[arg(value_name = "DURATION|never")]
    after: String,
    /// Date those that ended before by it too, a thousand with each call. Can be broken off and asked again
    #[arg(long)]
    also_ended: bool,
    /// Who asks: an admin of the ledger.
    #[command(flatten)]
    caller: CallerFlags,
}

pub fn run(args: &RetirementArgs, json: bool) -> Result<Answer, Fault> {
    let after = match args.after.as_str() {
        "never" => Cbor::Null,
        duration => super::micros(duration, "DURATION: a duration such as 90d, or never")?,
    };
    let signer = args.caller.signer()?;
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let done = ask(&client, &signer, "set-retirement", [("after".to_owned(), after)].into()).await?;
        // 161: it is so already, and what is left to do may be the dating.
        let goes_on = args.also_ended && matches!(done.refusal, None | Some(ALREADY_SO));
        if !goes_on {
            call::show(&done, json)?;
            return Ok(done.refusal.is_none().into());
        }
        date_all(&client, &signer, &done, json).await
    })
}

/// The refusal of a time that is in force already.
const ALREADY_SO: u16 = 161;

async fn ask(
    client: &Client,
    signer: &(PartyId, SealingKey),
    action: &str,
    arguments: BTreeMap<String, Cbor>,
) -> Result<Done, Fault> {
    submit(client, signer, Wish { contract: "registry", action, agreement: None, arguments }).await
}

/// Asks until none is left behind the last.
async fn date_all(client: &Client, signer: &(PartyId, SealingKey), set: &Done, json: bool) -> Result<Answer, Fault> {
    if !json {
        call::show(set, json)?;
    }
    let (mut dated, mut calls, mut arguments) = (0, 0_u64, BTreeMap::new());
    loop {
        let done = ask(client, signer, "apply-retirement", arguments).await?;
        if done.refusal.is_some() {
            call::show(&done, json)?;
            return Ok(Answer::No);
        }
        calls += 1;
        let data = &done.outcome["events"][0]["data"];
        dated += data["dated"].as_u64().ok_or("the outcome does not say how many were dated")?;
        let Some(next) = data["next"].as_str() else { break };
        arguments = [("from".to_owned(), text(next))].into();
    }
    if json {
        print_json(&serde_json::json!({ "set": set, "dated": dated, "calls": calls }))?;
    } else {
        println!("dated anew: {dated} that ended before, in {calls} calls");
    }
    Ok(Answer::Yes)
}
