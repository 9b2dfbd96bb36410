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
mod tests;
