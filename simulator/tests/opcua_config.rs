//! `opcua:` of a simulator file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::time::Duration;
use tally_simulator::{OpcUaOffer, SimConfig};

fn parse(device: &str) -> Result<SimConfig, String> {
    let yaml = format!("devices:\n  - id: cnc\n{device}    signals: []\n");
    SimConfig::parse(&yaml, Path::new("plants/sim.yaml"), &|_| None).map_err(|fault| fault.to_string())
}

#[test]
fn what_a_server_offers_is_read() {
    let opcua = "    serve: opc.tcp://127.0.0.1:0
    pki: cnc-pki
    opcua: {policies: [none, basic256-sign-encrypt], sessions: 2, history: 2h, trust_any: false, user_certificates: {op: op.der}}
";
    let options = parse(opcua).unwrap().devices.remove(0).opcua;
    assert_eq!(options.offers, [OpcUaOffer::None, OpcUaOffer::Basic256SignAndEncrypt]);
    assert_eq!(
        (options.sessions_max, options.history, options.trust_any),
        (2, Some(Duration::from_secs(7_200)), false)
    );
    assert_eq!(options.pki.as_deref(), Some(Path::new("plants/cnc-pki")));
    assert_eq!(options.user_certificates, [("op".to_owned(), Path::new("plants/op.der").to_owned())]);
    let plain = parse("    serve: opc.tcp://127.0.0.1:0\n").unwrap().devices.remove(0).opcua;
    assert_eq!((plain.offers.as_slice(), plain.history, plain.trust_any), (OpcUaOffer::ALL, None, true));
}

#[test]
fn every_mistake_is_named_at_its_place() {
    let faults = parse(
        "    serve: opc.tcp://127.0.0.1:0
    opcua:
      policies: [best, strong, none]
      sessions: 0
      history: 0s
      trust_any: false
",
    )
    .unwrap_err();
    for wanted in [
        "plants/sim.yaml:5:18: `best` is no policy a server can offer; there are: none, basic256sha256-sign,",
        "5:24: `strong` is no policy",
        "`sessions: 0` is not within 1 to 10000",
        "`history` is a time up to 168h",
        "`trust_any: false` needs `pki:`",
    ] {
        assert!(faults.contains(wanted), "`{wanted}` is not in\n{faults}");
    }
    assert_eq!(faults.lines().count(), 5, "{faults}");
    let empty = parse("    serve: opc.tcp://127.0.0.1:0\n    opcua: {policies: []}\n").unwrap_err();
    assert!(empty.contains("nobody could connect"), "{empty}");
    let modbus = parse("    serve: modbus+tcp://127.0.0.1:0\n    opcua: {sessions: 3}\n").unwrap_err();
    assert!(modbus.contains("`opcua` is for OPC UA servers"), "{modbus}");
    let unknown = parse("    serve: opc.tcp://127.0.0.1:0\n    opcua: {session: 3}\n").unwrap_err();
    assert!(unknown.contains("session"), "{unknown}");
}
