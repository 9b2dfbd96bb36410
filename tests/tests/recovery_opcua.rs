//! Whatever happens to an OPC UA server, its values flow again within ten seconds of its end, by themselves, and its
//! neighbours do not notice: the OPC UA rows of the recovery matrix, with the agent as a process and a server that is not
//! ours (asyncua).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tally_tests::{Asyncua, Ear, Mosquitto, Process, Proxy, Site, TIME_TO_DATA, eventually, free_port};
use tokio::time::sleep;

/// One device a port, all reading the same machine.
fn mapping(devices: &[(&str, u16, &str)]) -> String {
    let mut text = "plant: line\ndevices:\n".to_owned();
    for (id, port, more) in devices {
        text += &format!(
            r#"  - id: {id}
    connect: "opc.tcp://127.0.0.1:{port}"
    every: 100ms
    timeout: 1s
    {more}
    points:
      - {{id: speed, at: "nsu=urn:tallystick:rich;s=Speed", unit: "1"}}
      - {{id: torque, at: "nsu=urn:tallystick:rich;s=Torque", unit: "1"}}
"#
        );
    }
    text
}

const OPEN: &str = "security: {policy: none}";

/// The mapping that the agent of this site reads.
fn mapping_of(site: &Site) -> std::path::PathBuf {
    let agent = std::fs::read_to_string(site.dir().join("agent.yaml")).unwrap();
    let line = agent.lines().find(|line| line.starts_with("mapping:")).unwrap();
    site.dir().join(line.trim_start_matches("mapping:").split('#').next().unwrap().trim().trim_matches('"'))
}

/// A site whose agent reads these devices, and what SCADA hears of it.
struct Bench {
    site: Site,
    ear: Ear,
    agent: Process,
    _broker: Mosquitto,
    _outside: tempfile::TempDir,
}

impl Bench {
    async fn start(mapping: &str) -> Self {
        let outside = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(outside.path()).await;
        let site = Site::new(mapping, Some(&broker.url())).await;
        let ear = Ear::listen(broker.port).await;
        let agent = site.start_agent().await;
        Self { site, ear, agent, _broker: broker, _outside: outside }
    }

    fn topic(device: &str, point: &str) -> String {
        format!("tallystick/line/{device}/{point}")
    }

    /// Waits for a value published from now on; one that came before `mark` does not count.
    async fn value(&self, mark: usize, device: &str, point: &str, value: f64) -> Duration {
        let begun = Instant::now();
        self.ear.value(mark, &Self::topic(device, point), &json!(value)).await;
        begun.elapsed()
    }

    /// Sets a value on a server that has just come back, and has it heard in time.
    async fn recovers(&self, what: &str, server: &mut Asyncua, device: &str, value: f64) {
        let mark = self.ear.mark();
        server.tell(&format!("set Speed {value}")).await;
        let took = self.value(mark, device, "speed", value).await;
        eprintln!("{what}: values of {device} again after {took:.1?}");
        assert!(took < TIME_TO_DATA, "{what}: {device} took {took:?}");
    }

    /// Waits until a point has no value for this reason.
    async fn without(&self, mark: usize, device: &str, point: &str, reason: &str) {
        self.ear.until(mark, &Self::topic(device, point), |json| json["e"] == reason && json["v"].is_null()).await;
    }

    /// Waits until a link's line of the status says so.
    async fn says(&self, device: &str, text: &str) -> Value {
        eventually(&format!("{device}: {text}"), async || {
            let links = self.site.status().await["links"].as_array().unwrap().clone();
            let is_of = |link: &Value| link["devices"].as_array().unwrap().contains(&json!(device));
            links.into_iter().find(|link| is_of(link) && link.to_string().contains(text))
        })
        .await
    }

    fn is_well(&mut self) {
        assert!(self.agent.is_running(), "{}", self.agent.tail());
        assert!(!self.agent.log().contains("panicked"), "{}", self.agent.tail());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_restart_with_other_indexes_and_set_its_clock() {
    let (port, neighbour_port) = (free_port(), free_port());
    let server = Asyncua::rich(port, &[]).await;
    let mut neighbour = Asyncua::rich(neighbour_port, &[]).await;
    let proxy = Proxy::start(port).await;
    let mut bench = Bench::start(&mapping(&[("cell-01", proxy.port, OPEN), ("cell-02", neighbour_port, OPEN)])).await;
    bench.value(0, "cell-01", "speed", 1.0).await;
    bench.value(0, "cell-02", "speed", 1.0).await;

    // Restarted, and its namespaces got other indexes: nodes are known by URI. Long enough that the pauses have grown.
    let mark = bench.ear.mark();
    server.kill().await;
    bench.without(mark, "cell-01", "speed", "link-down").await;
    bench.recovers("the neighbour of a dead server", &mut neighbour, "cell-02", 2.0).await;
    sleep(Duration::from_secs(6)).await;
    let mut server = Asyncua::rich(port, &["--before", "urn:a", "--before", "urn:b"]).await;
    bench.recovers("server restart, namespaces reshuffled", &mut server, "cell-01", 2.0).await;

    // Its clock jumps an hour ahead, and is set right again: no value waits for that hour.
    let mark = bench.ear.mark();
    server.tell("at Speed 5 -3600000").await;
    bench.value(mark, "cell-01", "speed", 5.0).await;
    bench.recovers("server clock jump", &mut server, "cell-01", 6.0).await;
    bench.is_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_may_go_silent_and_a_server_be_slow() {
    let (port, neighbour_port) = (free_port(), free_port());
    let mut server = Asyncua::rich(port, &[]).await;
    let mut neighbour = Asyncua::rich(neighbour_port, &[]).await;
    let proxy = Proxy::start(port).await;
    let mut bench = Bench::start(&mapping(&[("cell-01", proxy.port, OPEN), ("cell-02", neighbour_port, OPEN)])).await;
    bench.value(0, "cell-01", "speed", 1.0).await;
    bench.value(0, "cell-02", "speed", 1.0).await;

    // Half-open: the socket stays, nothing comes.
    let mark = bench.ear.mark();
    proxy.swallow(true);
    bench.without(mark, "cell-01", "speed", "link-down").await;
    bench.recovers("the neighbour of a half-open line", &mut neighbour, "cell-02", 3.0).await;
    // Long enough that the pauses have grown.
    sleep(Duration::from_secs(4)).await;
    proxy.swallow(false);
    bench.recovers("half-open TCP", &mut server, "cell-01", 3.0).await;

    // Slow beyond every timeout.
    let mark = bench.ear.mark();
    proxy.delay(Duration::from_secs(5));
    bench.without(mark, "cell-01", "speed", "link-down").await;
    bench.recovers("the neighbour of a slow server", &mut neighbour, "cell-02", 4.0).await;
    sleep(Duration::from_secs(4)).await;
    proxy.delay(Duration::ZERO);
    bench.recovers("slow server", &mut server, "cell-01", 4.0).await;
    bench.is_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_stops_no_neighbour_and_is_read_again_when_it_returns() {
    let port = free_port();
    let mut server = Asyncua::rich(port, &[]).await;
    // Of one session: a busy machine answers late.
    let patient = mapping(&[("cell-01", port, OPEN)]).replace("timeout: 1s", "timeout: 10s");
    let mut bench = Bench::start(&patient).await;
    bench.value(0, "cell-01", "speed", 1.0).await;
    bench.value(0, "cell-01", "torque", 2.0).await;
    let mark = bench.ear.mark();
    server.tell("remove Torque").await;
    bench.without(mark, "cell-01", "torque", "no-such-address").await;
    bench.recovers("the neighbour of a removed node", &mut server, "cell-01", 2.0).await;
    bench.says("cell-01", "\"cell-01/torque\":\"BadNodeIdUnknown\"").await;
    // Away for longer than the time between two looks.
    sleep(Duration::from_secs(6)).await;
    let mark = bench.ear.mark();
    server.tell("restore Torque 7").await;
    let took = bench.value(mark, "cell-01", "torque", 7.0).await;
    eprintln!("removed node: its value again after {took:.1?}");
    assert!(took < TIME_TO_DATA, "{took:?}");
    bench.recovers("the neighbour of a node that returned", &mut server, "cell-01", 3.0).await;
    let link = bench.says("cell-01", "cell-01").await;
    assert_eq!((&link["connects"], &link["points"]), (&json!(1), &json!({})), "{link}");
    bench.is_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_named_and_read_as_soon_as_it_has_room() {
    let port = free_port();
    let mut server = Asyncua::rich(port, &["--sessions", "1"]).await;
    // Two logins make two sessions.
    let login = "security: {policy: none, user: operator, password: env:PASSWORD}";
    let both = mapping(&[("cell-01", port, OPEN), ("cell-02", port, login)]);
    let outside = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(outside.path()).await;
    let site = Site::with_environment(&both, Some(&broker.url()), &[("PASSWORD", "x")]).await;
    let ear = Ear::listen(broker.port).await;
    let agent = site.start_agent().await;
    let mut bench = Bench { site, ear, agent, _broker: broker, _outside: outside };
    // Either may have been the first.
    let full = eventually("one of two to find the server full", async || {
        let links = bench.site.status().await["links"].as_array().unwrap().clone();
        let is_full = |link: &Value| link["state"].as_str().unwrap().contains("a limit of the device is hit");
        links.into_iter().find(|link| is_full(link))
    })
    .await;
    let text = full["state"].as_str().unwrap();
    assert!(text.contains("BadTooManySessions") && text.contains("close another client"), "{text}");
    let waiting = full["devices"][0].as_str().unwrap().to_owned();
    let holding = if waiting == "cell-01" { "cell-02" } else { "cell-01" };
    bench.recovers("who has the session", &mut server, holding, 5.0).await;
    sleep(Duration::from_secs(4)).await;
    // The holder leaves: its device is taken out of the mapping.
    let left = if waiting == "cell-01" { ("cell-01", port, OPEN) } else { ("cell-02", port, login) };
    std::fs::write(mapping_of(&bench.site), mapping(&[left])).unwrap();
    bench.agent.signal("HUP").await;
    bench.recovers("session limit", &mut server, &waiting, 6.0).await;
    bench.is_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_ended_is_named_and_stops_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let (port, pki) = (free_port(), outside.path().join("pki"));
    let _server = Asyncua::start_with(port, "basic256sha256", &pki, &["--expired"]).await;
    let text = mapping(&[("cnc-01", port, "description: expired")])
        .replace("urn:tallystick:rich;s=Speed", "urn:tallystick:test;s=Temperature");
    let mut bench = Bench::start(&text).await;
    // An operator who approves an old certificate has looked at it; that it is old he is told again and again.
    bench.says("cnc-01", "its certificate is not trusted").await;
    eventually("the certificate", async || (bench.site.trust_all() > 0).then_some(())).await;
    bench.value(0, "cnc-01", "speed", 21.5).await;
    let said = "the server's certificate has expired";
    bench.says("cnc-01", said).await;
    eventually("the same in the log", async || bench.agent.log().contains(said).then_some(())).await;
    bench.is_well();
}
