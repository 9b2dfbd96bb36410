//! `tally ledger entries`, `block` and `entry`: who sealed what, and what the contracts made of it.

use super::{Found, red, to_json};
use crate::answer::{Context, Fault};
use crate::show::word;
use serde_json::{Value, json};
use std::fmt::Write;
use tally_evidence::{Commitment, SignedStatement, StatementKind};
use tally_ledger_client::{Client, RequestError};
use tally_model::{ClockState, FindingCode, Grade, Timestamp};

pub(super) async fn entries(client: &Client, from: Option<u64>, limit: u64) -> Result<Found, Fault> {
    let from = from.map_or_else(String::new, |from| format!("&from={from}"));
    let found = client.get_json(&format!("/entries?limit={limit}{from}")).await?;
    let rows = found["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = table(rows);
    if let Some(older) = rows.last().and_then(|row| row["entry"].as_u64()).filter(|entry| *entry > 0) {
        let _ = writeln!(text, "older ones: tally ledger entries --from {}", older - 1);
    }
    Ok(Found::new(found, text))
}

pub(super) async fn block(client: &Client, height: u64) -> Result<Found, Fault> {
    let block = client.get_json(&format!("/blocks/{height}")).await?;
    let mut text = format!("block {height}  block time {}\n", word(&block["time"]));
    for (title, name) in
        [("tree root", "root"), ("state root", "state"), ("outcomes", "outcomes"), ("before", "previous")]
    {
        let _ = writeln!(text, "{title:<12} {}", word(&block[name]));
    }
    for term in block["terms"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "term of {} ran out: {}", word(&term["agreement"]), event_kinds(&term["events"]));
    }
    text += &table(block["entries"].as_array().map(Vec::as_slice).unwrap_or_default());
    Ok(Found::new(block, text))
}

pub(super) async fn entry(client: &Client, id: &str) -> Result<Found, Fault> {
    let bytes = client.get_bytes(&format!("/entries/{id}/statement")).await?;
    let outcome = client.get_json(&format!("/entries/{id}/outcome")).await?;
    let (state, waits_for) = state(client, id, &outcome).await?;
    let time = client.get_json(&format!("/checkpoints/{}", outcome["height"])).await?["time"].take();
    let statement = SignedStatement::parse(&bytes).context("the node gave no statement")?;
    let body = tally_evidence::cbor::decode(&statement.payload).map_or(Value::Null, |body| to_json(&body));
    let private = private_fields(client, &outcome["entry"], &body).await?;
    let mut json = json!({
        "statement": statement.id.to_string(), "signer": statement.issuer, "key": statement.key.to_string(),
        "subject": statement.subject, "ledger": statement.audience, "bytes": bytes.len(), "body": body, "outcome": outcome,
        "state": state, "time": time,
    });
    for (name, value) in [("waits_for", waits_for.map(Value::from)), ("private", private.clone())] {
        if let Some(value) = value {
            json[name] = value;
        }
    }
    let (entry, height) = (word(&outcome["entry"]), word(&outcome["height"]));
    let mut text = format!("entry {entry}  block {height}  block time {}\n", word(&time));
    for name in
        ["state", "waits_for", "statement", "signer", "key", "subject"].into_iter().filter(|name| !json[name].is_null())
    {
        let _ = writeln!(text, "{:<12} {}", name.replace('_', " "), word(&json[name]));
    }
    let _ = writeln!(text, "{:<12} {}", "body", serde_json::to_string_pretty(&body)?.replace('\n', "\n             "));
    for field in private.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(text, "{:<12} {}: tally disclose {entry}", "private", word(&field["field"]));
    }
    if statement.kind == StatementKind::Trigger {
        text += &how_good(&body);
    }
    text += &came_of_it(&outcome);
    Ok(Found::new(json, text))
}

/// What became of it, and what its receipt waits for; as in docs/formats/api.md, *What becomes of a statement*.
async fn state(client: &Client, id: &str, outcome: &Value) -> Result<(String, Option<String>), Fault> {
    match client.get_bytes(&format!("/entries/{id}")).await {
        Err(RequestError::OnItsWay { state, text, .. }) => Ok((state, text.split(';').next().map(str::to_owned))),
        // A node that follows has no key for receipts; what it shows it took from a block that is final or refused.
        Ok(_) | Err(RequestError::Refused { status: 421, .. }) => {
            Ok((if outcome["refusal"] == 0 { "final" } else { "refused" }.to_owned(), None))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// The private fields of a call, when it has any.
async fn private_fields(client: &Client, entry: &Value, body: &Value) -> Result<Option<Value>, Fault> {
    let is_private = |value: &Value| value.as_str().is_some_and(|text| text.parse::<Commitment>().is_ok());
    if !body["args"].as_object().is_some_and(|args| args.values().any(is_private)) {
        return Ok(None);
    }
    match client.get_json(&format!("/entries/{entry}/private")).await {
        Ok(mut found) => Ok(Some(found["fields"].take())),
        // Not for everybody who may see the entry.
        Err(RequestError::Refused { status: 403, .. }) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

/// What a trigger says of its own evidence.
fn how_good(body: &Value) -> String {
    // Agent-sealed is what a trigger says by saying nothing.
    let grade = body["grade"].as_str().unwrap_or_else(|| Grade::Agent.word());
    let mut text = format!("{:<12} {grade}\n", "grade");
    if let Some(at) = body["at"].as_i64() {
        let clock = agent_clock(&body["clock"]);
        let _ = writeln!(text, "{:<12} {}, by the agent's clock ({clock})", "rule time", Timestamp::from_micros(at));
    }
    let Some(class) = body["quality"]["class"].as_str() else { return text };
    let _ = writeln!(text, "{:<12} {class}", "quality");
    for finding in body["quality"]["findings"].as_array().into_iter().flatten() {
        let code = finding["code"].as_str().unwrap_or_default();
        let meaning = FindingCode::from_word(code).map_or("", FindingCode::meaning);
        let (point, from, to) = (word(&finding["point"]), word(&finding["from"]), word(&finding["to"]));
        let _ = writeln!(text, "{:<12} {code} {point}, readings {from}–{to}: {meaning}", "");
    }
    text
}

/// What the contracts made of it.
fn came_of_it(outcome: &Value) -> String {
    let mut text = String::new();
    match outcome["refusal"].as_u64() {
        Some(0) | None => {}
        Some(number) => {
            let detail = outcome.get("refusal_detail").unwrap_or(&outcome["refusal_text"]);
            let words = format!("{number}: {}", word(detail));
            let _ = writeln!(text, "{:<12} {}", "refused", red(&words));
        }
    }
    for event in outcome["events"].as_array().into_iter().flatten() {
        let _ =
            writeln!(text, "{:<12} {} {} {}", "event", word(&event["kind"]), word(&event["subject"]), event["data"]);
    }
    text
}

fn table(rows: &[Value]) -> String {
    let mut text = format!(
        "{:>8} {:>8}  {:<8} {:<14} {:<20} {:<16}  what came of it\n",
        "entry", "block", "kind", "signer", "about", "statement"
    );
    for row in rows {
        let came = match row["refusal"].as_u64() {
            Some(0) | None => event_kinds(&row["events"]),
            Some(number) => red(&format!("refused ({number})")),
        };
        let id = word(&row["statement"]);
        let _ = writeln!(
            text,
            "{:>8} {:>8}  {:<8} {:<14} {:<20} {:<16}  {came}",
            word(&row["entry"]),
            word(&row["height"]),
            word(&row["kind"]),
            word(&row["signer"]),
            word(&row["subject"]),
            id.get(..16).unwrap_or(&id),
        );
    }
    text
}

/// Kinds of events, from a list of kinds or of events; of many of one kind in a row how many (a genesis registers a plant).
fn event_kinds(events: &Value) -> String {
    let kind = |event: &Value| word(if event.is_object() { &event["kind"] } else { event });
    let kinds: Vec<_> = events.as_array().into_iter().flatten().map(kind).collect();
    let counted = kinds.chunk_by(|one, next| one == next).filter_map(|same| match same {
        [] => None,
        [one] => Some(one.clone()),
        [one, ..] => Some(format!("{} × {one}", same.len())),
    });
    counted.collect::<Vec<_>>().join(", ")
}

/// How good the agent's clock was when it sealed, as the trigger says it.
fn agent_clock(clock: &Value) -> String {
    let state = clock["state"].as_str().and_then(|word| ClockState::try_new(word, clock["error-us"].as_u64()));
    state.map_or_else(|| "it does not say how good that was".to_owned(), |state| state.to_string())
}
