//! `tally demo --once` and the evidence file it leaves: the story of the README, as a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use tally_evidence::VerifyingKey;
use tally_tests::{Mosquitto, PATIENCE, Process, python, random, root, tally_command};
use tally_verifier::{Step, verify};
use tokio::process::Command;

/// Places of the file at which every bit is flipped, besides its first and last bytes.
const SAMPLED_BYTES: usize = 200;

async fn tally(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Process::run(tally_command(arguments), 4 * PATIENCE).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_pays_an_order_and_its_evidence_holds_and_no_forgery_of_it() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("demo");
    let (code, out, err) = tally(&["demo", "--once", "--json", "--dir", &dir.display().to_string()]).await;
    assert_eq!(code, Some(0), "{out}\n{err}");

    // Every line is JSON; the last one is the summary.
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.last().unwrap();
    for promise in ["paid", "conserved", "holds"] {
        assert_eq!(summary[promise], true, "{summary}");
    }
    let file = PathBuf::from(summary["evidence"].as_str().unwrap());
    let bytes = std::fs::read(&file).unwrap();
    verified_by_the_program(&dir, &file).await;
    verified_by_a_stranger(&dir, &file).await;
    no_flipped_byte_is_accepted(&bytes, &dir.join("keys/node.pub.pem"));
    forgeries_and_absence_have_their_exit_codes(outside.path(), &bytes).await;

    // A second demo does not write over the first.
    let (code, _, err) = tally(&["demo", "--once", "--dir", &dir.display().to_string()]).await;
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("not empty"), "{err}");
}

/// Without `--once` it runs until Ctrl-C; then it stops its children in good order. Here with a broker that is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_demo_and_leaves_nobody_behind() {
    let outside = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(outside.path()).await;
    let dir = outside.path().join("endless").display().to_string();
    let mut demo = Process::start("tally demo", tally_command(&["demo", "--dir", &dir, "--broker", &broker.url()]));
    while !demo.line().await.contains("sealed by the agent") {}
    assert!(children(&dir).len() >= 3, "sim, node and agent: {:?}", children(&dir));
    demo.signal("INT").await;
    assert_eq!(demo.ended().await.code(), Some(0), "{}", demo.tail());
    assert_eq!(children(&dir), Vec::<String>::new());
}

/// Command lines of running processes that name a folder.
fn children(dir: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(dir) && !line.contains(" demo ")).collect()
}

async fn verified_by_the_program(dir: &Path, file: &Path) {
    let (shown, key) = (file.display().to_string(), dir.join("keys/node.pub.pem").display().to_string());
    let (code, out, err) = tally(&["verify", &shown]).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    for word in
        ["device binding", "readings → root", "trigger recomputed", "seal", "inclusion", "checkpoint", "outcome"]
    {
        assert!(out.contains(word), "the report does not name `{word}`:\n{out}");
    }
    let (code, out, _) = tally(&["verify", &shown, "--ledger-key", &key, "--json"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["holds"], true);
    // Somebody else's key is not the ledger's.
    let other = dir.join("keys/acme.pub.pem").display().to_string();
    let (code, out, _) = tally(&["verify", &shown, "--ledger-key", &other]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("ledger key"), "{out}");
}

/// The second verifier, written from the documented formats alone.
async fn verified_by_a_stranger(dir: &Path, file: &Path) {
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/verify.py")).arg(file);
    command.arg("--ledger-key").arg(dir.join("keys/node.pub.pem"));
    let output = Process::run(command, PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn no_flipped_byte_is_accepted(bytes: &[u8], key: &Path) {
    let key = VerifyingKey::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
    let report = verify(bytes, Some(&key));
    assert!(report.all_hold() && report.first_broken().is_none());
    let mut next = random(4711);
    let sampled: Vec<_> = (0..SAMPLED_BYTES).map(|_| usize::try_from(next()).unwrap() % bytes.len()).collect();
    let edges = (0..8).chain(bytes.len() - 8..bytes.len());
    let mut seen = Vec::new();
    for place in edges.chain(sampled) {
        let bit = next() % 8;
        let mut forged = bytes.to_vec();
        forged[place] ^= 1 << bit;
        let report = verify(&forged, Some(&key));
        let broken = report.first_broken().unwrap_or_else(|| panic!("byte {place}, bit {bit} is not covered"));
        assert!(!report.all_hold() && !broken.detail.is_empty(), "byte {place}: {broken:?}");
        seen.push(broken.step);
    }
    // A sample that only ever broke the outermost form would have shown nothing about the links.
    for step in [Step::File, Step::Readings, Step::Inclusion, Step::Checkpoint] {
        assert!(seen.contains(&step), "no sampled flip broke `{step}`: {seen:?}");
    }
}

async fn forgeries_and_absence_have_their_exit_codes(dir: &Path, bytes: &[u8]) {
    let mut forged = bytes.to_vec();
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    let file = dir.join("forged.tally");
    std::fs::write(&file, forged).unwrap();
    let (code, out, _) = tally(&["verify", &file.display().to_string()]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("Does not hold"), "{out}");
    let (code, out, _) = tally(&["verify", "--json", &file.display().to_string()]).await;
    assert_eq!((code, &serde_json::from_str::<Value>(&out).unwrap()["holds"]), (Some(1), &Value::Bool(false)));
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(tally(&["verify", &file.display().to_string()]).await.0, Some(1));
    let (code, _, err) = tally(&["verify", &dir.join("nothing.tally").display().to_string()]).await;
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("nothing.tally"), "{err}");
}
