//! `tally sim --mapping` for what is special about OPC UA: structures, arrays, enumerations and alarms of a mapping are served
//! and read, raised by a command, and there again after an outage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::json;
use tally_tests::{Ear, Mosquitto, Process, Site, free_port, tally_command};

fn mapping(port: u16) -> String {
    format!(
        r#"
plant: cell
devices:
  - id: cnc-01
    connect: "opc.tcp://127.0.0.1:{port}"
    security: {{policy: none}}
    opcua: {{history: 1h}}
    every: 100ms
    points:
      - {{id: speed, at: "nsu=urn:cell;s=Speed", type: f64, unit: /min}}
      - {{id: position, at: "nsu=urn:cell;s=Axis#/Position", type: f64, unit: mm}}
      - {{id: homed, at: "nsu=urn:cell;s=Axis#/Homed", type: bool}}
      - {{id: second, at: "nsu=urn:cell;s=Row#/1", type: i32, unit: "1"}}
      - {{id: mode, at: "nsu=urn:cell;s=Mode", type: i32, labels: {{0: setup, 1: auto}}}}
      - {{id: hot, at: "alarm:nsu=urn:cell;s=Overheat#/active"}}
      - {{id: hot_acked, at: "alarm:nsu=urn:cell;s=Overheat#/acked"}}
      - {{id: hot_severity, at: "alarm:nsu=urn:cell;s=Overheat#/severity", unit: "1"}}
      - {{id: hot_message, at: "alarm:nsu=urn:cell;s=Overheat#/message"}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_opcua_in_a_mapping_is_rehearsed() {
    let outside = tempfile::tempdir().unwrap();
    let (broker, text) = (Mosquitto::start(outside.path()).await, mapping(free_port()));
    let file = outside.path().join("cell.yaml");
    std::fs::write(&file, &text).unwrap();
    let mut sim = Process::start("tally sim", tally_command(&["sim", "--mapping", &file.display().to_string()]));
    let ready = sim.line().await;
    assert!(ready.starts_with("ready "), "{ready}{}", sim.tail());
    let site = Site::new(&text, Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let mut agent = site.start_agent().await;
    let topic = |point: &str| format!("tallystick/cell/cnc-01/{point}");
    for point in ["speed", "position", "homed", "second", "hot_severity", "hot_message"] {
        ear.until(0, &topic(point), |json| json["q"] == "good" && !json["v"].is_null()).await;
    }
    ear.until(0, &topic("mode"), |json| json["v"] == "setup" || json["v"] == "auto").await;
    ear.value(0, &topic("hot"), &json!(false)).await;

    let mark = ear.mark();
    let answer = sim.tell("set cnc-01 hot true").await;
    assert!(answer.starts_with("ok"), "{answer}");
    ear.value(mark, &topic("hot"), &json!(true)).await;
    ear.value(mark, &topic("hot_acked"), &json!(false)).await;

    let mark = ear.mark();
    let answer = sim.tell("drop cnc-01 2s").await;
    assert!(answer.starts_with("ok"), "{answer}");
    ear.until(mark, &topic("hot"), |json| json["e"] == "link-down").await;
    let answer = sim.tell("set cnc-01 hot false").await;
    assert!(answer.starts_with("ok"), "{answer}");
    ear.value(mark, &topic("hot"), &json!(false)).await;
    assert!(agent.is_running() && sim.is_running(), "{}{}", agent.tail(), sim.tail());
}
