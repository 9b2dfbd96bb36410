//! `tally ledger show` and `du`: the ledger as a whole, how it stands with witnesses and followers, and what it costs on disk.

use super::{Found, red};
use crate::answer::Fault;
use crate::show::word;
use serde_json::Value;
use std::fmt::Write;
use tally_ledger_client::Client;

pub(super) async fn show(client: &Client) -> Result<Found, Fault> {
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
        let words = format!("{open} not acknowledged: tally ledger alarms");
        let _ = writeln!(text, "{:<12} {}", "ALARMS", red(&words));
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
            (Some(fault), _) => red(&format!("does not sign: {fault}")),
            (None, Some(size)) => format!("signed {size} entries"),
            (None, None) => "not asked yet".to_owned(),
        };
        let _ = writeln!(text, "{:<12} {}  {state}", "", word(&witness["name"]));
    }
    if let Some(alarm) = status["alarm"].as_str() {
        let _ = writeln!(text, "{:<12} {}", "ALARM", red(alarm));
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
            let words = format!("it has two histories: tally witness compare {alarm}");
            let _ = writeln!(text, "{:<12} {}", "ALARM", red(&words));
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

pub(super) async fn du(client: &Client) -> Result<Found, Fault> {
    let usage = client.get_json("/disk").await?;
    let bytes = |value: &Value| value.as_u64().unwrap_or_default();
    let mut text = String::new();
    for part in usage["parts"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{:>14}  {:<12} {}", bytes(&part["bytes"]), word(&part["place"]), word(&part["what"]));
    }
    let _ = writeln!(text, "{:>14}  in all; {} on the disk", bytes(&usage["bytes"]), bytes(&usage["disk_bytes"]));
    Ok(Found::new(usage, text))
}
