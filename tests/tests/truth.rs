//! Truth before the seal in a whole plant: a simulated PLC over Modbus whose sensors freeze and contradict each other, an agent and a
//! node as processes. Each trigger says how good its evidence is; the evidence file proves it to our verifier and to the one in
//! Python, and neither accepts a file that hides a finding.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_evidence::cbor::text;
use tally_evidence::{TriggerBody, quality_json};
use tally_model::{EvidenceQuality, FindingCode};
use tally_tests::{
    Chain, PATIENCE, Party, Process, Simulator, Site, eventually, free_port, press, python, root, simulated_press,
    tally_command,
};
use tally_verifier::verify;
use tokio::process::Command;

fn line(port: u16) -> String {
    press(
        port,
        r#"    every: 50ms
    checks:
      frozen: {for: 1s, readings: 10}
      replay: {readings: 64}
      related:
        current_fits: {holds: "abs(current - 3.0 * vib_a) < 100.0", for: 200ms}
    points:
      - {id: vib_a, at: "holding:0", type: f32, unit: mm/s, checks: {redundant: {with: vib_b, tolerance: 5.0, for: 300ms}}}
      - {id: vib_b, at: "holding:2", type: f32, unit: mm/s}
      - {id: current, at: "holding:4", type: f32, unit: A, checks: {off: [frozen]}}
      - {id: worn, at: "coil:1"}
triggers:
  - id: bearing-worn
    device: press-01
    when: worn && vib_a > 1.0
    until: "!worn"
    disclose: [vib_b]
    call: {contract: maintenance-order, action: report, with: {fault: "'bearing'"}}
"#,
    )
}

fn simulation(port: u16) -> String {
    simulated_press(
        port,
        r#"    signals:
      - {id: vib_a, at: "holding:0", type: f32, from: {noise: {mean: 9, spread: 1}}}
      - {id: vib_b, at: "holding:2", type: f32, from: {noise: {mean: 9, spread: 1}}}
      - {id: current, at: "holding:4", type: f32, from: {noise: {mean: 27, spread: 1}}}
      - {id: worn, at: "coil:1", from: {constant: false}}
"#,
    )
}

/// Raises and clears the rule once more, and gives the raised trigger as the ledger has it.
async fn raised(site: &Site, sim: &mut Simulator, nth: usize) -> TriggerBody {
    sim.tell("set press-01 worn true").await;
    let found = eventually("a raised trigger on the ledger", async || {
        let chain = Chain::read(&site.node, &site.ledger_key()).await;
        let raised = chain.triggers("agent-01").into_iter().filter(|(_, body)| body.call.is_some());
        raised.map(|(_, body)| body).nth(nth)
    })
    .await;
    sim.tell("set press-01 worn false").await;
    eventually("a cleared rule", async || {
        let status = site.status().await;
        (status["triggers"][0]["raised"] == false).then_some(())
    })
    .await;
    found
}

fn codes(body: &TriggerBody) -> Vec<FindingCode> {
    body.quality.as_deref().unwrap().iter().map(|finding| finding.code).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_and_contradicting_sensors_lower_the_quality_of_evidence() {
    let port = free_port();
    let site = Site::new(&line(port), None).await;
    let mut sim = Simulator::start(&site.outside(), &simulation(port)).await;
    let mut node = site.start_node().await;
    let mut agent = site.start_agent().await;
    eventually("some seconds of readings", async || (site.readings("press-01").await > 200).then_some(())).await;

    sim.tell("freeze press-01 vib_a").await;
    let stood = site.readings("press-01").await;
    eventually("two seconds of standing still", async || (site.readings("press-01").await > stood + 160).then_some(()))
        .await;
    let body = raised(&site, &mut sim, 0).await;
    assert_eq!(codes(&body), [FindingCode::Frozen], "{:?}", body.quality);
    let point = body.quality.as_deref().unwrap()[0].point.clone().unwrap();
    assert_eq!(point.as_str(), "vib_a");
    let shown = quality_json(body.quality.as_deref().unwrap());
    assert_eq!(shown["class"], "doubtful");
    proved(&site, "doubtful").await;

    sim.tell("set press-01 vib_a 60").await;
    let stood = site.readings("press-01").await;
    eventually("a second of disagreement", async || (site.readings("press-01").await > stood + 100).then_some(()))
        .await;
    let body = raised(&site, &mut sim, 1).await;
    let found = codes(&body);
    assert!(found.contains(&FindingCode::Redundant) && found.contains(&FindingCode::Related), "{:?}", body.quality);
    assert_eq!(EvidenceQuality::of(body.quality.as_deref().unwrap()), EvidenceQuality::Contradicted);
    eventually("the cleared trigger, contradicted as well", async || {
        (site.counter("triggers_contradicted").await == 2).then_some(())
    })
    .await;
    assert!(site.counter("triggers_doubtful").await >= 1);
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}

/// The order that the first trigger opened, for people and for both verifiers; gives the evidence file.
async fn evidence_says(site: &Site, found: &str) -> std::path::PathBuf {
    let file = site.outside().join("mo-1.tally");
    let (node, agent) = (site.node.address().to_string(), site.agent.address().to_string());
    let output = file.display().to_string();
    let made =
        Process::run(tally_command(&["evidence", "mo-1", "--node", &node, "--agent", &agent, "-o", &output]), PATIENCE);
    let made = made.await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = Process::run(tally_command(&["verify", &output]), PATIENCE).await;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}");
    assert!(text.contains(&format!("evidence quality   holds          {found}")), "{text}");

    let mut theirs = Command::new(python());
    theirs.arg(root().join("tests/interop/verify.py")).arg(&file).arg("--json");
    let theirs = Process::run(theirs, 2 * PATIENCE).await;
    let said: serde_json::Value = serde_json::from_slice(&theirs.stdout).unwrap();
    assert_eq!(said["holds"], true, "{said:#}");
    let links = said["links"].as_array().unwrap();
    let truth = links.iter().find(|link| link["step"] == "truth").unwrap();
    assert!(truth["detail"].as_str().unwrap().starts_with(found.split(':').next().unwrap()), "{truth}");
    file
}

/// The evidence of a value that stood still.
async fn proved(site: &Site, class: &str) {
    let file = evidence_says(site, &format!("{class}: vib_a: frozen in readings")).await;

    // A word of the findings is in the sealed bytes: who alters it breaks the seal.
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes.windows(8).position(|window| window == b"doubtful").unwrap();
    bytes[place..place + 8].copy_from_slice(b"spotless");
    assert!(!verify(&bytes, None).all_hold());
}

/// Opens only on evidence in which no check found anything.
const DEMANDING: &str = "
contract: alarm
version: 1
prefix: al
about: Only sound evidence opens it.
requires: {quality: sound}
parties: {owner: organisation}
fields: {device: device}
key: [device]
standing: {}
actions: {report: {}, over: {}}
on:
  - {from: new, trigger: report, to: hot}
  - {from: hot, call: over, by: owner, to: cold}
ends: [cold]
";

/// A press that must be the one that was agreed on: two coils, one for each of two contracts.
fn identified(port: u16) -> String {
    press(
        port,
        r#"    every: 50ms
    modbus: {identify: 1s}
    checks: {identity: "Acme; P-1; 2.3"}
    points:
      - {id: hot, at: "coil:1"}
      - {id: worn, at: "coil:2"}
triggers:
  - {id: too-hot, device: press-01, when: hot, call: {contract: alarm, action: report}}
  - {id: bearing-worn, device: press-01, when: worn, call: {contract: maintenance-order, action: report, with: {fault: "'bearing'"}}}
"#,
    )
}

fn identified_simulation(port: u16) -> String {
    simulated_press(
        port,
        r#"    identity: {maker: Acme, product: P-1, revision: "2.3", spare: {revision: "3.0"}}
    signals:
      - {id: hot, at: "coil:1", from: {constant: false}}
      - {id: worn, at: "coil:2", from: {constant: false}}
"#,
    )
}

/// Sets a coil until its trigger is on the ledger as the `nth` raised one, and gives it with its refusal.
async fn pulse(site: &Site, sim: &mut Simulator, coil: &str, nth: usize) -> (u64, TriggerBody) {
    sim.tell(&format!("set press-01 {coil} true")).await;
    let found = eventually("a raised trigger on the ledger", async || {
        let chain = Chain::read(&site.node, &site.ledger_key()).await;
        let raised = chain.triggers("agent-01").into_iter().filter(|(_, body)| body.call.is_some());
        raised.map(|(entry, body)| (entry.refusal, body)).nth(nth)
    })
    .await;
    sim.tell(&format!("set press-01 {coil} false")).await;
    let cleared = |status: &serde_json::Value| {
        status["triggers"].as_array().unwrap().iter().all(|trigger| trigger["raised"] == false)
    };
    eventually("cleared rules", async || cleared(&site.status().await).then_some(())).await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_exchanged_while_it_runs_is_not_the_one_that_was_agreed_on() {
    let port = free_port();
    let site = Site::new(&identified(port), None).await;
    let mut sim = Simulator::start(&site.outside(), &identified_simulation(port)).await;
    let (mut node, mut agent) = (site.start_node().await, site.start_agent().await);
    let acme = Party::of(&site, "acme");
    for (contract, action, args) in [
        ("registry", "deploy-contract", vec![("text", text(DEMANDING))]),
        ("alarm", "standing", vec![("device", text("press-01")), ("currency", text("EUR"))]),
    ] {
        assert_eq!(acme.call(&site.node, contract, action, None, &args).await.refusal, None, "{action}");
    }
    eventually("some readings", async || (site.readings("press-01").await > 20).then_some(())).await;

    let (refusal, body) = pulse(&site, &mut sim, "hot", 0).await;
    assert_eq!((refusal, codes(&body)), (0, vec![]), "{:?}", body.origins);
    assert_eq!(body.origins[0].origin.identity.as_deref(), Some("Acme; P-1; 2.3"));
    assert_eq!(acme.call(&site.node, "alarm", "over", Some("al-1"), &[]).await.refusal, None);

    // Another one stands in its place; the connection stays.
    sim.tell("break press-01 exchanged").await;
    let said = "the device calls itself something else than before";
    eventually(said, async || agent.log().contains(said).then_some(())).await;
    let (refusal, body) = pulse(&site, &mut sim, "hot", 1).await;
    assert_eq!((refusal, codes(&body)), (193, vec![FindingCode::Identity]), "{:?}", body.origins);
    assert_eq!(EvidenceQuality::of(body.quality.as_deref().unwrap()), EvidenceQuality::Contradicted);
    eventually("raised and cleared, both contradicted", async || {
        (site.counter("triggers_contradicted").await == 2).then_some(())
    })
    .await;
    // A contract that demands nothing takes it, and its evidence says what is wrong, to both verifiers.
    let (refusal, body) = pulse(&site, &mut sim, "worn", 2).await;
    assert_eq!((refusal, codes(&body)), (0, vec![FindingCode::Identity]));
    evidence_says(&site, "contradicted: the device: identity in readings").await;

    // The right one is back.
    sim.tell("heal press-01").await;
    eventually("its own name", async || (agent.log().matches(said).count() == 2).then_some(())).await;
    let (refusal, body) = pulse(&site, &mut sim, "hot", 3).await;
    assert_eq!((refusal, codes(&body)), (0, vec![]), "{:?}", body.origins);
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}
