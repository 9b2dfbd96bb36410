//! A cable is pulled and put back: the server lives in a network namespace of its own, behind a veth pair whose end goes
//! down. No RST, no FIN, no ICMP: the line is simply dead, as in the plant. Needs root; without it the test fails and says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::process::Command;
use std::time::{Duration, Instant};
use tally_tests::{Process, Site, TIME_TO_DATA, eventually, tally};
use tokio::time::sleep;

/// A network namespace joined to ours by a cable; gone when dropped.
struct Cable {
    name: String,
    ours: String,
    /// The server's address at the far end.
    address: String,
}

impl Cable {
    fn lay() -> Self {
        let id = std::process::id();
        let (name, ours, theirs) = (format!("tally-{id}"), format!("tly{id}a"), format!("tly{id}b"));
        // 198.18.0.0/15 is for tests of networks (RFC 2544): no route of anybody's.
        let net = format!("198.18.{}", id % 250 + 1);
        let cable = Self { name: name.clone(), ours: ours.clone(), address: format!("{net}.2") };
        ip(&format!("netns add {name}"));
        ip(&format!("link add {ours} type veth peer name {theirs} netns {name}"));
        ip(&format!("addr add {net}.1/30 dev {ours}"));
        ip(&format!("link set {ours} up"));
        ip(&format!("-n {name} addr add {net}.2/30 dev {theirs}"));
        ip(&format!("-n {name} link set {theirs} up"));
        ip(&format!("-n {name} link set lo up"));
        cable
    }

    fn pull(&self) {
        ip(&format!("link set {} down", self.ours));
    }

    fn plug(&self) {
        ip(&format!("link set {} up", self.ours));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The namespace takes its end of the cable along, and that ours.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("the program `ip` (package iproute2)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`ip {arguments}`: {said}pulling a cable needs a network namespace, so run this test as root (in a container with NET_ADMIN)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_cable_is_noticed_and_values_flow_within_ten_seconds_of_its_return() {
    let cable = Cable::lay();
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("sim.yaml");
    let server = format!("modbus+tcp://{}:5020?unit=1", cable.address);
    let signals = "signals:\n      - {id: load, at: \"holding:0\", type: f32, from: {constant: 7}}\n";
    std::fs::write(&file, format!("devices:\n  - id: press-01\n    serve: \"{server}\"\n    {signals}")).unwrap();
    let mut command = tokio::process::Command::new("ip");
    command.args(["netns", "exec", &cable.name]).arg(tally()).arg("sim").arg(&file);
    let mut sim = Process::start("tally sim", command);
    assert!(sim.line().await.starts_with("ready"));
    let mapping = format!(
        "plant: line\ndevices:\n  - id: press-01\n    connect: \"{server}\"\n    every: 100ms\n    timeout: 500ms\n    points:\n      \
         - {{id: load, at: \"holding:0\", type: f32, unit: \"%\"}}\n"
    );
    let site = Site::new(&mapping, None).await;
    let mut agent = site.start_agent().await;
    let values = async || Site::metric(&site.agent, "tally_agent_device_values_total", "press-01").await;
    eventually("values", async || (values().await > 3.0).then_some(())).await;

    cable.pull();
    eventually("the loss to be told", async || {
        let without = Site::metric(&site.agent, "tally_agent_device_no_values_total", "press-01").await;
        (without > 0.0).then_some(())
    })
    .await;
    sleep(Duration::from_secs(8)).await;
    let (before, begun) = (values().await, Instant::now());
    cable.plug();
    eventually("values again", async || (values().await > before + 1.0).then_some(())).await;
    let took = begun.elapsed();
    eprintln!("cable pull: values again after {took:.1?}");
    assert!(took < TIME_TO_DATA, "{took:?}");
    assert!(agent.is_running(), "{}", agent.tail());
}
