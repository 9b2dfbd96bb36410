//! Disclosed readings: some of a range are opened, the rest stay behind their hashes, and all of them together must give
//! the root that the trigger sealed.
//!
//! A disclosure walks the RFC 9162 tree over `first..=last` from left to right. Where nothing below a node is opened, the
//! node's hash stands for all of it (`[count, hash]`); an opened leaf is `[salt, reading]`. CDDL: `docs/formats/disclosure.cddl`.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use crate::merkle::split;
use crate::reading::{ReadingFault, Salt, decode_reading, reading_leaf};
use crate::{Hash, node_hash};
use std::collections::BTreeMap;
use tally_model::{DeviceId, PointId, Reading};

/// Most readings a disclosure may span: a day of a device at 100 readings/s fits, a forged count does not allocate more.
const SPAN_MAX: u64 = 16_777_216;

/// Why a disclosure does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisclosureFault {
    /// The CBOR is not what the CDDL says.
    #[error("disclosure: {0}")]
    Cbor(#[from] CborFault),
    /// The parts do not add up to the range.
    #[error("the parts do not make up readings {first}..={last}")]
    Shape {
        /// First reading number.
        first: u64,
        /// Last reading number.
        last: u64,
    },
    /// An opened reading is not a reading.
    #[error("{0}")]
    Reading(#[from] ReadingFault),
    /// A reading of an opened point is missing between two others, or at the end.
    #[error("reading {missing} of point `{point}` is not shown")]
    LeftOut {
        /// Which point.
        point: PointId,
        /// Which of its readings.
        missing: u64,
    },
    /// An opened reading carries another number than its place.
    #[error("reading {found} stands in the place of reading {place}")]
    Number {
        /// Its number.
        found: u64,
        /// Where it stands.
        place: u64,
    },
}

/// A part of a disclosure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A reading shown.
    Opened {
        /// Its salt.
        salt: Salt,
        /// Its canonical bytes.
        reading: Vec<u8>,
    },
    /// A subtree that is not shown.
    Hidden {
        /// How many readings are below it.
        count: u64,
        /// Its root.
        hash: Hash,
    },
}

/// Readings `first..=last` of one device, some opened, some hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disclosure {
    /// Whose readings.
    pub device: DeviceId,
    /// First number.
    pub first: u64,
    /// Last number, inclusive.
    pub last: u64,
    /// From left to right.
    pub parts: Vec<Part>,
}

impl Disclosure {
    /// Builds a disclosure over `leaves` (all leaves of the range starting at `first`); `open` gives salt and bytes of the
    /// readings to show.
    #[must_use]
    pub fn build(device: DeviceId, first: u64, leaves: &[Hash], open: &dyn Fn(u64) -> Option<(Salt, Vec<u8>)>) -> Self {
        let mut parts = Vec::new();
        if !leaves.is_empty() {
            push_parts(first, leaves, open, &mut parts);
        }
        let last = first + (leaves.len() as u64).saturating_sub(1);
        Self { device, first, last, parts }
    }

    /// The root that the parts lead to.
    ///
    /// # Errors
    /// [`DisclosureFault::Shape`] when they do not make up the range.
    pub fn root(&self) -> Result<Hash, DisclosureFault> {
        let fault = DisclosureFault::Shape { first: self.first, last: self.last };
        let count = self.count().ok_or_else(|| fault.clone())?;
        let mut parts = self.parts.iter();
        let root = fold(count, &mut parts).ok_or_else(|| fault.clone())?;
        if parts.next().is_some() { Err(fault) } else { Ok(root) }
    }

    fn count(&self) -> Option<u64> {
        self.last.checked_sub(self.first)?.checked_add(1).filter(|count| *count <= SPAN_MAX)
    }

    /// The opened readings, each checked to carry the number of its place, and of each point all or none from the first
    /// one shown up to the latest, which is `claimed` by the sealed trigger.
    ///
    /// # Errors
    /// [`DisclosureFault`].
    pub fn readings(&self, claimed: &BTreeMap<PointId, u64>) -> Result<Vec<Reading>, DisclosureFault> {
        let mut place = self.first;
        let mut readings = Vec::new();
        let mut latest: BTreeMap<PointId, u64> = BTreeMap::new();
        for part in &self.parts {
            match part {
                Part::Hidden { count, .. } => place = place.saturating_add(*count),
                Part::Opened { reading, .. } => {
                    let (reading, point_number) = decode_reading(&self.device, reading)?;
                    if reading.number != place {
                        return Err(DisclosureFault::Number { found: reading.number, place });
                    }
                    let point = &reading.sample.point;
                    follow(&mut latest, point, point_number)?;
                    place = place.saturating_add(1);
                    readings.push(reading);
                }
            }
        }
        for (point, number) in claimed {
            if latest.get(point) != Some(number) {
                return Err(DisclosureFault::LeftOut { point: point.clone(), missing: *number });
            }
        }
        Ok(readings)
    }

    /// How many readings are hidden.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        let hidden = self.parts.iter().map(|part| if let Part::Hidden { count, .. } = part { *count } else { 0 });
        hidden.fold(0, u64::saturating_add)
    }

    /// As CBOR bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let parts = self.parts.iter().map(|part| match part {
            Part::Opened { salt, reading } => Cbor::Array(vec![bytes(*salt), bytes(reading.clone())]),
            Part::Hidden { count, hash } => Cbor::Array(vec![int(*count), bytes(*hash)]),
        });
        cbor::encode(&map([
            ("device", text(self.device.as_str())),
            ("first", int(self.first)),
            ("last", int(self.last)),
            ("parts", Cbor::Array(parts.collect())),
        ]))
    }

    /// From CBOR bytes, strictly.
    ///
    /// # Errors
    /// [`DisclosureFault`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DisclosureFault> {
        let mut fields = Fields::decode(bytes)?;
        let disclosure = Self {
            device: fields.parse("device", "a device id")?,
            first: fields.int("first")?,
            last: fields.int("last")?,
            parts: fields.array("parts")?.into_iter().map(decode_part).collect::<Result<_, _>>()?,
        };
        fields.finish()?;
        Ok(disclosure)
    }
}

fn follow(latest: &mut BTreeMap<PointId, u64>, point: &PointId, number: u64) -> Result<(), DisclosureFault> {
    match latest.insert(point.clone(), number) {
        Some(before) if number != before.saturating_add(1) => {
            Err(DisclosureFault::LeftOut { point: point.clone(), missing: before.saturating_add(1) })
        }
        _ => Ok(()),
    }
}

fn push_parts(first: u64, leaves: &[Hash], open: &dyn Fn(u64) -> Option<(Salt, Vec<u8>)>, parts: &mut Vec<Part>) {
    if let [leaf] = leaves {
        parts.push(match open(first) {
            Some((salt, reading)) => Part::Opened { salt, reading },
            None => Part::Hidden { count: 1, hash: *leaf },
        });
        return;
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let place = parts.len();
    push_parts(first, left, open, parts);
    let between = parts.len();
    push_parts(first + middle as u64, right, open, parts);
    // Two hidden halves are one hidden whole.
    if let [Part::Hidden { hash: a, .. }, Part::Hidden { hash: b, .. }] = &parts[place..]
        && between == place + 1
    {
        let whole = Part::Hidden { count: leaves.len() as u64, hash: node_hash(a, b) };
        parts.truncate(place);
        parts.push(whole);
    }
}

fn fold(count: u64, parts: &mut std::slice::Iter<'_, Part>) -> Option<Hash> {
    match parts.as_slice().first()? {
        Part::Hidden { count: hidden, hash } if *hidden == count => {
            parts.next();
            Some(*hash)
        }
        Part::Opened { salt, reading } if count == 1 => {
            parts.next();
            Some(reading_leaf(salt, reading))
        }
        _ if count < 2 => None,
        _ => {
            let middle = split(usize::try_from(count).ok()?) as u64;
            let left = fold(middle, parts)?;
            let right = fold(count - middle, parts)?;
            Some(node_hash(&left, &right))
        }
    }
}

fn decode_part(part: Cbor) -> Result<Part, DisclosureFault> {
    let fault = || CborFault::Type { field: "parts".to_owned(), expected: "[salt, reading] or [count, hash]" };
    match part.into_array().map_err(|_| fault())?.as_slice() {
        [Cbor::Bytes(salt), Cbor::Bytes(reading)] => {
            Ok(Part::Opened { salt: salt.as_slice().try_into().map_err(|_| fault())?, reading: reading.clone() })
        }
        [Cbor::Integer(count), Cbor::Bytes(hash)] => Ok(Part::Hidden {
            count: u64::try_from(*count).ok().filter(|count| (1..=SPAN_MAX).contains(count)).ok_or_else(fault)?,
            hash: hash.as_slice().try_into().map_err(|_| fault())?,
        }),
        _ => Err(fault().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode_reading, root_of};
    use proptest::prelude::*;
    use tally_model::{PointId, Quality, Sample, Timestamp, Unit, Value};

    /// Points `p` and `q` take turns.
    fn reading(number: u64) -> Vec<u8> {
        let sample = Sample {
            seal: None,
            point: PointId::try_new(if number.is_multiple_of(2) { "p" } else { "q" }).unwrap(),
            outcome: Ok(Value::Bool(true)),
            unit: Unit::one(),
            quality: Quality::Good,
            source_time: Timestamp::from_micros(1),
            received: Timestamp::from_micros(1),
        };
        encode_reading(&Reading { device: DeviceId::try_new("d").unwrap(), number, sample }, number / 2)
    }

    proptest! {
        #[test]
        fn any_choice_of_openings_gives_the_same_root(count in 1u64..60, first in 0u64..1000, choice in any::<u64>()) {
            let salt = [7; 16];
            let leaves: Vec<_> = (first..first + count).map(|number| reading_leaf(&salt, &reading(number))).collect();
            let open = |number: u64| (choice >> ((number - first) % 64) & 1 == 1).then(|| (salt, reading(number)));
            let disclosure = Disclosure::build(DeviceId::try_new("d").unwrap(), first, &leaves, &open);
            prop_assert_eq!(disclosure.root(), Ok(root_of(&leaves)));
            let opened: Vec<_> = (first..first + count).filter(|n| choice >> ((n - first) % 64) & 1 == 1).collect();
            let of_a_point = |rest| opened.iter().filter(|n| *n % 2 == rest).copied().collect::<Vec<_>>();
            let whole = (0..2).all(|rest| of_a_point(rest).windows(2).all(|pair| pair[1] == pair[0] + 2));
            prop_assert_eq!(disclosure.readings(&BTreeMap::new()).is_ok(), whole);
            prop_assert_eq!(disclosure.hidden(), count - opened.len() as u64);
            prop_assert_eq!(Disclosure::decode(&disclosure.encode()), Ok(disclosure));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(disclosure) = Disclosure::decode(&bytes) {
                let _ = (disclosure.root(), disclosure.readings(&BTreeMap::new()));
            }
        }
    }

    #[test]
    fn a_reading_left_out_is_named() {
        let salt = [7; 16];
        let (p, device) = (PointId::try_new("p").unwrap(), DeviceId::try_new("d").unwrap());
        let leaves: Vec<_> = (0..10).map(|number| reading_leaf(&salt, &reading(number))).collect();
        let show = |hidden: u64| {
            let open = |number: u64| (number.is_multiple_of(2) && number != hidden).then(|| (salt, reading(number)));
            Disclosure::build(device.clone(), 0, &leaves, &open).readings(&[(p.clone(), 4)].into()).map(|all| all.len())
        };
        assert_eq!(show(99), Ok(5));
        assert_eq!(show(4), Err(DisclosureFault::LeftOut { point: p.clone(), missing: 2 }));
        assert_eq!(show(8), Err(DisclosureFault::LeftOut { point: p.clone(), missing: 4 }));
    }

    #[test]
    fn forged_counts_are_refused() {
        let hidden = Part::Hidden { count: 3, hash: [0; 32] };
        let device = DeviceId::try_new("d").unwrap();
        for (first, last) in [(0, u64::MAX), (5, 2), (0, 5), (0, 1)] {
            let disclosure = Disclosure { device: device.clone(), first, last, parts: vec![hidden.clone()] };
            assert_eq!(disclosure.root(), Err(DisclosureFault::Shape { first, last }));
        }
    }
}
