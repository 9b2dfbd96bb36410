//! What Modbus devices need, written and checked: lines, addresses and their base, types, parts, certificates, knobs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;
use tally_mappings::{Faults, Plant, load};
use tally_model::{Address, BitField, ByteOrder, Encoding, ModbusTable, PointSpec, ValueKind};

fn load_files(files: &[(&str, &str)]) -> Result<Plant, Faults> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    load(&folder.path().join("plant.yaml"), &|_| None)
}

/// A plant with one Modbus device: its keys and its points.
fn plant(connect: &str, keys: &str, points: &[&str]) -> Result<Plant, Faults> {
    let points: String = points.iter().map(|point| format!("      - {{{point}}}\n")).collect();
    load_files(&[(
        "plant.yaml",
        &format!("plant: line\ndevices:\n  - id: press\n    connect: {connect}\n{keys}    points:\n{points}"),
    )])
}

const TCP: &str = "modbus+tcp://10.0.0.7";

fn points(keys: &str, points: &[&str]) -> Vec<PointSpec> {
    plant(TCP, keys, points).unwrap_or_else(|faults| panic!("{faults}")).devices.remove(0).points
}

/// The messages of all faults, each with its key.
fn faults(connect: &str, keys: &str, points: &[&str]) -> Vec<String> {
    let faults = plant(connect, keys, points).expect_err("there are faults");
    faults.iter().map(|fault| format!("{}: {}", fault.key, fault.message)).collect()
}

#[test]
fn one_register_however_it_is_written() {
    let wire = |keys, at: &str| points(keys, &[&format!("id: a, at: {at}, type: u16, unit: '1'")])[0].address.clone();
    let register = Address::Modbus { table: ModbusTable::Holding, offset: 40, bit: None };
    for at in ["holding:40", "HR40", "'40041'", "40041", "400041", "4x41", "holding:0x28"] {
        assert_eq!(wire("", at), register, "{at}");
    }
    for at in ["holding:41", "HR41", "40041", "4x41"] {
        assert_eq!(wire("    modbus: {base: one}\n", at), register, "{at}");
    }
}

#[test]
fn the_base_is_that_of_the_file_in_which_the_address_stands() {
    let plant = load_files(&[
        (
            "plant.yaml",
            "plant: line\ndevices:\n  - id: press\n    connect: modbus+tcp://10.0.0.7\n    use: meter.yaml\n    points:\n      \
             - {id: own, at: holding:40, type: u16, unit: '1'}\n",
        ),
        (
            "meter.yaml",
            "sheet: meter\nmodbus: {base: one, pause: 5ms}\npoints:\n  - {id: sheet, at: holding:40, type: u16, unit: '1'}\n",
        ),
    ])
    .unwrap();
    let device = &plant.devices[0];
    let offset = |place: usize| match device.points[place].address {
        Address::Modbus { offset, .. } => offset,
        _ => panic!(),
    };
    assert_eq!((device.points[0].id.as_str(), offset(0)), ("sheet", 39));
    assert_eq!((device.points[1].id.as_str(), offset(1)), ("own", 40));
    assert_eq!(device.modbus.pause, Duration::from_millis(5));
}

#[test]
fn every_type_order_part_and_label() {
    let points = points(
        "",
        &[
            "id: mode, at: holding:0, type: u16, bits: 0-3, labels: {0: stopped, 1: running}",
            "id: alarms, at: holding:0, type: u16, bits: '4-7', unit: '1'",
            "id: word, at: holding:0, type: u16, unit: '1'",
            "id: total, at: holding:4, type: u64, order: EFGHABCD, every: 10s, unit: kW.h",
            "id: small, at: holding:8, type: i8, order: BADC, unit: '1'",
            "id: half, at: holding:9, type: f16, unit: Cel",
            "id: digits, at: holding:10, type: bcd32, order: CDAB, unit: '1'",
            "id: name, at: holding:12, type: text-low, length: 8",
            "id: speed, at: holding:0, type: i16, bits: 8-13, unit: '1'",
        ],
    );
    assert_eq!(points[0].kind(), Some(ValueKind::Text));
    assert_eq!(points[0].options.labels.as_ref().unwrap()[&1], "running");
    assert_eq!(points[1].options.bits, Some(BitField { low: 4, high: 7 }));
    assert_eq!((points[3].order, points[3].options.every), (ByteOrder::Efghabcd, Some(Duration::from_secs(10))));
    assert_eq!(
        (points[4].encoding, points[5].encoding, points[6].encoding),
        (Encoding::I8, Encoding::F16, Encoding::Bcd32)
    );
    assert_eq!(points[7].registers(), 8);
}

#[test]
fn all_faults_of_points_at_once() {
    let found = faults(
        TCP,
        "",
        &[
            "id: a, at: holding:0, type: f32, bits: 0-3, unit: '1'",
            "id: b, at: holding:10, type: u16, bits: 8-16, unit: '1'",
            "id: c, at: holding:20, type: f32, labels: {0: off}, unit: '1'",
            "id: d, at: holding:30, type: u16, labels: {low: off}",
            "id: e, at: holding:40, type: f32, order: CDABGHEF, unit: '1'",
            "id: f, at: holding:50, type: text-high, length: 126",
            "id: g, at: 41, type: u16, unit: '1'",
            "id: h, at: holding:260, type: u16, every: 1ms, unit: '1'",
            "id: i, at: holding:270, type: u16, bits: 0-3, unit: '1'",
            "id: j, at: holding:270, type: u16, bits: 3-5, unit: '1'",
        ],
    );
    let expected = [
        "points[0].bits: only whole numbers have bits",
        "points[1].bits: not a field of bits",
        "points[2].labels: only whole numbers have labels",
        "points[3].labels.low: a label belongs to a whole number",
        "points[4].order: this order is one of values of 64 bits",
        "points[5].length: one byte a register makes at most 125",
        "points[6].at: not a Modbus address",
        "points[7].every: too short",
        "points[9].at: overlaps `i`",
    ];
    for (expected, found) in expected.iter().zip(&found) {
        assert!(found.starts_with(&format!("devices[0].{expected}")), "{expected}, not {found}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn knobs_are_read_and_their_faults_told() {
    let keys = "    modbus: {pause: 20ms, pause_after_connect: 1s, idle_max: 5s, busy_retries: 3, late_max: 300ms, \
                bits_per_request_max: 64, forbidden: [holding:100-119, 40301]}\n";
    let plant = plant(TCP, keys, &["id: a, at: holding:0, type: u16, unit: '1'"]).unwrap();
    let options = &plant.devices[0].modbus;
    assert_eq!((options.pause, options.idle_max), (Duration::from_millis(20), Some(Duration::from_secs(5))));
    assert_eq!((options.busy_retries, options.bits_per_request_max), (3, Some(64)));
    assert_eq!(options.forbidden, [(ModbusTable::Holding, 100..=119), (ModbusTable::Holding, 300..=300)]);
    let found = faults(TCP, keys, &["id: a, at: holding:118, type: u64, unit: '1'"]);
    assert_eq!(found, ["devices[0].points[0].at: lies in a forbidden range"]);
    let keys = "    modbus: {busy_retries: 11, forbidden: [holding:9-3], pause: 1min}\n";
    let found = faults(TCP, keys, &["id: a, at: holding:0, type: u16, unit: '1'"]);
    assert_eq!(found.len(), 3, "{found:#?}");
    let found = faults("mqtt://broker", "    modbus: {pause: 20ms}\n", &["id: a, at: hall/temp"]);
    assert_eq!(found, ["devices[0].modbus: `modbus` is for Modbus devices"]);
}

#[test]
fn tls_needs_somebody_to_trust() {
    let one = ["id: a, at: holding:0, type: u16, unit: '1'"];
    let tls = "modbus+tls://plc";
    assert_eq!(faults(tls, "", &one), ["devices[0].security: nothing says which device to trust"]);
    let pin = "ab".repeat(32);
    let plant = plant(tls, &format!("    security: {{pin: '{pin}'}}\n"), &one).unwrap();
    assert_eq!(plant.devices[0].security.tls.pin, Some(pin.clone()));
    for (security, fault) in [
        ("pin: abc", "security.pin: not a SHA-256 fingerprint"),
        ("ca: none.pem", "security.ca: there is no such file"),
        (
            &format!("pin: '{pin}', certificate: plant.yaml"),
            "security: a certificate needs its key, and a key its certificate",
        ),
        (&format!("pin: '{pin}', user: joe"), "security: this protocol knows no login and no encryption"),
    ] {
        assert_eq!(faults(tls, &format!("    security: {{{security}}}\n"), &one), [format!("devices[0].{fault}")]);
    }
    let found = faults(TCP, &format!("    security: {{pin: '{pin}'}}\n"), &one);
    assert_eq!(found, ["devices[0].security: certificates are for `modbus+tls://`"]);
}

#[test]
fn a_serial_line_is_set_up_once() {
    let device = |id: &str, rest: &str| {
        format!("  - id: {id}\n    connect: modbus+rtu:///dev/ttyS1?{rest}\n    points: [{{id: a, at: coil:1}}]\n")
    };
    let both = |first: &str, second: &str| {
        let text = format!("plant: line\ndevices:\n{}{}", device("press", first), device("lathe", second));
        load_files(&[("plant.yaml", &text)])
    };
    assert_eq!(both("unit=1", "unit=2").unwrap().devices.len(), 2);
    let faults = both("unit=1&baud=9600", "unit=2&baud=19200").unwrap_err();
    let fault = faults.iter().next().unwrap();
    assert_eq!(fault.message, "`press` sets up the same serial line differently");
    assert!(both("unit=1&parity=mark", "unit=2").is_err());
}

#[test]
fn what_may_be_written_says_within_which_bounds() {
    let one = |point: &str| points("", &[point]).remove(0).options.writable;
    let bounds = |range| Some(tally_model::Writable { range });
    assert_eq!(one("id: a, at: holding:4, type: u16, unit: '1'"), None);
    assert_eq!(one("id: a, at: holding:4, type: u16, unit: '1', writable: false"), None);
    assert_eq!(
        one("id: a, at: holding:4, type: u16, unit: '1', writable: true, write_range: [0, 80]"),
        bounds(Some((0.0, 80.0)))
    );
    assert_eq!(
        one("id: a, at: holding:4, type: u16, unit: '1', writable: true, range: [5, 9]"),
        bounds(Some((5.0, 9.0)))
    );
    assert_eq!(one("id: a, at: coil:4, writable: true"), bounds(None));
    let fault = |point: &str| faults(TCP, "", &[point]).remove(0);
    for (point, expected) in [
        ("id: a, at: holding:4, type: u16, unit: '1', writable: true", "a number that may be written needs bounds"),
        (
            "id: a, at: holding:4, type: u16, unit: '1', write_range: [0, 1]",
            "bounds for writing a point that is not writable",
        ),
        (
            "id: a, at: holding:4, type: u16, unit: '1', writable: true, write_range: [1, 0]",
            "the bounds for writing are empty",
        ),
        ("id: a, at: input:4, type: u16, unit: '1', writable: true", "inputs of a Modbus device cannot be written"),
        ("id: a, at: discrete:4, writable: true", "inputs of a Modbus device cannot be written"),
        ("id: a, at: holding:4.3, type: bool, writable: true", "a bit of a register cannot be written alone"),
        (
            "id: a, at: holding:4, type: u16, unit: '1', bits: 0-3, writable: true",
            "some bits of a number cannot be written alone",
        ),
        ("id: a, at: coil:4, writable: true, write_range: [0, 1]", "only numbers have bounds for writing"),
    ] {
        let found = fault(point);
        assert!(found.contains(expected) && found.contains("writ"), "{point}: {found}");
    }
    let mqtt = faults("mqtt://10.0.0.7", "", &["id: a, at: 'a/b', unit: '1', writable: true, write_range: [0, 1]"]);
    assert!(mqtt[0].contains("nothing says on which topic the device takes values"), "{mqtt:?}");
}
