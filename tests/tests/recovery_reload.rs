//! A changed mapping while the agent runs, by `tally reload` and by SIGHUP: what did not change does not notice, and a file
//! with a fault changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;
use tally_tests::{PATIENCE, Process, Proxy, Simulator, Site, eventually, free_port, tally_command};

fn device(id: &str, port: u16, at: u16) -> String {
    format!(
        "  - id: {id}\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit=1\"\n    every: 50ms\n    timeout: 10s\n    points:\n      \
         - {{id: load, at: \"holding:{at}\", type: f32, unit: \"%\"}}\n"
    )
}

fn trigger(id: &str, device: &str, limit: u32) -> String {
    format!("  - {{id: {id}, device: {device}, when: \"load > {limit}.0\"}}\n")
}

async fn reload(site: &Site) -> (i32, String) {
    let socket = format!("unix:{}", site.dir().join("agent.sock").display());
    let output = Process::run(tally_command(&["reload", "--agent", &socket]), PATIENCE).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

async fn values(site: &Site, device: &str) -> f64 {
    Site::metric(&site.agent, "tally_agent_device_values_total", &format!("device=\"{device}\"")).await
}

async fn flows(site: &Site, device: &str) {
    let before = values(site, device).await;
    eventually(&format!("values of {device}"), async || (values(site, device).await > before + 2.0).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_mapping_touches_only_what_changed_and_a_bad_one_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let modbus = free_port();
    let signals = "signals:\n      - {id: load, at: \"holding:0\", type: f32, from: {constant: 50}}\n      \
                   - {id: other, at: \"holding:2\", type: f32, from: {constant: 60}}\n";
    let sim =
        format!("devices:\n  - id: press-01\n    serve: \"modbus+tcp://127.0.0.1:{modbus}?unit=1\"\n    {signals}");
    let _sim = Simulator::start(outside.path(), &sim).await;
    let lines = [Proxy::start(modbus).await, Proxy::start(modbus).await, Proxy::start(modbus).await];
    let [calm, changed, removed] = [&lines[0], &lines[1], &lines[2]];
    let head = "plant: line\ndevices:\n";
    let old = [
        head.to_owned(),
        device("calm", calm.port, 0),
        device("changed", changed.port, 0),
        device("removed", removed.port, 0),
        "triggers:\n".to_owned(),
        trigger("kept", "calm", 40),
        trigger("other-limit", "changed", 90),
    ];
    let site = Site::new(&old.concat(), None).await;
    let mut agent = site.start_agent().await;
    for device in ["calm", "changed", "removed"] {
        flows(&site, device).await;
    }
    eventually("the rule to fire", async || (site.counter("triggers_sealed").await == 1).then_some(())).await;
    assert_eq!(lines.each_ref().map(Proxy::accepted), [1, 1, 1]);

    // A file with two faults: both are named, and nothing happened.
    let mapping = site.mapping();
    std::fs::write(&mapping, old.concat().replace("every: 50ms", "every: soon").replace("unit: \"%\"", "unti: \"%\""))
        .unwrap();
    let (code, said) = reload(&site).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("soon") && said.contains("unti"), "every fault at once: {said}");
    for device in ["calm", "changed", "removed"] {
        flows(&site, device).await;
    }
    assert_eq!(lines.each_ref().map(Proxy::accepted), [1, 1, 1]);

    // Now a good one: one device as before, one changed, one gone, one new; one rule as before, one changed, one new.
    let fresh = Proxy::start(modbus).await;
    let new = [
        head.to_owned(),
        device("calm", calm.port, 0),
        device("changed", changed.port, 2),
        device("fresh", fresh.port, 0),
        "triggers:\n".to_owned(),
        trigger("kept", "calm", 40),
        trigger("other-limit", "changed", 55),
        trigger("new", "fresh", 30),
    ];
    std::fs::write(&mapping, new.concat()).unwrap();
    let (code, said) = reload(&site).await;
    assert_eq!(code, 0, "{said}");
    for part in [
        "devices added    fresh",
        "devices changed  changed",
        "devices removed  removed",
        "devices as before 1",
        "rules added    fresh/new",
        "rules changed  changed/other-limit",
        "rules as before 1",
        "to be registered changed/other-limit",
        "register-rule",
    ] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    flows(&site, "fresh").await;
    flows(&site, "changed").await;
    flows(&site, "calm").await;
    assert_eq!(
        (calm.accepted(), removed.accepted()),
        (1, 1),
        "the calm one kept its socket, the removed one is not tried"
    );
    assert_eq!(changed.accepted(), 2);
    // The two rules that are new to the agent fire on fresh readings; the old one does not fire again.
    eventually("the new rules to fire", async || (site.counter("triggers_sealed").await == 3).then_some(())).await;
    let gone = values(&site, "removed").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(values(&site, "removed").await <= gone);

    // SIGHUP does the same.
    std::fs::write(&mapping, old.concat()).unwrap();
    agent.signal("HUP").await;
    flows(&site, "removed").await;
    assert_eq!(calm.accepted(), 1);
    // And what a restart makes of all this is what was there before: numbers go on, nothing is sealed twice.
    let before = site.counter("triggers_sealed").await;
    agent.kill().await;
    let mut agent = site.start_agent().await;
    flows(&site, "calm").await;
    assert_eq!(site.counter("triggers_sealed").await, 0, "{before} were sealed before");
    assert!(agent.is_running(), "{}", agent.tail());
}
