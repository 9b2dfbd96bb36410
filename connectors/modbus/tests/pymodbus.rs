//! Against pymodbus, a server that is not ours: values set are values read, in all four tables, and it may restart.
//! Needs the tools of `cargo xtask tools`; without them this fails rather than passes unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{PATIENCE, Running, device, device_at, point, vectors, word};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tally_connector_modbus::{Write, WriteFault, encode, link_with_writer};
use tally_model::{Address, ModbusTable, NoValue, Quality, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

struct Pymodbus {
    port: u16,
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Pymodbus {
    async fn start(port: u16, units: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join(".tools/venv/bin/python");
        assert!(python.exists(), "{} is missing: run `cargo xtask tools`", python.display());
        let mut child = Command::new(python)
            .arg(root.join("tests/interop/servers/modbus_server.py"))
            .arg(port.to_string())
            .args(units)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(PATIENCE, answers.next_line()).await.unwrap().unwrap().unwrap();
        let port = ready.strip_prefix("ready ").unwrap_or_else(|| panic!("not ready: {ready}")).parse().unwrap();
        Self { port, child, commands, answers }
    }

    async fn obey(&mut self, command: &str) {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.answers.next_line()).await.unwrap().unwrap();
        assert_eq!(answer.as_deref(), Some("ok"), "{command}");
    }

    async fn kill(mut self) -> u16 {
        self.child.kill().await.unwrap();
        self.port
    }
}

#[tokio::test]
async fn every_vector_is_read_from_every_table() {
    read_vectors(&[], "modbus+tcp").await;
}

#[tokio::test]
async fn every_vector_is_read_in_rtu_and_ascii_frames() {
    read_vectors(&["--rtu", "1"], "modbus+rtu+tcp").await;
    read_vectors(&["--ascii", "1"], "modbus+ascii+tcp").await;
}

async fn read_vectors(words: &[&str], scheme: &str) {
    let mut server = Pymodbus::start(0, words).await;
    let mut points = Vec::new();
    let mut wanted = BTreeMap::new();
    let mut place = 0;
    for vector in vectors() {
        let words: Vec<_> = vector.registers.iter().map(|word| format!("{word:04x}")).collect();
        for (table, prefix) in [(ModbusTable::Holding, "h"), (ModbusTable::Input, "i")] {
            server.obey(&format!("set {} {place} {}", table.word(), words.join(" "))).await;
            let mut spec = vector.spec.clone();
            spec.id = format!("{prefix}_{}", spec.id).parse().unwrap();
            spec.address = Address::Modbus { table, offset: place, bit: None };
            wanted.insert(spec.id.to_string(), vector.value.clone());
            points.push(spec);
        }
        place += u16::try_from(words.len()).unwrap();
    }
    for (table, bits) in [("coil", "1 0 0 1 1 0 1 0 1 1"), ("discrete", "0 1 1 0 0 1 0 1 0 1")] {
        server.obey(&format!("set {table} 7 {bits}")).await;
        for (number, bit) in bits.split(' ').enumerate() {
            let id = format!("{table}_{number}");
            points.push(point(&format!("{id} {table}:{}", number + 7)));
            wanted.insert(id, (bit == "1").to_string());
        }
    }
    let mut press = device_at("press", &format!("{scheme}://127.0.0.1:{}", server.port), 1, points);
    press.timeout = Duration::from_secs(5);
    let mut link = Running::start(vec![press]);
    let batch = link.next().await;
    let found: BTreeMap<_, _> =
        batch.samples.iter().map(|sample| (sample.point.to_string(), word(&sample.outcome))).collect();
    assert_eq!(found, wanted);
    link.stop().await;
}

/// pymodbus encodes, we decode: nobody checks his own homework.
#[tokio::test]
async fn what_pymodbus_encodes_is_what_we_decode() {
    let mut server = Pymodbus::start(0, &[]).await;
    let cases = [
        ("u16", "UINT16", "54321"),
        ("i16", "INT16", "-12345"),
        ("u32", "UINT32", "4026531841"),
        ("i32", "INT32", "-123456789"),
        ("u64", "UINT64", "18446744073709551557"),
        ("i64", "INT64", "-1234567890123456789"),
        ("f32", "FLOAT32", "7.125"),
        ("f64", "FLOAT64", "-2.718281828459045"),
    ];
    let mut points = Vec::new();
    let mut wanted = BTreeMap::new();
    for (order, words) in [("ABCD", "big"), ("CDAB", "little")] {
        for (ours, theirs, value) in cases {
            let (id, place) = (format!("{ours}_{words}"), points.len() * 4);
            server.obey(&format!("put holding {place} {theirs} {words} {value}")).await;
            points.push(point(&format!("{id} holding:{place} {ours} {order}")));
            wanted.insert(id, value.to_owned());
        }
    }
    server.obey("put holding 200 STRING big PRESS-01").await;
    let mut name = point("name holding:200 text");
    name.length = 8;
    points.push(name);
    wanted.insert("name".into(), "PRESS-01".into());
    let mut link = Running::start(vec![device("press", server.port, 1, points)]);
    let batch = link.next().await;
    let found: BTreeMap<_, _> =
        batch.samples.iter().map(|sample| (sample.point.to_string(), word(&sample.outcome))).collect();
    assert_eq!(found, wanted);
    link.stop().await;
}

#[tokio::test]
async fn changes_restarts_units_and_bad_addresses() {
    let mut server = Pymodbus::start(common::ports::free_port(), &["1", "2"]).await;
    server.obey("set holding 18 40f9999a").await;
    server.obey("unit 2").await;
    server.obey("set holding 18 3f800000").await;
    let press = device("press", server.port, 1, vec![point("vibration holding:18 f32")]);
    let lathe = device("lathe", server.port, 2, vec![point("load holding:18 f32"), point("beyond holding:2000 u16")]);
    let is = |number: f32| {
        move |outcome: &Result<Value, NoValue>, quality| {
            *outcome == Ok(Value::Float(f64::from(number))) && quality == Quality::Good
        }
    };
    let mut link = Running::start(vec![press, lathe]);
    link.until("press", "vibration", is(7.8)).await;
    link.until("lathe", "load", is(1.0)).await;
    link.until("lathe", "beyond", |outcome, _| *outcome == Err(NoValue::NoSuchAddress)).await;
    server.obey("unit 1").await;
    server.obey("set holding 18 c0000000").await;
    link.until("press", "vibration", is(-2.0)).await;

    let port = server.kill().await;
    link.until("press", "vibration", |outcome, _| *outcome == Err(NoValue::LinkDown)).await;
    let mut server = Pymodbus::start(port, &["1", "2"]).await;
    server.obey("set holding 18 41200000").await;
    link.until("press", "vibration", is(10.0)).await;
    link.until("lathe", "load", is(0.0)).await;
    link.stop().await;
}

/// The table itself, derived anew by pymodbus and Python's struct.
#[tokio::test]
async fn the_vector_table_holds_elsewhere_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let checked = Command::new(root.join(".tools/venv/bin/python"))
        .arg(root.join("tests/interop/modbus_vectors.py"))
        .arg(root.join("docs/formats/modbus-vectors.csv"))
        .output()
        .await
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success(), "{said}{complained}");
    let numbers: Vec<usize> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers[0], vectors().len(), "every line is checked");
    assert!(numbers[1] >= 60, "pymodbus knows most plain types in two orders: {said}");
}

/// What we write is what pymodbus holds, over all three kinds of frames: written, and read back by the poll.
#[tokio::test]
async fn what_we_write_is_what_pymodbus_holds() {
    for (words, scheme) in
        [(&[][..], "modbus+tcp"), (&["--rtu", "1"], "modbus+rtu+tcp"), (&["--ascii", "1"], "modbus+ascii+tcp")]
    {
        let server = Pymodbus::start(0, words).await;
        let points = ["a holding:10 u16", "b holding:11 f32 CDAB", "on coil:3", "off coil:4"].map(point).to_vec();
        let press = device_at("press", &format!("{scheme}://127.0.0.1:{}", server.port), 1, points.clone());
        let id = press.id.clone();
        let (link, writer) = link_with_writer(vec![press]).unwrap();
        let mut link = Running::run(link);
        link.until("press", "a", |outcome, _| *outcome == Ok(Value::Integer(0))).await;
        let words = encode(&points[1], &Value::Float(7.125)).unwrap();
        for write in [
            Write::Register { address: 10, word: 0x12f4 },
            Write::Mask { address: 10, and: 0xff00, or: 0x0034 },
            Write::Registers { address: 11, words },
            Write::Coils { address: 3, bits: vec![false, true] },
            Write::Coil { address: 3, on: true },
        ] {
            assert_eq!(writer.write(&id, write.clone()).await, Ok(Vec::new()), "{scheme} {write:?}");
        }
        let both = Write::ReadWrite { read_from: 10, read_count: 1, address: 20, words: vec![1] };
        assert_eq!(writer.write(&id, both).await, Ok(vec![0x1234]), "{scheme}");
        let known = writer.identify(&id).await.unwrap();
        for (object, text) in [(0, "Press Works"), (1, "P-7"), (2, "3.1"), (5, "Seven")] {
            assert_eq!(known.get(&object).map(String::as_str), Some(text), "{scheme}: {known:?}");
        }
        let refused = writer.write(&id, Write::Register { address: 60_000, word: 1 }).await;
        assert!(matches!(refused, Err(WriteFault::Refused { code: 2, .. })), "{scheme}: {refused:?}");
        link.until("press", "a", |outcome, _| *outcome == Ok(Value::Integer(0x1234))).await;
        link.until("press", "b", |outcome, _| *outcome == Ok(Value::Float(7.125))).await;
        link.until("press", "off", |outcome, _| *outcome == Ok(Value::Bool(true))).await;
        link.until("press", "on", |outcome, _| *outcome == Ok(Value::Bool(true))).await;
        link.stop().await;
    }
}
