//! Real parts of real files: the evidence files of `tests/formats`, taken apart; and a state of our own.

use tally_evidence::{
    Checkpoint, EvidenceEntry, EvidenceFile, KeyScheme, SignedStatement, SigningKey, Stamped, StateTree, StatementKind,
    WitnessedNote,
};
use tally_model::{DeviceId, Timestamp};

/// When everything is.
pub const NOON: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);
/// Name of our ledger.
pub const LEDGER: &str = "press-line";

/// An order from its trigger to its payment; one under a batch; one whose people changed keys; one with witnesses.
pub const FILES: [&[u8]; 4] = [
    include_bytes!("../../tests/formats/mo-1.tally"),
    include_bytes!("../../tests/formats/mo-1-batched.tally"),
    include_bytes!("../../tests/formats/identity.tally"),
    include_bytes!("../../tests/formats/witnessed.tally"),
];

/// The same with a time-stamp (RFC 3161).
pub const STAMPED: &[u8] = include_bytes!("../../tests/formats/timestamped.tally");

/// Who made that time-stamp.
pub const AUTHORITY: &[u8] = include_bytes!("../../tests/formats/timestamped.tsa-ca.pem");

/// A segment of a node's log.
pub const SEGMENT: &[u8] = include_bytes!("../../tests/formats/node-1/log/00000000000000000000.seg");

/// The key that seals what the targets hold against a key.
pub fn key() -> SigningKey {
    SigningKey::from_secret(&[7; 32]).unwrap()
}

pub fn evidence() -> Vec<EvidenceFile> {
    FILES.iter().map(|file| EvidenceFile::decode(file).unwrap()).collect()
}

/// Entries of all files, a few kilobytes each.
pub fn entries() -> Vec<EvidenceEntry> {
    evidence().into_iter().flat_map(|file| file.entries).collect()
}

/// Bodies of one kind.
pub fn bodies(kind: StatementKind) -> Vec<Vec<u8>> {
    let statements = entries().into_iter().filter_map(|entry| SignedStatement::parse(&entry.statement).ok());
    statements.filter(|statement| statement.kind == kind).map(|statement| statement.payload).collect()
}

pub fn witnessed() -> WitnessedNote {
    evidence().into_iter().find_map(|file| file.witnessed).unwrap()
}

/// A token and the digest it is about.
pub fn token() -> (Vec<u8>, tally_evidence::Hash) {
    let stamped = Stamped::split(STAMPED).unwrap();
    let digest = stamped.digest();
    (stamped.token.unwrap().der, digest)
}

pub fn device() -> DeviceId {
    DeviceId::try_new("press-01").unwrap()
}

/// A sealed checkpoint over this state.
pub fn checkpoint_over(state: &StateTree) -> Vec<u8> {
    let checkpoint = Checkpoint {
        ledger: LEDGER.to_owned(),
        height: 3,
        size: 9,
        root: [1; 32],
        state: state.root(),
        outcomes: [3; 32],
        outcome_count: 4,
        time: NOON,
        previous: [4; 32],
    };
    checkpoint.seal(&key())
}

/// A state of a new ledger with this key and a few others.
pub fn state_with(key: &[u8], value: &[u8]) -> StateTree {
    state_as(KeyScheme::Grouped, key, value)
}

/// The same by a scheme; the others are of a group and of none.
pub fn state_as(scheme: KeyScheme, key: &[u8], value: &[u8]) -> StateTree {
    let mut state = StateTree::new(scheme);
    let others = (0_u8..20).flat_map(|number| [vec![b'o', number], [&b"mmo\0\0\0\0\0\0\0\0"[..], &[number]].concat()]);
    let others: Vec<Vec<u8>> = others.collect();
    state.apply(others.iter().map(|other| (&other[..], Some(&other[..]))));
    state.apply([(key, Some(value))]);
    state
}
