//! Tests inside mapping files: what passes, what fails, and how a failure reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_mappings::{load, run_tests};

const RECORDING: &str = "time,vibration,running\n0,1.0,true\n1,8.0,\n2,9.0,true\n3.5,1.0,\n";

/// Runs one test over `recording`; its failures, or what is ok.
#[track_caller]
fn check(recording: &str, expect: &str, failures: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plant.yaml");
    let plant = format!(
        "plant: x\ndevices:\n  - id: press\n    connect: modbus+tcp://press\n    points:\n      - {{id: vibration, at: holding:0, type: f32, unit: mm/s, range: [0, 50]}}\n      - {{id: running, at: coil:0}}\ntriggers:\n  - {{id: worn, device: press, when: vibration > 7.0 && running}}\ntests:\n  - {{readings: r.csv, expect: {expect}}}\n"
    );
    std::fs::write(&path, plant).unwrap();
    std::fs::write(folder.path().join("r.csv"), recording).unwrap();
    let plant = load(&path, &|_| None).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let report = run_tests(&plant).remove(0);
    let found: Vec<_> =
        report.failures.iter().map(|text| text.replace(&folder.path().display().to_string(), "")).collect();
    assert_eq!(found, failures, "{:?}", report.happened);
    assert_eq!(report.passed(), failures.is_empty());
    assert_eq!((report.name.as_str(), report.line), ("r", 11));
}

#[test]
fn exact_to_the_reading() {
    check(RECORDING, "[{trigger: worn, at: 1s}]", &[]);
    check(RECORDING, "[{trigger: worn, at: 1s}, {trigger: worn, cleared: true, at: 3500ms}]", &[]);
    check(
        RECORDING,
        "[{trigger: worn, at: 1001ms}]",
        &["expected: worn raised at 1.001s; it was raised at 1s", "not expected: worn raised at 1s"],
    );
}

#[test]
fn within() {
    check(RECORDING, "[{trigger: worn, at: 2s, within: 1s}]", &[]);
    check(
        RECORDING,
        "[{trigger: worn, at: 2s, within: 999ms}]",
        &["expected: worn raised at 2s ± 999ms; it was raised at 1s", "not expected: worn raised at 1s"],
    );
}

#[test]
fn what_never_happens_and_what_nobody_expected() {
    check(RECORDING, "[]", &["not expected: worn raised at 1s"]);
    check(
        "time,vibration,running\n0,1,true\n",
        "[{trigger: worn, at: 1s}]",
        &["expected: worn raised at 1s; it was raised never"],
    );
    check("time,vibration,running\n0,1,true\n", "[]", &[]);
    check(
        RECORDING,
        "[{trigger: worn, at: 1s}, {trigger: worn, at: 1s}]",
        &["expected: worn raised at 1s; it was raised at 1s"],
    );
}

#[test]
fn times_of_day_and_values_that_are_none() {
    let day = "time,vibration,running\n2026-11-21T03:00:00Z,1.0,true\n2026-11-21T03:00:01.5Z,8.0,\n";
    check(day, "[{trigger: worn, at: 1500ms}]", &[]);
    check("time,vibration,running\n0,99,1\n1,NaN,1\n2,inf,1\n", "[]", &[]);
}

#[test]
fn recordings_that_cannot_be_read() {
    check("t,vibration\n0,1\n", "[]", &["/r.csv:1: there is no column `time`"]);
    check(
        "time,vibraton\n0,1\n",
        "[]",
        &["/r.csv:1: column `vibraton` is no point of `press`; did you mean `vibration`?"],
    );
    check("time,vibration\nsoon,1\n", "[]", &["/r.csv:2: `soon` is no time; write seconds or RFC 3339"]);
    check("time,vibration\n1,1\n0,1\n", "[]", &["/r.csv:3: time 0 is before the row above"]);
    check("time,vibration\n1,fast\n", "[]", &["/r.csv:2: `fast` is no value of `vibration`"]);
    check("time,running\n1,yes\n", "[]", &["/r.csv:2: `yes` is no value of `running`"]);
    check(
        "time,running\n1\n",
        "[]",
        &[
            "/r.csv: CSV error: record 1 (line: 2, byte: 13): found record with 1 fields, but the previous record has 2 fields",
        ],
    );
}
