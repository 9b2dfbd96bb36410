//! Truth before the seal in a whole plant: a simulated PLC over Modbus whose sensors freeze and contradict each other, an agent and a
//! node as processes. Each trigger says how good its evidence is; the evidence file proves it to our verifier and to the one in
//! Python, and neither accepts a file that hides a finding.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_evidence::{TriggerBody, quality_json};
use tally_model::{EvidenceQuality, FindingCode};
use tally_tests::{Chain, PATIENCE, Process, Simulator, Site, eventually, free_port, python, root, tally_command};
use tally_verifier::verify;
use tokio::process::Command;

fn line(port: u16) -> String {
    format!(
        r#"
plant: line
devices:
  - id: press-01
    connect: "modbus+tcp://127.0.0.1:{port}?unit=1"
    every: 50ms
    checks:
      frozen: {{for: 1s, readings: 10}}
      replay: {{readings: 64}}
      related:
        current_fits: {{holds: "abs(current - 3.0 * vib_a) < 100.0", for: 200ms}}
    points:
      - {{id: vib_a, at: "holding:0", type: f32, unit: mm/s, checks: {{redundant: {{with: vib_b, tolerance: 5.0, for: 300ms}}}}}}
      - {{id: vib_b, at: "holding:2", type: f32, unit: mm/s}}
      - {{id: current, at: "holding:4", type: f32, unit: A, checks: {{off: [frozen]}}}}
      - {{id: worn, at: "coil:1"}}
triggers:
  - id: bearing-worn
    device: press-01
    when: worn && vib_a > 1.0
    until: "!worn"
    disclose: [vib_b]
    call: {{contract: maintenance-order, action: report, with: {{fault: "'bearing'"}}}}
"#
    )
}

fn simulation(port: u16) -> String {
    format!(
        r#"
devices:
  - id: press-01
    serve: "modbus+tcp://127.0.0.1:{port}?unit=1"
    signals:
      - {{id: vib_a, at: "holding:0", type: f32, from: {{noise: {{mean: 9, spread: 1}}}}}}
      - {{id: vib_b, at: "holding:2", type: f32, from: {{noise: {{mean: 9, spread: 1}}}}}}
      - {{id: current, at: "holding:4", type: f32, from: {{noise: {{mean: 27, spread: 1}}}}}}
      - {{id: worn, at: "coil:1", from: {{constant: false}}}}
"#
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

/// The order that the first trigger opened, for people and for both verifiers.
async fn proved(site: &Site, class: &str) {
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
    assert!(text.contains(&format!("evidence quality   holds          {class}: vib_a: frozen in readings")), "{text}");
    assert!(text.contains("the value stood still; look at the sensor"), "{text}");

    let mut theirs = Command::new(python());
    theirs.arg(root().join("tests/interop/verify.py")).arg(&file).arg("--json");
    let theirs = Process::run(theirs, 2 * PATIENCE).await;
    let said: serde_json::Value = serde_json::from_slice(&theirs.stdout).unwrap();
    assert_eq!(said["holds"], true, "{said:#}");
    let links = said["links"].as_array().unwrap();
    let truth = links.iter().find(|link| link["step"] == "truth").unwrap();
    assert!(truth["detail"].as_str().unwrap().starts_with(class), "{truth}");

    // A word of the findings is in the sealed bytes: who alters it breaks the seal.
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes.windows(8).position(|window| window == b"doubtful").unwrap();
    bytes[place..place + 8].copy_from_slice(b"spotless");
    assert!(!verify(&bytes, None).all_hold());
}
