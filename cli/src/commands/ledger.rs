//! `tally ledger show|entries|du|alarms|prune|archive|import|check-archive|join|promote|check|project|block|entry|state|proof`: looking around in the ledger.

pub mod alarms;
pub mod archive;
pub mod check;
pub mod join;
pub mod project;
pub mod state;

use crate::answer::{Answer, Context, Fault, print_json};
use crate::args::{LedgerArgs, LedgerCommand};
use crate::show::word;
use crate::shutdown::runtime;
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use tally_evidence::{Checkpoint, ConsistencyReceipt, Hash, Receipt, SignedStatement, StatementKind, VerifyingKey};
use tally_ledger_client::{Client, RequestError};
use tally_model::{ClockState, FindingCode, Grade, Timestamp};

pub fn run(args: &LedgerArgs, json: bool) -> Result<Answer, Fault> {
    match &args.command {
        LedgerCommand::Project(args) => return project::run(args, json),
        LedgerCommand::Check(args) => return check::run(args, json),
        _ => {}
    }
    let client = args.node.client()?;
    let asked = async {
        match &args.command {
            LedgerCommand::Show => show(&client).await,
            LedgerCommand::Entries { from, limit } => entries(&client, *from, *limit).await,
            LedgerCommand::Alarms(args) => alarms::run(&client, args).await,
            LedgerCommand::Du => du(&client).await,
            LedgerCommand::Prune { dry_run } => archive::prune(&client, *dry_run).await,
            LedgerCommand::Archive(args) => archive::save(args),
            LedgerCommand::Import(args) => archive::bring_back(args),
            LedgerCommand::CheckArchive(args) => archive::check(args),
            LedgerCommand::Join(args) => join::make(args, json).await,
            LedgerCommand::Promote(args) => join::take_over(args).await,
            LedgerCommand::Block { height } => block(&client, *height).await,
            LedgerCommand::Entry { id } => entry(&client, id).await,
            // Answered above: a connection to PostgreSQL cannot be made in here.
            LedgerCommand::Project(_) | LedgerCommand::Check(_) => Err("it needs no node".into()),
            LedgerCommand::State(args) => state::state(&client, args).await,
            LedgerCommand::Proof { id, ledger_key, output } => {
                proof(&client, id, ledger_key.as_deref(), output.as_deref()).await
            }
        }
    };
    let found = match runtime()?.block_on(asked) {
        Err(fault) => match fault.downcast_ref::<RequestError>() {
            Some(RequestError::Refused { status: 404, text, .. }) => {
                eprintln!("{text}");
                return Ok(Answer::No);
            }
            Some(RequestError::OnItsWay { state, text, .. }) => Found {
                json: json!({"state": state, "detail": text}),
                text: format!("{state}: {text}\n"),
                answer: Answer::No,
            },
            _ => return Err(fault),
        },
        Ok(found) => found,
    };
    if json {
        print_json(&found.json)?;
    } else {
        print!("{}", found.text);
    }
    Ok(found.answer)
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

async fn show(client: &Client) -> Result<Found, Fault> {
    let mut status = client.get_json("/status").await?;
    let checkpoint = client.get_json("/checkpoint").await?;
    let mut text = String::new();
    for (title, value) in [
        ("ledger", &status["ledger"]),
        ("key", &status["key"]),
        ("state", &status["state"]),
        ("height", &checkpoint["height"]),
        ("entries", &checkpoint["size"]),
        ("block time", &checkpoint["time"]),
        ("tree root", &checkpoint["root"]),
        ("state root", &checkpoint["state"]),
    ] {
        let _ = writeln!(text, "{title:<12} {}", word(value));
    }
    text += &witnesses(&status["witnesses"]);
    text += &witness_for(&status["witness_for"]);
    text += &following(&status["following"]);
    if let Some(open) = status["alarms"].as_u64().filter(|open| *open > 0) {
        let _ = writeln!(text, "{:<12} {open} not acknowledged: tally ledger alarms", "ALARMS");
    }
    let _ = writeln!(text, "{:<12} {}", "projection", projection(&status["projection"]));
    status["checkpoint"] = checkpoint;
    Ok(Found::new(status, text))
}

/// How far the witnesses are; nothing where there are none.
fn witnesses(status: &Value) -> String {
    let mut text = String::new();
    let Some(of) = status["of"].as_array() else { return text };
    let number = |name: &str| status[name].as_u64().unwrap_or_default();
    let _ = writeln!(
        text,
        "{:<12} {} of {} needed, {} entries covered",
        "witnesses",
        number("need"),
        of.len(),
        number("size")
    );
    if number("seconds_behind") > 0 {
        let (entries, seconds) = (number("entries_behind"), number("seconds_behind"));
        let _ = writeln!(text, "{:<12} {entries} entries have waited for them for {seconds} s", "");
    }
    for witness in of {
        let state = match (witness["fault"].as_str(), witness["size"].as_u64()) {
            (Some(fault), _) => format!("does not sign: {fault}"),
            (None, Some(size)) => format!("signed {size} entries"),
            (None, None) => "not asked yet".to_owned(),
        };
        let _ = writeln!(text, "{:<12} {}  {state}", "", word(&witness["name"]));
    }
    if let Some(alarm) = status["alarm"].as_str() {
        let _ = writeln!(text, "{:<12} {alarm}", "ALARM");
    }
    text
}

/// What it cosigned of other ledgers; nothing where it is no witness.
fn witness_for(status: &Value) -> String {
    let mut text = String::new();
    for log in status["logs"].as_array().into_iter().flatten() {
        let state =
            log["size"].as_u64().map_or("nothing cosigned yet".to_owned(), |size| format!("cosigned {size} entries"));
        let _ = writeln!(text, "{:<12} {}  {state}", "witness for", word(&log["origin"]));
        if let Some(alarm) = log["alarm"].as_str() {
            let _ = writeln!(text, "{:<12} it has two histories: tally witness compare {alarm}", "ALARM");
        }
    }
    text
}

/// Whom the node follows, and how far behind it is; nothing where it orders.
fn following(status: &Value) -> String {
    let Some(from) = status["from"].as_str() else { return String::new() };
    let how = match (status["fault"].as_str(), status["behind_blocks"].as_u64()) {
        (Some(fault), _) => red(&format!("stands still: {fault}")),
        (None, Some(behind)) => format!("{behind} blocks behind"),
        (None, None) => "not answered yet".to_owned(),
    };
    format!("{:<12} {from}: {how}\n", "follows")
}

/// How far the tables for questions are.
fn projection(status: &Value) -> String {
    if status.is_null() {
        return "none".to_owned();
    }
    let place = word(&status["place"]);
    match (status["fault"].as_str(), status["behind_blocks"].as_u64()) {
        (Some(fault), _) => red(&format!("{place}: stands still: {fault}")),
        (None, Some(0)) => format!("{place}: up to date"),
        (None, behind) => format!("{place}: {} blocks behind", behind.unwrap_or_default()),
    }
}

async fn entries(client: &Client, from: Option<u64>, limit: u64) -> Result<Found, Fault> {
    let from = from.map_or_else(String::new, |from| format!("&from={from}"));
    let found = client.get_json(&format!("/entries?limit={limit}{from}")).await?;
    let rows = found["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = table(rows);
    if let Some(older) = rows.last().and_then(|row| row["entry"].as_u64()).filter(|entry| *entry > 0) {
        let _ = writeln!(text, "older ones: tally ledger entries --from {}", older - 1);
    }
    Ok(Found::new(found, text))
}

async fn du(client: &Client) -> Result<Found, Fault> {
    let usage = client.get_json("/disk").await?;
    let bytes = |value: &Value| value.as_u64().unwrap_or_default();
    let mut text = String::new();
    for part in usage["parts"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{:>14}  {:<12} {}", bytes(&part["bytes"]), word(&part["place"]), word(&part["what"]));
    }
    let _ = writeln!(text, "{:>14}  in all; {} on the disk", bytes(&usage["bytes"]), bytes(&usage["disk_bytes"]));
    Ok(Found::new(usage, text))
}

async fn block(client: &Client, height: u64) -> Result<Found, Fault> {
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

async fn entry(client: &Client, id: &str) -> Result<Found, Fault> {
    let bytes = client.get_bytes(&format!("/entries/{id}/statement")).await?;
    let outcome = client.get_json(&format!("/entries/{id}/outcome")).await?;
    let statement = SignedStatement::parse(&bytes).context("the node gave no statement")?;
    let body = tally_evidence::cbor::decode(&statement.payload).map_or(Value::Null, |body| to_json(&body));
    let json = json!({
        "statement": statement.id.to_string(), "signer": statement.issuer, "key": statement.key.to_string(),
        "subject": statement.subject, "ledger": statement.audience, "bytes": bytes.len(), "body": body, "outcome": outcome,
        "state": if outcome["refusal"] == 0 { "final" } else { "refused" },
    });
    let mut text = format!("entry {}  block {}\n", word(&outcome["entry"]), word(&outcome["height"]));
    for name in ["state", "statement", "signer", "key", "subject"] {
        let _ = writeln!(text, "{name:<12} {}", word(&json[name]));
    }
    let _ = writeln!(text, "{:<12} {}", "body", serde_json::to_string_pretty(&body)?.replace('\n', "\n             "));
    if statement.kind == StatementKind::Trigger {
        // Agent-sealed is what a trigger says by saying nothing.
        let grade = body["grade"].as_str().unwrap_or_else(|| Grade::Agent.word());
        let _ = writeln!(text, "{:<12} {grade}", "grade");
        if let Some(at) = body["at"].as_i64() {
            let clock = agent_clock(&body["clock"]);
            let _ =
                writeln!(text, "{:<12} {}, by the agent's clock ({clock})", "rule time", Timestamp::from_micros(at));
        }
        if let Some(class) = body["quality"]["class"].as_str() {
            let _ = writeln!(text, "{:<12} {class}", "quality");
            for finding in body["quality"]["findings"].as_array().into_iter().flatten() {
                let code = finding["code"].as_str().unwrap_or_default();
                let meaning = FindingCode::from_word(code).map_or("", FindingCode::meaning);
                let (point, from, to) = (word(&finding["point"]), word(&finding["from"]), word(&finding["to"]));
                let _ = writeln!(text, "{:<12} {code} {point}, readings {from}–{to}: {meaning}", "");
            }
        }
    }
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
    Ok(Found::new(json, text))
}

/// Takes statement, receipt and checkpoint from the node, believes none of it, and checks them.
async fn proof(client: &Client, id: &str, key: Option<&Path>, output: Option<&Path>) -> Result<Found, Fault> {
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
    let path: Vec<String> = receipt.path.iter().map(hex::encode).collect();
    let fault = proved.as_ref().err();
    let json = json!({
        "holds": proved.is_ok(), "fault": fault, "statement": parsed.id.to_string(), "ledger": receipt.ledger,
        "key": ledger_key.id().to_string(), "index": receipt.index, "size": receipt.size, "path": path,
        "root": proved.as_ref().ok().map(hex::encode),
    });
    let mut text = format!("statement    {}\nledger key   {}", parsed.id, ledger_key.id());
    text += if key.is_some() { "\n" } else { "  (the node's own word; name yours with --ledger-key)\n" };
    let _ = writeln!(text, "place        {} of {}", receipt.index, receipt.size);
    for (step, hash) in path.iter().enumerate() {
        let _ = writeln!(text, "{:<12} {hash}", if step == 0 { "path" } else { "" });
    }
    if let Ok(root) = &proved {
        let _ = writeln!(text, "root         {}", hex::encode(root));
    }
    let _ = match fault {
        None => writeln!(
            text,
            "holds: the path leads to a root that the ledger's key signed, and today's ledger only added to it"
        ),
        Some(fault) => writeln!(text, "{}", red(&format!("DOES NOT HOLD: {fault}"))),
    };
    Ok(Found { json, text, answer: proved.is_ok().into() })
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

/// Kinds of events, from a list of kinds or of events.
fn event_kinds(events: &Value) -> String {
    let kind = |event: &Value| word(if event.is_object() { &event["kind"] } else { event });
    events.as_array().into_iter().flatten().map(kind).collect::<Vec<_>>().join(", ")
}

/// How good the agent's clock was when it sealed, as the trigger says it.
fn agent_clock(clock: &Value) -> String {
    let state = clock["state"].as_str().and_then(|word| ClockState::try_new(word, clock["error-us"].as_u64()));
    state.map_or_else(|| "it does not say how good that was".to_owned(), |state| state.to_string())
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
