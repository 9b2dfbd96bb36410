//! `tally bench field` in little: the figures mean nothing here, that there are any does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;
use tally_tests::{Process, tally_command};

#[tokio::test]
async fn every_load_brings_values_and_has_a_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display().to_string();
    let arguments = ["bench", "field", "--points", "80", "--seconds", "1", "--dir", &shown, "--json"];
    let output = Process::run(tally_command(&arguments), Duration::from_secs(180)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["machine"]["cpu"].is_string() && report["debug_build"].is_boolean(), "{report}");
    let figures = report["figures"].as_array().unwrap();
    // The vault, three loads through devices, agent and broker, and what a broker missed.
    assert_eq!(figures.len(), 5, "{report}");
    for figure in &figures[1..4] {
        let text = |key: &str| figure[key].as_str().unwrap_or_default().to_owned();
        let (name, value, baseline) = (text("name"), text("value"), text("baseline"));
        let per_second: f64 = value.split(' ').next().unwrap().parse().unwrap();
        assert!(per_second > 0.0, "{name}: {value}");
        for part in ["% of one core", "MB resident", "p99", "first value"] {
            assert!(value.contains(part), "{name}: no `{part}` in {value}");
        }
        assert!(!value.contains("without a value"), "{name}: {value}");
        assert!(baseline.contains("rumqttc alone"), "{name}: {baseline}");
        assert_eq!(baseline.contains("tokio-modbus alone"), name.contains("Modbus"), "{name}: {baseline}");
        assert!(text("method").contains("loopback"), "{name}");
    }
    assert!(figures[1]["name"].as_str().unwrap().starts_with("80 Modbus float points"), "{report}");
    assert!(figures[2]["name"].as_str().unwrap().starts_with("20 OPC UA variables"), "{report}");
    let drain = &figures[4];
    assert!(drain["name"].as_str().unwrap().contains("what SCADA missed"), "{report}");
    let value = drain["value"].as_str().unwrap();
    let per_second: f64 = value.split(' ').next().unwrap().parse().unwrap();
    assert!(per_second > 0.0 && value.contains("p99"), "{value}");
    assert!(drain["baseline"].as_str().unwrap().contains("nothing to drain"), "{report}");
    // A size that was not promised for has no promise beside it.
    assert!(figures[1]["promise"].is_null() && figures[2]["promise"].is_null(), "{report}");
}

#[tokio::test]
async fn stopped_half_way_it_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display().to_string();
    let arguments = ["bench", "field", "--points", "80", "--seconds", "3", "--dir", &shown, "--json"];
    let mut bench = Process::start("tally bench", tally_command(&arguments));
    // Its first agent runs: it has written its socket.
    let socket = dir.path().join("bench-modbus/site/agent.sock");
    tally_tests::eventually("an agent of the bench", async || socket.exists().then_some(())).await;
    assert_ne!(bench.terminate().await.code(), Some(0));
    tally_tests::eventually("the end of its processes", async || running_in(&shown).is_empty().then_some(())).await;
}

/// Command lines of processes that name a folder.
fn running_in(folder: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(folder)).collect()
}
