//! Places in the vault: a record, and how far each device's numbers had come there.

use crate::vault::Kept;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use tally_model::{DeviceId, Timestamp};

/// Version of the file.
const VERSION: u8 = 1;

/// A place in the vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The first journal record behind it.
    pub place: u64,
    /// What each device had said before it; a device that is not here had said nothing.
    pub numbers: BTreeMap<DeviceId, Seen>,
}

/// How far a device had come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The number its next reading gets.
    pub next: u64,
    /// Receive time of the last one.
    pub at: Timestamp,
}

/// A part of the vault that SCADA missed: from the one mark to before the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// Moves as it is told.
    pub from: Mark,
    /// Its end.
    pub to: Mark,
}

impl Mark {
    /// Over a batch.
    pub fn advance(&mut self, kept: &Kept) {
        self.place = kept.place + 1;
        let Some(last) = kept.readings.last() else { return };
        let seen = Seen { next: last.reading.number + 1, at: last.reading.sample.received };
        match self.numbers.get_mut(&kept.device) {
            Some(known) => *known = seen,
            None => {
                self.numbers.insert(kept.device.clone(), seen);
            }
        }
    }
}

/// What the file holds: JSON, `{"version": 1, "holes": […], "open": {"place", "numbers"}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Saved {
    pub holes: VecDeque<Hole>,
    /// Where telling begins when nothing more is heard of us.
    pub open: Mark,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u8,
    holes: VecDeque<Hole>,
    open: Mark,
}

impl Saved {
    pub fn encode(&self) -> Vec<u8> {
        let file = File { version: VERSION, holes: self.holes.clone(), open: self.open.clone() };
        // Text keys and numbers only: cannot fail; an empty file reads as "not ours".
        serde_json::to_vec(&file).unwrap_or_default()
    }

    /// `None` when the bytes are no such file: also when a hole ends before it begins.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let File { version, holes, open } = serde_json::from_slice(bytes).ok()?;
        let is_well = version == VERSION && holes.iter().all(|hole| hole.from.place <= hole.to.place);
        is_well.then_some(Self { holes, open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark() -> impl Strategy<Value = Mark> {
        let seen = (any::<u64>(), -1_000_000_i64..4_000_000_000_000_000)
            .prop_map(|(next, at)| Seen { next, at: Timestamp::from_micros(at) });
        let device = "[a-z]{1,12}-[0-9]{1,3}".prop_map(|id| DeviceId::try_new(id).unwrap());
        (0..1_u64 << 40, proptest::collection::btree_map(device, seen, 0..5))
            .prop_map(|(place, numbers)| Mark { place, numbers })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(open in mark(), holes in proptest::collection::vec((mark(), mark()), 0..4)) {
            let holes = holes.into_iter().map(|(from, to)| {
                if from.place <= to.place { Hole { from, to } } else { Hole { from: to, to: from } }
            });
            let saved = Saved { holes: holes.collect(), open };
            prop_assert_eq!(Saved::decode(&saved.encode()), Some(saved));
        }

        #[test]
        fn damaged_files_are_refused_and_never_panic(open in mark(), cut in 0_usize..400, byte in any::<u8>()) {
            let mut bytes = Saved { holes: VecDeque::new(), open }.encode();
            let place = cut % bytes.len();
            bytes[place] = byte;
            let _ = Saved::decode(&bytes);
            prop_assert_eq!(Saved::decode(&bytes[..place]), None);
        }
    }
}
