//! `docs/formats/sparkplug-tck.md`: written by the test run, compared by it.

use super::checks::CHECKS;
use super::scenes::Recording;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The assertion ids of the specification, with the chapter each stands in: `tck-testable` in its source text.
const ASSERTIONS: &str = include_str!("assertions.txt");

/// Assertions that are not checked here, by the beginning of their id, and why. The first that fits counts.
const OTHERS: &[(&str, &str)] = &[
    ("intro-sparkplug-host-state", HOST),
    ("components-ph-state", HOST),
    ("conformance-primary-host", HOST),
    ("host-topic-", HOST),
    ("message-flow-phid-", HOST),
    ("message-flow-hid-", HOST),
    ("operational-behavior-host-", HOST),
    ("operational-behavior-edge-node-termination-host-action-", HOST),
    ("operational-behavior-primary-application-state-with-multiple-servers-state", HOST),
    ("operational-behavior-data-commands-ncmd-", HOST),
    ("operational-behavior-data-commands-dcmd-", HOST),
    ("payloads-state-", HOST),
    ("payloads-ncmd-", HOST),
    ("payloads-dcmd-", HOST),
    ("payloads-name-cmd-requirement", HOST),
    ("topics-ncmd-", HOST),
    ("topics-dcmd-", HOST),
    ("conformance-mqtt-", "concerns the MQTT server"),
    ("intro-edge-node-id-uniqueness", SITE),
    ("topic-structure-namespace-unique-edge-node-descriptor", SITE),
    ("payloads-nbirth-edge-node-descriptor", SITE),
    ("topic-structure-namespace-duplicate-device-id-across-edge-node", "a permission: concerns several edge nodes"),
    ("principles-persistence-clean-session-50", MQTT5),
    ("payloads-ndeath-will-message-publisher-disconnect-mqtt50", MQTT5),
    ("topics-ndata-", NDATA),
    ("payloads-ndata-", NDATA),
    ("operational-behavior-data-publish-nbirth-change", NDATA),
    ("topics-nbirth-templates", TEMPLATES),
    ("payloads-template-", TEMPLATES),
    ("payloads-dataset-", "not used: we send no DataSet"),
];

const HOST: &str = "concerns host applications";
const SITE: &str = "concerns the site: names are given in the configuration";
const MQTT5: &str = "not implemented: the edge node speaks MQTT 3.1.1";
const NDATA: &str = "not used: the node itself has no metric that changes, all values are of devices";
const TEMPLATES: &str = "not used: we send no template";

/// The table, and every check that failed.
pub fn judge(recording: &Recording) -> (String, Vec<String>) {
    let mut results = BTreeMap::new();
    let mut failures = Vec::new();
    for check in CHECKS {
        let verdict = (check.judge)(recording);
        let verdict =
            verdict.and_then(|seen| if seen > 0 { Ok(()) } else { Err("nothing of the kind was seen".to_owned()) });
        if let Err(fault) = &verdict {
            failures.push(format!("{}: {fault}", check.name));
        }
        for assertion in check.assertions {
            if results.insert(*assertion, (check.name, verdict.is_ok())).is_some() {
                failures.push(format!("{assertion} is checked twice"));
            }
        }
    }
    let mut rows = String::new();
    let (mut held, mut elsewhere, mut open) = (0, 0, 0);
    for line in ASSERTIONS.lines() {
        let (chapter, id) = line.split_once(' ').unwrap();
        let other = OTHERS.iter().find(|(begin, _)| id.starts_with(begin)).map(|(_, reason)| *reason);
        let (test, result) = match (results.remove(id), other) {
            (Some((name, is_held)), _) => {
                held += usize::from(is_held);
                (format!("`{name}`"), if is_held { "holds" } else { "**does not hold**" })
            }
            (None, Some(reason)) => {
                let counter = if reason.starts_with("not implemented") { &mut open } else { &mut elsewhere };
                *counter += 1;
                ("–".to_owned(), reason)
            }
            (None, None) => {
                failures.push(format!("{id} is neither checked nor explained"));
                ("–".to_owned(), "?")
            }
        };
        writeln!(rows, "| {chapter} | tck-id-{id} | {test} | {result} |").unwrap();
    }
    failures.extend(results.keys().map(|id| format!("{id} is no assertion of the specification")));
    (format!("{}{rows}", head(held, elsewhere, open)), failures)
}

fn head(held: usize, elsewhere: usize, open: usize) -> String {
    format!(
        "# Sparkplug 3.0, assertion by assertion

Written by the test `every_assertion_that_concerns_an_edge_node` (`connectors/mqtt/tests/sparkplug.rs`); do not edit. The test
runs the agent's edge node in front of servers that record every packet, checks each assertion on what they recorded, and compares
this page with the outcome. `TALLY_WRITE=1 cargo test -p tally-connector-mqtt --test sparkplug` writes it anew.

**This is our own check. The Eclipse Sparkplug test kit (TCK) was not run, and no conformance to it is claimed.** Ids are those of
the specification's source text (chapter, id); its words count, not our reading of them.

{held} assertions checked and holding, {open} of an edge node not implemented, {elsewhere} that concern others or what we do not send.

| chapter | assertion | check | result |
|---|---|---|---|
"
    )
}
