//! What MQTT devices need, written and checked: brokers over TLS and of both versions, QoS, payloads, templates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_mappings::{Faults, Plant, load};
use tally_model::{Address, DeviceSpec, Endpoint, MqttQos, MqttVersion};

const CLEAR: &str = "mqtt://broker";

fn load_files(files: &[(&str, &str)]) -> Result<Plant, Faults> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    load(&folder.path().join("plant.yaml"), &|_| Some("secret".to_owned()))
}

/// A plant with one MQTT device: its keys and its points.
fn plant(connect: &str, keys: &str, points: &[&str]) -> Result<Plant, Faults> {
    let points: String = points.iter().map(|point| format!("      - {{{point}}}\n")).collect();
    let text = format!("plant: line\ndevices:\n  - id: hall\n    connect: {connect}\n{keys}    points:\n{points}");
    load_files(&[("plant.yaml", &text), ("ca.pem", "")])
}

fn device(connect: &str, keys: &str, points: &[&str]) -> DeviceSpec {
    plant(connect, keys, points).unwrap_or_else(|faults| panic!("{faults}")).devices.remove(0)
}

/// Key, message and hint of the one fault.
#[track_caller]
fn fault(connect: &str, keys: &str, points: &[&str]) -> String {
    let faults = plant(connect, keys, points).expect_err("there is a fault");
    let shown: Vec<_> = faults
        .iter()
        .map(|fault| format!("{}: {} | {}", fault.key, fault.message, fault.hint.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(shown.len(), 1, "{shown:#?}");
    shown[0].clone()
}

const POINT: &str = "id: temp, at: hall/temp, unit: Cel";

#[test]
fn a_broker_over_tls_in_version_5() {
    let keys = "    security: {ca: ca.pem, user: agent, password: env:X}\n    mqtt: {qos: 2, points_max: 7}\n";
    let device = device("mqtts://broker?version=5", keys, &[POINT]);
    let Endpoint::Mqtt(broker) = &device.endpoint else { panic!() };
    assert_eq!((broker.port, broker.is_tls, broker.version), (8883, true, MqttVersion::V5));
    assert!(device.security.tls.ca.as_ref().unwrap().ends_with("ca.pem"));
    assert_eq!((device.mqtt.qos, device.mqtt.points_max), (MqttQos::ExactlyOnce, 7));
}

#[test]
fn what_a_sheet_says_is_the_default() {
    let plant = "plant: line\ndevices:\n  - id: hall\n    connect: mqtt://broker\n    use: sheet.yaml\n    prefix: works/\n    \
                 mqtt: {points_max: 9}\n";
    let sheet = "sheet: climate\nmqtt: {qos: 0, points_max: 3}\npoints:\n  - {id: temp, at: 'cbor:temp#/t', unit: Cel}\n  - {id: \
                 '{m}_hum', at: '{m}/hum', unit: '%'}\n";
    let device = load_files(&[("plant.yaml", plant), ("sheet.yaml", sheet)]).unwrap().devices.remove(0);
    assert_eq!((device.mqtt.qos, device.mqtt.points_max), (MqttQos::AtMostOnce, 9));
    assert_eq!(device.points[0].address.to_string(), "cbor:works/temp#/t");
    assert_eq!(device.templates[0].filter(), "works/+/hum");
}

#[test]
fn templates_are_points_to_be() {
    let device = device(
        CLEAR,
        "",
        &[POINT, "id: '{machine}_temp', at: 'hall/{machine}/climate#/t', type: f64, unit: Cel, range: [0, 90]"],
    );
    assert_eq!(device.points.len(), 1, "nothing is made before it speaks");
    let template = &device.templates[0];
    assert_eq!(template.filter(), "hall/+/climate");
    assert_eq!(template.id_for("hall/press-01/climate").unwrap().unwrap().as_str(), "press_01_temp");
    assert_eq!((template.point.unit.as_str(), template.point.range), ("Cel", Some((0.0, 90.0))));
}

#[test]
fn metrics_of_edge_nodes_are_points() {
    let device = device(CLEAR, "", &["id: temp, at: 'sparkplug:works/edge/press#Motor/Temp', unit: Cel"]);
    let Address::Sparkplug { device, metric, .. } = &device.points[0].address else { panic!() };
    assert_eq!((device.as_deref(), metric.as_str()), (Some("press"), "Motor/Temp"));
}

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    let said = |connect: &str, keys: &str, point: &str, expected: &[&str]| {
        let fault = fault(connect, keys, &[point]);
        for part in expected {
            assert!(fault.contains(part), "`{part}` is not in: {fault}");
        }
    };
    for (connect, keys, expected) in [
        ("mqtts://broker", "", ["devices[0].security", "which broker to trust"]),
        ("mqtts://broker", "    security: {pin: abc}\n", ["security.pin", "SHA-256"]),
        ("mqtts://broker", "    security: {ca: no.pem}\n", ["security.ca", "no such file"]),
        (CLEAR, "    security: {ca: ca.pem}\n", ["devices[0].security", "mqtts://"]),
        ("mqtt://broker?version=4", "", ["connect", "3.1.1 or 5"]),
        ("mqtt://broker?qos=1", "", ["connect", "unknown parameter `qos`"]),
        (CLEAR, "    mqtt: {qos: 3}\n", ["mqtt.qos", "out of range"]),
        (CLEAR, "    mqtt: {qso: 1}\n", ["mqtt.qso", "did you mean `qos`"]),
        (CLEAR, "    security: {policy: best}\n", ["security.policy", "mqtts://"]),
    ] {
        said(connect, keys, POINT, &expected);
    }
    for (point, expected) in [
        ("id: t, at: hall/+/temp, unit: Cel", ["points[0].at", "{machine}"]),
        ("id: t, at: 'hall/{m}/temp', unit: Cel", ["points[0].at", "`id: \"{m}_t\"`"]),
        ("id: '{m}_t', at: hall/temp, unit: Cel", ["points[0].id", "does not stand in the topic"]),
        ("id: '{m}_t', at: 'hall/x{m}/temp', unit: Cel", ["points[0].at", "whole level"]),
        ("id: '{m}', at: 'hall/{m}/temp', unit: Cel", ["points[0].id", "`_` outside the braces"]),
        ("id: '{m}_t', at: 'sparkplug:g/e#x', unit: Cel", ["points[0].at", "only topics"]),
        ("id: t, at: 'sparkplug:g#x', unit: Cel", ["points[0].at", "sparkplug:works-1/edge-1"]),
        ("id: '{m}_t', at: 'hall/{m}', unit: '°C'", ["points[0].unit", "UCUM"]),
    ] {
        said(CLEAR, "", point, &expected);
    }
    said(
        "modbus+tcp://10.0.0.7",
        "",
        "id: '{m}_t', at: coil:1, type: bool",
        &["points[0].id", "levels of MQTT topics"],
    );
    said("modbus+tcp://10.0.0.7", "    mqtt: {qos: 1}\n", "id: t, at: coil:1", &["devices[0].mqtt", "MQTT devices"]);
}

#[test]
fn how_a_device_is_told_a_value() {
    let position =
        "id: position, at: 'valve/state#/position', unit: '%', type: f64, writable: true, write_range: [0, 80]";
    let told = |more: &str| device(CLEAR, "", &[&format!("{position}, {more}")]).points.remove(0).place();
    assert_eq!(told("write: {topic: valve/set}"), "valve/state#/position => valve/set");
    let payload = r#"write: {topic: valve/set, payload: '{"position": {value}}'}"#;
    assert_eq!(told(payload), r#"valve/state#/position => valve/set {"position": {value}}"#);
    let metric =
        "id: opening, at: 'sparkplug:works/edge/valve#Position', unit: '%', writable: true, write_range: [0, 80]";
    let metric = device(CLEAR, "", &[metric]).points.remove(0);
    assert!(metric.options.writable.is_some() && metric.options.command.is_none());
    for (point, wanted) in [
        (position.to_owned(), "writable: nothing says on which topic the device takes values"),
        (format!("{position}, write: {{topic: valve/+/set}}"), "write.topic: not a topic that can be written"),
        (format!("{position}, write: {{topic: 'valve/set#/a'}}"), "write.topic: not a topic that can be written"),
        (format!("{position}, write: {{payload: '{{value}}'}}"), "write.topic: `topic` is missing"),
        (
            format!("{position}, write: {{topic: s, payload: 'on'}}"),
            "write.payload: the payload has no place for the value",
        ),
        (
            format!(r#"{position}, write: {{topic: s, payload: '{{"p": "{{value}}"}}'}}"#),
            "write.payload: quotes around the value",
        ),
        (format!("{POINT}, write: {{topic: s}}"), "write: how to write a point that is not writable"),
        (
            format!("{POINT}, method: {{object: 'ns=1;i=1', node: 'ns=1;i=2'}}"),
            "method: this is for points of OPC UA devices",
        ),
        (
            "id: '{m}_t', at: 'hall/{m}/t', unit: Cel, writable: true, write_range: [0, 1], write: {topic: s}"
                .to_owned(),
            "writable: a point that is made when its topic speaks cannot be written",
        ),
    ] {
        let told = fault(CLEAR, "", &[&point]);
        assert!(told.starts_with("devices[0].points[0].") && told.contains(wanted), "{point}: {told}");
    }
}

#[test]
fn where_a_device_takes_values_moves_with_the_prefix_of_its_sheet() {
    let plant = "plant: line\ndevices:\n  - {id: v, connect: mqtt://broker, use: sheet.yaml, prefix: works/}\n";
    let sheet = "sheet: valve\npoints:\n  - {id: p, at: state, type: f64, unit: '%', writable: true, write_range: [0, 1], write: {topic: set}}\n";
    let device = load_files(&[("plant.yaml", plant), ("sheet.yaml", sheet)]).unwrap().devices.remove(0);
    assert_eq!(device.points[0].place(), "works/state => works/set");
}
