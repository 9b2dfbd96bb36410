//! Our simulated devices against a master that is not ours: pymodbus reads and writes them over every kind of line.
//! Needs the tools of `cargo xtask tools`; without them this fails rather than passes unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use tally_tests::{Process, python, root, tally_command};
use tokio::process::Command;

fn device(id: &str, serve: &str, unit: u8) -> String {
    format!(
        "  - id: {id}
    serve: \"{serve}?unit={unit}\"
    signals:
      - {{id: level, at: holding:0, type: f32, from: {{constant: 7.8}}}}
      - {{id: digits, at: holding:2, type: bcd16, order: BADC, from: {{constant: 1234}}}}
      - {{id: limit, at: holding:3, type: u16, from: {{constant: 5}}}}
      - {{id: name, at: input:0, type: text, length: 4, from: {{constant: TALLY}}}}
      - {{id: a, at: coil:0, from: {{constant: true}}}}
      - {{id: b, at: coil:1, from: {{constant: false}}}}
      - {{id: c, at: discrete:9, from: {{constant: true}}}}
"
    )
}

/// Kind as the script has it, and where it is.
fn lines(folder: &Path) -> [(&'static str, String); 6] {
    let tty = |name: &str| folder.join(name).display().to_string();
    [
        ("tcp", "modbus+tcp://127.0.0.1:0".to_owned()),
        ("rtu+tcp", "modbus+rtu+tcp://127.0.0.1:0".to_owned()),
        ("ascii+tcp", "modbus+ascii+tcp://127.0.0.1:0".to_owned()),
        ("tls", "modbus+tls://127.0.0.1:0".to_owned()),
        ("rtu", format!("modbus+rtu://{}", tty("rtu.tty"))),
        ("ascii", format!("modbus+ascii://{}", tty("ascii.tty"))),
    ]
}

/// The value of a word of the ready line: `NAME=VALUE`.
fn told(ready: &str, name: &str) -> String {
    let start = format!("{name}=");
    let found = ready.split(' ').find_map(|word| word.strip_prefix(&start));
    found.unwrap_or_else(|| panic!("`{name}` is not in {ready}")).to_owned()
}

/// A port of 127.0.0.1, or the path of a serial line.
fn place(url: &str) -> String {
    let place = url.split_once("://").unwrap().1.split('?').next().unwrap();
    place.strip_prefix("127.0.0.1:").unwrap_or(place).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pymodbus_reads_and_writes_simulated_devices_over_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let lines = lines(folder.path());
    let devices: String = lines.iter().map(|(kind, serve)| device(&kind.replace('+', "-"), serve, 17)).collect();
    let file = folder.path().join("sim.yaml");
    std::fs::write(&file, format!("devices:\n{devices}")).unwrap();
    let mut sim = Process::start("tally sim", tally_command(&["sim", &file.display().to_string()]));
    let ready = sim.line().await;
    for (kind, _) in lines {
        let name = kind.replace('+', "-");
        let mut command = Command::new(python());
        command.arg(root().join("tests/interop/modbus_client.py")).arg(kind).arg(place(&told(&ready, &name))).arg("17");
        if kind == "tls" {
            command.arg(told(&ready, "certificates:tls"));
        }
        let mut master = Process::start("pymodbus", command);
        assert_eq!(master.line().await, "ready", "{kind}");
        for (ask, answer) in [
            ("read holding 0 4", "40f9 999a 3412 0005"),
            ("read input 0 2", "5441 4c4c"),
            ("read coil 0 2", "1 0"),
            ("read discrete 9 1", "1"),
            ("read holding 3 2", "exception 2"),
            ("one holding 3 00f0", "ok"),
            ("mask 3 fff0 0005", "ok"),
            ("read holding 3 1", "00f5"),
            ("write holding 0 4000 0000", "ok"),
            ("both 0 2 2 1109 0007", "4000 0000"),
            ("read holding 2 2", "1109 0007"),
            ("write holding 2 00fa", "exception 3"),
            ("one coil 1 1", "ok"),
            ("write coil 0 0 1", "ok"),
            ("read coil 0 2", "0 1"),
        ] {
            assert_eq!(master.tell(ask).await, answer, "{kind}: {ask}");
        }
        let says = master.tell("identify").await;
        assert!(
            says.starts_with("0=Tallystick 1=simulator 2=") && says.ends_with(&format!("4={name}")),
            "{kind}: {says}"
        );
        assert_eq!(sim.tell(&format!("get {name} level")).await, "ok 2", "{kind}");
        assert_eq!(sim.tell(&format!("get {name} digits")).await, "ok 911", "{kind}");
        assert_eq!(sim.tell(&format!("break {name} exception 6")).await, format!("ok {name}: exception 6"));
        assert_eq!(master.tell("read holding 0 1").await, "exception 6", "{kind}");
    }
}
