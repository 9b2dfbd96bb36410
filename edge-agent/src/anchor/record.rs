//! What the book of anchors writes into its journal (integers little-endian, `text` and `bytes` with a u32 length in front):
//! ```text
//! anchor   1 u8, device text, number u64, digest [32], first u64, last u64, vault record of the next reading u64,
//!          receive time of the last one i64 µs, statement id [32], statement bytes
//! answer   2 u8, journal record of the anchor u64, refusal u16 (0 taken, 65535 turned away by the node), entry u64,
//!          receipt bytes (empty when turned away)
//! states   3 u8, vault record u64, count u32, count × (device text, next reading u64, place? u8, vault record u64,
//!          receive time i64 µs, number u64, digest [32], covered? u8, next covered u64, receive time i64 µs,
//!          refusals u32, count u32, count × reading with which the agent began again u64)
//! ```

use super::NEVER;
use crate::bytes::{Put, Take};
use tally_evidence::{Hash, StatementId};
use tally_model::{DeviceId, Timestamp};

const ANCHOR: u8 = 1;
const ANSWER: u8 = 2;
const STATES: u8 = 3;
/// Stands for a refusal by the node itself, which has no number.
pub(super) const TURNED_AWAY: u16 = u16::MAX;

/// A sealed anchor with what the agent must know of it without reading the statement again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAnchor {
    /// Whose readings.
    pub device: DeviceId,
    /// Number among the device's anchors.
    pub number: u64,
    /// What the next one names.
    pub digest: Hash,
    /// First reading covered.
    pub first: u64,
    /// Last reading covered.
    pub last: u64,
    /// Vault record at or before the one with the next reading.
    pub place: u64,
    /// Receive time of the last reading.
    pub received: Timestamp,
    /// Name of the statement.
    pub id: StatementId,
    /// The signed statement.
    pub statement: Vec<u8>,
}

/// The ledger's answer to an anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Journal record of the anchor.
    pub anchor: u64,
    /// 0 when it was taken.
    pub refusal: u16,
    /// Index of its entry.
    pub entry: u64,
    /// The receipt; empty when there is none.
    pub receipt: Vec<u8>,
}

/// How the anchors of a device stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub device: DeviceId,
    /// The first reading that no sealed anchor covers.
    pub next: u64,
    /// Vault record at or before the one that holds it, when known.
    pub place: Option<u64>,
    /// Receive time of the reading before `next`.
    pub received: Option<Timestamp>,
    /// Number and digest of the last sealed anchor; 0 and zeros before the first.
    pub number: u64,
    pub digest: Hash,
    /// The first reading that no anchor taken by the ledger covers, and the receive time of the one before it; `None` when it
    /// took none of this numbering.
    pub covered: Option<(u64, Timestamp)>,
    /// Refusals since the last one that was taken.
    pub refusals: u32,
    /// Readings from `next` on with which the agent began again.
    pub resumes: Vec<u64>,
}

impl State {
    /// Of a device that has no anchor yet.
    pub const fn new(device: DeviceId) -> Self {
        Self {
            device,
            next: 0,
            place: None,
            received: None,
            number: 0,
            digest: [0; 32],
            covered: None,
            refusals: 0,
            resumes: Vec::new(),
        }
    }
}

/// A record, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Anchor(SealedAnchor),
    Answer(Answer),
    /// With the vault record that came next when it was written.
    States(u64, Vec<State>),
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1024);
        match self {
            Self::Anchor(anchor) => encode_anchor(anchor, &mut bytes),
            Self::Answer(answer) => {
                bytes.push(ANSWER);
                bytes.put_u64(answer.anchor);
                bytes.put_u16(answer.refusal);
                bytes.put_u64(answer.entry);
                bytes.put_bytes(&answer.receipt);
            }
            Self::States(place, states) => {
                bytes.push(STATES);
                bytes.put_u64(*place);
                bytes.put_u32(u32::try_from(states.len()).unwrap_or(u32::MAX));
                states.iter().for_each(|state| encode_state(state, &mut bytes));
            }
        }
        bytes
    }

    /// `None` when the bytes are no record of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let record = match take.u8()? {
            ANCHOR => Self::Anchor(decode_anchor(&mut take)?),
            ANSWER => {
                let (anchor, refusal, entry) = (take.u64()?, take.u16()?, take.u64()?);
                Self::Answer(Answer { anchor, refusal, entry, receipt: take.bytes()?.to_vec() })
            }
            STATES => {
                let (place, count) = (take.u64()?, take.u32()?);
                Self::States(place, (0..count).map(|_| decode_state(&mut take)).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        take.end()?;
        Some(record)
    }
}

fn encode_anchor(anchor: &SealedAnchor, bytes: &mut Vec<u8>) {
    bytes.push(ANCHOR);
    bytes.put_bytes(anchor.device.as_str().as_bytes());
    bytes.put_u64(anchor.number);
    bytes.extend(anchor.digest);
    bytes.put_u64(anchor.first);
    bytes.put_u64(anchor.last);
    bytes.put_u64(anchor.place);
    bytes.put_time(anchor.received);
    bytes.extend(anchor.id.0);
    bytes.put_bytes(&anchor.statement);
}

fn decode_anchor(take: &mut Take<'_>) -> Option<SealedAnchor> {
    Some(SealedAnchor {
        device: take.parse()?,
        number: take.u64()?,
        digest: take.exact()?,
        first: take.u64()?,
        last: take.u64()?,
        place: take.u64()?,
        received: take.time()?,
        id: StatementId(take.exact()?),
        statement: take.bytes()?.to_vec(),
    })
}

fn encode_state(state: &State, bytes: &mut Vec<u8>) {
    bytes.put_bytes(state.device.as_str().as_bytes());
    bytes.put_u64(state.next);
    bytes.push(u8::from(state.place.is_some()));
    bytes.put_u64(state.place.unwrap_or(0));
    bytes.put_time(state.received.unwrap_or(NEVER));
    bytes.put_u64(state.number);
    bytes.extend(state.digest);
    bytes.push(u8::from(state.covered.is_some()));
    let (covered, received) = state.covered.unwrap_or((0, NEVER));
    bytes.put_u64(covered);
    bytes.put_time(received);
    bytes.put_u32(state.refusals);
    bytes.put_u32(u32::try_from(state.resumes.len()).unwrap_or(u32::MAX));
    state.resumes.iter().for_each(|number| bytes.put_u64(*number));
}

fn decode_state(take: &mut Take<'_>) -> Option<State> {
    let (device, next) = (take.parse()?, take.u64()?);
    let place = (take.u8()? == 1, take.u64()?);
    let received = take.time()?;
    let (number, digest) = (take.u64()?, take.exact()?);
    let covered = (take.u8()? == 1, (take.u64()?, take.time()?));
    let (refusals, count) = (take.u32()?, take.u32()?);
    let resumes = (0..count).map(|_| take.u64()).collect::<Option<_>>()?;
    Some(State {
        device,
        next,
        place: place.0.then_some(place.1),
        received: (received != NEVER).then_some(received),
        number,
        digest,
        covered: covered.0.then_some(covered.1),
        refusals,
        resumes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_round_trip() {
        let device = DeviceId::try_new("press-01").unwrap();
        let state = State { next: 7, ..State::new(device.clone()) };
        let later = State {
            place: Some(3),
            received: Some(Timestamp::from_micros(-4)),
            number: 5,
            covered: Some((6, Timestamp::from_micros(2))),
            refusals: 2,
            resumes: vec![7, 9],
            ..state.clone()
        };
        let anchor = SealedAnchor {
            device,
            number: 5,
            digest: [4; 32],
            first: 1,
            last: 6,
            place: 3,
            received: Timestamp::from_micros(8),
            id: StatementId([6; 32]),
            statement: vec![1, 2],
        };
        for record in [
            Record::Anchor(anchor),
            Record::Answer(Answer { anchor: 4, refusal: 177, entry: 9, receipt: vec![5] }),
            Record::States(11, vec![state, later]),
            Record::States(0, Vec::new()),
        ] {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..250), kind in 0u8..5) {
            bytes[0] = kind;
            let _ = Record::decode(&bytes);
        }
    }
}
