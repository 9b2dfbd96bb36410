//! What OPC UA devices need, written and checked: policies and logins, how a server is read and what it can bear, parts of
//! values, alarms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;
use tally_mappings::{Faults, Plant, load};
use tally_model::{Address, AlarmPart, DeviceSpec, OpcUaPolicy, OpcUaRead};

const POINT: &str = "id: load, at: \"nsu=urn:cnc;s=Load\", unit: kW";

/// A plant with one device: its keys and its points.
fn plant(connect: &str, keys: &str, points: &[&str]) -> Result<Plant, Faults> {
    let points: String = points.iter().map(|point| format!("      - {{{point}}}\n")).collect();
    let keys: String = keys.lines().map(|key| format!("    {key}\n")).collect();
    let text = format!("plant: line\ndevices:\n  - id: cnc\n    connect: {connect}\n{keys}    points:\n{points}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plant.yaml"), text).unwrap();
    load(&folder.path().join("plant.yaml"), &|_| Some("secret".to_owned()))
}

fn device(keys: &str, points: &[&str]) -> DeviceSpec {
    plant("opc.tcp://cnc", keys, points).unwrap_or_else(|faults| panic!("{faults}")).devices.remove(0)
}

#[track_caller]
fn fault(keys: &str, points: &[&str]) -> String {
    let faults = plant("opc.tcp://cnc", keys, points).expect_err("there is a fault");
    assert_eq!(faults.iter().count(), 1, "{faults}");
    faults.to_string()
}

#[test]
fn how_a_server_is_read_and_what_it_can_bear() {
    let plain = device("", &[POINT]).opcua;
    assert_eq!((plain.read, plain.sampling, plain.queue, plain.history), (OpcUaRead::Best, None, None, None));
    let keys = "opcua: {profile: s7-1500, read: subscribe, sampling: 50ms, queue: 40, server_deadband: true, history: 36h, \
                limits: {items_per_call: 20, publishing: 2s}}";
    let opcua = device(keys, &[POINT]).opcua;
    assert_eq!((opcua.profile.as_deref(), opcua.read), (Some("s7-1500"), OpcUaRead::Subscribe));
    assert_eq!((opcua.sampling, opcua.queue, opcua.server_deadband), (Some(Duration::from_millis(50)), Some(40), true));
    assert_eq!(opcua.history, Some(Duration::from_secs(36 * 3_600)));
    // The device's own word, and where it says nothing the profile's.
    assert_eq!((opcua.limits.items_per_call, opcua.limits.publishing), (Some(20), Some(Duration::from_secs(2))));
    assert!(opcua.limits.items_per_subscription.is_some_and(|most| most >= 100), "{:?}", opcua.limits);
    for (keys, wanted) in [
        ("opcua: {profile: s7-1501}", "did you mean `s7-1500`?"),
        ("opcua: {profile: abacus}", "beckhoff, codesys, ignition, kepware, s7-1200, s7-1500"),
        ("opcua: {read: sometimes}", "opcua.read"),
        ("opcua: {sampling: 2h}", "opcua.sampling"),
        ("opcua: {history: 400d}", "opcua.history"),
        ("opcua: {queue: 0}", "opcua.queue"),
        ("opcua: {limits: {sampling: soon}}", "opcua.limits.sampling"),
        ("opcua: {limits: {subscription: 3}}", "did you mean `subscriptions`?"),
    ] {
        let told = fault(keys, &[POINT]);
        assert!(told.contains(wanted) && told.contains("plant.yaml:5"), "{keys}: {told}");
    }
    let modbus =
        plant("modbus+tcp://press", "opcua: {queue: 3}", &["id: a, at: \"holding:1\", type: u16, unit: \"1\""]);
    assert!(modbus.unwrap_err().to_string().contains("`opcua` is for OPC UA devices"));
}

#[test]
fn every_policy_and_login_by_its_word() {
    for policy in OpcUaPolicy::ALL {
        let insecure = if policy.is_deprecated() { ", insecure: true" } else { "" };
        let made = device(&format!("security: {{policy: {}{insecure}}}", policy.word()), &[POINT]);
        assert_eq!((made.security.policy, made.security.insecure), (policy, policy.is_deprecated()));
    }
    for policy in ["basic256-sign-encrypt", "basic128rsa15-sign-encrypt"] {
        let told = fault(&format!("security: {{policy: {policy}}}"), &[POINT]);
        assert!(told.contains("SHA-1") && told.contains("`insecure: true`") && told.contains(policy), "{told}");
    }
    let login = device("security: {user_certificate: op.der, user_key: keys/op.pem}", &[POINT]).security;
    let (certificate, key) = (login.user_certificate.unwrap(), login.user_key.unwrap());
    assert!(certificate.is_absolute() && certificate.ends_with("op.der") && key.ends_with("keys/op.pem"));
    for (keys, wanted) in [
        ("security: {user_certificate: op.der}", "add `user_key:`"),
        ("security: {user_key: op.pem}", "add `user_certificate:`"),
        ("security: {user: op, password: env:X, user_certificate: op.der, user_key: op.pem}", "two logins at once"),
    ] {
        let told = fault(keys, &[POINT]);
        assert!(told.contains(wanted), "{keys}: {told}");
    }
}

#[test]
fn parts_of_values_enumerations_and_alarms() {
    let points = [
        "id: position, at: \"nsu=urn:cnc;s=Axis#/Position\", unit: mm, every: 20ms",
        "id: mode, at: \"nsu=urn:cnc;s=Mode\", type: i32, labels: {0: setup, 1: auto}",
        "id: ready, at: \"nsu=urn:cnc;s=Status\", type: u16, bits: 3-3, unit: \"1\"",
        "id: hot, at: \"alarm:nsu=urn:cnc;s=Overheat#/active\"",
        "id: hot_says, at: \"alarm:ns=2;i=17#/message\"",
    ];
    let made = device("", &points).points;
    assert_eq!(made[0].options.every, Some(Duration::from_millis(20)));
    assert_eq!(made[1].options.labels.as_ref().unwrap()[&1], "auto");
    assert_eq!(made[2].options.bits.unwrap().low, 3);
    assert!(matches!(made[3].address, Address::OpcUa { alarm: Some(AlarmPart::Active), .. }));
    assert_eq!(made[4].address.to_string(), "alarm:ns=2;i=17#/message");
    let told = fault("", &["id: hot, at: \"alarm:nsu=urn:cnc;s=Overheat#/colour\""]);
    assert!(told.contains("active, acked, confirmed, enabled, severity, message"), "{told}");
    let told = fault("", &["id: hot, at: \"alarm:Overheat\""]);
    assert!(told.contains("alarm:nsu=urn:factory:cnc;s=Overheat#/active"), "{told}");
}

#[test]
fn methods_that_may_be_called() {
    let method = |more: &str| format!("{POINT}, method: {{object: 'nsu=urn:cnc;s=Machine', node: 'ns=2;i=7'{more}}}");
    let arguments = ", arguments: [{name: speed, range: [0, 80]}, {name: fast, type: flag}, {name: why, type: text}]";
    let point = device("", &[&method(arguments)]).points.remove(0);
    assert_eq!(point.place(), "nsu=urn:cnc;s=Load => nsu=urn:cnc;s=Machine ns=2;i=7");
    let takes: Vec<_> = point.options.method.unwrap().arguments.iter().map(|one| one.takes.to_string()).collect();
    assert_eq!(takes, ["a number from 0 to 80", "true or false", "a text"]);
    assert!(device("", &[&method("")]).points[0].options.method.as_ref().unwrap().arguments.is_empty());
    for (point, wanted) in [
        (method(", arguments: [{name: speed}]"), "needs bounds"),
        (method(", arguments: [{name: speed, range: [8, 0]}]"), "the bounds are empty"),
        (method(", arguments: [{name: fast, type: flag, range: [0, 1]}]"), "only numbers have bounds"),
        (method(", arguments: [{range: [0, 1]}]"), "`name` is missing"),
        (format!("{POINT}, method: {{object: Machine, node: 'ns=2;i=7'}}"), "not a node id"),
        (format!("{POINT}, method: {{object: 'ns=2;i=6', node: 'ns=2;i=7#/1'}}"), "not a node id"),
        (format!("{POINT}, method: {{object: 'ns=2;i=6'}}"), "`node` is missing"),
        (format!("{POINT}, write: {{topic: a}}"), "this is for points of MQTT devices"),
        (
            "id: hot, at: 'alarm:ns=2;i=5#/active', method: {object: 'ns=2;i=6', node: 'ns=2;i=7'}".to_owned(),
            "an alarm is called to acknowledge it",
        ),
    ] {
        let told = fault("", &[&point]);
        assert!(told.contains(wanted), "{point}: {told}");
    }
}
