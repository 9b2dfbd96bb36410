//! Whatever happens to a line or a server, values flow again within ten seconds of its end, by themselves: the recovery
//! matrix of the field side, with the agent as a process. What a broker's outage does to SCADA stands in `recovery_broker`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::{Duration, Instant};
use tally_tests::{
    Mosquitto, Process, Proxy, Simulator, Site, TIME_TO_DATA, eventually, free_port, press, simulated_press,
    try_publish,
};
use tokio::time::sleep;

fn simulation(modbus: u16, opcua: u16) -> String {
    simulated_press(
        modbus,
        &format!(
            r#"    signals:
      - {{id: load, at: "holding:0", type: f32, from: {{ramp: {{from: 0, per_second: 1.5, until: 100}}}}}}
  - id: cnc-02
    serve: "opc.tcp://127.0.0.1:{opcua}"
    signals:
      - {{id: spindle, at: "nsu=urn:factory:cnc;s=Spindle.Load", from: {{ramp: {{from: 0, per_second: 1.5, until: 100}}}}}}
"#
        ),
    )
}

fn mapping(modbus: u16, opcua: u16, broker: u16) -> String {
    press(
        modbus,
        &format!(
            r#"    every: 100ms
    timeout: 500ms
    points:
      - {{id: load, at: "holding:0", type: f32, unit: "%"}}
  - id: cnc-02
    connect: "opc.tcp://127.0.0.1:{opcua}"
    security: {{policy: none}}
    every: 100ms
    timeout: 1s
    points:
      - {{id: spindle, at: "nsu=urn:factory:cnc;s=Spindle.Load", unit: "%"}}
  - id: hall
    connect: "mqtt://127.0.0.1:{broker}"
    every: 1s
    points:
      - {{id: level, at: "hall/tank/level", type: f64, unit: m}}
"#
        ),
    )
}

/// Values of a device since the agent started.
async fn values(site: &Site, device: &str) -> f64 {
    Site::metric(&site.agent, "tally_agent_device_values_total", &format!("device=\"{device}\"")).await
}

/// Waits until the device gives values again, and says how long that took.
async fn flows(site: &Site, device: &str) -> Duration {
    let (before, begun) = (values(site, device).await, Instant::now());
    eventually(&format!("values of {device}"), async || (values(site, device).await > before + 1.0).then_some(()))
        .await;
    begun.elapsed()
}

async fn recovers(what: &str, site: &Site, device: &str) {
    let took = flows(site, device).await;
    eprintln!("{what}: values of {device} again after {took:.1?}");
    assert!(took < TIME_TO_DATA, "{what}: {device} took {took:?}");
}

/// Waits until no value came for as long as several periods.
async fn falls_silent(site: &Site, device: &str) {
    eventually(&format!("{device} to fall silent"), async || {
        let before = values(site, device).await;
        sleep(Duration::from_millis(600)).await;
        (values(site, device).await <= before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modbus_line_comes_back_from_everything_that_lines_do() {
    let outside = tempfile::tempdir().unwrap();
    let (modbus, opcua) = (free_port(), free_port());
    let sim = Simulator::start(outside.path(), &simulation(modbus, opcua)).await;
    let proxy = Proxy::start(modbus).await;
    let site = Site::new(&mapping(proxy.port, opcua, free_port()), None).await;
    let mut agent = site.start_agent().await;
    flows(&site, "press-01").await;

    // Half-open: the socket stays, nothing comes. As when a switch lost its power.
    proxy.swallow(true);
    falls_silent(&site, "press-01").await;
    // The neighbour does not notice.
    assert!(flows(&site, "cnc-02").await < TIME_TO_DATA);
    proxy.swallow(false);
    recovers("half-open TCP", &site, "press-01").await;

    // Slow beyond the timeout, for a while.
    proxy.delay(Duration::from_millis(900));
    falls_silent(&site, "press-01").await;
    proxy.delay(Duration::ZERO);
    recovers("slow server", &site, "press-01").await;

    // Its one session is taken by somebody else.
    proxy.sessions(0);
    proxy.cut();
    falls_silent(&site, "press-01").await;
    sleep(Duration::from_secs(2)).await;
    proxy.sessions(usize::MAX);
    recovers("session limit", &site, "press-01").await;

    // The server restarts; long enough that the pauses between attempts have grown.
    drop(sim);
    falls_silent(&site, "press-01").await;
    sleep(Duration::from_secs(3)).await;
    let _sim = Simulator::start(outside.path(), &simulation(modbus, opcua)).await;
    recovers("Modbus server restart", &site, "press-01").await;
    recovers("OPC UA server restart", &site, "cnc-02").await;
    assert!(agent.is_running(), "{}", agent.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn sensors_are_read_again_from_a_broker_that_was_killed_with_its_sessions() {
    let outside = tempfile::tempdir().unwrap();
    let mut broker = Mosquitto::start(outside.path()).await;
    let proxy = Proxy::start(broker.port).await;
    let site = Site::new(&mapping(free_port(), free_port(), proxy.port), None).await;
    let mut agent = site.start_agent().await;
    let sensor = sensor(broker.port);
    flows(&site, "hall").await;

    broker.kill().await;
    falls_silent(&site, "hall").await;
    broker.restart().await;
    recovers("broker restart without its sessions", &site, "hall").await;

    proxy.swallow(true);
    falls_silent(&site, "hall").await;
    proxy.swallow(false);
    recovers("half-open line to the broker", &site, "hall").await;
    sensor.abort();
    assert!(agent.is_running(), "{}", agent.tail());
}

/// Publishes a level again and again, as sensors do.
fn sensor(port: u16) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            // A broker that is away is what this is about.
            let _ = try_publish(port, "hall/tank/level", "1.75").await;
            sleep(Duration::from_millis(100)).await;
        }
    })
}

/// 25 lines, each cut 40 times: a thousand reconnects leave no memory behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_reconnects_leave_no_memory_behind() {
    const LINES: usize = 25;
    const CUTS: u64 = 1_000;
    let outside = tempfile::tempdir().unwrap();
    let modbus = free_port();
    let _sim = Simulator::start(outside.path(), &simulation(modbus, free_port())).await;
    let (mut proxies, mut yaml) = (Vec::new(), "plant: line\ndevices:\n".to_owned());
    for line in 0..LINES {
        let proxy = Proxy::start(modbus).await;
        yaml += &format!(
            "  - id: line-{line:02}\n    connect: \"modbus+tcp://127.0.0.1:{}?unit=1\"\n    every: 50ms\n    points:\n      \
             - {{id: load, at: \"holding:0\", type: f32, unit: \"%\"}}\n",
            proxy.port
        );
        proxies.push(proxy);
    }
    let site = Site::new(&yaml, None).await;
    let mut agent = site.start_agent().await;
    // As many before the first look: pools and buffers have their size then.
    cut_until(&proxies, CUTS).await;
    let before = memory(&agent);
    cut_until(&proxies, 2 * CUTS).await;
    for line in 0..LINES {
        flows(&site, &format!("line-{line:02}")).await;
    }
    let after = memory(&agent);
    eprintln!("memory: {} KiB before, {} KiB after {CUTS} reconnects", before >> 10, after >> 10);
    // Eight rounds by hand stayed within 0.2 MiB of each other; a thread of the pool more or less is 1 MiB. A connection that is
    // forgotten costs 8 KiB and more for its buffers.
    assert!(after < before + 4_096 * CUTS, "{before} bytes before, {after} after");
    assert!(agent.is_running(), "{}", agent.tail());
}

/// Cuts every line as soon as it is connected, until there were so many connections in all.
async fn cut_until(proxies: &[Proxy], connections: u64) {
    let mut cut: Vec<_> = proxies.iter().map(|_| 0).collect();
    let accepted = || proxies.iter().map(Proxy::accepted).sum::<u64>();
    while accepted() < connections {
        let before = accepted();
        eventually(&format!("connection {before} and the next 50 of {connections}"), async || {
            for (proxy, cut) in proxies.iter().zip(&mut cut) {
                if proxy.accepted() > *cut {
                    *cut = proxy.accepted();
                    proxy.cut();
                }
            }
            (accepted() >= connections.min(before + 50)).then_some(())
        })
        .await;
    }
}

/// Bytes of memory the process really has, without the pages of its program file.
fn memory(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
