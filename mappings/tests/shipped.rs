//! What is shipped is right: plants, data sheets, recordings, schemas.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_mappings::{Plant, json_schema, load, run_tests, sheet_json_schema};
use tally_model::{Address, Endpoint, ModbusTable, OpcUaPolicy};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn plant(path: &Path) -> Plant {
    let env = |name: &str| (name == "CNC_PASSWORD").then(|| "secret".to_owned());
    load(path, &env).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
}

#[test]
fn plants_check_clean_and_their_tests_pass() {
    let plants = files("plants");
    assert!(plants.len() >= 2);
    for path in plants {
        let plant = plant(&path);
        assert_eq!(plant.warnings, [], "{}", path.display());
        assert!(!plant.tests.is_empty(), "{} has tests", path.display());
        for report in run_tests(&plant) {
            println!("{report}\n{:?}", report.happened);
            assert!(report.passed(), "{report}");
        }
    }
}

#[test]
fn every_data_sheet_checks_clean_on_its_own() {
    let sheets = files("devices");
    assert!(sheets.len() >= 4);
    for sheet in sheets {
        let name = sheet.file_name().unwrap().to_str().unwrap();
        let connect = match () {
            () if name.contains("modbus") => "modbus+tcp://127.0.0.1",
            () if name.contains("mqtt") => "mqtt://127.0.0.1",
            () => "opc.tcp://127.0.0.1",
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(&sheet, folder.path().join(name)).unwrap();
        let path = folder.path().join("plant.yaml");
        std::fs::write(&path, format!("plant: x\ndevices:\n  - {{id: d, use: {name}, connect: \"{connect}\"}}\n"))
            .unwrap();
        let plant = plant(&path);
        assert_eq!(plant.warnings, [], "{name}");
        assert_eq!(plant.files.len(), 2);
        assert!(!plant.devices[0].points.is_empty());
    }
}

#[test]
fn the_demo_plant_says_what_the_demo_expects() {
    let plant = plant(&folder("plants/press-line.yaml"));
    assert_eq!(plant.name, "press-line");
    let [press, cnc, hall] = plant.devices.as_slice() else { panic!("three devices") };
    assert_eq!(press.endpoint, Endpoint::parse("modbus+tcp://127.0.0.1:5020?unit=1").unwrap());
    assert_eq!((press.every, press.timeout), (Duration::from_millis(100), Duration::from_secs(1)));
    let vibration = press.points.iter().find(|point| point.id.as_str() == "vibration").unwrap();
    assert_eq!(vibration.address, Address::Modbus { table: ModbusTable::Holding, offset: 18, bit: None });
    assert_eq!(cnc.security.policy, OpcUaPolicy::Best);
    assert_eq!(cnc.security.user.as_deref(), Some("operator"));
    assert_eq!(cnc.security.password.as_ref().unwrap().reveal(), "secret");
    assert_eq!(hall.endpoint, Endpoint::Mqtt(tally_model::MqttBroker::plain("127.0.0.1", 1883)));
    let ids: Vec<_> = plant.rules.iter().map(|rule| rule.source().id.as_str()).collect();
    assert_eq!(ids, ["bearing-worn", "bearing-good"]);
    let worn = plant.rules[0].source();
    let known: BTreeSet<_> = worn.points.keys().cloned().collect();
    assert_eq!(known, plant.rules[0].reads(), "a rule knows the points it reads and no others");
    assert_eq!(worn.call.as_ref().unwrap().with.len(), 2);
}

#[test]
fn ports_come_from_the_environment() {
    let env = |name: &str| match name {
        "PRESS_PORT" => Some("15020".to_owned()),
        "BROKER_PORT" => Some(String::new()),
        "CNC_PASSWORD" => Some("secret".to_owned()),
        _ => None,
    };
    let plant = load(&folder("plants/press-line.yaml"), &env).unwrap();
    assert_eq!(plant.devices[0].endpoint.to_string(), "modbus+tcp://127.0.0.1:15020?unit=1");
    assert_eq!(plant.devices[2].endpoint.to_string(), "mqtt://127.0.0.1:1883");
}

#[test]
fn sheets_are_moved_and_changed() {
    let plant = plant(&folder("plants/compressor-hall.yaml"));
    let address = |device: usize, point: &str| {
        let points = &plant.devices[device].points;
        points.iter().find(|candidate| candidate.id.as_str() == point).unwrap().address.to_string()
    };
    assert_eq!((address(0, "power"), address(1, "power")), ("input:0".into(), "input:100".into()));
    assert_eq!((address(0, "loaded"), address(0, "pressure")), ("coil:0".into(), "holding:200".into()));
    assert_eq!(address(2, "dew_point"), "hall-1/intake/climate#/dew_point");
    let power = &plant.devices[0].points[0];
    assert_eq!((power.range, power.deadband, power.unit.as_str()), (Some((0.0, 90.0)), Some(0.05), "kW"));
    assert_eq!(plant.devices[1].points[0].range, Some((-500.0, 500.0)));
    assert_eq!((plant.devices[0].every, plant.devices[1].every), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!(plant.devices[1].registers_per_request_max, 64);
}

/// `TALLY_UPDATE=1 cargo test -p tally-mappings` writes them anew.
#[test]
fn kept_schemas_are_not_stale() {
    for (name, schema) in [("mapping.schema.json", json_schema()), ("device.schema.json", sheet_json_schema())] {
        let path = folder("schema").join(name);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("TALLY_UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{name} is stale; run: TALLY_UPDATE=1 cargo test -p tally-mappings");
    }
}

/// Every key of the as-written types stands in the manual, with its own line in a table.
#[test]
fn the_manual_names_every_key() {
    let manual = std::fs::read_to_string(folder("../docs/operator/mappings.md")).unwrap();
    for schema in [json_schema(), sheet_json_schema()] {
        let definitions = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        let keys = definitions.filter_map(|definition| definition["properties"].as_object()).flat_map(|map| map.keys());
        for key in keys {
            assert!(manual.contains(&format!("| `{key}` |")), "`{key}` is not in docs/operator/mappings.md");
        }
    }
}
