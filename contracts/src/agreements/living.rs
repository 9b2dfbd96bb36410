//! The agreements that are still in the state, without asking for each number that was ever given out.
//!
//! Their keys end with the number, eight bytes big-endian. One scan under its first seven bytes gives what lives of 256
//! numbers; a scan for one pair under fewer bytes tells the lowest that lives beneath, or that nothing does. So a walk costs
//! a read for each 256 numbers in a row that live, at most some hundreds to find one that lives alone, and nothing for what
//! was retired: of ten million orders of which a hundred live it is a few dozen reads.

use crate::codec::Record;
use crate::records::Agreement;
use crate::{Refusal, StateRead, keys, records};
use std::ops::{ControlFlow, RangeInclusive};

/// Numbers whose keys share seven bytes.
const BLOCK: usize = 256;
/// Bits of a number.
const BITS: u32 = 64;

/// An agreement as it was found.
type Read = Result<Agreement, Refusal>;

/// In which order to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Rising,
    Falling,
}

/// Every prefix under which agreements were opened, with the last number given out, in key order;
/// [`Refusal::StateCorrupt`] for what cannot be read.
pub(crate) fn prefixes(state: &dyn StateRead) -> impl Iterator<Item = Result<(String, u64), Refusal>> + use<> {
    state.scan(keys::COUNTERS, usize::MAX).into_iter().map(|(key, count)| {
        let prefix = key.get(1..).and_then(|name| std::str::from_utf8(name).ok()).map(str::to_owned);
        prefix.zip(u64::from_bytes(&count)).ok_or_else(|| records::corrupt(&key))
    })
}

/// Shows `take` the agreements of `prefix` with these numbers that are still there, until it breaks off;
/// [`Refusal::StateCorrupt`] in place of one that cannot be read.
///
/// # Errors
/// What `take` gives.
pub(crate) fn each<F>(
    state: &dyn StateRead,
    prefix: &str,
    numbers: RangeInclusive<u64>,
    direction: Direction,
    mut take: F,
) -> Result<(), Refusal>
where
    F: FnMut(Read) -> Result<ControlFlow<()>, Refusal>,
{
    let mut walk = Walk { state, prefix, numbers, direction, take: &mut take };
    walk.below(0, BITS).map(drop)
}

struct Walk<'a, F> {
    state: &'a dyn StateRead,
    prefix: &'a str,
    numbers: RangeInclusive<u64>,
    direction: Direction,
    take: &'a mut F,
}

impl<F: FnMut(Read) -> Result<ControlFlow<()>, Refusal>> Walk<'_, F> {
    /// The numbers that begin as `base` does, with `open` bits behind that.
    fn below(&mut self, base: u64, open: u32) -> Result<ControlFlow<()>, Refusal> {
        let key = keys::agreement_numbered(self.prefix, base);
        let shared = key.get(..key.len() - (open / 8) as usize).unwrap_or_default();
        if open == 8 {
            return self.block(self.state.scan(shared, BLOCK));
        }
        let Some((lowest, _)) = self.state.scan(shared, 1).pop() else { return Ok(ControlFlow::Continue(())) };
        let lowest = keys::number_of(&lowest).ok_or_else(|| records::corrupt(&lowest))?;
        // All ones below the bits that are fixed; there are 64 open ones at the top.
        let last = base | u64::MAX.checked_shr(BITS - open).unwrap_or(0);
        let (first, last) = (lowest.max(*self.numbers.start()), last.min(*self.numbers.end()));
        if first > last {
            return Ok(ControlFlow::Continue(()));
        }
        let (open, (first, last)) = (open - 8, (first >> (open - 8), last >> (open - 8)));
        let steps = last - first;
        for step in 0..=steps {
            let part = if self.direction == Direction::Rising { first + step } else { last - step };
            if self.below(part << open, open)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn block(&mut self, mut rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<ControlFlow<()>, Refusal> {
        if self.direction == Direction::Falling {
            rows.reverse();
        }
        for (key, value) in rows {
            if keys::number_of(&key).is_none_or(|number| !self.numbers.contains(&number)) {
                continue;
            }
            if (self.take)(Agreement::from_bytes(&value).ok_or_else(|| records::corrupt(&key)))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::{BTreeMap, BTreeSet};
    use tally_model::{AgreementId, ContractName, Timestamp};

    /// A state that counts how often it is read.
    struct Counted {
        rows: BTreeMap<Vec<u8>, Vec<u8>>,
        reads: Cell<usize>,
    }

    impl StateRead for Counted {
        fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
            self.reads.set(self.reads.get() + 1);
            StateRead::get(&self.rows, key)
        }

        fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
            self.reads.set(self.reads.get() + 1);
            self.rows.scan(prefix, limit)
        }
    }

    /// A state in which only these live of all that were opened under `mo`.
    fn state(given: u64, living: impl IntoIterator<Item = u64>) -> Counted {
        let mut rows = BTreeMap::from([(keys::counter("mo"), given.to_bytes())]);
        for number in living {
            rows.insert(keys::agreement_numbered("mo", number), agreement(number).to_bytes());
            // A longer prefix that begins the same is another one.
            rows.insert(keys::agreement_numbered("mob", number), agreement(number).to_bytes());
        }
        Counted { rows, reads: Cell::new(0) }
    }

    fn agreement(number: u64) -> Agreement {
        Agreement {
            id: AgreementId::try_new(format!("mo-{number}")).unwrap(),
            contract: ContractName::try_new("maintenance-order").unwrap(),
            version: 1,
            state: "confirmed".into(),
            ended: true,
            currency: "EUR".into(),
            parties: BTreeMap::new(),
            fields: BTreeMap::new(),
            opened: Timestamp::from_micros(i64::try_from(number).unwrap()),
            opened_by: crate::Origin::from(number),
            updated: Timestamp::from_micros(0),
            due: None,
            steps: 1,
            notes: 0,
            last_note: None,
        }
    }

    fn numbers(state: &Counted, range: RangeInclusive<u64>, direction: Direction, limit: usize) -> Vec<u64> {
        let mut found = Vec::new();
        each(state, "mo", range, direction, |agreement| {
            found.push(keys::split_agreement(&agreement?.id).unwrap().1);
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .unwrap();
        found
    }

    /// Ten million were opened, a hundred live: the newest ninety, and ten that nobody ended, far back.
    #[test]
    fn what_is_read_follows_what_lives_not_what_was_ever_opened() {
        const GIVEN: u64 = 10_000_000;
        let living: BTreeSet<u64> = (GIVEN - 89..=GIVEN).chain((0..10).map(|nth| 1 + nth * 131)).collect();
        let state = state(GIVEN, living.clone());
        assert_eq!(numbers(&state, 1..=GIVEN, Direction::Rising, usize::MAX), Vec::from_iter(living.clone()));
        assert!(state.reads.get() < 1_000, "{} reads for {} that live", state.reads.get(), living.len());

        state.reads.set(0);
        let newest = numbers(&state, 1..=GIVEN, Direction::Falling, 20);
        assert_eq!(newest, Vec::from_iter(living.iter().rev().take(20).copied()));
        assert!(state.reads.get() < 20, "{} reads for the newest 20", state.reads.get());

        // And so the two that ask: what is listed, and what must not be forgotten.
        state.reads.set(0);
        let filter = crate::views::AgreementFilter::default();
        let listed = crate::views::agreements(&state, &filter, usize::MAX);
        assert_eq!(listed.len(), living.len());
        let of_each = 2 * living.len();
        assert!(state.reads.get() < 1_000 + of_each, "{} reads to list {}", state.reads.get(), living.len());
        state.reads.set(0);
        let live = crate::live::live(&state, 0..u64::MAX, Timestamp::from_micros(0)).unwrap();
        assert_eq!(live.entries, living);
        assert!(state.reads.get() < 1_100 + of_each, "{} reads for what is live", state.reads.get());
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let mut state = state(9, [7]);
        state.rows.insert(keys::agreement_numbered("mo", 8), vec![0xff]);
        let read = each(&state, "mo", 1..=9, Direction::Rising, |read| read.map(|_| ControlFlow::Continue(())));
        assert_eq!(read.unwrap_err().number(), 191);
    }

    proptest! {
        #[test]
        fn a_walk_finds_exactly_those_in_the_range(
            living in proptest::collection::btree_set(prop_oneof![1u64..600, 65_000u64..66_000, any::<u64>()], 0..40),
            bounds in (prop_oneof![0u64..700, any::<u64>()], prop_oneof![0u64..700, any::<u64>()]),
            limit in 1usize..50,
        ) {
            let living: BTreeSet<u64> = living.into_iter().map(|number| number.clamp(1, i64::MAX as u64)).collect();
            let (state, range) = (state(u64::MAX, living.clone()), bounds.0..=bounds.1);
            let within = living.iter().copied().filter(|number| range.contains(number));
            let (rising, falling): (Vec<_>, Vec<_>) = (within.clone().collect(), within.rev().collect());
            prop_assert_eq!(numbers(&state, range.clone(), Direction::Rising, limit), &rising[..limit.min(rising.len())]);
            prop_assert_eq!(numbers(&state, range, Direction::Falling, limit), &falling[..limit.min(falling.len())]);
        }
    }
}
