//! What both files of tests build their ledgers from.
#![allow(dead_code)]

use std::collections::BTreeMap;
use tally_evidence::cbor::Cbor;
use tally_evidence::{
    Algorithm, CallBody, Cosigner, DeviceRecord, EvidenceEntry, NoteSigningKey, PartyKind, PartyRecord, RuleRecord,
    SignedNote, SignedStatement, SigningKey, StatementKind, Tree, TreeNote, WitnessedNote, cosign, leaf_hash, sign,
};
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

/// A note over all entries of a file and one more, cosigned by two witnesses, of which each kind of key is one.
pub fn cosigned(entries: &[EvidenceEntry]) -> (WitnessedNote, Vec<Cosigner>) {
    let mut tree = Tree::default();
    for entry in entries {
        tree.push(leaf_hash(&SignedStatement::parse(&entry.statement).unwrap().id.0));
    }
    tree.push([9; 32]);
    let note = TreeNote { origin: LEDGER.to_owned(), size: tree.size(), root: tree.root() }.seal(&key(1));
    let mut note = SignedNote::parse(&note).unwrap();
    let mut witnesses = Vec::new();
    for (name, algorithm) in [("w1", Algorithm::Ed25519), ("w2", Algorithm::P256)] {
        let key = NoteSigningKey::from_secret(algorithm, &[7; 32]).unwrap();
        let line = cosign(&note, name, &key, 1_790_000_021).unwrap();
        note = note.with(line);
        witnesses.push(Cosigner::new(name, key.public().clone()).unwrap());
    }
    let paths = (0..tree.size() - 1).map(|index| tree.inclusion_path(index, tree.size()).unwrap()).collect();
    (WitnessedNote { note: note.to_string(), witnesses: witnesses.clone(), paths }, witnesses)
}

/// Compares a file with the one that others check their verifiers with, in `tests/formats`.
pub fn is_frozen(name: &str, bytes: &[u8]) {
    let frozen = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats").join(name);
    if std::env::var_os("TALLY_UPDATE").is_some() {
        std::fs::write(&frozen, bytes).unwrap();
        std::fs::write(frozen.with_extension("ledger.pub.pem"), key(1).public().to_pem().unwrap()).unwrap();
    }
    assert!(std::fs::read(&frozen).unwrap() == bytes, "the format has changed; if on purpose, run with TALLY_UPDATE=1");
}
