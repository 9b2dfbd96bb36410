//! Every way to write a mapping wrong, and what is said about it: line, column, key, message, hint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use std::path::Path;
use tally_mappings::{Fault, Faults, Plant, Severity, load};

/// A plant that is right; each case below replaces one piece of it.
const RIGHT: &str = "\
plant: line
devices:
  - id: press
    connect: modbus+tcp://10.0.0.7:502?unit=1
    every: 500ms
    points:
      - {id: oil, at: holding:16, type: f32, order: CDAB, unit: Cel}
      - {id: vibration, at: holding:18, type: f32, unit: mm/s}
      - {id: running, at: coil:1}
triggers:
  - id: worn
    device: press
    when: mean(vibration, '10s') > 7.1 && running
    for: 5s
    disclose: [oil]
    call: {contract: maintenance-order, action: report, with: {fault: \"'worn'\"}}
";

fn env(name: &str) -> Option<String> {
    (name == "SECRET").then(|| "hunter2".to_owned())
}

fn load_text(text: &str) -> Result<Plant, Faults> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plant.yaml");
    std::fs::write(&path, text).unwrap();
    load(&path, &env)
}

/// `line:column key: message | found … | allowed … | hint …`, parts that are not there left out.
fn shown(fault: &Fault) -> String {
    let mut text = format!("{}:{} {}: {}", fault.line, fault.column, fault.key, fault.message);
    for (word, part) in [("found", &fault.found), ("allowed", &fault.allowed), ("hint", &fault.hint)] {
        if let Some(part) = part {
            text.push_str(&format!(" | {word} {part}"));
        }
    }
    text.replace(&fault.file.parent().unwrap().display().to_string(), "FOLDER")
}

fn faults_of(text: &str) -> Vec<String> {
    match load_text(text) {
        Ok(plant) => plant.warnings.iter().map(shown).collect(),
        Err(faults) => faults.iter().map(shown).collect(),
    }
}

/// Checks that replacing `right` by `wrong` in [`RIGHT`] gives exactly these faults.
#[track_caller]
fn check(right: &str, wrong: &str, expected: &[&str]) {
    assert!(RIGHT.contains(right), "{right} is not in the plant");
    check_text(&RIGHT.replacen(right, wrong, 1), expected);
}

#[track_caller]
fn check_text(text: &str, expected: &[&str]) {
    let found = faults_of(text);
    assert_eq!(found, expected, "\n{text}\nfound: {found:#?}");
}

#[test]
fn the_right_one_is_right() {
    check_text(RIGHT, &[]);
}

#[test]
fn syntax() {
    check(
        "    every: 500ms\n",
        "\tevery: 500ms\n",
        &["5:1 : not YAML: a line is indented with a tab | hint indent with spaces"],
    );
    check(
        "unit: mm/s}",
        "unit: %}",
        &[
            "8:58 : not YAML: unexpected character: `%' | hint a value that begins with % @ or ` stands in quotes: \"%\"",
        ],
    );
    check(
        "unit: mm/s}",
        "unit: mm/s",
        &[
            "11:3 : not YAML: \"-\" is only valid inside a block | hint a { or [ is not closed, or a value with , { [ inside needs quotes",
        ],
    );
    check(
        "every: 500ms",
        "every: \"500ms",
        &["6:5 : not YAML: invalid indentation in multiline quoted scalar | hint a quote above is not closed"],
    );
    check(
        "  - id: worn",
        "  id: worn",
        &[
            "12:11 : not YAML: mapping values are not allowed in this context | hint check the indentation, and put values with a colon or quotes inside in quotes",
        ],
    );
    check(
        "plant: line",
        "plant: line: 1",
        &[
            "1:12 : not YAML: mapping values are not allowed in this context | hint check the indentation, and put values with a colon or quotes inside in quotes",
        ],
    );
}

#[test]
fn files() {
    check_text("", &["1:1 : the file is empty | hint begin with `plant: NAME` and `devices:`"]);
    check_text("# nothing\n", &["1:1 : the file is empty | hint begin with `plant: NAME` and `devices:`"]);
    check_text(
        "just a text\n",
        &["1:1 : expected keys and values | found `just a text` | hint write `key: value` lines, or {key: value}"],
    );
    check_text("- a\n- b\n", &["1:1 : expected keys and values | found a list"]);
    check_text(
        "sheet: x\npoints: []\n",
        &["1:1 : this is a data sheet, not a plant file | hint name it under `use:` of a device"],
    );
    check_text(
        &format!("{RIGHT}---\nplant: other\n"),
        &["17:1 : a second document in one file | hint remove the line `---`, or make it a file of its own"],
    );
    let missing = load(Path::new("/nowhere/plant.yaml"), &env).unwrap_err();
    assert_eq!(missing.to_string(), "/nowhere/plant.yaml:1:1: there is no such file");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plant.yaml");
    std::fs::write(&path, [b'p', 0xff, b'x']).unwrap();
    assert!(load(&path, &env).unwrap_err().to_string().ends_with("the file is not UTF-8 (byte 1)"));
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(load(&path, &env).unwrap_err().to_string().ends_with("the file is larger than 1024 KiB"));
}

#[test]
fn keys() {
    check(
        "every:",
        "evry:",
        &[
            "5:5 devices[0].evry: unknown key `evry` | found `evry` | allowed checks, connect, description, every, gap_max, id, modbus, mqtt, offset, opcua, points, prefix, registers_per_request_max, security, timeout, use | hint did you mean `every`?",
        ],
    );
    check(
        "unit: Cel",
        "units: Cel",
        &[
            "7:59 devices[0].points[0].units: unknown key `units` | found `units` | allowed at, bits, checks, deadband, description, every, id, labels, length, method, offset, order, range, scale, type, unit, writable, write, write_range | hint did you mean `unit`?",
        ],
    );
    check(
        "type: f32, order",
        "typ: f32, order",
        &[
            "7:35 devices[0].points[0].typ: unknown key `typ` | found `typ` | allowed at, bits, checks, deadband, description, every, id, labels, length, method, offset, order, range, scale, type, unit, writable, write, write_range | hint did you mean `type`?",
        ],
    );
    check(
        "plant: line\n",
        "plant: line\nplants: line\n",
        &[
            "2:1 plants: unknown key `plants` | found `plants` | allowed description, devices, plant, tests, triggers | hint did you mean `plant`?",
        ],
    );
    check(
        "every: 500ms\n",
        "every: 500ms\n    every: 1s\n",
        &["6:5 devices[0].every: `every` is written twice | hint it was written first in line 5; keep one"],
    );
    check(
        "    when: mean(vibration, '10s') > 7.1 && running\n",
        "",
        &["11:5 triggers[0].when: `when` is missing | hint `when:` CEL condition that raises it"],
    );
    check(
        "id: oil, ",
        "",
        &[
            "7:9 devices[0].points[0].id: `id` is missing | hint `id:` its name in rules: letters, digits, `_`, not a digit first; unique in the device",
        ],
    );
    check(
        "at: holding:16, ",
        "",
        &[
            "7:9 devices[0].points[0].at: `at` is missing | hint where the value is: `holding:16`, `nsu=urn:…;s=…`, `topic#/pointer`",
        ],
    );
    check(
        "every: 500ms",
        "every: &x 500ms",
        &[
            "5:15 devices[0].every: anchors and aliases are not allowed here | hint share points through a data sheet and `use:`",
        ],
    );
    check(
        "every: 500ms",
        "every: !duration 500ms",
        &["5:22 devices[0].every: tags (`!name`) are not allowed here | hint write the value alone"],
    );
    check(
        "every: 500ms",
        "every: *x",
        &[
            "5:12 devices[0].every: anchors and aliases are not allowed here | hint share points through a data sheet and `use:`",
        ],
    );
    check(
        "every: 500ms",
        "every:",
        &[
            "5:10 devices[0].every: expected a text | found nothing | hint write a value behind the colon, or remove the key",
        ],
    );
}

#[test]
fn types() {
    check(
        "id: oil,",
        "id: [oil],",
        &[
            "7:14 devices[0].points[0].id: expected a text | found a list | hint a text that begins with { or [ stands in quotes",
        ],
    );
    check(
        "points:\n",
        "points: none\n    x:\n",
        &[
            "6:13 devices[0].points: expected a list | found `none` | hint begin each item with `- `, or write [a, b]",
            "7:5 devices[0].x: unknown key `x` | found `x` | allowed checks, connect, description, every, gap_max, id, modbus, mqtt, offset, opcua, points, prefix, registers_per_request_max, security, timeout, use",
        ],
    );
    check(
        "unit: Cel}",
        "unit: Cel, scale: ten}",
        &[
            "7:77 devices[0].points[0].scale: expected a number | found `ten` | hint write the number alone, without a unit",
        ],
    );
    check(
        "unit: Cel}",
        "unit: Cel, scale: \"0.1\"}",
        &[
            "7:77 devices[0].points[0].scale: expected a number | found the text `0.1` | hint write the number without quotes",
        ],
    );
    check(
        "unit: Cel}",
        "unit: Cel, scale: 0,1}",
        &[
            "7:77 devices[0].points[0].scale: a scale of zero makes every value zero | hint remove it, or write the factor",
            "7:79 devices[0].points[0].1: unknown key `1` | found `1` | allowed at, bits, checks, deadband, description, every, id, labels, length, method, offset, order, range, scale, type, unit, writable, write, write_range | hint a decimal number is written with a point: 0.1",
        ],
    );
    check(
        "every: 500ms",
        "gap_max: 500",
        &["5:14 devices[0].gap_max: the number is out of range | found `500` | allowed 0 to 124"],
    );
    check(
        "every: 500ms",
        "gap_max: 70000",
        &["5:14 devices[0].gap_max: the number is out of range | found `70000` | allowed 0 to 124"],
    );
    check(
        "every: 500ms",
        "gap_max: few",
        &[
            "5:14 devices[0].gap_max: expected a whole number | found `few` | hint write the number alone, without a unit",
        ],
    );
    check(
        "type: f32, order",
        "type: float, order",
        &[
            "7:41 devices[0].points[0].type: not one of the words allowed here | found `float` | allowed bool, u8, i8, u16, i16, u32, i32, u64, i64, f16, f32, f64, bcd16, bcd32, bcd64, text, text-low, text-high, auto",
        ],
    );
    check(
        "type: f32, order",
        "type: F32, order",
        &[
            "7:41 devices[0].points[0].type: not one of the words allowed here | found `F32` | allowed bool, u8, i8, u16, i16, u32, i32, u64, i64, f16, f32, f64, bcd16, bcd32, bcd64, text, text-low, text-high, auto | hint did you mean `f32`?",
        ],
    );
    check(
        "order: CDAB",
        "order: cdab",
        &[
            "7:53 devices[0].points[0].order: not one of the words allowed here | found `cdab` | allowed ABCD, CDAB, BADC, DCBA, CDABGHEF, DCBAHGFE, EFGHABCD, FEHGBADC | hint did you mean `CDAB`?",
        ],
    );
    check(
        "    for: 5s",
        "    priority: urgent",
        &[
            "14:15 triggers[0].priority: not one of the words allowed here | found `urgent` | allowed low, medium, high, critical",
        ],
    );
    check(
        "unit: Cel}",
        "unit: Cel, range: [0]}",
        &[
            "7:77 devices[0].points[0].range: expected a list of 2 | found a list of 1 | hint write for example `[0, 120]`",
        ],
    );
    check(
        "unit: Cel}",
        "unit: Cel, range: [0, high]}",
        &[
            "7:81 devices[0].points[0].range[1]: expected a number | found `high` | hint write the number alone, without a unit",
        ],
    );
    check(
        "- {id: running, at: coil:1}",
        "- running",
        &[
            "9:9 devices[0].points[2]: expected keys and values | found `running` | hint write `key: value` lines, or {key: value}",
        ],
    );
    check(
        "    disclose: [oil]",
        "    disclose: oil",
        &[
            "15:15 triggers[0].disclose: expected a list | found `oil` | hint begin each item with `- `, or write [a, b]",
        ],
    );
}

#[test]
fn ids_and_durations() {
    check(
        "id: oil,",
        "id: oil-temp,",
        &[
            "7:14 devices[0].points[0].id: `-` is not allowed in a point id; allowed are letters, digits and `_`, and a letter or `_` first | found `oil-temp`",
        ],
    );
    check(
        "- id: press",
        "- id: press/1",
        &[
            "3:9 devices[0].id: `/` is not allowed in a device id; allowed are letters, digits, `_`, `-` and `.` | found `press/1`",
        ],
    );
    check(
        "id: vibration",
        "id: oil",
        &[
            "8:14 devices[0].points[1].id: another point of the device has this id | found `oil` | hint ids are unique in a device",
            "13:16 triggers[0].when: unknown point `vibration` | hint a text stands in quotes: 'vibration'; the points are oil, running",
        ],
    );
    check(
        "- id: worn",
        "- id: worn out",
        &[
            "11:9 triggers[0].id: ` ` is not allowed in a trigger id; allowed are letters, digits, `_`, `-` and `.` | found `worn out`",
        ],
    );
    check(
        "every: 500ms",
        "every: 500",
        &["5:12 devices[0].every: a duration has a unit | found `500` | hint write `500ms` or `500s`"],
    );
    check(
        "every: 500ms",
        "every: soon",
        &[
            "5:12 devices[0].every: not a duration | found `soon` | hint write for example `500ms`, `10s`, `30min`, `4h`",
        ],
    );
    check("every: 500ms", "every: 0s", &["5:12 devices[0].every: too short | found `0s` | allowed 10ms to 1h"]);
    check("every: 500ms", "every: 2h", &["5:12 devices[0].every: too long | found `2h` | allowed 10ms to 1h"]);
    check("for: 5s", "for: 25h", &["14:10 triggers[0].for: too long | found `25h` | allowed 0s to 24h"]);
    check("every: 500ms", "timeout: 1ms", &["5:14 devices[0].timeout: too short | found `1ms` | allowed 10ms to 60s"]);
}

#[test]
fn endpoints() {
    check(
        "modbus+tcp://10.0.0.7:502?unit=1",
        "modbus-tcp://10.0.0.7",
        &[
            "4:14 devices[0].connect: no connector speaks this protocol | found `modbus-tcp://10.0.0.7` | allowed modbus+tcp://, modbus+tls://, modbus+rtu://, modbus+rtu+tcp://, modbus+ascii://, modbus+ascii+tcp://, opc.tcp://, mqtt://, mqtts://, replay: | hint did you mean `modbus+tcp://`?",
        ],
    );
    check(
        "modbus+tcp://10.0.0.7:502?unit=1",
        "10.0.0.7:502",
        &[
            "4:14 devices[0].connect: not an address: relative URL without a base | found `10.0.0.7:502` | hint write for example `modbus+tcp://10.0.0.7:502?unit=1`, `opc.tcp://host:4840`, `mqtt://broker:1883`",
        ],
    );
    check(
        "?unit=1",
        "?unit=300",
        &[
            "4:14 devices[0].connect: `unit` must be a unit identifier from 0 to 255 | found `modbus+tcp://10.0.0.7:502?unit=300` | hint write for example `modbus+tcp://10.0.0.7:502?unit=1`, `opc.tcp://host:4840`, `mqtt://broker:1883`",
        ],
    );
    check(
        "?unit=1",
        "?slave=1",
        &[
            "4:14 devices[0].connect: unknown parameter `slave` | found `modbus+tcp://10.0.0.7:502?slave=1` | allowed unit",
        ],
    );
    check(
        "10.0.0.7",
        "${PRESS_HOST}",
        &[
            "4:14 devices[0].connect: the environment variable `PRESS_HOST` is not set | hint set it, or write a default: `${PRESS_HOST:-…}`",
        ],
    );
    check(
        "10.0.0.7",
        "${PRESS_HOST",
        &[
            "4:14 devices[0].connect: `${` without `}` | found `modbus+tcp://${PRESS_HOST:502?unit=1` | hint write `${NAME}` or `${NAME:-default}`",
        ],
    );
    check(
        "10.0.0.7",
        "${PRESS HOST}",
        &[
            "4:14 devices[0].connect: not the name of an environment variable | found `PRESS HOST` | allowed letters, digits and `_` | hint write `${NAME}` or `${NAME:-default}`",
        ],
    );
    check(
        "modbus+tcp://10.0.0.7:502?unit=1",
        "replay:nothing.csv",
        &[
            "4:14 devices[0].connect: the recording is not there | found `FOLDER/nothing.csv` | hint the path starts at the folder of the mapping file",
            "7:23 devices[0].points[0].at: this is a Modbus address, but the device speaks replay | found `holding:16` | hint write the CSV column, for example `column:vibration`",
            "7:53 devices[0].points[0].order: only Modbus registers have a byte order | hint remove `order`",
            "8:29 devices[0].points[1].at: this is a Modbus address, but the device speaks replay | found `holding:18` | hint write the CSV column, for example `column:vibration`",
            "9:27 devices[0].points[2].at: this is a Modbus address, but the device speaks replay | found `coil:1` | hint write the CSV column, for example `column:vibration`",
        ],
    );
    check(
        "holding:16",
        "\"holding:${OIL}\"",
        &[
            "7:23 devices[0].points[0].at: `${…}` is only replaced in `connect:` | hint write the value itself; secrets are `env:NAME`",
            "7:23 devices[0].points[0].at: not a Modbus address | found `holding:${OIL}` | hint the number is a whole number from 0 to 65535",
        ],
    );
    check("10.0.0.7", "${SECRET}", &[]);
    check(
        "modbus+tcp://10.0.0.7:502?unit=1",
        "opc.tcp://10.0.0.7",
        &[
            "7:23 devices[0].points[0].at: this is a Modbus address, but the device speaks OPC UA | found `holding:16` | hint write for example `nsu=urn:factory:cnc;s=Spindle.Load` or `ns=2;i=1001`",
            "7:53 devices[0].points[0].order: only Modbus registers have a byte order | hint remove `order`",
            "8:29 devices[0].points[1].at: this is a Modbus address, but the device speaks OPC UA | found `holding:18` | hint write for example `nsu=urn:factory:cnc;s=Spindle.Load` or `ns=2;i=1001`",
            "9:27 devices[0].points[2].at: this is a Modbus address, but the device speaks OPC UA | found `coil:1` | hint write for example `nsu=urn:factory:cnc;s=Spindle.Load` or `ns=2;i=1001`",
        ],
    );
}

#[test]
fn addresses() {
    check(
        "holding:16",
        "register:16",
        &[
            "7:23 devices[0].points[0].at: not a Modbus address | found `register:16` | hint the tables are `coil`, `discrete`, `input`, `holding`",
        ],
    );
    check(
        "holding:16",
        "\"nsu=urn:x;s=Oil\"",
        &[
            "7:23 devices[0].points[0].at: this is an OPC UA address, but the device speaks Modbus | found `nsu=urn:x;s=Oil` | hint the tables are `coil`, `discrete`, `input`, `holding`",
        ],
    );
    check(
        "holding:16",
        "holding:17",
        &[
            "8:29 devices[0].points[1].at: overlaps `oil`, which reads `holding:17` to 18 (f32) | found `holding:18` to 19 (f32) | hint check address and type of both against the manual of the device",
        ],
    );
    check(
        "holding:16",
        "holding:65535",
        &["7:23 devices[0].points[0].at: its last register would be 65536 | allowed 0 to 65535"],
    );
    check(
        "holding:18",
        "holding:17",
        &[
            "8:29 devices[0].points[1].at: overlaps `oil`, which reads `holding:16` to 17 (f32) | found `holding:17` to 18 (f32) | hint check address and type of both against the manual of the device",
        ],
    );
    check(
        "{id: oil, at: holding:16, type: f32, order: CDAB, unit: Cel}",
        "{id: oil, at: holding:18, type: f32, unit: Cel}",
        &[
            "8:29 devices[0].points[1].at: `oil` already reads `holding:18` | found `holding:18` to 19 (f32) | hint one point can be used in many triggers",
        ],
    );
    check(
        "at: coil:1",
        "at: coil:1, type: u16",
        &["9:41 devices[0].points[2].type: a coil is a bool | allowed bool | hint remove `type`, or name a register"],
    );
    check(
        "at: coil:1",
        "at: holding:30, type: bool",
        &["9:45 devices[0].points[2].type: a register is no bool | hint name one of its bits: `at: holding:17.3`"],
    );
    check(
        "at: coil:1",
        "at: holding:30.16",
        &[
            "9:27 devices[0].points[2].at: not a Modbus address | found `holding:30.16` | hint bits are numbered 0 to 15",
        ],
    );
    check(
        "at: coil:1",
        "at: holding:30.3, type: u16",
        &["9:47 devices[0].points[2].type: a single bit is a bool | allowed bool | hint remove `type`, or the bit"],
    );
    check(
        "type: f32, unit: mm/s",
        "unit: mm/s",
        &[
            "8:9 devices[0].points[1].type: a register needs a type | allowed u8, i8, u16, i16, u32, i32, u64, i64, f16, f32, f64, bcd16, bcd32, bcd64, text, text-low, text-high | hint the manual of the device says how many registers the value has",
        ],
    );
    check(
        "type: f32, unit: mm/s",
        "type: auto, unit: mm/s",
        &[
            "8:47 devices[0].points[1].type: Modbus does not say what a register holds | allowed u8, i8, u16, i16, u32, i32, u64, i64, f16, f32, f64, bcd16, bcd32, bcd64, text, text-low, text-high",
        ],
    );
    check(
        "type: f32, order",
        "type: u16, order",
        &[
            "7:53 devices[0].points[0].order: one register has no word order | found `CDAB` | allowed ABCD, BADC | hint BADC swaps the two bytes of the register",
        ],
    );
    check(
        "at: coil:1",
        "at: coil:1, order: ABCD",
        &["9:42 devices[0].points[2].order: a bit has no byte order | hint remove `order`"],
    );
    check(
        "at: coil:1",
        "at: holding:30, type: text",
        &[
            "9:9 devices[0].points[2].length: a text needs a length | allowed 1 to 250 | hint in bytes, two a register",
            "13:43 triggers[0].when: expected a condition, found a text | hint compare it with something, for example `> 0`",
        ],
    );
    check(
        "at: coil:1",
        "at: holding:30, type: text, length: 300",
        &[
            "9:59 devices[0].points[2].length: the number is out of range | found `300` | allowed 1 to 250",
            "13:43 triggers[0].when: expected a condition, found a text | hint compare it with something, for example `> 0`",
        ],
    );
    check(
        "unit: Cel",
        "unit: Cel, length: 4",
        &["7:78 devices[0].points[0].length: only a text has a length | hint remove `length`, or write `type: text`"],
    );
}

#[test]
fn status_words_may_be_read_beside_their_bits() {
    let points = "{id: running, at: coil:1}\n      - {id: word, at: holding:30, type: u16, unit: 1}\n      - {id: bit, at: holding:30.3}\n      - {id: other, at: holding:30.4}";
    check("{id: running, at: coil:1}", points, &[]);
    check(
        "{id: running, at: coil:1}",
        "{id: running, at: coil:1}\n      - {id: bit, at: holding:18.3}",
        &[
            "10:23 devices[0].points[3].at: overlaps `vibration`, which reads `holding:18` to 19 (f32) | found `holding:18.3` (bool) | hint check address and type of both against the manual of the device",
        ],
    );
}

#[test]
fn values() {
    check(
        "unit: Cel",
        "unit: °C",
        &["7:65 devices[0].points[0].unit: not a UCUM code | found `°C` | hint write `Cel`"],
    );
    check(
        "unit: Cel",
        "unit: deg Cel",
        &[
            "7:65 devices[0].points[0].unit: ` ` cannot be part of a UCUM code, which is printable ASCII without spaces | found `deg Cel` | hint UCUM codes are `Cel`, `mm/s`, `kW.h`, `%`, `1`; see ucum.org",
        ],
    );
    check(
        ", unit: mm/s",
        "",
        &[
            "8:9 devices[0].points[1].unit: a number without a unit is taken as a plain number | hint write the UCUM code (`Cel`, `mm/s`, `kW.h`, `%`), or `unit: 1` for a count",
        ],
    );
    check(
        "unit: Cel",
        "unit: Cel, scale: 0",
        &[
            "7:77 devices[0].points[0].scale: a scale of zero makes every value zero | hint remove it, or write the factor",
        ],
    );
    check(
        "unit: Cel",
        "unit: Cel, deadband: 0",
        &[
            "7:80 devices[0].points[0].deadband: a deadband is larger than 0 | found `0` | hint remove it to publish every change",
        ],
    );
    check(
        "unit: Cel",
        "unit: Cel, range: [100, 0]",
        &[
            "7:77 devices[0].points[0].range: the range is empty | found `[100, 0]` | hint the lower bound comes first: `[0, 100]`",
        ],
    );
    check(
        "at: coil:1",
        "at: coil:1, deadband: 1, range: [0, 1], scale: 2",
        &[
            "9:45 devices[0].points[2].deadband: only numbers have a deadband | hint remove it",
            "9:55 devices[0].points[2].range: only numbers have a range | hint remove it",
            "9:70 devices[0].points[2].scale: only numbers are scaled | hint remove it",
        ],
    );
}

#[test]
fn security() {
    check(
        "every: 500ms",
        "security: {user: op}",
        &[
            "5:15 devices[0].security: this protocol knows no login and no encryption | hint remove `security:`; protect the network instead, or reach a Modbus device by `modbus+tls://`",
        ],
    );
    let opcua = |security: &str| {
        format!(
            "plant: x\ndevices:\n  - id: cnc\n    connect: opc.tcp://cnc:4840\n    security: {security}\n    points: [{{id: load, at: \"ns=2;s=L\"}}]\n"
        )
    };
    check_text(&opcua("{user: op, password: env:SECRET}"), &[]);
    check_text(
        &opcua("{user: op, password: hunter2}"),
        &[
            "5:36 devices[0].security.password: a password is not written into the file | allowed `env:NAME`, `file:/path` | hint put it into an environment variable or a file that only the agent can read",
        ],
    );
    check_text(
        &opcua("{user: op, password: env:NO_SUCH}"),
        &[
            "5:36 devices[0].security.password: the environment variable `NO_SUCH` is not set | hint set it for the agent, and here for checking: NO_SUCH=… tally check FILE",
        ],
    );
    check_text(
        &opcua("{user: op, password: file:/nowhere/secret}"),
        &[
            "5:36 devices[0].security.password: the file with the password cannot be read: No such file or directory (os error 2) | found `/nowhere/secret`",
        ],
    );
    check_text(
        &opcua("{password: env:SECRET}"),
        &["5:26 devices[0].security.password: a password without a user | hint add `user:`"],
    );
    check_text(
        &opcua("{policy: strong}"),
        &[
            "5:24 devices[0].security.policy: not one of the words allowed here | found `strong` | allowed best, none, basic256sha256-sign, basic256sha256-sign-encrypt, aes128-sha256-rsaoaep-sign, aes128-sha256-rsaoaep-sign-encrypt, aes256-sha256-rsapss-sign, aes256-sha256-rsapss-sign-encrypt, basic256-sign-encrypt, basic128rsa15-sign-encrypt",
        ],
    );
    check_text(
        &opcua("{policy: none, user: op, password: env:SECRET}"),
        &[
            "5:24 devices[0].security.policy: the password goes over the wire without encryption | hint write `policy: best`",
        ],
    );
    let shown = format!("{:?}", load_text(&opcua("{user: op, password: env:SECRET}")).unwrap());
    assert!(!shown.contains("hunter2"), "a secret shows itself");
    let faults = load_text(&opcua("{policy: strong, user: op, password: hunter2}")).unwrap_err();
    let shown =
        format!("{faults} {} {}", faults.render(false), serde_json::to_string(faults.iter().last().unwrap()).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(faults.render(false).contains("plant.yaml:5:24"), "{shown}");
}

#[test]
fn data_sheets() {
    check(
        "every: 500ms",
        "use: nowhere.yaml",
        &[
            "5:10 devices[0].use: there is no such data sheet | found `nowhere.yaml` | hint looked for FOLDER/nowhere.yaml, FOLDER/devices/nowhere.yaml, FOLDER/../nowhere.yaml, FOLDER/../devices/nowhere.yaml",
        ],
    );
    check(
        "every: 500ms",
        "prefix: a/",
        &[
            "5:13 devices[0].prefix: `prefix` changes the addresses of a data sheet, and there is none | hint write the addresses themselves, or name a data sheet under `use:`",
        ],
    );
    check(
        "every: 500ms",
        "offset: 5",
        &[
            "5:13 devices[0].offset: `offset` changes the addresses of a data sheet, and there is none | hint write the addresses themselves, or name a data sheet under `use:`",
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("devices")).unwrap();
    let sheet = folder.path().join("devices/meter.yaml");
    let plant = folder.path().join("plant.yaml");
    std::fs::write(&sheet, "sheet: meter\nevery: 0s\npoints:\n  - {id: power, at: input:0, typ: f32, unit: kW}\n  - {id: a, at: input:9, type: u16, unit: °C}\n").unwrap();
    std::fs::write(&plant, "plant: x\ndevices:\n  - {id: m1, use: meter.yaml, prefix: a, offset: -5, connect: \"modbus+tcp://m\"}\n  - {id: m2, use: meter.yaml, connect: \"modbus+tcp://n\", points: [{id: power, type: u16, unit: W}]}\n").unwrap();
    let faults = load(&plant, &env).unwrap_err();
    let found: Vec<_> = faults
        .iter()
        .map(|fault| format!("{} {}", fault.file.file_name().unwrap().to_str().unwrap(), shown(fault)))
        .collect();
    assert_eq!(
        found,
        [
            "meter.yaml 2:8 every: too short | found `0s` | allowed 10ms to 1h",
            "meter.yaml 4:21 points[0].at: with `offset: -5` the address is -5 | allowed 0 to 65535",
            "meter.yaml 4:30 points[0].typ: unknown key `typ` | found `typ` | allowed at, bits, checks, deadband, description, every, id, labels, length, method, offset, order, range, scale, type, unit, writable, write, write_range | hint did you mean `type`?",
            "meter.yaml 5:43 points[1].unit: not a UCUM code | found `°C` | hint write `Cel`",
            "plant.yaml 3:39 devices[0].prefix: a prefix belongs to node ids and topics | hint register addresses are moved with `offset:`",
        ]
    );
}

#[test]
fn triggers() {
    check(
        "device: press\n",
        "device: pres\n",
        &["12:13 triggers[0].device: unknown device | found `pres` | allowed press | hint did you mean `press`?"],
    );
    check(
        "disclose: [oil]",
        "disclose: [oil, oli]",
        &[
            "15:21 triggers[0].disclose[1]: unknown point of `press` | found `oli` | allowed oil, running, vibration | hint did you mean `oil`?",
        ],
    );
    check(
        "mean(vibration, '10s') > 7.1 && running",
        "mean(vibraton, '10s') > 7.1 and running",
        &["13:39 triggers[0].when: `and` is not an operator of CEL | hint write `&&`"],
    );
    check(
        "mean(vibration, '10s') > 7.1 && running",
        "mean(vibraton, '10s') > 7.1 && oil",
        &[
            "13:16 triggers[0].when: unknown point `vibraton` | hint did you mean `vibration`?",
            "13:42 triggers[0].when: expected a condition, found a number | hint compare it with something, for example `> 0`",
        ],
    );
    check(
        "mean(vibration, '10s') > 7.1 && running",
        ">\n      mean(vibration, '10s') > 7.1 &&\n      runing",
        &["15:7 triggers[0].when: unknown point `runing` | hint did you mean `running`?"],
    );
    check(
        "\"'worn'\"",
        "worn",
        &[
            "16:71 triggers[0].call.with.fault: unknown point `worn` | hint a text stands in quotes: 'worn'; the points are oil, running, vibration",
        ],
    );
    check(
        "contract: maintenance-order",
        "contract: maintenance order",
        &[
            "16:22 triggers[0].call.contract: ` ` is not allowed in a contract name; allowed are letters, digits, `_`, `-` and `.` | found `maintenance order`",
        ],
    );
    check(
        "contract: maintenance-order, ",
        "",
        &["16:11 triggers[0].call.contract: `contract` is missing | hint `contract:` which contract"],
    );
    check(
        "triggers:\n",
        "triggers:\n  - {id: worn, device: press, when: running}\n",
        &["12:9 triggers[1].id: another trigger has this id | found `worn` | hint ids are unique in the plant"],
    );
    check(
        "    for: 5s\n",
        "    until: oil\n",
        &[
            "14:12 triggers[0].until: `until` is a condition, this is a number | hint compare it with something, for example `> 7.1`",
        ],
    );
}

#[test]
fn tests_in_the_file() {
    let with = |test: &str| format!("{RIGHT}tests:\n  - {test}\n");
    check_text(
        &with("{readings: nothing.csv, expect: [{trigger: worn, at: 1s}]}"),
        &[
            "18:16 tests[0].readings: the recording is not there | found `FOLDER/nothing.csv` | hint the path starts at the folder of the mapping file",
        ],
    );
    check_text(
        &with("{readings: plant.yaml, device: pres, expect: [{trigger: won, at: 1s}]}"),
        &[
            "18:36 tests[0].device: unknown device | found `pres` | allowed press | hint did you mean `press`?",
            "18:61 tests[0].expect[0].trigger: unknown trigger | found `won` | allowed worn | hint did you mean `worn`?",
        ],
    );
    check_text(
        &with("{readings: plant.yaml, expect: [{trigger: worn, at: 1}, {trigger: worn, at: 1s, cleared: yes}]}"),
        &[
            "18:57 tests[0].expect[0].at: a duration has a unit | found `1` | hint write `1ms` or `1s`",
            "18:94 tests[0].expect[1].cleared: expected `true` or `false` | found `yes` | hint YAML 1.2 knows `true` and `false`, without quotes; yes, no, on, off are texts",
        ],
    );
    check_text(
        &with("{readings: plant.yaml}"),
        &[
            "18:5 tests[0].expect: `expect` is missing | hint `expect:` every trigger the readings must raise, in any order; one that is raised and not listed fails the test",
        ],
    );
}

#[test]
fn all_faults_of_a_file_at_once() {
    let text = RIGHT
        .replace("unit: Cel", "unit: °C")
        .replace("every: 500ms", "every: 500")
        .replace("type: f32, unit: mm/s", "type: f33, unit: mm/s")
        .replace("at: coil:1", "at: coil:1, colour: red")
        .replace("device: press\n", "device: pres\n")
        .replace("action: report", "action: re port");
    check_text(
        &text,
        &[
            "5:12 devices[0].every: a duration has a unit | found `500` | hint write `500ms` or `500s`",
            "7:65 devices[0].points[0].unit: not a UCUM code | found `°C` | hint write `Cel`",
            "8:47 devices[0].points[1].type: not one of the words allowed here | found `f33` | allowed bool, u8, i8, u16, i16, u32, i32, u64, i64, f16, f32, f64, bcd16, bcd32, bcd64, text, text-low, text-high, auto | hint did you mean `f32`?",
            "9:35 devices[0].points[2].colour: unknown key `colour` | found `colour` | allowed at, bits, checks, deadband, description, every, id, labels, length, method, offset, order, range, scale, type, unit, writable, write, write_range",
            "12:13 triggers[0].device: unknown device | found `pres` | allowed press | hint did you mean `press`?",
            "16:49 triggers[0].call.action: ` ` is not allowed in an action name; allowed are letters, digits, `_`, `-` and `.` | found `re port`",
        ],
    );
}

#[test]
fn faults_for_people_and_for_programs() {
    let text = RIGHT.replace("unit: Cel", "unit: °C");
    let faults = load_text(&text).unwrap_err();
    assert_eq!((faults.len(), faults.is_empty()), (1, false));
    let rendered = faults.render(false);
    assert!(rendered.contains("7 |       - {id: oil, at: holding:16, type: f32, order: CDAB, unit: °C}"), "{rendered}");
    assert!(rendered.contains("^^ found `°C`"), "{rendered}");
    assert!(rendered.contains("write `Cel`"), "{rendered}");
    assert!(faults.render(true).contains("\u{1b}["));
    let fault = faults.iter().next().unwrap();
    assert_eq!(fault.severity, Severity::Error);
    let json = serde_json::to_value(fault).unwrap();
    assert_eq!(json["key"], "devices[0].points[0].unit");
    assert_eq!(json["line"], 7);
    let line = fault.to_string();
    assert!(
        line.ends_with("plant.yaml:7:65: devices[0].points[0].unit: not a UCUM code; found `°C`; hint write `Cel`"),
        "{line}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plant.yaml");
        std::fs::write(&path, bytes).unwrap();
        if let Err(faults) = load(&path, &env) {
            let _ = (faults.render(true), faults.to_string());
        }
    }

    #[test]
    fn mutated_plants_never_panic(changes in proptest::collection::vec((0..RIGHT.len(), "[ -~\\n\\t°]{0,3}", 0..4usize), 1..5)) {
        let mut text = RIGHT.to_owned();
        for (at, insert, remove) in changes {
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let end = (at + remove..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
            text.replace_range(at..end, &insert);
        }
        if let Err(faults) = load_text(&text) {
            prop_assert!(!faults.is_empty());
            let _ = (faults.render(false), faults.to_string());
            for fault in faults.iter() {
                prop_assert!(fault.line >= 1 && fault.column >= 1);
                prop_assert!(fault.line as usize <= text.lines().count().max(1) + 1);
            }
        }
    }
}
