//! `tally status`: what the agent is doing, in plain words: first what needs somebody, then every link with its devices, then
//! what waits for whom.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::flags::{AccessFlags, AgentFlag};
use crate::show::{duration, word};
use crate::shutdown::runtime;
use clap::Args;
use serde_json::Value;

/// Arguments of `status` and `reload`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The agent.
    #[command(flatten)]
    pub agent: AgentFlag,
    /// Who we are.
    #[command(flatten)]
    pub shown: AccessFlags,
}

pub fn run(args: &StatusArgs, json: bool) -> Result<Answer, Fault> {
    let status = runtime()?
        .block_on(args.agent.client(&args.shown)?.get_json("/status"))
        .context(format_args!("asking the agent at {}", args.agent.agent))?;
    if json {
        print_json(&status)?;
    } else {
        lines(&status).iter().for_each(|line| println!("{line}"));
    }
    Ok(Answer::Yes)
}

/// The status for people.
fn lines(status: &Value) -> Vec<String> {
    let text = |name: &str| word(&status[name]);
    let ready = if status["ready"] == true { "ready" } else { "NOT READY" };
    let up = seconds(&status["up_for_seconds"]);
    let (agent, plant, ledger) = (text("agent"), text("plant"), text("ledger"));
    let mut lines = vec![format!("{agent} reads {plant} and seals for the ledger {ledger}, up for {up}: {ready}")];
    lines.extend(items(&status["not_ready_because"]).map(|reason| line("not ready", &word(reason))));
    lines.extend(items(&status["alarms"]).map(|alarm| line("ALARM", &word(alarm))));
    for link in items(&status["links"]) {
        lines.extend(link_lines(link, &status["devices"]));
    }
    lines.extend(broker(status));
    lines.push(line("node", &node(&status["node"])));
    // An agent of before does not say it.
    lines.extend(status["clock"]["text"].as_str().map(|text| line("clock", text)));
    lines.extend(waiting(&status["counters"]).into_iter().map(|text| line("", &text)));
    for rule in items(&status["triggers"]) {
        let name = format!("{}/{}", word(&rule["device"]), word(&rule["trigger"]));
        lines.push(line("rule", &format!("{name}  {}", word(&rule["state"]))));
    }
    lines.extend(permits(&status["permits"]).map(|text| line("permits", &text)));
    lines.extend(items(&status["anchors"]).map(|device| line("anchors", &anchors(device))));
    for chain in items(&status["vault"]) {
        let (device, readings, head) = (word(&chain["device"]), word(&chain["readings"]), word(&chain["head"]));
        lines.push(line("vault", &format!("{device}  {readings} readings, head {head}")));
    }
    lines
}

/// A link: its state, what was wrong last, its devices, and points the device itself calls bad.
fn link_lines(link: &Value, devices: &Value) -> Vec<String> {
    let mut state = format!("{}  {}", word(&link["link"]), word(&link["state"]));
    let (is_up, faults) = (link["is_up"] == true, link["faults"].as_u64().unwrap_or(0));
    if is_up && faults > 0 {
        // While it is down the state says why.
        state += &format!("; {} since the start, the last: {}", times(faults, "fault"), word(&link["last_fault"]));
    }
    if let Some(left_out) = link["overruns"].as_u64().filter(|count| *count > 0) {
        state += &format!("; {} left out because the line was busy", times(left_out, "poll cycle"));
    }
    let mut lines = vec![line("link", &state)];
    lines.extend(link["remark"].as_str().map(|remark| line("", &format!("  {remark}"))));
    for id in items(&link["devices"]) {
        let device = items(devices).find(|device| device["device"] == *id);
        lines.extend(device_lines(&word(id), device));
    }
    let points = link["points"].as_object();
    for (point, says) in points.into_iter().flatten() {
        lines.push(line("", &format!("  {point} is not good: {}", word(says))));
    }
    let (shown, all) = (points.map_or(0, serde_json::Map::len) as u64, link["points_not_good"].as_u64().unwrap_or(0));
    if all > shown {
        lines.push(line("", &format!("  and {} more points that are not good", all - shown)));
    }
    lines
}

fn device_lines(id: &str, device: Option<&Value>) -> Vec<String> {
    let Some(device) = device else { return vec![line("", &format!("  {id}  no value yet"))] };
    let mut text = format!("  {id}  {}, {}", word(&device["state"]), times(count(&device["values"]), "value"));
    if let Some(without) = device["without"].as_object().filter(|without| !without.is_empty()) {
        let reasons: Vec<_> = without.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        text += &format!("; without a value: {}", reasons.join(", "));
    }
    let mut lines = vec![line("", &text)];
    let groups = device["groups"].as_array().filter(|groups| groups.len() > 1);
    for group in groups.into_iter().flatten() {
        let (every, points) = (word(&group["every"]), times(count(&group["points"]), "point"));
        lines.push(line("", &format!("    every {every}  {points}, {}", word(&group["state"]))));
    }
    lines
}

fn broker(status: &Value) -> Option<String> {
    let state = status["broker"].as_str()?;
    let last = status["broker_last_fault"].as_str().filter(|_| state.starts_with("up"));
    Some(line("broker", &last.map_or_else(|| state.to_owned(), |last| format!("{state}; last fault: {last}"))))
}

fn node(node: &Value) -> String {
    match node["for_seconds"].is_null() {
        true => word(&node["state"]),
        false => format!("{} (for {})", word(&node["state"]), seconds(&node["for_seconds"])),
    }
}

/// Of when it is what the gate would go by if the ledger could not be asked; an agent of before does not say it.
fn permits(known: &Value) -> Option<String> {
    if let Some(fault) = known["fault"].as_str() {
        return Some(format!("what is kept of the ledger's word does not hold: {fault}"));
    }
    let (age, height) = (seconds(&known["age_seconds"]), known["height"].as_u64()?);
    Some(format!("known as of height {height}, {age} ago; {} open", count(&known["open"])))
}

/// How far the ledger covers the readings of a device, and what waits.
fn anchors(device: &Value) -> String {
    let mut text = word(&device["device"]);
    let behind = &device["behind_seconds"];
    text += &match behind.is_null() {
        false => {
            format!("  covered up to reading {}, {} ago", count(&device["covered"]).saturating_sub(1), seconds(behind))
        }
        true => "  the ledger covers nothing yet".to_owned(),
    };
    let (pending, refusals) = (count(&device["pending"]), count(&device["refusals"]));
    if pending > 0 {
        text += &format!("; {} without an answer", times(pending, "anchor"));
    }
    if refusals > 0 {
        text += &format!("; REFUSED by the ledger, {} in a row", times(refusals, "time"));
    }
    text
}

/// What is kept for somebody, and what was lost; nothing of it when there is nothing.
fn waiting(counters: &Value) -> Vec<String> {
    let some = |name: &str| Some(count(&counters[name])).filter(|count| *count > 0);
    let mut lines = Vec::new();
    if let Some(triggers) = some("outbox_triggers") {
        let bytes = count(&counters["outbox_bytes"]);
        lines.push(format!("{}, {bytes} bytes, in the outbox without a receipt", times(triggers, "trigger")));
    }
    if let Some(letters) = some("dead_letters") {
        lines.push(format!("{} that the node will never take", times(letters, "dead letter")));
    }
    if let Some(late) = some("readings_late") {
        lines.push(format!("{} that devices had recorded during an outage, kept as history", times(late, "value")));
    }
    if let Some(bytes) = some("spool_bytes") {
        lines.push(format!("{bytes} bytes of readings are still to be told to SCADA"));
    }
    if let Some(lost) = some("history_lost") {
        lines.push(format!("{} SCADA will never be told of", times(lost, "reading")));
    }
    lines
}

fn line(head: &str, text: &str) -> String {
    format!("{head:<10}{text}").trim_end().to_owned()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn count(number: &Value) -> u64 {
    number.as_u64().unwrap_or(0)
}

fn times(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A time span of the API, whole seconds or not.
#[allow(clippy::cast_possible_truncation)] // to microseconds
fn seconds(number: &Value) -> String {
    duration((number.as_f64().unwrap_or_default() * 1e6) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "agent": "agent-01", "plant": "press-line", "ledger": "acme", "up_for_seconds": 3_720, "ready": true,
            "not_ready_because": [], "alarms": [], "broker": null, "broker_last_fault": null,
            "node": {"state": "taking triggers", "for_seconds": 60},
            "links": [], "devices": [], "triggers": [], "vault": [], "counters": {},
        })
    }

    #[test]
    fn an_agent_without_anything_is_told_in_two_lines() {
        assert_eq!(
            lines(&status()),
            [
                "agent-01 reads press-line and seals for the ledger acme, up for 1h 2min: ready",
                "node      taking triggers (for 1min)",
            ]
        );
    }

    #[test]
    fn every_link_stands_there_with_its_state_and_what_was_wrong_last() {
        let mut status = status();
        status["ready"] = json!(false);
        status["not_ready_because"] = json!(["the outbox is full"]);
        status["alarms"] = json!(["the outbox is full"]);
        status["broker"] = json!("up since 2026-11-21T04:00:00.000000Z");
        status["broker_last_fault"] = json!("the line broke: connection reset");
        status["links"] = json!([
            {"link": "modbus+tcp://10.0.0.7:502", "devices": ["press-01", "press-02"], "is_up": true,
             "state": "up since 2026-11-21T04:05:06.000000Z", "faults": 2, "last_fault": "the line broke: refused",
             "overruns": 1, "points": {"press-01/oil": "BadSensorFailure"}, "points_not_good": 3},
            {"link": "opc.tcp://10.0.0.8:4840", "devices": ["cnc"], "is_up": false, "faults": 9, "overruns": 0,
             "state": "down: a limit of the device is hit: sessions; next attempt in 4.0s",
             "last_fault": "a limit of the device is hit: sessions", "points": {}, "points_not_good": 0},
        ]);
        status["devices"] = json!([
            {"device": "press-01", "state": "last value 0.1 s ago", "values": 12, "without": {"timeout": 3},
             "groups": [{"every": "100ms", "points": 1, "state": "last value 0.1 s ago"},
                        {"every": "1s", "points": 2, "state": "no value yet"}]},
            {"device": "cnc", "state": "no value yet", "values": 0, "without": {}, "groups": []},
        ]);
        status["triggers"] = json!([{"device": "press-01", "trigger": "worn", "state": "normal"}]);
        status["vault"] = json!([{"device": "press-01", "readings": 15, "head": "6f1c"}]);
        status["anchors"] = json!([
            {"device": "press-01", "number": 4, "covered": 15, "behind_seconds": 61.0, "pending": 1, "refusals": 0},
            {"device": "cnc", "number": 1, "covered": null, "behind_seconds": null, "pending": 0, "refusals": 2},
        ]);
        status["permits"] = json!({"as_of": "2026-11-21T04:05:06Z", "height": 7, "age_seconds": 61.0, "open": 2});
        status["counters"] = json!({
            "outbox_triggers": 1, "outbox_bytes": 700, "dead_letters": 2, "spool_bytes": 0, "history_lost": 5,
            "readings_late": 1500,
        });
        assert_eq!(
            lines(&status)[1..],
            [
                "not ready the outbox is full",
                "ALARM     the outbox is full",
                "link      modbus+tcp://10.0.0.7:502  up since 2026-11-21T04:05:06.000000Z; 2 faults since the start, the last: the \
                 line broke: refused; 1 poll cycle left out because the line was busy",
                "            press-01  last value 0.1 s ago, 12 values; without a value: 3 timeout",
                "              every 100ms  1 point, last value 0.1 s ago",
                "              every 1s  2 points, no value yet",
                "            press-02  no value yet",
                "            press-01/oil is not good: BadSensorFailure",
                "            and 2 more points that are not good",
                "link      opc.tcp://10.0.0.8:4840  down: a limit of the device is hit: sessions; next attempt in 4.0s",
                "            cnc  no value yet, 0 values",
                "broker    up since 2026-11-21T04:00:00.000000Z; last fault: the line broke: connection reset",
                "node      taking triggers (for 1min)",
                "          1 trigger, 700 bytes, in the outbox without a receipt",
                "          2 dead letters that the node will never take",
                "          1500 values that devices had recorded during an outage, kept as history",
                "          5 readings SCADA will never be told of",
                "rule      press-01/worn  normal",
                "permits   known as of height 7, 1min 1s ago; 2 open",
                "anchors   press-01  covered up to reading 14, 1min 1s ago; 1 anchor without an answer",
                "anchors   cnc  the ledger covers nothing yet; REFUSED by the ledger, 2 times in a row",
                "vault     press-01  15 readings, head 6f1c",
            ]
        );
    }
}
