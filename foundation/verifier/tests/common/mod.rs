//! What both files of tests build their ledgers from.
#![allow(dead_code)]

use std::collections::BTreeMap;
use tally_evidence::cbor::Cbor;
use tally_evidence::{CallBody, DeviceRecord, PartyKind, PartyRecord, RuleRecord, SigningKey, StatementKind, sign};
use tally_model::{DeviceId, PartyId, Timestamp};

pub const LEDGER: &str = "press-line";

/// Of the ledger with 1, of the agent with 2.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_secret(&[seed; 32]).unwrap()
}

pub fn device() -> DeviceId {
    DeviceId::try_new("press-01").unwrap()
}

pub fn party(name: &str) -> PartyId {
    PartyId::try_new(name).unwrap()
}

/// Registers the agent, its device and these rules.
pub fn genesis(rules: &[RuleRecord]) -> Vec<u8> {
    let agent = PartyRecord {
        id: party("agent-01"),
        kind: PartyKind::Agent,
        name: "Agent".into(),
        key: key(2).public().clone(),
        firm: None,
        skills: vec![],
    };
    let device = DeviceRecord { id: device(), agent: party("agent-01"), owner: party("acme"), site: None };
    let body = CallBody {
        contract: "registry".parse().unwrap(),
        action: "genesis".parse().unwrap(),
        agreement: None,
        args: BTreeMap::from([
            ("parties".to_owned(), Cbor::Array(vec![agent.to_cbor()])),
            ("devices".to_owned(), Cbor::Array(vec![device.to_cbor()])),
            ("rules".to_owned(), Cbor::Array(rules.iter().map(RuleRecord::to_cbor).collect())),
        ]),
        nonce: [0; 16],
        at: Timestamp::from_micros(0),
    };
    sign(StatementKind::Call, &key(1), &party(LEDGER), "registry", LEDGER, 0, body.encode())
}
