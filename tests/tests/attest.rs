//! k of n on a real node: an agent as a process whose machine gets hot, and two watchers with keys of their own who say so over HTTP.
//! The contract waits for the third word, opens one agreement, and a fourth word changes nothing; all of it outlives kill -9.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_evidence::cbor::{Cbor, text};
use tally_tests::{Chain, Party, Simulator, Site, Watcher, eventually, free_port};

const CONTRACT: &str = "
contract: alarm
version: 1
prefix: al
about: Three must say that it is hot.
parties: {owner: organisation}
fields: {device: device, sensors: list, peak: integer}
key: [device]
standing: {required: [sensors]}
actions: {report: {peak: integer}, over: {}}
attest:
  report: {k: 3, of: sensors, within: 1h, tolerance: {peak: 20}}
on:
  - {from: new, trigger: report, to: hot, do: [{set: {peak: args.peak}}]}
  - {from: hot, call: over, by: owner, to: cold}
ends: [cold]
";

fn line(port: u16) -> String {
    format!(
        r#"
plant: line
devices:
  - id: oven
    connect: "modbus+tcp://127.0.0.1:{port}?unit=1"
    every: 50ms
    points:
      - {{id: temp, at: "holding:0", type: i16, unit: Cel}}
triggers:
  - id: hot
    device: oven
    when: temp > 100
    call: {{contract: alarm, action: report, with: {{peak: temp}}}}
"#
    )
}

fn simulation(port: u16) -> String {
    format!(
        r#"
devices:
  - id: oven
    serve: "modbus+tcp://127.0.0.1:{port}?unit=1"
    signals:
      - {{id: temp, at: "holding:0", type: i16, from: {{constant: 20}}}}
"#
    )
}

async fn kinds(site: &Site) -> Vec<String> {
    let chain = Chain::read(&site.node, &site.ledger_key()).await;
    let events = chain.entries.iter().flat_map(|entry| &entry.events);
    events.map(|(kind, _)| kind.clone()).filter(|kind| kind.starts_with("att") || kind.starts_with("agr")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_waits_for_three_and_acts_once() {
    let port = free_port();
    let site = Site::new(&line(port), None).await;
    let mut sim = Simulator::start(&site.outside(), &simulation(port)).await;
    let mut node = site.start_node().await;
    let mut agent = site.start_agent().await;
    let acme = Party::of(&site, "acme");
    let done = acme.call(&site.node, "registry", "deploy-contract", None, &[("text", text(CONTRACT))]).await;
    assert_eq!(done.refusal, None);
    let mut watchers = [Watcher::new("north", 41), Watcher::new("south", 42), Watcher::new("east", 43)];
    for watcher in &watchers {
        watcher.register(&site, &acme).await;
    }
    let sensors = Cbor::Array(watchers.iter().map(|watcher| text(&watcher.device)).collect());
    let terms = [("device", text("oven")), ("currency", text("EUR")), ("sensors", sensors)];
    let done = acme.call(&site.node, "alarm", "standing", None, &terms).await;
    assert_eq!(done.refusal, None);

    assert_eq!(watchers[0].say(&site, 130).await, None);
    // Too far from everybody else's: it does not count.
    assert_eq!(watchers[1].say(&site, 500).await, None);
    sim.tell("set oven temp 120").await;
    eventually("the agent's own trigger on the ledger", async || (kinds(&site).await.len() == 3).then_some(())).await;
    assert_eq!(kinds(&site).await, ["attestation.waiting"; 3]);
    assert!(site.node.get_json("/agreements/al-1").await.is_err(), "two agree, three are needed");
    // What was said is not forgotten, nor counted twice.
    node.kill().await;
    node = site.start_node().await;
    assert_eq!(watchers[2].say(&site, 125).await, None);
    let agreement = site.node.get_json("/agreements/al-1").await.unwrap();
    assert_eq!((&agreement["state"], &agreement["fields"]["peak"]), (&"hot".into(), &125.into()), "{agreement:#}");
    assert_eq!(agreement["fields"]["device"], "oven");
    assert_eq!(agreement["history"].as_array().unwrap().len(), 3, "{agreement:#}");
    // Corrected, and too late.
    assert_eq!(watchers[1].say(&site, 126).await, None);
    let waiting = ["attestation.waiting"; 3];
    let rest = ["attestation.reached", "agreement.opened", "attestation.late"];
    assert_eq!(kinds(&site).await, [&waiting[..], &rest[..]].concat());
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}
