//! What people write: mappings, rules, what a ledger begins with, contracts.

use crate::said::{TAKEN, faults, plain, round, text};
use crate::targets::Seeds;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;
use tally_contracts::{Contract, Genesis, LIBRARY};
use tally_evidence::{decode_rule, encode_rule};
use tally_mappings::{Plant, load};
use tally_model::{CallTemplate, DeviceId, PointId, Priority, RuleSource, TriggerId, Unit, ValueKind};
use tally_simulator::SimConfig;
use tempfile::TempDir;

/// One of each kind of device, with what can be said of it; its first device can be written.
pub const PLANT: &str = r#"plant: line
description: everything at once
devices:
  - id: press-01
    connect: modbus+tcp://127.0.0.1:502?unit=1
    every: 100ms
    modbus: {base: one, pause: 5ms, busy_retries: 2}
    checks:
      look_back: 30s
      skew: 2s
      related: {fits: {holds: "abs(load - 2.0 * other) < 5.0", for: 3s}}
    points:
      - {id: load, at: holding:16, type: f32, order: CDAB, unit: kN, range: [0, 500], scale: 0.1, checks: {rate: 2.5, redundant: {with: other, tolerance: 1.5}}}
      - {id: other, at: holding:18, type: f32, unit: kN, deadband: 0.5, checks: {off: [frozen, replay]}}
      - {id: mode, at: holding:20, type: u16, bits: 0-3, labels: {0: stopped, 1: running}}
      - {id: setpoint, at: holding:22, type: u16, unit: kN, writable: true, write_range: [0, 80]}
      - {id: name, at: holding:30, type: text, length: 8}
      - {id: worn, at: coil:1, unit: "1", writable: true}
  - id: cnc
    connect: opc.tcp://127.0.0.1:${PORT:-4840}
    security: {policy: best, user: u, password: env:SECRET}
    opcua: {profile: s7-1500, read: subscribe, sampling: 50ms, queue: 40, history: 36h, limits: {items_per_call: 20}}
    points: [{id: spindle, at: "nsu=urn:cnc;s=Spindle.Load", unit: "%"}]
  - id: hall
    connect: mqtts://127.0.0.1?version=5
    security: {pin: 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff}
    mqtt: {qos: 2, points_max: 7}
    points:
      - {id: temperature, at: "hall/climate#/temperature", unit: Cel}
      - {id: "{machine}_temp", at: "hall/{machine}/climate#/t", type: f64, unit: Cel, range: [0, 90]}
      - {id: motor, at: "sparkplug:works/edge/press#Motor/Temp", unit: Cel}
triggers:
  - {id: bearing-worn, device: press-01, when: "mean(load, '3s') > 7.1 && worn", for: 10s, until: "load < 1.0", priority: high, disclose: [load], call: {contract: maintenance-order, action: report, with: {fault: "'worn'", peak: "max(load, '3s')"}}}
"#;

const SHEET: &str = include_str!("../../mappings/devices/power-meter-modbus.yaml");
const PLANTS: [&str; 3] = [
    include_str!("../../mappings/plants/press-line.yaml"),
    include_str!("../../mappings/plants/compressor-hall.yaml"),
    include_str!("../../deploy/site/plant.yaml"),
];
const SHEETS: [&str; 4] = [
    include_str!("../../mappings/devices/climate-sensor-mqtt.yaml"),
    include_str!("../../mappings/devices/cnc-generic.yaml"),
    include_str!("../../mappings/devices/hydraulic-press-modbus.yaml"),
    include_str!("../../deploy/site/devices/press-monitor.yaml"),
];

/// A folder with the sheets that the plants use, made once.
pub fn folder() -> &'static Path {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("devices")).unwrap();
        for sheet in SHEETS.iter().chain([&SHEET]) {
            let name = sheet.lines().find_map(|line| line.strip_prefix("sheet: ")).unwrap();
            std::fs::write(folder.path().join(format!("devices/{name}.yaml")), sheet).unwrap();
        }
        folder
    });
    FOLDER.path()
}

/// A file of that name; of this thread alone, so that tests do not meet.
pub fn written(name: &str, content: &[u8]) -> PathBuf {
    let thread: String = format!("{:?}", std::thread::current().id()).chars().filter(char::is_ascii_digit).collect();
    let file = folder().join(format!("{thread}-{name}"));
    std::fs::write(&file, content).unwrap();
    file
}

fn loaded(plant: &str) -> Result<Plant, String> {
    load(&written("plant.yaml", plant.as_bytes()), &|name| {
        (name == "SECRET" || name.ends_with("PASSWORD")).then(|| "hidden".to_owned())
    })
    .map_err(|faults| faults.render(false))
}

pub fn plant(text: &str) -> Plant {
    loaded(text).unwrap_or_else(|faults| panic!("{faults}"))
}

pub fn mapping(bytes: &[u8]) -> String {
    text(bytes, |text| match loaded(text) {
        Ok(plant) => {
            format!("{TAKEN}: {:?}", plant.devices.iter().map(|device| device.points.len()).collect::<Vec<_>>())
        }
        Err(faults) => faults,
    })
}

pub fn mappings() -> Seeds {
    PLANTS.iter().chain([&PLANT]).map(|plant| plant.as_bytes().to_vec()).collect()
}

/// A data sheet, used by a plant.
pub fn sheet(bytes: &[u8]) -> String {
    text(bytes, |text| {
        let sheet = written("sheet.yaml", text.as_bytes());
        let name = sheet.file_name().unwrap().to_string_lossy().into_owned();
        let user =
            |scheme| format!("plant: line\ndevices: [{{id: a, use: '{name}', connect: '{scheme}://127.0.0.1'}}]\n");
        ["modbus+tcp", "opc.tcp", "mqtt"]
            .map(|scheme| loaded(&user(scheme)).map_or_else(|faults| faults, |_| TAKEN.to_owned()))
            .join(" ")
    })
}

pub fn sheets() -> Seeds {
    SHEETS.iter().chain([&SHEET]).map(|sheet| sheet.as_bytes().to_vec()).collect()
}

fn rule_of(when: &str) -> RuleSource {
    let points = ["a", "b"].map(|id| (PointId::try_new(id).unwrap(), (Some(ValueKind::Float), Unit::one())));
    RuleSource {
        id: TriggerId::try_new("t").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        when: when.to_owned(),
        on_delay: Duration::ZERO,
        until: None,
        priority: Priority::Medium,
        disclose: Vec::new(),
        call: None,
        points: BTreeMap::from(points),
        checks: None,
    }
}

pub fn expression(bytes: &[u8]) -> String {
    text(bytes, |when| faults(tally_rules::Rule::compile(&rule_of(when))))
}

pub fn expressions() -> Seeds {
    let all = [
        "a > 7.1 && mean(b, '10s') < 3.0",
        "rate(a, '1m') > 0.1 || !(b == a)",
        "abs(a - 2.0 * b) < 5.0 ? max(a, '3s') > 1.0 : min(b, '1h') <= -1e3",
        "count(a, '5s') > 3 && stddev(b, '10s') >= 0.5",
    ];
    all.map(|when| when.as_bytes().to_vec()).into()
}

pub fn rule(bytes: &[u8]) -> String {
    let rule = decode_rule(bytes);
    let compiled = rule.as_ref().ok().map(|rule| faults(tally_rules::Rule::compile(rule)));
    format!("{} {compiled:?}", round(rule, bytes, encode_rule))
}

pub fn rules() -> Seeds {
    let call = CallTemplate {
        contract: "maintenance-order".parse().unwrap(),
        action: "report".parse().unwrap(),
        with: BTreeMap::from([("peak".to_owned(), "max(a, '3s')".to_owned())]),
    };
    let full = RuleSource {
        on_delay: Duration::from_secs(10),
        until: Some("a < 1.0".to_owned()),
        disclose: vec![PointId::try_new("a").unwrap()],
        call: Some(call),
        ..rule_of("a > 7.1")
    };
    let shipped = plant(PLANT).rules.into_iter().map(|rule| encode_rule(rule.source()));
    shipped.chain([encode_rule(&full), encode_rule(&rule_of("a > b"))]).collect()
}

const GENESIS: &str = include_str!("../../deploy/site/genesis.yaml");

/// The key files it names are all the same key: whose they are is no business of the reader.
pub fn genesis(bytes: &[u8]) -> String {
    let read = |name: &str| match name.ends_with(".pem") {
        true => crate::golden::key().public().to_pem().map_err(|fault| fault.to_string()),
        false => LIBRARY
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, text)| (*text).to_owned())
            .ok_or("no such file".to_owned()),
    };
    text(bytes, |text| faults(Genesis::from_yaml(text, &read)))
}

pub fn geneses() -> Seeds {
    vec![GENESIS.as_bytes().to_vec()]
}

const SIMULATOR: &str = include_str!("../../simulator/examples/press-line.yaml");

/// Devices that are played. Recordings that it names are not there.
pub fn simulator(bytes: &[u8]) -> String {
    let environment = |name: &str| name.ends_with("PASSWORD").then(|| "hidden".to_owned());
    text(bytes, |text| plain(SimConfig::parse(text, &folder().join("simulator.yaml"), &environment)))
}

pub fn simulators() -> Seeds {
    vec![SIMULATOR.as_bytes().to_vec()]
}

pub fn contract(bytes: &[u8]) -> String {
    text(bytes, |text| faults(Contract::from_yaml(text)))
}

pub fn contracts() -> Seeds {
    LIBRARY.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
}
