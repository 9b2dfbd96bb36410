//! What the vault writes into its journal; the layout stands in the head of [`super`].

use crate::bytes::{Put, Take};
use std::collections::HashMap;
use tally_evidence::{ChainHead, Hash, decode_stretch, encode_stretch};
use tally_model::{DeviceId, PointId, Stretch, Timestamp};

const BATCH: u8 = 1;
const SNAPSHOT: u8 = 2;
const LATE: u8 = 3;
const ORIGIN: u8 = 4;
/// A snapshot that also says where readings come from.
const SNAPSHOT_WITH_ORIGINS: u8 = 5;
/// Flag of a batch: what was decided before it is sealed or given up.
const SETTLES: u8 = 1;

/// A record, read.
#[derive(Debug, PartialEq)]
pub(super) enum Record<'a> {
    Batch(Batch<'a>),
    Snapshot(Vec<Saved>),
    Late(LateBatch<'a>),
    /// From a reading on, those of the device come from there.
    Origin(DeviceId, Stretch),
}

/// Readings of one device that came together.
#[derive(Debug, PartialEq)]
pub(super) struct Batch<'a> {
    pub settles: bool,
    pub device: DeviceId,
    /// Number of the first reading.
    pub first: u64,
    /// Canonical bytes of the readings.
    pub readings: Vec<&'a [u8]>,
    /// Receive time of the last one.
    pub received: Timestamp,
    /// Chain head after the last one.
    pub head: Hash,
}

/// What a device had recorded while it could not be heard; in no chain.
#[derive(Debug, PartialEq)]
pub(super) struct LateBatch<'a> {
    pub device: DeviceId,
    /// Canonical bytes of readings whose numbers are 0.
    pub samples: Vec<&'a [u8]>,
    /// Receive time of the last one.
    pub received: Timestamp,
}

/// The state of one device's chain.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Saved {
    pub device: DeviceId,
    pub next: u64,
    pub head: ChainHead,
    pub received: Timestamp,
    /// What a running rule may still look at: reading number, and a journal record at or before it.
    pub needed: Option<(u64, u64)>,
    pub points: HashMap<PointId, PointCount>,
    /// Where readings come from, as far back as a rule may look.
    pub origins: Vec<Stretch>,
}

/// How often a point was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PointCount {
    /// Point number of its next reading.
    pub next: u64,
    /// Number of its latest reading in the device's chain.
    pub latest: u64,
}

/// Writes a batch, or a late one, reading by reading.
pub(super) struct BatchWriter {
    bytes: Vec<u8>,
    count_at: usize,
    count: u32,
}

impl BatchWriter {
    pub fn new(mut bytes: Vec<u8>, settles: bool, device: &DeviceId, first: u64) -> Self {
        bytes.clear();
        bytes.push(BATCH);
        bytes.push(if settles { SETTLES } else { 0 });
        bytes.put_bytes(device.as_str().as_bytes());
        bytes.put_u64(first);
        let count_at = bytes.len();
        bytes.put_u32(0);
        Self { bytes, count_at, count: 0 }
    }

    pub fn late(mut bytes: Vec<u8>, device: &DeviceId) -> Self {
        bytes.clear();
        bytes.push(LATE);
        bytes.put_bytes(device.as_str().as_bytes());
        let count_at = bytes.len();
        bytes.put_u32(0);
        Self { bytes, count_at, count: 0 }
    }

    pub fn push(&mut self, reading: &[u8]) {
        self.bytes.put_bytes(reading);
        self.count += 1;
    }

    pub fn finish(self, received: Timestamp, head: &Hash) -> Vec<u8> {
        let mut bytes = self.finish_late(received);
        bytes.extend(head);
        bytes
    }

    pub fn finish_late(mut self, received: Timestamp) -> Vec<u8> {
        self.bytes[self.count_at..self.count_at + 4].copy_from_slice(&self.count.to_le_bytes());
        self.bytes.put_time(received);
        self.bytes
    }
}

pub(super) fn encode_origin(device: &DeviceId, stretch: &Stretch) -> Vec<u8> {
    let mut bytes = vec![ORIGIN];
    bytes.put_bytes(device.as_str().as_bytes());
    bytes.put_bytes(&encode_stretch(stretch));
    bytes
}

pub(super) fn encode_snapshot<'a>(chains: impl ExactSizeIterator<Item = &'a Saved>) -> Vec<u8> {
    let mut bytes = vec![SNAPSHOT_WITH_ORIGINS];
    bytes.put_u32(u32::try_from(chains.len()).unwrap_or(u32::MAX));
    for chain in chains {
        bytes.put_bytes(chain.device.as_str().as_bytes());
        bytes.put_u64(chain.next);
        bytes.extend(chain.head.0);
        bytes.put_time(chain.received);
        bytes.push(u8::from(chain.needed.is_some()));
        let (number, place) = chain.needed.unwrap_or_default();
        bytes.put_u64(number);
        bytes.put_u64(place);
        bytes.put_u32(u32::try_from(chain.points.len()).unwrap_or(u32::MAX));
        for (point, count) in &chain.points {
            bytes.put_bytes(point.as_str().as_bytes());
            bytes.put_u64(count.next);
            bytes.put_u64(count.latest);
        }
        bytes.put_u32(u32::try_from(chain.origins.len()).unwrap_or(u32::MAX));
        for stretch in &chain.origins {
            bytes.put_bytes(&encode_stretch(stretch));
        }
    }
    bytes
}

/// `None` when the bytes are no record of this version.
pub(super) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let mut take = Take(bytes);
    match take.u8()? {
        BATCH => decode_batch(take).map(Record::Batch),
        SNAPSHOT => decode_snapshot(take, false).map(Record::Snapshot),
        SNAPSHOT_WITH_ORIGINS => decode_snapshot(take, true).map(Record::Snapshot),
        LATE => decode_late(take).map(Record::Late),
        ORIGIN => decode_origin(take),
        _ => None,
    }
}

pub(super) fn is_snapshot(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(SNAPSHOT | SNAPSHOT_WITH_ORIGINS)))
}

/// Whether it holds readings, late ones or others.
pub(super) fn has_readings(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(BATCH | LATE)))
}

/// Readings in a batch, also a late one; 0 when it is none.
pub(super) fn count(bytes: &[u8]) -> usize {
    let mut take = Take(bytes);
    let mut count = || {
        if take.u8()? == LATE {
            take.bytes()?;
        } else {
            take.u8()?;
            take.bytes()?;
            take.u64()?;
        }
        usize::try_from(take.u32()?).ok()
    };
    count().unwrap_or(0)
}

fn decode_batch(mut take: Take<'_>) -> Option<Batch<'_>> {
    let settles = take.u8()? & SETTLES != 0;
    let device = take.parse()?;
    let first = take.u64()?;
    let count = take.u32()?;
    let readings = (0..count).map(|_| take.bytes()).collect::<Option<_>>()?;
    let (received, head) = (take.time()?, take.exact()?);
    take.end()?;
    Some(Batch { settles, device, first, readings, received, head })
}

fn decode_late(mut take: Take<'_>) -> Option<LateBatch<'_>> {
    let device = take.parse()?;
    let count = take.u32()?;
    let samples = (0..count).map(|_| take.bytes()).collect::<Option<_>>()?;
    let received = take.time()?;
    take.end()?;
    Some(LateBatch { device, samples, received })
}

fn decode_origin(mut take: Take<'_>) -> Option<Record<'_>> {
    let (device, stretch) = (take.parse()?, decode_stretch(take.bytes()?)?);
    take.end()?;
    Some(Record::Origin(device, stretch))
}

fn decode_snapshot(mut take: Take<'_>, has_origins: bool) -> Option<Vec<Saved>> {
    let count = take.u32()?;
    let chains = (0..count).map(|_| decode_saved(&mut take, has_origins)).collect::<Option<_>>()?;
    take.end()?;
    Some(chains)
}

fn decode_saved(take: &mut Take<'_>, has_origins: bool) -> Option<Saved> {
    let device = take.parse()?;
    let next = take.u64()?;
    let head = ChainHead(take.exact()?);
    let received = take.time()?;
    let is_needed = take.u8()? == 1;
    let needed = (take.u64()?, take.u64()?);
    let count = take.u32()?;
    let point = |_| Some((take.parse()?, PointCount { next: take.u64()?, latest: take.u64()? }));
    let points = (0..count).map(point).collect::<Option<_>>()?;
    let count = if has_origins { take.u32()? } else { 0 };
    let origins = (0..count).map(|_| decode_stretch(take.bytes()?)).collect::<Option<_>>()?;
    Some(Saved { device, next, head, received, needed: is_needed.then_some(needed), points, origins })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device() -> DeviceId {
        DeviceId::try_new("press-01").unwrap()
    }

    fn stretch() -> Stretch {
        let link = tally_model::LinkSecurity::none(tally_model::LinkProtocol::Modbus);
        Stretch { from: 7, origin: tally_model::Origin { link, identity: Some("Acme; P-1; 2".into()) } }
    }

    /// As vaults have them that were written before readings had an origin.
    #[test]
    fn a_snapshot_without_origins_is_still_read() {
        let saved = Saved {
            device: device(),
            next: 1,
            head: ChainHead([4; 32]),
            received: Timestamp::from_micros(7),
            needed: None,
            points: HashMap::new(),
            origins: Vec::new(),
        };
        let mut bytes = encode_snapshot([&saved].into_iter());
        bytes[0] = SNAPSHOT;
        bytes.truncate(bytes.len() - 4);
        assert!(is_snapshot(&bytes));
        assert_eq!(decode(&bytes), Some(Record::Snapshot(vec![saved])));
    }

    #[test]
    fn records_round_trip() {
        let mut writer = BatchWriter::new(vec![9; 3], true, &device(), 17);
        writer.push(b"one");
        writer.push(b"");
        let bytes = writer.finish(Timestamp::from_micros(-5), &[3; 32]);
        let batch = Batch {
            settles: true,
            device: device(),
            first: 17,
            readings: vec![b"one", b""],
            received: Timestamp::from_micros(-5),
            head: [3; 32],
        };
        assert_eq!(decode(&bytes), Some(Record::Batch(batch)));
        assert_eq!(count(&bytes), 2);
        let mut writer = BatchWriter::late(vec![9; 3], &device());
        writer.push(b"one");
        let bytes = writer.finish_late(Timestamp::from_micros(7));
        let late = LateBatch { device: device(), samples: vec![b"one"], received: Timestamp::from_micros(7) };
        assert_eq!((decode(&bytes), count(&bytes)), (Some(Record::Late(late)), 1));
        let saved = Saved {
            device: device(),
            next: 19,
            head: ChainHead([4; 32]),
            received: Timestamp::from_micros(7),
            needed: Some((3, 1)),
            points: [(PointId::try_new("p").unwrap(), PointCount { next: 4, latest: 18 })].into(),
            origins: vec![stretch()],
        };
        let bytes = encode_snapshot([&saved].into_iter());
        assert!(is_snapshot(&bytes));
        assert_eq!(decode(&bytes), Some(Record::Snapshot(vec![saved])));
        let bytes = encode_origin(&device(), &stretch());
        assert!(!has_readings(&bytes) && !is_snapshot(&bytes));
        assert_eq!(decode(&bytes), Some(Record::Origin(device(), stretch())));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0u8..7) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = decode(&bytes);
            let _ = count(&bytes);
        }
    }
}
