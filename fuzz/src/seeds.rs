//! What to begin with: one good input each, so that mutation starts behind the first check.

use std::collections::BTreeMap;
use tally_evidence::cbor::int;
use tally_evidence::{CallBody, ReadingsClaim, SigningKey, StatementKind, Transition, TriggerBody, sign};
use tally_model::{DeviceId, PartyId, Priority, Timestamp, TriggerId};

const PLANT: &str = r#"plant: line
devices:
  - id: press-01
    connect: modbus+tcp://127.0.0.1:502?unit=1
    every: 100ms
    points:
      - {id: load, at: holding:16, type: f32, order: CDAB, unit: kN, range: [0, 500], scale: 0.1}
      - {id: worn, at: coil:1, unit: "1"}
  - id: hall
    connect: mqtt://127.0.0.1
    points: [{id: temperature, at: "hall/climate#/temperature", unit: Cel}]
triggers:
  - {id: bearing-worn, device: press-01, when: "load > 7.1 && worn", for: 10s, priority: high}
"#;

const NODE: &str = r#"ledger: press-line
data: node
key: keys/node.key
listen: ["unix:n.sock", "tls:10.0.0.5:7460"]
tls: {certificate: n.pem, key: n.key, client_ca: ca.pem, clients: required}
access: {local: closed, tokens: t.json, agent: [agent-01], requests_per_second: 5}
limits: {body_bytes_max: 65536, in_flight_max: 100}
block: {interval: 2ms, entries_max: 500}
retention: {payloads: 400d, disk: 20GB}
projection: {postgres: "host=/run/postgresql dbname=tally"}
"#;

fn key() -> SigningKey {
    SigningKey::from_secret(&[7; 32]).unwrap()
}

fn call() -> Vec<u8> {
    let args = BTreeMap::from([("amount".to_owned(), int(5))]);
    let at = Timestamp::from_micros(1_790_000_000_000_000);
    let (contract, action) = ("accounts".parse().unwrap(), "transfer".parse().unwrap());
    CallBody { contract, action, agreement: None, args, nonce: [1; 16], at }.encode()
}

fn trigger() -> Vec<u8> {
    let readings = ReadingsClaim { first: 0, last: 9, root: [1; 32], head: [2; 32], points: BTreeMap::new() };
    TriggerBody {
        trigger: TriggerId::try_new("bearing-worn").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        rule: [9; 32],
        transition: Transition::Raised,
        priority: Priority::Medium,
        at: Timestamp::from_micros(1_790_000_000_000_000),
        readings,
        number: 1,
        call: None,
        clock: None,
        grade: Default::default(),
        mapping: None,
        origins: Vec::new(),
        quality: None,
    }
    .encode()
}

/// Good inputs of a target; for those without, mutation begins with nothing and with what the corpus has.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let party = PartyId::try_new("acme").unwrap();
    let request = || tally_ca::Request::new(&["agent-01".to_owned()]).unwrap().der().to_vec();
    match target {
        "statement" => vec![sign(StatementKind::Call, &key(), &party, "accounts", "press-line", 1_790_000_000, call())],
        "trigger" => vec![trigger()],
        "call" => vec![call()],
        "mapping" => vec![PLANT.as_bytes().to_vec()],
        "node-yaml" => vec![NODE.as_bytes().to_vec()],
        "rule-expression" => {
            vec![b"a > 7.1 && mean(b, '10s') < 3.0".to_vec(), b"rate(a, '1m') > 0.1 || !(b == a)".to_vec()]
        }
        "modbus-words" => vec![vec![9, 1, 2, 2, 0x3f, 0x80, 0, 0], vec![11, 0, 4, 0, b'a', b'b', b'c', b'd']],
        "mqtt-payload" => {
            vec![b"\x09{\"a\":{\"b\":1.5},\"timestamp\":\"2026-11-21T00:00:00Z\"}".to_vec(), b"\x00true".to_vec()]
        }
        "address" => vec![
            b"modbus+rtu:///dev/ttyUSB0?baud=9600&parity=none&unit=3".to_vec(),
            b"opc.tcp://h:4840/p".to_vec(),
            b"holding:16".to_vec(),
        ],
        "note" => vec![
            format!("press-line\n12\n{}=\n\n\u{2014} press-line {}=\n", "A".repeat(43), "B".repeat(91)).into_bytes(),
        ],
        "certificate-request" => vec![request()],
        _ => vec![vec![0xa0], vec![0x80], vec![0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40]],
    }
}
