//! `tally prove`: that nothing is missing is proved by a file that anyone can check, what is missing is named; and proofs of what is in
//! the ledger's state and what is not, checked by a program that is not ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tally_evidence::cbor::text;
use tally_evidence::{AnchorBody, CoverageFile, Disclosure, GapReason, SignedStatement, StatementKind};
use tally_model::Timestamp;
use tally_tests::{PATIENCE, Party, Process, Site, eventually, in_format, python, random, root, tally_command};
use tally_verifier::verify;
use tokio::process::Command;

/// As `tally init` takes it; then it plays a recording.
const LINE: &str = "
plant: line
devices:
  - id: press-01
    connect: modbus+tcp://127.0.0.1:1?unit=1
    points:
      - {id: load, at: coil:1, unit: \"1\"}
";

/// A recording that is played again and again, twenty readings a second.
const RECORDING: &str = "time,load\n0.00,1\n0.05,2\n0.10,3\n0.15,4\n0.20,5\n";

/// Bytes that are turned.
const FLIPS: usize = 300;

async fn site() -> Site {
    let site = Site::new(LINE, None).await;
    let agent = std::fs::read_to_string(site.dir().join("agent.yaml")).unwrap();
    let mapping = site.dir().join(agent.lines().find_map(|line| line.strip_prefix("mapping: ")).unwrap());
    std::fs::write(mapping.with_file_name("press.csv"), RECORDING).unwrap();
    let line = std::fs::read_to_string(&mapping).unwrap();
    std::fs::write(
        &mapping,
        line.replace("modbus+tcp://127.0.0.1:1?unit=1", "replay:press.csv").replace("coil:1", "column:load"),
    )
    .unwrap();
    site.append("agent.yaml", "anchors: {every: 1s}");
    site
}

/// The anchors of the device that the ledger has taken.
async fn anchors(site: &Site) -> Vec<AnchorBody> {
    let path = format!("/devices/press-01/coverage?from={}&to={}", i64::MIN, i64::MAX);
    let file = CoverageFile::decode(&site.node.get_bytes(&path).await.unwrap()).unwrap();
    let statements = file.entries.iter().map(|entry| SignedStatement::parse(&entry.statement).unwrap());
    let anchors = statements.filter(|statement| statement.kind == StatementKind::Anchor);
    anchors.map(|statement| AnchorBody::decode(&statement.payload).unwrap()).collect()
}

/// Waits until the ledger has at least so many.
async fn wait_for(site: &Site, count: usize) -> Vec<AnchorBody> {
    eventually(&format!("{count} anchors"), async || {
        let found = anchors(site).await;
        (found.len() >= count).then_some(found)
    })
    .await
}

/// `tally …` on the site's node: exit code and what it said as JSON.
async fn tally(site: &Site, arguments: &[&str]) -> (i32, Value) {
    let mut command = tally_command(&["--json"]);
    command.args(arguments).env("TALLY_NODE", format!("unix:{}", site.dir().join("node.sock").display()));
    let output = Process::run(command, PATIENCE).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_str(&said).unwrap_or_else(|_| errors.into()))
}

async fn prove(site: &Site, from: Timestamp, to: Timestamp, file: &Path) -> (i32, Value) {
    let (from, to, file) = (from.to_string(), to.to_string(), file.display().to_string());
    let key = site.dir().join("keys/node.pub.pem").display().to_string();
    let question = ["prove", "--device", "press-01", "--from", &from, "--to", &to];
    tally(site, &[&question[..], &["--out", &file, "--ledger-key", &key]].concat()).await
}

fn just_before(time: Timestamp) -> Timestamp {
    time.minus(Duration::from_micros(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_is_proved_and_a_killed_agent_is_named() {
    let site = site().await;
    let _node = site.start_node().await;
    let mut agent = site.start_agent().await;
    let taken = wait_for(&site, 3).await;
    let (from, to) = (taken[0].received.0, just_before(taken.last().unwrap().received.1));
    let file = site.outside().join("press-01.coverage");
    let (code, said) = prove(&site, from, to, &file).await;
    assert_eq!((code, &said["complete"]), (0, &Value::Bool(true)), "{said:#}");

    // The agent keeps the ledger's receipts, as of its triggers.
    let coverage = CoverageFile::decode(&std::fs::read(&file).unwrap()).unwrap();
    let entry = coverage.entries.last().unwrap();
    let id = SignedStatement::parse(&entry.statement).unwrap().id;
    assert_eq!(site.agent.get_bytes(&format!("/receipts/{id}")).await.unwrap(), entry.receipt);
    assert_eq!(site.agent.get_bytes(&format!("/statements/{id}")).await.unwrap(), entry.statement);
    let book = site.agent.get_json("/anchors").await.unwrap();
    assert_eq!((&book["on"], &book["devices"][0]["refusals"]), (&true.into(), &0.into()), "{book}");

    // One reading of the middle, shown by the agent under its anchor, proved offline to us and to them.
    let number = taken[1].first + 1;
    let shown = site.agent.get_bytes(&format!("/readings/press-01/{number}")).await.unwrap();
    let reading = Disclosure::decode(&shown).unwrap().readings(&BTreeMap::new()).unwrap().remove(0);
    let name = format!("press-01/{}/{number}", reading.sample.point);
    let one = site.outside().join("one.coverage");
    let agent_address = format!("unix:{}", site.dir().join("agent.sock").display());
    let one_name = one.display().to_string();
    let asked = ["prove", "--reading", &name, "--agent", &agent_address, "--out", &one_name];
    let (code, said) = tally(&site, &asked).await;
    let line = said["shown"][0].as_str().unwrap_or_default();
    assert!(code == 0 && line.starts_with(&format!("reading {number}: {}", reading.sample.point)), "{said:#}");
    assert!(line.contains(&reading.sample.received.to_string()), "{line}");
    assert_eq!(tally(&site, &["verify", &one_name]).await.0, 0);
    assert_eq!(coverage_check(&site, &one, &[]).await.0, 0);
    let other = format!("press-01/elsewhere/{number}");
    let (code, said) = tally(&site, &["prove", "--reading", &other, "--agent", &agent_address]).await;
    assert!(code == 2 && said.to_string().contains("is of point"), "{said}");
    let (code, said) = tally(&site, &["prove", "--reading", "press-01/x/99999999", "--agent", &agent_address]).await;
    assert!(code == 1 && said.to_string().contains("no anchor of this agent covers"), "{said}");
    let status = site.agent.get_json("/status").await.unwrap();
    assert!(status["anchors"][0]["behind_seconds"].as_f64().is_some_and(|behind| behind >= 0.0), "{status:#}");

    // A validator that is not ours finds an anchor as it is written down.
    let body = SignedStatement::parse(&entry.statement).unwrap().payload;
    assert_eq!(in_format("anchor", &["anchor"], &body).await, "yes");

    // Offline: the command, and every byte of the file.
    let shown = file.display().to_string();
    let (code, said) = tally(&site, &["verify", &shown]).await;
    assert_eq!((code, &said["holds"]), (0, &Value::Bool(true)), "{said:#}");
    let (bytes, key) = (std::fs::read(&file).unwrap(), site.ledger_key());
    let mut next = random(20_261_121);
    let flips: Vec<_> =
        (0..FLIPS).map(|_| (usize::try_from(next()).unwrap() % bytes.len(), 1_u8 << (next() % 8))).collect();
    let (code, theirs) = coverage_check(&site, &file, &flips).await;
    assert_eq!((code, &theirs[0]["holds"]), (0, &Value::Bool(true)), "{:#}", theirs[0]);
    for (number, (place, mask)) in flips.into_iter().enumerate() {
        let mut forged = bytes.clone();
        forged[place] ^= mask;
        let ours = verify(&forged, Some(&key));
        let ours = ours.first_broken().unwrap_or_else(|| panic!("byte {place} does not matter"));
        let Some(theirs) = theirs.get(number + 1) else { continue };
        let broken = theirs["links"].as_array().unwrap().iter().find(|link| link["holds"] == false);
        let broken = broken.unwrap_or_else(|| panic!("byte {place} does not matter to them"));
        assert_eq!(broken["step"], serde_json::to_value(ours.step).unwrap(), "byte {place}: {ours:?} {broken}");
    }

    let (code, said) = prove(&site, from, to.plus(Duration::from_secs(3_600)), &file).await;
    assert_eq!((code, &said["complete"]), (1, &Value::Bool(false)), "the next hour is not covered: {said:#}");
    assert_eq!(said["coverage"]["gaps"][0]["is_declared"], false);

    agent.kill().await;
    let _agent = site.start_agent().await;
    let before = taken.len();
    let taken = eventually("the anchor behind the kill", async || {
        let found = anchors(&site).await;
        let stop = found.iter().flat_map(|anchor| &anchor.gaps).find(|gap| gap.reason == GapReason::Stopped);
        let is_behind = |to: Timestamp| found.last().is_some_and(|last| last.received.1 > to);
        stop.copied().filter(|gap| is_behind(gap.to)).map(|gap| (found, gap))
    })
    .await;
    let (found, stop) = taken;
    assert!(found.len() > before);
    for (place, pair) in found.windows(2).enumerate() {
        assert_eq!((pair[1].number, pair[1].first), (place as u64 + 2, pair[0].last + 1), "no gap and no repeat");
        assert_eq!(pair[1].previous, pair[0].digest());
    }
    let to = just_before(found.last().unwrap().received.1);
    let (code, said) = prove(&site, from, to, &file).await;
    assert_eq!((code, said["coverage"]["gaps"].as_array().unwrap().len()), (1, 1), "{said:#}");
    let gap = &said["coverage"]["gaps"][0];
    assert_eq!((&gap["from"], &gap["to"]), (&stop.from.unwrap().as_micros().into(), &stop.to.as_micros().into()));
    assert_eq!(gap["reason"], "the agent did not run");
    assert_eq!(coverage_check(&site, &file, &[]).await.0, 1, "a gap is a no to them as well");
    let (code, _) = prove(&site, from, stop.from.unwrap(), &file).await;
    assert_eq!(code, 0, "before the kill nothing is missing");
    assert_eq!(coverage_check(&site, &file, &[]).await.0, 0);

    // Whoever was revoked may have lost his key before: the reader is told.
    Party::of(&site, "acme").call(&site.node, "registry", "revoke-party", None, &[("party", text("agent-01"))]).await;
    let (code, said) = prove(&site, from, stop.from.unwrap(), &file).await;
    assert_eq!(code, 1);
    assert_eq!(said["broken"]["step"], "state", "{said:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_and_absence_in_the_state_are_proved_to_programs_that_are_not_ours() {
    let site = site().await;
    let _node = site.start_node().await;
    let key = site.dir().join("keys/node.pub.pem").display().to_string();
    let file = site.outside().join("answer.cbor").display().to_string();
    for (name, is_there) in [
        ("device:press-01", true),
        ("device:press-02", false),
        ("party:agent-01", true),
        ("revoked:agent-01", false),
        ("open:maintenance-order/press-01/bearing-worn", false),
        ("agreement:mo-1", false),
        ("account:escrow:mo-1", false),
        ("account:acme/EUR", true),
    ] {
        for asks_absence in [false, true] {
            let mut arguments = vec!["ledger", "state", name, "--ledger-key", &key, "--output", &file];
            arguments.extend(asks_absence.then_some("--absent"));
            let (code, said) = tally(&site, &arguments).await;
            assert_eq!(code == 0, is_there != asks_absence, "{name}: {said:#}");
            assert_eq!((&said["proved"], &said["present"]), (&true.into(), &is_there.into()), "{said:#}");
            let (code, theirs) = check(said["hex"].as_str().unwrap(), &file, &key).await;
            assert_eq!((code, theirs.starts_with("present")), (0, is_there), "{theirs}");
        }
    }
    let (code, said) = tally(&site, &["ledger", "state", "what:is-this"]).await;
    assert_eq!(code, 2, "{said}");
    for (device, from, to, expected, says) in [
        ("press-99", "now-1h", "now", 1, "not registered"),
        ("press-01", "now", "now-1h", 2, "swap them"),
        ("press-01", "yesterday", "now", 2, "is no time"),
        ("a b", "now-1h", "now", 2, "a b"),
    ] {
        let (code, said) = tally(&site, &["prove", "--device", device, "--from", from, "--to", to]).await;
        assert!(code == expected && said.to_string().contains(says), "{device} {from} {to}: {code} {said}");
    }
    let (code, said) = tally(&site, &["prove", "--device", "press-01", "--from", "now-1h", "--to", "now"]).await;
    let gaps = said["coverage"]["gaps"].as_array().unwrap();
    assert_eq!((code, gaps.len(), &gaps[0]["reason"]), (1, 1, &"no anchor covers it".into()), "{said:#}");

    // The proof of another key, and one with a wrong byte, prove nothing to them.
    let (_, said) = tally(&site, &["ledger", "state", "revoked:agent-01", "--absent", "--output", &file]).await;
    let hex = said["hex"].as_str().unwrap().to_owned();
    assert_eq!(check(&hex, &file, &key).await.0, 0);
    assert_eq!(check("64707265737330", &file, &key).await.0, 1);
    let bytes = std::fs::read(&file).unwrap();
    for place in [3, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        let mut forged = bytes.clone();
        forged[place] ^= 1;
        std::fs::write(&file, forged).unwrap();
        let (code, said) = check(&hex, &file, &key).await;
        assert_eq!(code, 1, "byte {place}: {said}");
    }
}

/// Places, roots and proofs of both schemes, derived by a program that is not ours.
#[tokio::test]
async fn the_table_of_places_is_derived_by_others() {
    let table = root().join("docs/formats/state-vectors.csv");
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/state_check.py")).arg("--vectors").arg(&table);
    let output = Process::run(command, PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // A place that is not the one of its key is found.
    let (dir, text) = (tempfile::tempdir().unwrap(), std::fs::read_to_string(&table).unwrap());
    let wrong = dir.path().join("wrong.csv");
    std::fs::write(&wrong, text.replacen("6d6d6f000000000000000010", "6d6d6f00000000000000000f", 1)).unwrap();
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/state_check.py")).arg("--vectors").arg(&wrong);
    assert_eq!(Process::run(command, PATIENCE).await.status.code(), Some(1));
}

/// What `coverage_check.py` says of the file, and of copies of it with one wrong byte.
async fn coverage_check(site: &Site, file: &Path, flips: &[(usize, u8)]) -> (i32, Value) {
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/coverage_check.py")).arg(file).arg("--json");
    command.arg("--ledger-key").arg(site.dir().join("keys/node.pub.pem"));
    let flips: Vec<_> = flips.iter().map(|(place, mask)| format!("{place}:{mask}")).collect();
    if !flips.is_empty() {
        command.arg("--flips").arg(flips.join(","));
    }
    let output = Process::run(command, PATIENCE).await;
    let said = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), said)
}

/// What `state_check.py` says.
async fn check(key: &str, file: &str, ledger_key: &str) -> (i32, String) {
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/state_check.py")).args([key, file, ledger_key]);
    let output = Process::run(command, PATIENCE).await;
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}
