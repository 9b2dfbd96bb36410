//! `tally ledger proof`: nothing of the node is believed, all of it is checked.

use super::{Found, red};
use crate::answer::{Context, Fault};
use crate::commands::evidence::write_whole;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use tally_evidence::{Checkpoint, ConsistencyReceipt, Hash, Receipt, SignedStatement, StatementId, VerifyingKey};
use tally_ledger_client::{Client, RequestError};

/// Takes statement, receipt and checkpoint from the node, believes none of it, and checks them.
pub(super) async fn proof(
    client: &Client,
    id: &str,
    key: Option<&Path>,
    output: Option<&Path>,
) -> Result<Found, Fault> {
    let (statement_id, statement) = statement(client, id).await?;
    let receipt_bytes = client.get_bytes(&format!("/entries/{id}")).await?;
    let pem = match key {
        Some(file) => std::fs::read_to_string(file).context(file.display())?,
        None => String::from_utf8(client.get_bytes("/key.pem").await?).context("the node's key")?,
    };
    let ledger_key = VerifyingKey::from_pem(&pem).context("the ledger's key")?;
    let sealed = client.get_bytes("/checkpoint").await?;
    let receipt = Receipt::parse(&receipt_bytes).context("the node gave no receipt")?;
    let proved = match Checkpoint::open(&sealed, &ledger_key) {
        Ok(head) => {
            let grown = client.get_bytes(&format!("/consistency/{}?size={}", receipt.size, head.size)).await?;
            lead(&statement_id, &receipt, &grown, &head, &ledger_key)
        }
        Err(fault) => Err(fault.to_string()),
    };
    if let Some(folder) = output {
        std::fs::create_dir_all(folder).context(folder.display())?;
        for (name, bytes) in [("statement.cose", statement.as_ref()), ("receipt.cose", Some(&receipt_bytes))] {
            let Some(bytes) = bytes else { continue };
            write_whole(&folder.join(name), bytes)?;
        }
    }
    let answer = proved.is_ok().into();
    let (json, mut text) = told(&statement_id, &receipt, &ledger_key, &proved, key.is_some());
    if statement.is_none() {
        text += "the node's retention forgot the statement itself; the archive has it, and the receipt is as good as ever\n";
    }
    Ok(Found { json, text, answer })
}

/// The statement and its id; of one that retention forgot the id alone, which is what the tree holds.
async fn statement(client: &Client, id: &str) -> Result<(StatementId, Option<Vec<u8>>), Fault> {
    let bytes = match client.get_bytes(&format!("/entries/{id}/statement")).await {
        Err(RequestError::Refused { status: 410, .. }) => None,
        answer => Some(answer?),
    };
    let named = match &bytes {
        Some(bytes) => SignedStatement::parse(bytes).context("the node gave no statement")?.id,
        None => match id.parse() {
            Ok(named) => named,
            Err(_) => {
                let listed = client.get_json(&format!("/entries?from={id}&limit=1")).await?;
                let named = listed["entries"][0]["statement"].as_str().unwrap_or_default();
                named.parse().context("the node does not say which statement the entry is")?
            }
        },
    };
    Ok((named, bytes))
}

/// The proof in both forms; `is_known`: the caller brought the ledger's key.
fn told(
    statement: &StatementId,
    receipt: &Receipt,
    ledger_key: &VerifyingKey,
    proved: &Result<Hash, String>,
    is_known: bool,
) -> (Value, String) {
    let path: Vec<String> = receipt.path.iter().map(hex::encode).collect();
    let fault = proved.as_ref().err();
    let json = json!({
        "holds": proved.is_ok(), "fault": fault, "statement": statement.to_string(), "ledger": receipt.ledger,
        "key": ledger_key.id().to_string(), "index": receipt.index, "size": receipt.size, "path": path,
        "root": proved.as_ref().ok().map(hex::encode),
    });
    let mut text = format!("statement    {statement}\nledger key   {}", ledger_key.id());
    text += if is_known { "\n" } else { "  (the node's own word; name yours with --ledger-key)\n" };
    let _ = writeln!(text, "place        {} of {}", receipt.index, receipt.size);
    for (step, hash) in path.iter().enumerate() {
        let _ = writeln!(text, "{:<12} {hash}", if step == 0 { "path" } else { "" });
    }
    if let Ok(root) = proved {
        let _ = writeln!(text, "root         {}", hex::encode(root));
    }
    let _ = match fault {
        None => writeln!(
            text,
            "holds: the path leads to a root that the ledger's key signed, and today's ledger only added to it"
        ),
        Some(fault) => writeln!(text, "{}", red(&format!("DOES NOT HOLD: {fault}"))),
    };
    (json, text)
}

/// From the statement to the root its receipt was made for, and from there to today's checkpoint: a receipt does not sign the
/// size of its tree (RFC 9942), the checkpoint does. Gives the first root.
fn lead(
    statement: &StatementId,
    receipt: &Receipt,
    grown: &[u8],
    head: &Checkpoint,
    key: &VerifyingKey,
) -> Result<Hash, String> {
    let root = receipt.check(statement, key).map_err(|fault| fault.to_string())?;
    let grown = ConsistencyReceipt::parse(grown).map_err(|fault| fault.to_string())?;
    let led = grown.check(root, key).map_err(|fault| fault.to_string())?;
    if (grown.old, grown.size, led) == (receipt.size, head.size, head.root) {
        return Ok(root);
    }
    Err(format!("the {} entries of the receipt do not lead to the {} of the checkpoint", receipt.size, head.size))
}
