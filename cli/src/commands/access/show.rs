//! What the commands say to people.

use crate::commands::call::Done;
use crate::show::{duration, time, word};
use serde_json::Value;

/// A call and what it led to.
pub(super) fn done(done: &Done) {
    match (done.refusal, &done.reason) {
        (Some(number), Some(reason)) => println!("refused ({number}): {reason}"),
        _ => println!("done: entry {}", done.entry),
    }
    for event in done.outcome["events"].as_array().into_iter().flatten() {
        println!("  {} {}", word(&event["kind"]), word(&event["subject"]));
    }
}

/// What the gate did.
pub(super) fn report(report: &Value) {
    let what = format!("{} {} of {}", word(&report["right"]), word(&report["point"]), word(&report["device"]));
    let value = if report["value"].is_null() { String::new() } else { format!(" {}", word(&report["value"])) };
    println!("{}: {what}{value}", word(&report["how"]));
    if !report["found"].is_null() {
        let (found, is_call) = (word(&report["found"]), report["right"] == "call");
        println!("{}", if is_call { format!("  it says {found}") } else { format!("  it holds {found} now") });
    }
    if !report["reason"].is_null() {
        println!("  {} ({})", word(&report["reason"]), word(&report["code"]));
    }
}

/// Permits, policies and quarantines.
pub(super) fn all(all: &Value) {
    let rows = |what: &str| all[what].as_array().cloned().unwrap_or_default();
    if rows("permits").is_empty() {
        println!("no permit is open");
    } else {
        println!("{:>8}  {:<12} {:<28} {:<10} {:<14} until", "permit", "for", "what", "policy", "agent");
    }
    for row in rows("permits") {
        let value = if row["value"].is_null() { String::new() } else { format!(" {}", word(&row["value"])) };
        let what = format!("{} {}/{}{value}", word(&row["right"]), word(&row["device"]), word(&row["point"]));
        let until = row["until"].as_i64().map_or_else(String::new, time);
        println!(
            "{:>8}  {:<12} {what:<28} {:<10} {:<14} {until}",
            word(&row["permit"]),
            row["sender"].as_str().map_or_else(|| word(&row["requester"]), ToOwned::to_owned),
            word(&row["policy"]),
            word(&row["agent"])
        );
    }
    if rows("policies").is_empty() {
        println!("no policy is in force: nobody may have anything written");
    }
    for row in rows("policies") {
        let lasts = row["lasts_us"].as_i64().map_or_else(String::new, duration);
        println!(
            "policy {} of {} for {}: permits last {lasts}",
            word(&row["policy"]),
            word(&row["owner"]),
            word(&row["devices"])
        );
        println!("  may ask: {}", who(&row["who"]));
        for (point, allowed) in row["points"].as_object().into_iter().flatten() {
            println!("  {point} at {}: {}{}", word(&allowed["at"]), word(&allowed["may"]), range(&allowed["range"]));
        }
    }
    for row in rows("quarantines") {
        let (name, by) = (word(&row["name"]), word(&row["by"]));
        match row["kind"].as_str() {
            Some("party") => println!("{by} barred {name} from its devices"),
            _ => println!("quarantine of {} {name} by {by}: {}", word(&row["kind"]), word(&row["reason"])),
        }
    }
}

/// `firm fixit with skill oil; olga`
fn who(clauses: &Value) -> String {
    let one = |clause: &Value| {
        let party = clause["party"].as_str().map(ToOwned::to_owned);
        let firm = clause["firm"].as_str().map(|firm| format!("firm {firm}"));
        let skill = clause["skill"].as_str().map(|skill| format!("skill {skill}"));
        let sender = clause["sender"].as_str().map(|sender| format!("commands of {sender}"));
        [party, firm, skill, sender].into_iter().flatten().collect::<Vec<_>>().join(" with ")
    };
    let clauses: Vec<_> = clauses.as_array().into_iter().flatten().map(one).collect();
    if clauses.is_empty() { "nobody".to_owned() } else { clauses.join("; ") }
}

fn range(range: &Value) -> String {
    if range.is_null() { String::new() } else { format!(", {} to {}", range[0], range[1]) }
}
