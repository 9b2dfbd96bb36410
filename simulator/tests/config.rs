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
            "sim.yaml:5:29: unknown field `colour`, expected one of id, at, type, order, length, scale, offset, bits, labels, from",
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

/// Every mistake one can make in `faults:` and in the newer keys of signals, each with its line and column, all in one file.
#[test]
fn mistakes_in_faults_and_signals_are_named_at_their_places() {
    let yaml = r#"
devices:
  - id: press
    serve: "modbus+rtu:///tmp/press.tty?unit=3"
    base: one
    pki: certificates
    faults:
      - {what: fire}
      - {what: delay}
      - {what: delay, of: soon}
      - {what: exception, of: 256}
      - {what: wrong, of: transaction}
      - {what: clock, of: -5min}
      - {what: bad, signals: [level, levle]}
      - {what: drop, signals: [level]}
      - {at: 10s, for: 20s, every: 20s, what: drop}
      - {every: 20s, what: drop}
      - {for: 0s, what: drop}
      - {at: 10s, for: 2s, every: 1min, what: exception, of: 6}
    signals:
      - {id: level, at: HR0, type: f32, from: {constant: 1}}
      - {id: mode, at: HR10, type: u16, bits: 4-16, from: {constant: 1}}
      - {id: speed, at: HR11, type: f32, bits: 0-3, from: {constant: 1}}
      - {id: state, at: HR13, type: u16, labels: {0: idle, run: 1}, from: {constant: walk}}
      - {id: wide, at: HR14, type: u32, order: EFGHABCD, from: {constant: 1}}
      - {id: turn, at: HR16, type: u16, from: {cycle: {of: [], every: 1s}}}
      - {id: low, at: HR20, type: u16, bits: 0-7, from: {constant: 1}}
      - {id: high, at: HR20, type: u16, bits: 7-15, from: {constant: 1}}
  - id: lathe
    serve: "modbus+rtu:///tmp/press.tty?unit=4&baud=9600"
    signals: []
  - id: cnc
    serve: opc.tcp://h
    base: one
    faults: [{what: exception, of: 2}, {what: clock, of: -5min}]
    signals: []
"#;
    let faults = parse(yaml).unwrap_err();
    for wanted in [
        "8:16: `fire` is no fault; there are: drop",
        "9:16: `delay` needs to know of what",
        "10:27: `soon` is not a duration",
        "11:31: `256` is no exception code",
        "12:16: `wrong transaction` cannot happen there: RTU and ASCII frames carry no such id",
        "13:16: `clock -300s` cannot happen there: Modbus carries no times",
        "14:38: there is no signal `levle`; there are: high, level",
        "15:32: `drop` concerns the whole device",
        "16:36: a fault that comes again needs a `for`",
        "17:17: a fault that comes again needs a `for`",
        "18:15: `for: 0s` is no fault",
        "21:25: `HR0` is not a Modbus address: this device counts from 1",
        "22:47: `4-16` is no field of bits; write `LOW-HIGH`, 0 to 15",
        "23:48: only whole numbers in Modbus registers have bits",
        "24:50: a label belongs to a whole number, not to `run`",
        "24:14: `walk` is no label of `state`; there are: idle",
        "25:24: the order EFGHABCD is one of values of 64 bits",
        "26:55: a cycle needs values and a time",
        "3:9: `low` and `high` overlap at holding:19",
        "3:9: `pki` is the folder of the certificates of `modbus+tls://`",
        "30:12: `modbus+rtu:///tmp/press.tty?baud=9600",
        "are one line; write both the same",
        "32:9: `base` is for Modbus addresses",
        "35:21: `exception 2` cannot happen there",
    ] {
        assert!(faults.contains(wanted), "`{wanted}` is not in\n{faults}");
    }
    assert_eq!(faults.lines().count(), 23, "nothing else is wrong:\n{faults}");
}

#[test]
fn parts_share_registers_and_lie_upon_whole_numbers() {
    let signals = "    signals:
      - {id: status, at: holding:1, type: u16, from: {constant: 0}}
      - {id: ready, at: holding:1.0, from: {constant: true}}
      - {id: mode, at: holding:1, type: u16, bits: 4-7, from: {constant: 3}}
      - {id: low, at: holding:2, type: u8, from: {constant: 3}}
      - {id: high, at: holding:2, type: u8, order: BADC, from: {constant: 3}}
";
    assert!(parse(&device("modbus+tcp://h", signals)).is_ok());
}

proptest! {
    #[test]
    fn whatever_the_text_no_panic(text in "(models|devices|id|serve|signals|from|faults|what|of|bits|labels|[-:{}\\[\\]\"$&*!#\n a-z0-9]){0,60}") {
        let _ = parse(&text);
    }
}
