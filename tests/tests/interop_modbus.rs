//! The agent, as a process, against a Modbus server that is not ours: the values that SCADA hears over mosquitto are the
//! values that pymodbus was set to, and either may be killed and started again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use tally_tests::{Ear, Mosquitto, Pymodbus, Site, eventually, free_port};

/// Two PLCs; the second is the neighbour that must not notice.
fn line(press: u16, lathe: u16) -> String {
    format!(
        r#"
plant: line
devices:
  - id: press-01
    connect: "modbus+tcp://127.0.0.1:{press}?unit=1"
    every: 100ms
    timeout: 500ms
    points:
      - {{id: vibration, at: holding:18, type: f32, unit: mm/s}}
      - {{id: swapped, at: holding:20, type: f32, order: CDAB, unit: mm/s}}
      - {{id: small, at: holding:30, type: i16, unit: "1"}}
      - {{id: count, at: holding:31, type: u32, unit: "1"}}
      - {{id: total, at: holding:34, type: u64, unit: "1"}}
      - {{id: exact, at: input:40, type: f64, unit: kW.h}}
      - {{id: scaled, at: input:44, type: u16, scale: 0.5, offset: -10, unit: Cel}}
      - {{id: name, at: holding:50, type: text, length: 8, unit: "1"}}
      - {{id: alarm, at: holding:60.3, type: bool, unit: "1"}}
      - {{id: running, at: coil:1, unit: "1"}}
      - {{id: door, at: discrete:5, unit: "1"}}
  - id: lathe-02
    connect: "modbus+tcp://127.0.0.1:{lathe}?unit=1"
    every: 100ms
    points:
      - {{id: load, at: holding:0, type: f32, unit: "%"}}
"#
    )
}

/// Commands for pymodbus and what SCADA must hear then. Floats are ones that a double shows exactly.
const ROUNDS: [&[(&str, &str, &str)]; 2] = [
    &[
        ("put holding 18 FLOAT32 big 7.125", "vibration", "7.125"),
        ("put holding 20 FLOAT32 little -0.5", "swapped", "-0.5"),
        ("put holding 30 INT16 big -12345", "small", "-12345"),
        ("put holding 31 UINT32 big 4026531841", "count", "4026531841"),
        ("put holding 34 UINT64 big 18446744073709551557", "total", "18446744073709551557"),
        ("put input 40 FLOAT64 big -2.718281828459045", "exact", "-2.718281828459045"),
        ("put input 44 UINT16 big 101", "scaled", "40.5"),
        ("put holding 50 STRING big PRESS-01", "name", "\"PRESS-01\""),
        ("set holding 60 0008", "alarm", "true"),
        ("set coil 1 1", "running", "true"),
        ("set discrete 5 1", "door", "true"),
    ],
    &[
        ("put holding 18 FLOAT32 big 1024.03125", "vibration", "1024.03125"),
        ("put holding 20 FLOAT32 little 3", "swapped", "3"),
        ("put holding 30 INT16 big 32767", "small", "32767"),
        ("put holding 31 UINT32 big 7", "count", "7"),
        ("put holding 34 UINT64 big 1", "total", "1"),
        ("put input 40 FLOAT64 big 0.1", "exact", "0.1"),
        ("put input 44 UINT16 big 0", "scaled", "-10"),
        ("put holding 50 STRING big LATHE-22", "name", "\"LATHE-22\""),
        ("set holding 60 fff7", "alarm", "false"),
        ("set coil 1 0", "running", "false"),
        ("set discrete 5 0", "door", "false"),
    ],
];

async fn values_set_are_values_heard(server: &mut Pymodbus, ear: &Ear) {
    for round in ROUNDS {
        let mark = ear.mark();
        for (command, ..) in round {
            server.tell(command).await;
        }
        for (_, point, value) in round {
            let value: Value = serde_json::from_str(value).unwrap();
            ear.value(mark, &format!("tallystick/line/press-01/{point}"), &value).await;
        }
    }
}

/// Sets the neighbour to a value it never had, and hears it.
async fn neighbour_flows(lathe: &mut Pymodbus, ear: &Ear, load: f32) {
    let mark = ear.mark();
    lathe.set_f32(0, load).await;
    ear.value(mark, "tallystick/line/lathe-02/load", &json!(load)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_arrive_and_pymodbus_and_mosquitto_may_be_killed() {
    let outside = tempfile::tempdir().unwrap();
    let mut broker = Mosquitto::start(outside.path()).await;
    let (mut press, mut lathe) = (Pymodbus::start(free_port()).await, Pymodbus::start(free_port()).await);
    let site = Site::new(&line(press.port, lathe.port), Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let _node = site.start_node().await;
    let mut agent = site.start_agent().await;
    values_set_are_values_heard(&mut press, &ear).await;
    neighbour_flows(&mut lathe, &ear, 1.5).await;

    // The PLC loses power: its points say why they have no value, the neighbour flows on.
    let (port, mark) = (press.port, ear.mark());
    press.kill().await;
    ear.until(mark, "tallystick/line/press-01/vibration", |json| json["e"] == "link-down" && json["v"].is_null()).await;
    neighbour_flows(&mut lathe, &ear, 2.5).await;
    let mut press = Pymodbus::start(port).await;
    values_set_are_values_heard(&mut press, &ear).await;
    neighbour_flows(&mut lathe, &ear, 3.5).await;

    // The broker loses power: nobody hears anything, and reading goes on.
    broker.kill().await;
    let before = site.readings("lathe-02").await;
    eventually("readings while the broker is away", async || {
        (site.readings("lathe-02").await > before + 5).then_some(())
    })
    .await;
    broker.restart().await;
    values_set_are_values_heard(&mut press, &ear).await;
    neighbour_flows(&mut lathe, &ear, 4.5).await;

    // The PLC loses power while the broker is away, and has nothing more to tell: a broker that comes back empty is told all the same.
    broker.kill().await;
    press.kill().await;
    eventually("the outage of the press", async || {
        let status = site.status().await;
        let links = status["links"].as_array().unwrap();
        links.iter().any(|link| link["state"].as_str().unwrap().starts_with("down")).then_some(())
    })
    .await;
    let mark = ear.mark();
    broker.restart().await;
    for point in ["vibration", "name", "door"] {
        let topic = format!("tallystick/line/press-01/{point}");
        ear.until(mark, &topic, |json| json["e"] == "link-down" && json["v"].is_null()).await;
    }
    neighbour_flows(&mut lathe, &ear, 5.5).await;
    assert!(agent.is_running(), "{}", agent.tail());
}
