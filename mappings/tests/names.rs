//! Names that are topics of the agent: a fault of the mapping, with its place, in the plant and in its data sheets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_mappings::{load, reserved_device, reserved_point};

const PLANT: &str = "\
plant: line
devices:
  - id: ledger
    connect: modbus+tcp://10.0.0.7:502?unit=1
    points:
      - {id: oil, at: holding:16, type: f32, unit: Cel}
      - {id: triggers, at: holding:18, type: u16, unit: \"1\"}
  - id: press
    use: sheet.yaml
    connect: modbus+tcp://10.0.0.8:502?unit=1
  - id: agent
    use: sheet.yaml
    connect: modbus+tcp://10.0.0.9:502?unit=1
";
const SHEET: &str = "\
sheet: coupler
points:
  - {id: status, at: holding:22, type: u16, unit: \"1\"}
  - {id: running, at: coil:1}
";

#[test]
fn names_of_topics_are_faults_with_file_line_key_and_hint() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sheet.yaml"), SHEET).unwrap();
    let file = folder.path().join("plant.yaml");
    std::fs::write(&file, PLANT).unwrap();
    let faults = load(&file, &|_| None).unwrap_err();
    let mut shown: Vec<_> = faults
        .iter()
        .map(|fault| {
            let file = fault.file.file_name().unwrap().to_str().unwrap();
            let hint = fault.hint.as_deref().unwrap();
            format!("{file}:{}:{} {}: {} | {hint}", fault.line, fault.column, fault.key, fault.message)
        })
        .collect();
    shown.sort();
    // The sheet is used twice and said once.
    assert_eq!(
        shown,
        [
            "plant.yaml:11:9 devices[2].id: this name is taken: `agent` is the MQTT topic of the agent's own state | call it after the machine, for example `press-01`",
            "plant.yaml:3:9 devices[0].id: this name is taken: `ledger` is the MQTT topic of the ledger's events | call it after the machine, for example `press-01`",
            "plant.yaml:7:14 devices[0].points[1].id: this name is taken: `triggers` is the MQTT topic of the device's triggers | call it for example `trigger_count`",
            "sheet.yaml:3:10 points[0].id: this name is taken: `status` is the MQTT topic of the state of the device's link | call it for example `status_word` or `machine_status`",
        ]
    );
}

#[test]
fn only_whole_names_are_taken_and_each_in_its_own_place() {
    for free in ["ledger-01", "agent2", "Ledger", "status", "triggers"] {
        assert_eq!(reserved_device(free), None, "{free}");
    }
    for free in ["status_word", "Status", "ledger", "agent"] {
        assert_eq!(reserved_point(free), None, "{free}");
    }
    let right = PLANT
        .replace("id: ledger", "id: status")
        .replace("id: triggers", "id: agent")
        .replace("id: agent\n", "id: triggers\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sheet.yaml"), SHEET.replace("id: status", "id: ledger")).unwrap();
    let file = folder.path().join("plant.yaml");
    std::fs::write(&file, right).unwrap();
    assert_eq!(load(&file, &|_| None).unwrap().devices.len(), 3);
}
