//! What proves the rows of an answer. The projection proves nothing itself: the ledger's own receipts, outcome paths and state
//! proofs are put beside its rows, for the reader to check with the ledger's key alone.

use super::Problem;
use crate::api::evidence::Blocks;
use crate::api::sight::Sight;
use crate::api::views::prove;
use crate::engine::{Engine, ReadError};
use crate::store::CommitError;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tally_contracts::Origin;
use tally_evidence::{BatchEnvelope, EvidenceEntry, EvidenceTerm, Hash};
use tally_model::{AgreementId, Timestamp};
use tally_projection::ask::Answer;

/// Statement, receipt, and outcome with its path into the block's checkpoint, for each entry.
pub(super) fn entries(engine: &Engine, sight: &Sight, answer: &mut Answer) -> Result<Value, Problem> {
    let (mut blocks, mut known) = (Blocks::new(engine), Known::new());
    for row in &mut answer.rows {
        if let Some(place) = place(row) {
            let proof = entry_proof((engine, sight), &mut blocks, &mut known, place)?;
            row.insert("proof".to_owned(), proof);
        }
    }
    Ok(Value::Null)
}

/// The same for events: of the entry that caused them, or of the term that ran out.
pub(super) fn events(engine: &Engine, sight: &Sight, answer: &mut Answer) -> Result<Value, Problem> {
    let (mut blocks, mut known) = (Blocks::new(engine), Known::new());
    for row in &mut answer.rows {
        let proof = match (place(row), term(row)) {
            (Some(place), _) => entry_proof((engine, sight), &mut blocks, &mut known, place)?,
            (None, Some((agreement, due))) => term_json(&blocks.term(&agreement, due)?),
            _ => continue,
        };
        row.insert("proof".to_owned(), proof);
    }
    Ok(Value::Null)
}

fn term(row: &Map<String, Value>) -> Option<(AgreementId, Timestamp)> {
    let agreement = AgreementId::try_new(row.get("agreement")?.as_str()?).ok()?;
    Some((agreement, Timestamp::from_micros(row.get("due_us")?.as_i64()?)))
}

/// Proofs by entry and item, as far as they were made.
type Known = BTreeMap<(u64, i64), Value>;

fn entry_proof(
    (engine, sight): (&Engine, &Sight),
    blocks: &mut Blocks<'_>,
    known: &mut Known,
    (entry, item): (u64, i64),
) -> Result<Value, Problem> {
    if let Some(proof) = known.get(&(entry, item)) {
        return Ok(proof.clone());
    }
    let (committed, bytes) = match engine.entry(entry) {
        Err(ReadError::Store(CommitError::Pruned(pruned))) => {
            // Forgotten here; that it is in the ledger is shown all the same.
            let committed = engine.committed(entry)?.ok_or(ReadError::Entry(entry))?;
            let proof = json!({"pruned": pruned.to_string(), "receipt": hex::encode(engine.receipt(&committed)?)});
            known.insert((entry, item), proof.clone());
            return Ok(proof);
        }
        found => found?.ok_or(ReadError::Entry(entry))?,
    };
    if let Some(withheld) = sight.entry(entry, &bytes)? {
        // That it is in the ledger is shown all the same.
        let proof = json!({"withheld": withheld, "receipt": hex::encode(engine.receipt(&committed)?)});
        known.insert((entry, item), proof.clone());
        return Ok(proof);
    }
    // Item 0 is also what a single statement has, and item -1 is a batch itself.
    let item_of_batch = u32::try_from(item).ok().filter(|_| BatchEnvelope::is_one(&bytes));
    let origin = Origin { entry, item: item_of_batch };
    let proof = entry_json(&blocks.entry(origin, committed.subject, &bytes)?);
    known.insert((entry, item), proof.clone());
    Ok(proof)
}

/// Entry and item of a row.
fn place(row: &Map<String, Value>) -> Option<(u64, i64)> {
    Some((row.get("entry")?.as_u64()?, row.get("item")?.as_i64()?))
}

fn entry_json(entry: &EvidenceEntry) -> Value {
    let batched = entry
        .batched
        .as_ref()
        .map(|batched| json!({"item": batched.item, "body": hex::encode(&batched.body), "path": path(&batched.path)}));
    json!({
        "statement": hex::encode(&entry.statement),
        "batched": batched,
        "receipt": hex::encode(&entry.receipt),
        "outcome": hex::encode(&entry.outcome),
        "outcome_index": entry.outcome_index,
        "outcome_path": path(&entry.outcome_path),
        "checkpoint": hex::encode(&entry.checkpoint),
    })
}

fn term_json(term: &EvidenceTerm) -> Value {
    json!({
        "outcome": hex::encode(&term.outcome),
        "outcome_index": term.outcome_index,
        "outcome_path": path(&term.outcome_path),
        "checkpoint": hex::encode(&term.checkpoint),
    })
}

fn path(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(hex::encode).collect()
}

/// The state of each agreement, all at one sealed checkpoint, which is given back. It may be of a later block than the answer: then
/// it says so itself.
pub(super) fn agreements(engine: &Engine, sight: &Sight, answer: &mut Answer) -> Result<Value, Problem> {
    let id = |row: &Map<String, Value>| row.get("agreement").and_then(Value::as_str).map(str::to_owned);
    let keys = answer.rows.iter().filter_map(id).map(|id| tally_contracts::state_key(&format!("agreement:{id}")));
    let keys: Vec<_> = keys.collect::<Result<_, _>>().map_err(|fault| Problem::not_now("projection", fault, 5))?;
    if keys.is_empty() {
        return Ok(Value::Null);
    }
    let proved = prove(engine, sight, &keys)?;
    for (row, claim) in answer.rows.iter_mut().zip(proved.claims) {
        let proof = json!({
            "key": hex::encode(&claim.key), "value": claim.value.map(hex::encode), "proof": hex::encode(&claim.proof),
        });
        row.insert("proof".to_owned(), proof);
    }
    Ok(hex::encode(&proved.checkpoint).into())
}
