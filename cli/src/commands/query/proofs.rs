//! Checks what came with the rows. Nothing of the node's word is believed but the key, unless the caller names that too.

use serde_json::Value;
use tally_evidence::{
    BatchBody, BatchedTrigger, Checkpoint, OutcomeRecord, Place, Receipt, SignedStatement, StateProof, VerifyingKey,
    cbor, leaf_hash, root_from_path,
};

/// Place of the state in the record of an agreement (docs/formats/state.md).
const STATE: usize = 3;

/// What checking found.
#[derive(Debug, Default)]
pub struct Checked {
    proved: usize,
    without: usize,
    faults: Vec<String>,
}

impl Checked {
    /// Whether there was something to prove, and all of it holds.
    pub const fn holds(&self) -> bool {
        self.faults.is_empty() && self.without == 0
    }

    /// In words, for standard error.
    pub fn words(&self) -> String {
        let mut text = format!("proofs: {} rows hold", self.proved);
        if self.without > 0 {
            text += &format!(
                ", {} came without any (withheld, forgotten by retention, or beyond the 100 that are proved at once)",
                self.without
            );
        }
        for fault in self.faults.iter().take(10) {
            text += &format!("\nDOES NOT HOLD: {fault}");
        }
        text
    }
}

/// Checks every row of an answer.
pub fn check(answer: &Value, what: &str, key: &VerifyingKey) -> Checked {
    let mut checked = Checked::default();
    // An aggregate is proved by the agreements that were counted.
    let (answer, what) = if what == "groups" {
        let counted: u64 =
            answer["groups"].as_array().into_iter().flatten().filter_map(|group| group["count"].as_u64()).sum();
        let shown = answer["behind"]["agreements"].as_array().map_or(0, Vec::len);
        // Only so many are proved at once: sums over more than those are the node's word.
        checked.without = usize::try_from(counted).unwrap_or(usize::MAX).saturating_sub(shown);
        (&answer["behind"], "agreements")
    } else {
        (answer, what)
    };
    for row in answer[what].as_array().into_iter().flatten() {
        let proof = &row["proof"];
        if proof.is_null() || !proof["withheld"].is_null() || !proof["pruned"].is_null() {
            checked.without += 1;
            continue;
        }
        let done = if what == "agreements" { agreement(answer, row, proof, key) } else { entry(row, proof, key) };
        match done {
            Ok(()) => checked.proved += 1,
            Err(fault) => checked.faults.push(format!("{}: {fault}", name(row))),
        }
    }
    checked
}

fn name(row: &Value) -> String {
    row["agreement"].as_str().map_or_else(|| format!("entry {}", row["entry"]), str::to_owned)
}

fn bytes(value: &Value, what: &str) -> Result<Vec<u8>, String> {
    let text = value.as_str().ok_or_else(|| format!("no {what}"))?;
    hex::decode(text).map_err(|_| format!("{what} is not hexadecimal"))
}

fn hashes(value: &Value) -> Result<Vec<[u8; 32]>, String> {
    let hash = |value: &Value| {
        bytes(value, "path")?.try_into().map_err(|_| "a hash of the path has another length".to_owned())
    };
    value.as_array().into_iter().flatten().map(hash).collect()
}

fn words(fault: impl std::fmt::Display) -> String {
    fault.to_string()
}

/// Statement and receipt lead to the checkpoint of the row's block, and so does the outcome.
fn entry(row: &Value, proof: &Value, key: &VerifyingKey) -> Result<(), String> {
    let checkpoint = Checkpoint::open(&bytes(&proof["checkpoint"], "checkpoint")?, key).map_err(words)?;
    let outcome = bytes(&proof["outcome"], "outcome")?;
    let index = proof["outcome_index"].as_u64().ok_or("no place of the outcome")?;
    let path = hashes(&proof["outcome_path"])?;
    if root_from_path(leaf_hash(&outcome), index, checkpoint.outcome_count, &path) != Some(checkpoint.outcomes) {
        return Err("its outcome is not in the checkpoint".to_owned());
    }
    let outcome = OutcomeRecord::decode(&outcome).map_err(words)?;
    if Some(outcome.height) != row["height"].as_u64() || outcome.height != checkpoint.height {
        return Err("the outcome is of another block".to_owned());
    }
    // Only lists of entries have the refusal as a column.
    if row["refusal"].as_u64().is_some_and(|refusal| refusal != u64::from(outcome.refusal)) {
        return Err(format!("the ledger's outcome has refusal {}", outcome.refusal));
    }
    let (found, item) = match &outcome.place {
        Place::Term { agreement, due } => {
            let is_same = row["agreement"] == agreement.as_str() && row["due_us"].as_i64() == Some(*due);
            return if is_same { Ok(()) } else { Err("the outcome is of another term".to_owned()) };
        }
        Place::Entry { index, statement } => ((*index, *statement), None),
        Place::Item { index, statement, item } => ((*index, *statement), Some(*item)),
    };
    if row["entry"].as_u64() != Some(found.0) {
        return Err("the outcome is of another entry".to_owned());
    }
    let statement = SignedStatement::parse(&bytes(&proof["statement"], "statement")?).map_err(words)?;
    if statement.id != found.1 {
        return Err("the statement is another than the outcome's".to_owned());
    }
    if row["signer"].as_str().is_some_and(|signer| signer != statement.issuer.as_str()) {
        return Err(format!("it was sealed by {}", statement.issuer));
    }
    let receipt = Receipt::parse(&bytes(&proof["receipt"], "receipt")?).map_err(words)?;
    if receipt.check(&statement.id, key).map_err(words)? != checkpoint.root {
        return Err("the receipt leads to another root than the checkpoint's".to_owned());
    }
    item.map_or(Ok(()), |item| batched(&proof["batched"], item, &statement))
}

/// The trigger is one that the batch seals.
fn batched(proof: &Value, item: u32, statement: &SignedStatement) -> Result<(), String> {
    let batch = BatchBody::decode(&statement.payload).map_err(words)?;
    let shown = BatchedTrigger { item, body: bytes(&proof["body"], "trigger")?, path: hashes(&proof["path"])? };
    shown.check(&batch).map(|_| ()).map_err(words)
}

/// The state has the agreement, and in the state the row says, unless it went on since.
fn agreement(answer: &Value, row: &Value, proof: &Value, key: &VerifyingKey) -> Result<(), String> {
    let checkpoint = Checkpoint::open(&bytes(&answer["state_checkpoint"], "checkpoint")?, key).map_err(words)?;
    let id = row["agreement"].as_str().unwrap_or_default();
    let expected = tally_contracts::state_key(&format!("agreement:{id}"))?;
    let value = bytes(&proof["value"], "value")?;
    if bytes(&proof["key"], "key")? != expected {
        return Err("the proof is of another key".to_owned());
    }
    let state = StateProof::decode(&bytes(&proof["proof"], "proof")?).map_err(words)?;
    state.verify(&checkpoint.state, &expected, Some(&value)).map_err(words)?;
    let record = cbor::decode(&value).map_err(words)?;
    let found = record.as_array().and_then(|fields| fields.get(STATE)?.as_text());
    let is_same_block = answer["height"].as_u64() == Some(checkpoint.height);
    if is_same_block && found != row["state"].as_str() {
        return Err(format!("the ledger has it in state `{}`", found.unwrap_or("?")));
    }
    Ok(())
}
