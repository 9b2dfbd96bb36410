//! `tally sim --mapping`: everything in a mapping can be rehearsed on a laptop. Every plant that ships is simulated as it
//! stands, and an agent reads every point of it good; what is elsewhere in a mapping comes here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tally_tests::{Ear, PATIENCE, Process, Site, eventually, free_port, root, tally_command};

type Variables = Vec<(&'static str, String)>;

/// Variables of the shipped plants: ports for everybody.
fn variables(broker: u16) -> Variables {
    let port = || free_port().to_string();
    vec![
        ("PRESS_PORT", port()),
        ("CNC_PORT", port()),
        ("CNC_PASSWORD", "rehearsal".to_owned()),
        ("BROKER_PORT", broker.to_string()),
        ("BROKER", format!("127.0.0.1:{broker}")),
        ("CONCENTRATOR", format!("127.0.0.1:{}", port())),
    ]
}

/// `tally sim`, ready.
async fn simulate(arguments: &[&str], variables: &Variables) -> Process {
    let mut command = tally_command(arguments);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let mut sim = Process::start("tally sim", command);
    let ready = sim.line().await;
    assert!(ready.starts_with("ready "), "{ready}{}", sim.tail());
    sim
}

/// The topics of every point of a mapping.
fn topics(mapping: &Path, variables: &Variables) -> BTreeSet<String> {
    let known = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let plant = tally_mappings::load(mapping, &known).unwrap_or_else(|faults| panic!("{faults}"));
    let topic = |device: &str, point: &str| format!("tallystick/{}/{device}/{point}", plant.name);
    let devices = plant.devices.iter();
    devices
        .flat_map(|device| device.points.iter().map(move |point| topic(device.id.as_str(), point.id.as_str())))
        .collect()
}

/// Runs an agent on a mapping until it has told SCADA a good value of every point.
async fn every_point_is_good(mapping: &Path, broker: u16, variables: &Variables) {
    let environment: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let site = Site::of_file(mapping, Some(&format!("mqtt://127.0.0.1:{broker}")), &environment).await;
    let ear = Ear::listen(broker).await;
    let mut agent = site.start_agent().await;
    let wanted = topics(mapping, variables);
    assert!(wanted.len() > 3, "{wanted:?}");
    let (mut missing, mut next) = (wanted.clone(), 0);
    eventually("every point to be good", async || {
        assert!(agent.is_running(), "{}", agent.tail());
        // An operator would look at the certificates; a simulation made them a second ago.
        let _ = site.trust_all();
        let fresh = ear.since(next);
        next += fresh.len();
        for message in fresh.iter().filter(|message| message.json["q"] == "good" && !message.json["v"].is_null()) {
            if missing.remove(&message.topic) && missing.len() < 4 {
                eprintln!("{}: still to come: {missing:?}", mapping.display());
            }
        }
        missing.is_empty().then_some(())
    })
    .await;
    eprintln!("{}: {} points", mapping.display(), wanted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shipped_plant_is_rehearsed_and_every_point_is_good() {
    let folder = root().join("mappings/plants");
    let mut plants: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    plants.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    assert!(plants.len() >= 2, "{plants:?}");
    for mapping in plants {
        let broker = free_port();
        let variables = variables(broker);
        // The simulation brings its own broker.
        let _sim = simulate(&["sim", "--mapping", &mapping.display().to_string()], &variables).await;
        every_point_is_good(&mapping, broker, &variables).await;
    }
}

/// Devices elsewhere, lines that this computer does not have, and every way to describe a register.
const ELSEWHERE: &str = r#"plant: elsewhere
devices:
  - id: press
    connect: modbus+tcp://10.255.255.7?unit=1            # port 502, not ours to listen on
    every: 200ms
    points:
      - {id: status_word, at: "40023", type: u16, unit: 1}
      - {id: fault, at: "40023.1"}
      - {id: mode, at: HR30, type: u16, bits: 0-3, labels: {0: idle, 5: run, 9: fault}}
      - {id: speed, at: HR30, type: i16, bits: 4-9, unit: /min, range: [-20, 20]}
      - {id: level, at: HR31, type: f32, order: DCBA, unit: "%", range: [20, 30]}
      - {id: small, at: HR33, type: f16, unit: bar}
      - {id: pieces, at: HR34, type: bcd32, unit: 1}
      - {id: energy, at: HR36, type: u64, order: FEHGBADC, scale: 0.001, unit: kW.h}
      - {id: temperature, at: HR40, type: i16, scale: 0.1, offset: -40, unit: Cel, range: [-40, 120]}
      - {id: name, at: HR41, type: text-high, length: 8}
      - {id: same_level, at: HR31, type: f32, order: DCBA, unit: "%", range: [20, 30]}
  - {id: lathe, connect: "modbus+rtu:///dev/ttyNOWHERE?unit=7&baud=115200", every: 200ms, points: [{id: load, at: IR0, type: u16, unit: "%"}, {id: on, at: DI3}]}
  - id: saw
    connect: modbus+ascii+tcp://gateway.example:4001?unit=9
    every: 200ms
    points: [{id: cuts_total, at: input:7, type: u32, unit: 1}]
  - id: cnc
    connect: opc.tcp://cnc.example:CNC_PORT/server
    every: 200ms
    points:
      - {id: position, at: "nsu=urn:cnc;s=Axes#/1/Position", type: f64, unit: mm, range: [0, 400]}
      - {id: limit, at: "nsu=urn:cnc;s=Axes#/0/Limits/1", type: f64, unit: mm}
      - {id: mode, at: "nsu=urn:cnc;s=Mode", type: i32, labels: {1: setup, 2: auto}}
  - id: hall
    connect: mqtt://broker.example:BROKER_PORT
    points:
      - {id: temperature, at: "hall/climate#/air/temperature", unit: Cel}
      - {id: door_open, at: hall/door, type: bool}
      - {id: humidity, at: "cbor:hall/packed#/humidity", unit: "%"}
  - id: line
    connect: mqtt://broker.example:BROKER_PORT
    points: [{id: torque, at: "sparkplug:works/edge/screwdriver#Torque", type: f64, unit: N.m}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_elsewhere_is_rehearsed_here_with_a_copy_of_the_mapping() {
    let folder = tempfile::tempdir().unwrap();
    let (mapping, rehearsal) = (folder.path().join("elsewhere.yaml"), folder.path().join("rehearsal"));
    let broker = free_port();
    let elsewhere = ELSEWHERE.replace("CNC_PORT", &free_port().to_string()).replace("BROKER_PORT", &broker.to_string());
    std::fs::write(&mapping, &elsewhere).unwrap();
    let shown = |path: &Path| path.display().to_string();
    let written =
        Process::run(tally_command(&["sim", "--mapping", &shown(&mapping), "--write", &shown(&rehearsal)]), PATIENCE)
            .await;
    let said = String::from_utf8_lossy(&written.stderr).into_owned();
    assert!(written.status.success(), "{said}");
    assert!(said.contains("press/same_level shares its place with level"), "{said}");
    assert_eq!(std::fs::read_to_string(&mapping).unwrap(), elsewhere, "the mapping itself is left alone");
    let copy = rehearsal.join("mapping/elsewhere.yaml");
    let text = std::fs::read_to_string(&copy).unwrap();
    for place in ["modbus+tcp://127.0.0.1:", "modbus+ascii+tcp://127.0.0.1:4001", "rehearsal/ttyNOWHERE?baud=115200"] {
        assert!(text.contains(place), "{text}");
    }
    assert!(text.contains("# port 502, not ours"), "comments stay: {text}");
    let again =
        Process::run(tally_command(&["sim", "--mapping", &shown(&mapping), "--write", &shown(&rehearsal)]), PATIENCE)
            .await;
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");

    let _sim = simulate(&["sim", &shown(&rehearsal.join("sim.yaml"))], &Vec::new()).await;
    assert!(rehearsal.join("ttyNOWHERE").exists(), "the serial line is there");
    every_point_is_good(&copy, broker, &Vec::new()).await;
}

/// A site for a given mapping has the simulation of it beside, with the password where the mapping has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_site_has_the_simulation_of_its_mapping() {
    use std::os::unix::fs::PermissionsExt;
    let variables = variables(free_port());
    let environment: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let site = Site::of_file(&root().join("mappings/plants/press-line.yaml"), None, &environment).await;
    let file = site.dir().join("sim.yaml");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#"users: {"operator": "env:CNC_PASSWORD"}"#) && !text.contains("rehearsal\""), "{text}");
    let mut sim = simulate(&["sim", &file.display().to_string()], &variables).await;
    let level: f64 = sim.tell("get press-01 oil_temp").await.strip_prefix("ok ").unwrap().parse().unwrap();
    assert!((15.0..=65.0).contains(&level), "{level}");
}
