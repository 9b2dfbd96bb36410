//! An anchor: an agent's word that it holds *all* readings of a device in a range, numbered and chained per device, so that
//! none can be left out or altered later. CDDL: `docs/formats/anchor.cddl`.
//!
//! Its root stands over the same leaves as a trigger's ([`crate::reading_leaf`]): any reading can be shown against an anchor
//! with a [`Disclosure`] of the anchor's range.

use crate::body::BodyFault;
use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use crate::{Disclosure, Hash, sha256};
use tally_model::{DeviceId, Timestamp};

/// Most readings one anchor covers: what one [`Disclosure`] may span.
pub const ANCHOR_READINGS_MAX: u64 = 1 << 24;
/// Most gaps one anchor declares; an agent that has more seals its anchor earlier.
pub const ANCHOR_GAPS_MAX: usize = 64;

/// Why an anchor declares a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// The agent did not run: nobody read between two readings.
    Stopped,
    /// Readings left the vault before an anchor covered them.
    NotKept,
    /// Readings stand in anchors that the ledger did not take.
    Refused,
    /// The vault is new: what was numbered before, if anything, was numbered by another.
    NewVault,
}

impl GapReason {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Stopped, "stopped"),
        (Self::NotKept, "not-kept"),
        (Self::Refused, "refused"),
        (Self::NewVault, "new-vault"),
    ];

    /// The word in the body.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map_or("", |(_, word)| word)
    }

    /// For people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Stopped => "the agent did not run",
            Self::NotKept => "readings left the vault before an anchor covered them",
            Self::Refused => "the ledger did not take the anchors of these readings",
            Self::NewVault => "the agent began a new vault",
        }
    }

    fn from_word(word: &str) -> Result<Self, BodyFault> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word);
        found.map(|(reason, _)| *reason).ok_or_else(|| BodyFault::Word(word.to_owned()))
    }

    /// Whether it is about reading numbers that no anchor covers, not about time alone.
    const fn is_about_numbers(self) -> bool {
        matches!(self, Self::NotKept | Self::Refused)
    }
}

/// A gap that the agent itself declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// Receive time of the last reading before it; `None` when the agent does not know it.
    pub from: Option<Timestamp>,
    /// Receive time of the first reading behind it.
    pub to: Timestamp,
    /// Numbers of the readings that no anchor covers, inclusive: with [`GapReason::NotKept`] and [`GapReason::Refused`].
    pub readings: Option<(u64, u64)>,
}

/// An agent's word about all readings `first..=last` of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorBody {
    /// Whose readings.
    pub device: DeviceId,
    /// Number among the device's anchors, from 1 without gaps.
    pub number: u64,
    /// [`AnchorBody::digest`] of the one before; zeros for number 1.
    pub previous: Hash,
    /// First reading number.
    pub first: u64,
    /// Last reading number, inclusive.
    pub last: u64,
    /// RFC 9162 root over the salted leaves of all readings `first..=last`.
    pub root: Hash,
    /// Head of the device's vault chain after `last`.
    pub head: Hash,
    /// Receive times of the first and of the last reading; they never fall in between.
    pub received: (Timestamp, Timestamp),
    /// Earliest and latest source time among the readings.
    pub source: (Timestamp, Timestamp),
    /// Longest time in µs between two receive times that follow each other, the one before `first` included.
    pub pause: u64,
    /// What is missing by the agent's own word.
    pub gaps: Vec<Gap>,
}

/// What the next anchor of a device must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorLink {
    /// Number of the last anchor.
    pub number: u64,
    /// Its digest.
    pub digest: Hash,
    /// Last reading it covers.
    pub last: u64,
}

/// Why an anchor does not follow the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnchorFault {
    /// Its number was given before.
    #[error("anchor {number} was already given; the last one was {last}")]
    Replayed {
        /// Its number.
        number: u64,
        /// The last number.
        last: u64,
    },
    /// It covers readings that an anchor covers already.
    #[error("readings from {first} on are covered already, up to {covered}")]
    Covered {
        /// Its first reading.
        first: u64,
        /// Last reading covered before.
        covered: u64,
    },
    /// Its number skips some.
    #[error("anchor {number} does not follow: expected is {expected}")]
    Skips {
        /// Its number.
        number: u64,
        /// The one that follows.
        expected: u64,
    },
    /// It names another anchor as the one before.
    #[error("anchor {number} does not name the digest of the one before")]
    Unchained {
        /// Its number.
        number: u64,
    },
    /// Reading numbers are missing and no gap declares exactly them.
    #[error("readings {from} to {to} are covered by no anchor and declared by no gap")]
    Missing {
        /// First missing.
        from: u64,
        /// Last missing.
        to: u64,
    },
}

impl AnchorBody {
    /// What the next anchor names as `previous`: SHA-256 of the body's bytes.
    #[must_use]
    pub fn digest(&self) -> Hash {
        sha256(&self.encode())
    }

    /// What the next anchor must fit.
    #[must_use]
    pub fn link(&self) -> AnchorLink {
        AnchorLink { number: self.number, digest: self.digest(), last: self.last }
    }

    /// Whether it begins the numbering anew: number 1 of a vault that says to be new.
    #[must_use]
    pub fn begins(&self) -> bool {
        self.number == 1 && self.gaps.iter().any(|gap| gap.reason == GapReason::NewVault)
    }

    /// Checks that it follows `before` (`None`: the device has none yet). With a gap that declares exactly the readings in
    /// between its number may be any greater one; with a new vault everything begins anew.
    ///
    /// # Errors
    /// [`AnchorFault`].
    pub fn follow(&self, before: Option<&AnchorLink>) -> Result<(), AnchorFault> {
        let before = before.filter(|_| !self.begins());
        let (number, first) = (self.number, self.first);
        let expected = before.map_or(1, |before| before.number.saturating_add(1));
        let next = before.map_or(0, |before| before.last.saturating_add(1));
        if let Some(before) = before {
            if number <= before.number {
                return Err(AnchorFault::Replayed { number, last: before.number });
            }
            if first <= before.last {
                return Err(AnchorFault::Covered { first, covered: before.last });
            }
        }
        let is_declared = first > next && self.gaps.iter().any(|gap| gap.readings == Some((next, first - 1)));
        if number != expected && !is_declared {
            return Err(AnchorFault::Skips { number, expected });
        }
        if number == expected && self.previous != before.map_or([0; 32], |before| before.digest) {
            return Err(AnchorFault::Unchained { number });
        }
        if first > next && !is_declared {
            return Err(AnchorFault::Missing { from: next, to: first - 1 });
        }
        Ok(())
    }

    /// Whether the readings of `disclosure` are those this anchor covers.
    #[must_use]
    pub fn shows(&self, disclosure: &Disclosure) -> bool {
        let range = (&disclosure.device, disclosure.first, disclosure.last);
        range == (&self.device, self.first, self.last) && disclosure.root() == Ok(self.root)
    }

    /// The body's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let times =
            |(first, last): (Timestamp, Timestamp)| Cbor::Array(vec![int(first.as_micros()), int(last.as_micros())]);
        let mut fields = vec![
            ("device", text(self.device.as_str())),
            ("number", int(self.number)),
            ("previous", bytes(self.previous)),
            ("first", int(self.first)),
            ("last", int(self.last)),
            ("root", bytes(self.root)),
            ("head", bytes(self.head)),
            ("received", times(self.received)),
            ("source", times(self.source)),
            ("pause", int(self.pause)),
        ];
        if !self.gaps.is_empty() {
            fields.push(("gaps", Cbor::Array(self.gaps.iter().map(encode_gap).collect())));
        }
        cbor::encode(&map(fields))
    }

    /// Reads a body strictly.
    ///
    /// # Errors
    /// [`BodyFault`].
    pub fn decode(body: &[u8]) -> Result<Self, BodyFault> {
        let mut fields = Fields::decode(body)?;
        let gaps = match fields.take("gaps") {
            Some(gaps) => Some(gaps.into_array().map_err(|_| wrong("gaps", "an array"))?),
            None => None,
        };
        let anchor = Self {
            device: fields.parse("device", "a device id")?,
            number: fields.int("number")?,
            previous: fields.bytes_exact("previous")?,
            first: fields.int("first")?,
            last: fields.int("last")?,
            root: fields.bytes_exact("root")?,
            head: fields.bytes_exact("head")?,
            received: decode_times(&mut fields, "received")?,
            source: decode_times(&mut fields, "source")?,
            pause: fields.int("pause")?,
            gaps: gaps.iter().flatten().cloned().map(decode_gap).collect::<Result<_, _>>()?,
        };
        fields.finish()?;
        // An empty list would be a second form of no list.
        if gaps.is_some_and(|gaps| gaps.is_empty() || gaps.len() > ANCHOR_GAPS_MAX) {
            return Err(wrong("gaps", "from 1 to 64 gaps").into());
        }
        anchor.check()?;
        Ok(anchor)
    }

    /// What no anchor may break, whatever stands before it.
    fn check(&self) -> Result<(), BodyFault> {
        let (first, last) = (self.first, self.last);
        if last < first {
            return Err(BodyFault::Range { first, last });
        }
        if last - first >= ANCHOR_READINGS_MAX {
            return Err(wrong("last", "at most 2^24 readings from `first` on").into());
        }
        if self.number == 0 || (self.number == 1) != (self.previous == [0; 32]) {
            return Err(wrong("previous", "zeros for number 1, and for no other").into());
        }
        self.gaps.iter().try_for_each(|gap| self.check_gap(gap)).map_err(BodyFault::from)
    }

    fn check_gap(&self, gap: &Gap) -> Result<(), CborFault> {
        if gap.from.is_some_and(|from| from > gap.to) {
            return Err(wrong("gaps", "a time that goes forward"));
        }
        if gap.reason == GapReason::Stopped && gap.from.is_none() {
            return Err(wrong("gaps", "a time `from` with `stopped`"));
        }
        if gap.reason == GapReason::NewVault && self.number != 1 {
            return Err(wrong("gaps", "`new-vault` with anchor 1 alone"));
        }
        match gap.readings {
            Some((from, to)) if from <= to && to < self.first && gap.reason.is_about_numbers() => Ok(()),
            None if !gap.reason.is_about_numbers() => Ok(()),
            _ => Err(wrong("gaps", "readings before `first`, with `not-kept` and `refused` alone")),
        }
    }
}

fn wrong(field: &str, expected: &'static str) -> CborFault {
    CborFault::Type { field: field.to_owned(), expected }
}

fn encode_gap(gap: &Gap) -> Cbor {
    let mut fields = vec![("reason", text(gap.reason.word())), ("to", int(gap.to.as_micros()))];
    fields.extend(gap.from.map(|from| ("from", int(from.as_micros()))));
    fields.extend(gap.readings.map(|(from, to)| ("readings", Cbor::Array(vec![int(from), int(to)]))));
    map(fields)
}

fn decode_gap(gap: Cbor) -> Result<Gap, BodyFault> {
    let mut fields = Fields::new(gap, "gap")?;
    let from = fields.take("from").map(|from| pair_item(&from).ok_or_else(|| wrong("from", "µs since the epoch")));
    let readings = fields.take("readings").map(|range| pair(&range).ok_or_else(|| wrong("readings", "two numbers")));
    let gap = Gap {
        reason: GapReason::from_word(&fields.text("reason")?)?,
        from: from.transpose()?.map(Timestamp::from_micros),
        to: Timestamp::from_micros(fields.int("to")?),
        readings: readings.transpose()?,
    };
    fields.finish()?;
    Ok(gap)
}

fn decode_times(fields: &mut Fields, name: &'static str) -> Result<(Timestamp, Timestamp), CborFault> {
    let times: Option<(i64, i64)> = pair(&fields.need(name)?);
    let (first, last) =
        times.filter(|(first, last)| first <= last).ok_or_else(|| wrong(name, "two times that rise"))?;
    Ok((Timestamp::from_micros(first), Timestamp::from_micros(last)))
}

fn pair<T: TryFrom<i128>>(value: &Cbor) -> Option<(T, T)> {
    let [first, last] = value.as_array()?.as_slice() else { return None };
    Some((pair_item(first)?, pair_item(last)?))
}

fn pair_item<T: TryFrom<i128>>(value: &Cbor) -> Option<T> {
    T::try_from(i128::from(value.as_integer()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode_reading, reading_leaf, root_of};
    use proptest::prelude::*;
    use tally_model::{PointId, Quality, Reading, Sample, Unit, Value};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn anchor(number: u64, previous: Hash, first: u64, last: u64) -> AnchorBody {
        AnchorBody {
            device: DeviceId::try_new("press-01").unwrap(),
            number,
            previous,
            first,
            last,
            root: [1; 32],
            head: [2; 32],
            received: (at(10), at(20)),
            source: (at(-5), at(19)),
            pause: 3,
            gaps: Vec::new(),
        }
    }

    fn gap(reason: GapReason, readings: Option<(u64, u64)>) -> Gap {
        Gap { reason, from: (reason != GapReason::NewVault).then_some(at(1)), to: at(9), readings }
    }

    #[test]
    fn bodies_round_trip() {
        let mut body = anchor(1, [0; 32], 6, 9);
        assert_eq!(AnchorBody::decode(&body.encode()), Ok(body.clone()));
        body.gaps = vec![
            gap(GapReason::NewVault, None),
            gap(GapReason::Stopped, None),
            gap(GapReason::NotKept, Some((0, 5))),
            gap(GapReason::Refused, Some((5, 5))),
        ];
        assert_eq!(AnchorBody::decode(&body.encode()), Ok(body));
    }

    #[test]
    fn what_can_never_be_right_is_no_anchor() {
        let good = || anchor(2, [7; 32], 6, 9);
        let mut bad = vec![anchor(0, [7; 32], 6, 9), anchor(1, [7; 32], 6, 9), anchor(2, [0; 32], 6, 9)];
        bad.extend([anchor(2, [7; 32], 6, 5), anchor(2, [7; 32], 0, ANCHOR_READINGS_MAX)]);
        bad.push(AnchorBody { received: (at(2), at(1)), ..good() });
        bad.push(AnchorBody { source: (at(2), at(1)), ..good() });
        for gap in [
            gap(GapReason::NewVault, None),
            gap(GapReason::Stopped, Some((0, 5))),
            gap(GapReason::NotKept, None),
            gap(GapReason::Refused, Some((0, 6))),
            gap(GapReason::Refused, Some((3, 2))),
            Gap { from: None, ..gap(GapReason::Stopped, None) },
            Gap { from: Some(at(99)), ..gap(GapReason::Stopped, None) },
        ] {
            bad.push(AnchorBody { gaps: vec![gap], ..good() });
        }
        bad.push(AnchorBody { gaps: vec![gap(GapReason::Stopped, None); ANCHOR_GAPS_MAX + 1], ..good() });
        for body in bad {
            assert!(AnchorBody::decode(&body.encode()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn an_anchor_follows_exactly_the_one_before() {
        let first = anchor(1, [0; 32], 0, 5);
        assert_eq!(first.follow(None), Ok(()));
        let (link, digest) = (first.link(), first.digest());
        assert_eq!(anchor(2, digest, 6, 9).follow(Some(&link)), Ok(()));
        for (body, fault) in [
            (anchor(1, [0; 32], 0, 5), AnchorFault::Replayed { number: 1, last: 1 }),
            (anchor(2, digest, 5, 9), AnchorFault::Covered { first: 5, covered: 5 }),
            (anchor(3, digest, 6, 9), AnchorFault::Skips { number: 3, expected: 2 }),
            (anchor(2, [9; 32], 6, 9), AnchorFault::Unchained { number: 2 }),
            (anchor(2, digest, 8, 9), AnchorFault::Missing { from: 6, to: 7 }),
        ] {
            assert_eq!(body.follow(Some(&link)), Err(fault));
        }
        assert_eq!(anchor(2, [9; 32], 0, 9).follow(None), Err(AnchorFault::Skips { number: 2, expected: 1 }));
        assert_eq!(anchor(1, [0; 32], 4, 9).follow(None), Err(AnchorFault::Missing { from: 0, to: 3 }));
    }

    #[test]
    fn a_declared_gap_lets_numbers_jump_and_a_new_vault_begins_anew() {
        let link = anchor(1, [0; 32], 0, 5).link();
        let mut later = anchor(9, [9; 32], 40, 50);
        later.gaps = vec![gap(GapReason::Refused, Some((6, 39)))];
        assert_eq!(later.follow(Some(&link)), Ok(()));
        later.gaps = vec![gap(GapReason::Refused, Some((7, 39)))];
        assert_eq!(later.follow(Some(&link)), Err(AnchorFault::Skips { number: 9, expected: 2 }));
        // The number that follows must name the one before, whatever it declares.
        let mut next = anchor(2, [9; 32], 40, 50);
        next.gaps = vec![gap(GapReason::Refused, Some((6, 39)))];
        assert_eq!(next.follow(Some(&link)), Err(AnchorFault::Unchained { number: 2 }));
        let mut anew = anchor(1, [0; 32], 0, 3);
        anew.gaps = vec![gap(GapReason::NewVault, None)];
        assert_eq!(anew.follow(Some(&link)), Ok(()));
        anew.first = 2;
        assert_eq!(anew.follow(Some(&link)), Err(AnchorFault::Missing { from: 0, to: 1 }));
    }

    #[test]
    fn a_reading_is_shown_against_an_anchor() {
        let device = DeviceId::try_new("press-01").unwrap();
        let bytes = |number: u64| {
            let sample = Sample {
                seal: None,
                point: PointId::try_new("p").unwrap(),
                outcome: Ok(Value::Integer(5)),
                unit: Unit::one(),
                quality: Quality::Good,
                source_time: at(1),
                received: at(2),
            };
            encode_reading(&Reading { device: device.clone(), number, sample }, number)
        };
        let leaves: Vec<_> = (4..15).map(|number| reading_leaf(&[3; 16], &bytes(number))).collect();
        let mut body = anchor(2, [7; 32], 4, 14);
        body.root = root_of(&leaves);
        let open = |number: u64| (number == 9).then(|| ([3; 16], bytes(number)));
        let shown = Disclosure::build(device.clone(), 4, &leaves, &open);
        assert!(body.shows(&shown));
        assert_eq!(shown.readings(&Default::default()).unwrap()[0].number, 9);
        body.root[0] ^= 1;
        assert!(!body.shows(&shown));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = AnchorBody::decode(&body);
        }

        #[test]
        fn flipped_bits_are_another_anchor_or_none(place in 0usize..400, bit in 0u8..8) {
            let mut body = anchor(2, [7; 32], 6, 9);
            body.gaps = vec![gap(GapReason::Stopped, None), gap(GapReason::Refused, Some((0, 5)))];
            let mut forged = body.encode();
            let place = place % forged.len();
            forged[place] ^= 1 << bit;
            prop_assert_ne!(AnchorBody::decode(&forged), Ok(body));
        }
    }
}
