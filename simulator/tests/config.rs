//! The YAML: the example is accepted, mistakes are named with line and column, nothing panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use std::path::Path;
use tally_model::Endpoint;
use tally_simulator::SimConfig;

fn parse(yaml: &str) -> Result<SimConfig, String> {
    let environment = |name: &str| (name == "SET").then(|| "secret".to_owned());
    SimConfig::parse(yaml, Path::new("sim.yaml"), &environment).map_err(|fault| fault.to_string())
}

#[test]
fn the_example_is_accepted() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/press-line.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    let password = |name: &str| (name == "CNC_PASSWORD").then(|| "secret".to_owned());
    let config = SimConfig::parse(&yaml, &file, &password).unwrap();
    let names: Vec<_> = config.devices.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(names, ["press-01", "cnc-02", "hall-climate"]);
}

fn device(serve: &str, more: &str) -> String {
    format!("devices:\n  - id: press\n    serve: \"{serve}\"\n{more}")
}

#[test]
fn addresses_are_filled_from_the_environment() {
    let config = parse(&device("modbus+tcp://${SET}:${PORT:-5020}?unit=3", "    signals: []")).unwrap();
    assert_eq!(config.devices[0].serve, Endpoint::parse("modbus+tcp://secret:5020?unit=3").unwrap());
    let fault = parse(&device("mqtt://${HOST}", "    signals: []")).unwrap_err();
    assert_eq!(fault, "sim.yaml:3:12: `HOST` is not set; set it or write `${HOST:-default}`");
}

#[test]
fn mistakes_are_named_with_line_and_column() {
    let modbus = "modbus+tcp://h:1";
    let signal = |text: &str| device(modbus, &format!("    signals:\n      - {text}"));
    let cases = [
        (signal("{id: a, at: holding:1, from: {constant: 1}}"), "sim.yaml:5:21: `holding:1` needs a `type`"),
        (signal("{id: a, at: coil:1, type: u16, from: {constant: 1}}"), "5:21: `coil:1` is a bit"),
        (signal("{id: a, at: coyl:1, from: {constant: 1}}"), "5:21: `coyl:1` is not a Modbus address"),
        (signal("{id: 7up, at: coil:1, from: {constant: 1}}"), "5:14: `7` is not allowed"),
        (signal("{id: a, at: coil:1, from: {model: bering}}"), "5:43: there is no usable model `bering`"),
        (
            signal("{id: a, at: coil:1, colour: red, from: {constant: 1}}"),
            "sim.yaml:5:29: unknown field `colour`, expected one of id, at, type, order, length, scale, offset, from",
        ),
        (signal("{id: a, at: coil:1, from: {triangle: 1}}"), "unknown variant `triangle`"),
        (signal("{id: a, at: coil:1, from: {sine: {mean: 1, amplitude: 1, period: 20}}}"), "`20` is not a duration"),
        (signal("{id: a, at: holding:1, type: text, from: {constant: x}}"), "5:21: a text needs `length"),
        (signal("{id: a, at: holding:1, type: u16, scale: 0, from: {constant: x}}"), "`scale` must not be 0"),
        (signal("{id: a, at: coil:1, from: {replay: {file: none.csv, column: a}}}"), "none.csv"),
        (
            device(
                modbus,
                "    signals:\n      - {id: a, at: coil:1, from: {constant: 1}}\n      - {id: a, at: coil:2, from: {constant: 1}}",
            ),
            "6:14: signal `a` is written twice",
        ),
        (
            device(
                modbus,
                "    signals:\n      - {id: a, at: holding:1, type: f32, from: {constant: 1}}\n      - {id: b, at: holding:2, type: u16, from: {constant: 1}}",
            ),
            "2:9: `a` and `b` overlap at holding:2",
        ),
        (device("http://h", "    signals: []"), "3:12: no connector speaks `http`"),
        (device("replay:a.csv", "    signals: []"), "3:12: a recording is replayed by a signal"),
        (device("opc.tcp://h", "    users: {operator: env:UNSET}\n    signals: []"), "4:23: `env:UNSET` is not set"),
        (
            format!("{}\n  - {{id: other, serve: \"{modbus}\", signals: []}}", device(modbus, "    signals: []")),
            "served by `press`",
        ),
        (
            format!(
                "models: {{oil: {{kind: heating, ambient: 1, hot: 2, time_constant: 1s}}}}\n{}",
                device(modbus, "    signals: []")
            ),
            "1:15: model `oil` needs `follows`",
        ),
        (
            format!("models: {{b: {{kind: wear, healthy: 1, worn: 2}}}}\n{}", device(modbus, "    signals: []")),
            "needs the time `wears_out_in`",
        ),
        (
            format!(
                "models: {{b: {{kind: wear, healthy: 1, worn: 2, wears_out_in: 1s, hot: 4}}}}\n{}",
                device(modbus, "    signals: []")
            ),
            "nothing else",
        ),
        ("devices: [".to_owned(), "sim.yaml:1"),
    ];
    let unsaid: Vec<_> = cases
        .iter()
        .map(|(yaml, wanted)| (parse(yaml).expect_err(yaml), wanted))
        .filter(|(fault, wanted)| !fault.contains(**wanted))
        .collect();
    assert!(unsaid.is_empty(), "these faults do not say what they should: {unsaid:#?}");
}

#[test]
fn all_faults_are_told_at_once() {
    let yaml = device("modbus+tcp://h", "    signals:\n      - {id: a b, at: coil:x, from: {model: none}}");
    let fault = parse(&yaml).unwrap_err();
    assert_eq!(fault.lines().count(), 3, "{fault}");
}

proptest! {
    #[test]
    fn whatever_the_text_no_panic(text in "(models|devices|id|serve|signals|from|[-:{}\\[\\]\"$&*!#\n a-z0-9]){0,60}") {
        let _ = parse(&text);
    }
}
