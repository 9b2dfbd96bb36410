//! `tally ledger state KEY`: what a key of the ledger's state is, or that it is not there, proved.

use super::{Found, red};
use crate::answer::{Context, Fault};
use crate::commands::evidence::write_whole;
use crate::commands::verify::read_key;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use tally_evidence::cbor::{self, Fields};
use tally_evidence::{Checkpoint, StateProof, VerifyingKey};
use tally_ledger_client::Client;

/// Arguments of `ledger state`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
KEY is one of
  party:ID  revoked:PARTY  device:ID  anchor:DEVICE  account:ID  agreement:ID
  open:CONTRACT/VALUE/…   the open agreement with these values of the contract's `key:`
  permit:NUMBER  burnt:NUMBER  policy:OWNER/ID  barred:OWNER/PARTY  quarantine:device/ID  quarantine:agent/ID
  private:ENTRY/FIELD     a private field that is kept     purged:ENTRY/FIELD   one that was purged
  past:party/ID/N  past:device/ID/N  visibility:party/ID  visibility:device/ID  recovery:PARTY  offer:DEVICE
  fingerprint:DEVICE/KIND
  hex:BYTES               any other (docs/formats/state.md)
Examples:
  tally ledger state --absent revoked:agent-01
  tally ledger state --absent open:maintenance-order/press-01/bearing-worn")]
pub struct StateArgs {
    /// Which key
    #[arg(value_name = "KEY")]
    key: String,
    /// The question is whether the key is *not* there
    #[arg(long)]
    absent: bool,
    /// The ledger's public key as you know it (SPKI PEM); without it the node's word is taken and shown
    #[arg(long, value_name = "FILE")]
    ledger_key: Option<PathBuf>,
    /// Also write value, proof and checkpoint into this file (CBOR), for other people's tools
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Takes value, proof and checkpoint from the node, believes none of it, and checks them.
pub(super) async fn state(client: &Client, args: &StateArgs) -> Result<Found, Fault> {
    let key = tally_contracts::state_key(&args.key)?;
    let name = hex::encode(&key);
    let answer = client.get_bytes(&format!("/state/{name}")).await?;
    let ledger_key = match &args.ledger_key {
        Some(file) => read_key(file)?,
        None => {
            let pem = String::from_utf8(client.get_bytes("/key.pem").await?).context("the node's key")?;
            VerifyingKey::from_pem(&pem).context("the node's key")?
        }
    };
    if let Some(file) = &args.output {
        write_whole(file, &answer)?;
    }
    let said = Said::decode(&answer).context("the node's answer")?;
    let proved = said.check(&key, &ledger_key);
    let value = said.value;
    let is_as_asked = proved.is_ok() && value.is_none() == args.absent;
    let decoded = value.as_deref().and_then(|value| cbor::decode(value).ok());
    let shown = decoded.as_ref().map_or(Value::Null, super::to_json);
    let json = json!({
        "key": args.key, "hex": name, "present": value.is_some(), "value": shown,
        "value_hex": value.as_ref().map(hex::encode), "proved": proved.is_ok(), "fault": proved.as_ref().err(),
        "height": proved.as_ref().ok().map(|checkpoint| checkpoint.height), "ledger_key": ledger_key.id().to_string(),
    });
    let mut text = format!("key          {} ({name})\nledger key   {}", args.key, ledger_key.id());
    text += if args.ledger_key.is_some() { "\n" } else { "  (the node's own word; name yours with --ledger-key)\n" };
    let _ = match (&proved, &value) {
        (Err(fault), _) => writeln!(text, "{}", red(&format!("DOES NOT HOLD: {fault}"))),
        (Ok(head), None) => {
            writeln!(text, "proved       it is NOT in the state at height {} (block time {})", head.height, head.time)
        }
        (Ok(head), Some(value)) => {
            let _ =
                writeln!(text, "proved       it is in the state at height {} (block time {})", head.height, head.time);
            writeln!(text, "value        {}", if shown.is_null() { hex::encode(value) } else { shown.to_string() })
        }
    };
    Ok(Found { json, text, answer: is_as_asked.into() })
}

/// `state-answer` of docs/formats/block.cddl.
struct Said {
    value: Option<Vec<u8>>,
    proof: Vec<u8>,
    checkpoint: Vec<u8>,
}

impl Said {
    fn decode(answer: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::decode(answer)?;
        let value = fields.take("value").map(|value| value.into_bytes().map_err(|_| "`value` is no byte string"));
        let (value, proof, checkpoint) = (value.transpose()?, fields.bytes("proof")?, fields.bytes("checkpoint")?);
        fields.finish()?;
        Ok(Self { value, proof, checkpoint })
    }

    /// The checkpoint for which it holds.
    fn check(&self, key: &[u8], ledger_key: &VerifyingKey) -> Result<Checkpoint, String> {
        let checkpoint = Checkpoint::open(&self.checkpoint, ledger_key).map_err(|fault| fault.to_string())?;
        let proof = StateProof::decode(&self.proof).map_err(|fault| fault.to_string())?;
        proof.verify(&checkpoint.state, key, self.value.as_deref()).map_err(|fault| fault.to_string())?;
        Ok(checkpoint)
    }
}
