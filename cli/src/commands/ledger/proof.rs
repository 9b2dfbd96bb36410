//! `tally ledger proof`: nothing of the node is believed, all of it is checked.

use super::{Found, red};
use crate::answer::{Context, Fault};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use tally_evidence::{Checkpoint, ConsistencyReceipt, Hash, Receipt, SignedStatement, VerifyingKey};
use tally_ledger_client::Client;

/// Takes statement, receipt and checkpoint from the node, believes none of it, and checks them.
pub(super) async fn proof(
    client: &Client,
    id: &str,
    key: Option<&Path>,
    output: Option<&Path>,
) -> Result<Found, Fault> {
    let statement = client.get_bytes(&format!("/entries/{id}/statement")).await?;
    let receipt_bytes = client.get_bytes(&format!("/entries/{id}")).await?;
    let pem = match key {
        Some(file) => std::fs::read_to_string(file).context(file.display())?,
        None => String::from_utf8(client.get_bytes("/key.pem").await?).context("the node's key")?,
    };
    let ledger_key = VerifyingKey::from_pem(&pem).context("the ledger's key")?;
    let sealed = client.get_bytes("/checkpoint").await?;
    let parsed = SignedStatement::parse(&statement).context("the node gave no statement")?;
    let receipt = Receipt::parse(&receipt_bytes).context("the node gave no receipt")?;
    let proved = match Checkpoint::open(&sealed, &ledger_key) {
        Ok(head) => {
            let grown = client.get_bytes(&format!("/consistency/{}?size={}", receipt.size, head.size)).await?;
            lead(&parsed, &receipt, &grown, &head, &ledger_key)
        }
        Err(fault) => Err(format!("checkpoint: {fault}")),
    };
    if let Some(folder) = output {
        std::fs::create_dir_all(folder).context(folder.display())?;
        for (name, bytes) in [("statement.cose", &statement), ("receipt.cose", &receipt_bytes)] {
            std::fs::write(folder.join(name), bytes).context(folder.join(name).display())?;
        }
    }
    let answer = proved.is_ok().into();
    let (json, text) = told(&parsed, &receipt, &ledger_key, &proved, key.is_some());
    Ok(Found { json, text, answer })
}

/// The proof in both forms; `is_known`: the caller brought the ledger's key.
fn told(
    parsed: &SignedStatement,
    receipt: &Receipt,
    ledger_key: &VerifyingKey,
    proved: &Result<Hash, String>,
    is_known: bool,
) -> (Value, String) {
    let path: Vec<String> = receipt.path.iter().map(hex::encode).collect();
    let fault = proved.as_ref().err();
    let json = json!({
        "holds": proved.is_ok(), "fault": fault, "statement": parsed.id.to_string(), "ledger": receipt.ledger,
        "key": ledger_key.id().to_string(), "index": receipt.index, "size": receipt.size, "path": path,
        "root": proved.as_ref().ok().map(hex::encode),
    });
    let mut text = format!("statement    {}\nledger key   {}", parsed.id, ledger_key.id());
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
    statement: &SignedStatement,
    receipt: &Receipt,
    grown: &[u8],
    head: &Checkpoint,
    key: &VerifyingKey,
) -> Result<Hash, String> {
    let root = receipt.check(&statement.id, key).map_err(|fault| fault.to_string())?;
    let grown = ConsistencyReceipt::parse(grown).map_err(|fault| fault.to_string())?;
    let led = grown.check(root, key).map_err(|fault| fault.to_string())?;
    if (grown.old, grown.size, led) == (receipt.size, head.size, head.root) {
        return Ok(root);
    }
    Err(format!("the {} entries of the receipt do not lead to the {} of the checkpoint", receipt.size, head.size))
}
