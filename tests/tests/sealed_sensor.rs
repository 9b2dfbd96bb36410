//! A sensor with a key of its own, a program that is not ours: its seal is checked, passed on untouched into the evidence file, and
//! checked there by two verifiers with the key that the ledger knows. What is not sealed by it is never a value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value as Json;
use std::path::Path;
use tally_evidence::{EvidenceFile, SignedStatement, StatementKind, TriggerBody};
use tally_model::Grade;
use tally_tests::{Hall, PATIENCE, Process, python, root};
use tally_verifier::{Step, verify};
use tokio::process::Command;

/// The Python verifier's links.
async fn theirs(file: &Path) -> Json {
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/verify.py")).arg(file).arg("--json");
    let output = Process::run(command, PATIENCE).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

async fn from_sensor_to_evidence(form: &str) {
    let (mut hall, _processes) = Hall::start(form, |_| ()).await;
    hall.value(21.5).await;
    hall.value(22.25).await;
    // The broker may repeat the last message: nothing is told.
    let mark = hall.ear.mark();
    hall.tell("again").await;
    hall.value(23.0).await;
    assert!(hall.ear.since(mark).iter().filter(|said| said.topic == Hall::TOPIC).all(|said| said.json["v"] == 23.0));
    for line in ["replay 0", "old 24", "as oven-08 24", "spoil 24", "bare 24", "other 24"] {
        hall.refused(line).await;
    }
    // What the rule looks at from here on is sealed again: the trigger says so.
    hall.value(70.0).await;
    hall.value(95.5).await;
    let bytes = hall.evidence().await;
    let file = EvidenceFile::decode(&bytes).unwrap();
    let triggers = file.entries.iter().filter_map(|entry| {
        let statement = SignedStatement::parse(&entry.statement).ok()?;
        (statement.kind == StatementKind::Trigger).then(|| TriggerBody::decode(&statement.payload).unwrap())
    });
    assert_eq!(triggers.map(|trigger| trigger.grade).collect::<Vec<_>>(), [Grade::Device]);

    let report = verify(&bytes, Some(&hall.site.ledger_key()));
    assert!(report.all_hold(), "{:?}", report.first_broken());
    let own = report.links.iter().find(|link| link.step == Step::DeviceSeal).expect("the device's seal is checked");
    assert!(!own.detail.starts_with("0 ") && !own.detail.contains("; 0 values"), "{}", own.detail);
    let path = hall.site.outside().join("mo-1.tally");
    let said = theirs(&path).await;
    assert_eq!(said["holds"], true, "{said}");
    let links = said["links"].as_array().unwrap();
    assert!(links.iter().any(|link| link["step"] == "device-seal" && link["holds"] == true), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cose_from_sensor_to_evidence() {
    from_sensor_to_evidence("cose").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compact_jws_from_sensor_to_evidence() {
    from_sensor_to_evidence("jws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flattened_jws_from_sensor_to_evidence() {
    from_sensor_to_evidence("flat").await;
}
