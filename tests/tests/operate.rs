//! What an operator is told of the agent: health that means something, numbers for Prometheus that the manual explains, an outage
//! in two lines of the log, and every link in plain words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;
use tally_ledger_client::RequestError;
use tally_tests::{
    Mosquitto, PATIENCE, Process, Simulator, Site, eventually, free_port, press, simulated_press, tally_command,
};

fn simulation(port: u16) -> String {
    simulated_press(
        port,
        r#"    signals:
      - {id: load, at: "holding:0", type: f32, from: {ramp: {from: 0, per_second: 1.5, until: 100}}}
      - {id: oil, at: "holding:2", type: f32, from: {constant: 40}}
"#,
    )
}

/// Two rates, so two groups of points; and a neighbour that is never there.
fn mapping(port: u16, nobody: u16) -> String {
    press(
        port,
        &format!(
            r#"    every: 50ms
    points:
      - {{id: load, at: "holding:0", type: f32, unit: "%"}}
      - {{id: oil, at: "holding:2", type: f32, unit: Cel, every: 200ms}}
  - id: nobody
    connect: "modbus+tcp://127.0.0.1:{nobody}?unit=1"
    every: 50ms
    points:
      - {{id: load, at: "holding:0", type: f32, unit: "%"}}
"#
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_two_lines_of_the_log_and_stands_in_health_metrics_and_status() {
    let outside = tempfile::tempdir().unwrap();
    let (port, nobody) = (free_port(), free_port());
    let broker = Mosquitto::start(outside.path()).await;
    let site = Site::new(&mapping(port, nobody), Some(&broker.url())).await;
    let config = site.dir().join("agent.yaml").display().to_string();
    let mut agent = Process::start("tally agent", tally_command(&["--log", "json", "agent", "--config", &config]));
    site.agent_live(&mut agent).await;

    // Nothing was ever connected: alive, and not ready.
    let link = format!("modbus+tcp://127.0.0.1:{port}");
    let faults = async || Site::metric(&site.agent, "tally_agent_link_faults_total", &link).await;
    eventually("several attempts", async || (faults().await >= 4.0).then_some(())).await;
    assert!(site.agent.get_bytes("/live").await.is_ok());
    match site.agent.get_bytes("/ready").await {
        Err(RequestError::NotNow { text, .. }) => assert!(text.contains("no device was connected yet"), "{text}"),
        other => panic!("{other:?}"),
    }
    let down = Site::metric(&site.agent, "tally_agent_link_down", "class=\"unreachable\"").await;
    assert!((down - 2.0).abs() < 0.1, "{down}");

    let sim = Simulator::start(outside.path(), &simulation(port)).await;
    eventually("a ready agent", async || site.agent.get_bytes("/ready").await.ok()).await;
    eventually("values at both rates", async || {
        for every in ["50ms", "200ms"] {
            let labels = format!("device=\"press-01\",every=\"{every}\"");
            if Site::metric(&site.agent, "tally_agent_group_values_total", &labels).await < 2.0 {
                return None;
            }
        }
        Some(())
    })
    .await;
    drop(sim);
    let before = faults().await;
    eventually("several attempts more", async || (faults().await >= before + 3.0).then_some(())).await;
    assert!(site.agent.get_bytes("/ready").await.is_ok(), "a plant that sleeps is no fault of the agent");
    let _sim = Simulator::start(outside.path(), &simulation(port)).await;
    eventually("the link", async || {
        let up = Site::metric(&site.agent, "tally_agent_link_up", &link).await;
        (up > 0.5).then_some(())
    })
    .await;

    let faults = faults().await;
    status_shows_every_link(&site, &link, nobody).await;
    the_manual_knows_every_metric(&site).await;
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
    // All of the log is there now.
    log_says_an_outage_twice(&agent.log(), &link, faults);
}

/// Two outages, each with a beginning and an end; the neighbour's has a beginning. Many more attempts than lines.
fn log_says_an_outage_twice(log: &str, link: &str, faults: f64) {
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|fault| panic!("{fault}: not JSON: {line}")))
        .collect();
    let of = |link: &str| -> Vec<(String, String)> {
        let is_state = |line: &&serde_json::Value| line["fields"]["message"].as_str().unwrap().starts_with("link is");
        let lines = lines.iter().filter(|line| line["fields"]["link"] == link).filter(is_state);
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        lines.map(|line| (word(&line["level"]), word(&line["fields"]["message"]))).collect()
    };
    let (down, up) = ("link is down, it reconnects by itself", "link is up");
    let expected = [("WARN", down), ("INFO", up), ("WARN", down), ("INFO", up)];
    let expected = expected.map(|(level, message)| (level.to_owned(), message.to_owned()));
    // A connection that breaks in the middle of an answer may be told as another fault than one that is refused afterwards.
    let mut said = of(link);
    said.dedup();
    assert_eq!(said, expected, "{log}");
    assert!(faults > 6.0, "{faults}");
    assert_eq!(lines.iter().filter(|line| line["level"] == "ERROR").count(), 0, "{log}");
}

async fn status_shows_every_link(site: &Site, link: &str, nobody: u16) {
    let address = format!("unix:{}", site.dir().join("agent.sock").display());
    let output = Process::run(tally_command(&["status", "--agent", &address]), PATIENCE).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = |start: String| text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{text}"));
    let up = found(format!("link      {link}"));
    assert!(up.contains("up since") && up.contains("the last: the line broke"), "{up}");
    let down = found(format!("link      modbus+tcp://127.0.0.1:{nobody}"));
    assert!(down.contains("down: the line broke") && down.contains("next attempt in"), "{down}");
    assert!(text.contains("press-01  last value") && text.contains("every 200ms  1 point"), "{text}");
    let output = Process::run(tally_command(&["status", "--agent", &address, "--json"]), PATIENCE).await;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let clock = status["clock"]["state"].as_str().unwrap();
    assert!(["synchronised", "free-running", "unknown"].contains(&clock), "{status:#}");
    assert!(text.contains(&format!("\nclock     {clock}")), "{text}");
    let links = status["links"].as_array().unwrap();
    assert_eq!(links.len(), 2);
    assert!(links.iter().all(|link| link["last_fault_class"] == "unreachable"), "{status:#}");
}

/// Every family has its line in the manual, and the manual names none that is not there.
async fn the_manual_knows_every_metric(site: &Site) {
    let shown = String::from_utf8(site.agent.get_bytes("/metrics").await.unwrap()).unwrap();
    let family = |line: &str| Some(line.strip_prefix("# TYPE tally_agent_")?.split(' ').next()?.to_owned());
    let shown: BTreeSet<_> = shown.lines().filter_map(family).collect();
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operator/agent.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let table = manual.split("### Metrics").nth(1).unwrap().split("### Log").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let mut told: BTreeSet<_> = names.map(str::to_owned).collect();
    if Site::metric(&site.agent, "tally_agent_clock_synchronised", "").await < 0.5 {
        // The computer of this test keeps no time: then nobody promises a bound.
        assert!(told.remove("clock_error_seconds"));
    }
    // No ledger runs here, so none covers anything yet.
    assert!(told.remove("anchor_behind_seconds"));
    // `link_points_not_good` and the ages are there because the press was connected and gave values.
    assert_eq!(shown, told);
}
