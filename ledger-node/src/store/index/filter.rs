//! Which statement ids are certainly not written yet, in memory: every statement that is admitted asks, nearly every one is new, and in a
//! grown index each such question would read a page of the table.
//!
//! A Bloom filter of lines of 512 bits (one line of the processor's cache a question); ids are SHA-256, so their own bits choose. It may
//! say *maybe* of an id that is not there, never *no* of one that is. **Memory** 12 bits an id, for half as many ids again as there are.
//! **Made** piece by piece from the table, whenever ids were written, so that opening does not wait for it; until it is whole it says *maybe*.

use std::mem;

/// Bits for each id: of a hundred that are not there, one is looked for.
const BITS_EACH: u64 = 12;
/// Words of a line.
const LINE: usize = 8;
/// Bits set for an id.
const SET: u32 = 6;
/// Ids there is room for at least.
const ROOM_MIN: u64 = 1 << 18;

/// The id of a statement.
pub type Id = [u8; 32];

/// The filter.
#[derive(Debug, Default)]
pub struct Filter {
    /// Has every id that is written.
    whole: Option<Bits>,
    /// A larger one that is being made, and up to which id it has what was written before it was begun.
    next: Option<(Bits, Id)>,
}

impl Filter {
    /// Of a table with so many ids.
    pub fn of(count: u64) -> Self {
        Self { whole: None, next: Some((Bits::for_ids(count), [0; 32])) }
    }

    /// Whether an id may be in the table.
    pub fn may_have(&self, id: &Id) -> bool {
        self.whole.as_ref().is_none_or(|bits| bits.may_have(id))
    }

    /// The id from which on it wants to be [given](Self::give) what the table has.
    pub fn wants(&self) -> Option<Id> {
        self.next.as_ref().map(|(_, from)| *from)
    }

    /// What the table has from the [wanted](Self::wants) id on, in order; `is_end` when nothing follows.
    pub fn give(&mut self, ids: &[Id], is_end: bool) {
        let Some((bits, from)) = &mut self.next else { return };
        ids.iter().for_each(|id| bits.insert(id));
        *from = ids.last().copied().unwrap_or(*from);
        if is_end {
            self.whole = mem::take(&mut self.next).map(|(bits, _)| bits);
        }
    }

    /// These are in the table from now on.
    pub fn insert(&mut self, ids: impl Iterator<Item = Id>) {
        for id in ids {
            self.whole.iter_mut().chain(self.next.as_mut().map(|(bits, _)| bits)).for_each(|bits| bits.insert(&id));
        }
        let full = self.whole.as_ref().filter(|bits| self.next.is_none() && bits.count > bits.room);
        if let Some(full) = full {
            self.next = Some((Bits::for_ids(full.count), [0; 32]));
        }
    }
}

/// One filter.
#[derive(Debug)]
struct Bits {
    lines: Vec<[u64; LINE]>,
    /// Ids it is made for, and ids put in.
    room: u64,
    count: u64,
}

impl Bits {
    fn for_ids(count: u64) -> Self {
        let room = (count + count / 2).max(ROOM_MIN);
        let lines = usize::try_from(room * BITS_EACH / (64 * LINE as u64) + 1).unwrap_or(1);
        Self { lines: vec![[0; LINE]; lines], room, count: 0 }
    }

    fn insert(&mut self, id: &Id) {
        let (line, wanted) = self.place(id);
        let Some(line) = self.lines.get_mut(line) else { return };
        line.iter_mut().zip(wanted).for_each(|(word, bits)| *word |= bits);
        self.count += 1;
    }

    fn may_have(&self, id: &Id) -> bool {
        let (line, wanted) = self.place(id);
        self.lines.get(line).is_none_or(|line| line.iter().zip(wanted).all(|(word, bits)| word & bits == bits))
    }

    /// The line of an id, and its bits there.
    fn place(&self, id: &Id) -> (usize, [u64; LINE]) {
        let [a, b, ..] = *id.as_chunks::<8>().0 else { return (0, [0; LINE]) };
        let line = (u128::from(u64::from_be_bytes(a)) * self.lines.len() as u128) >> 64;
        let (mut bits, chosen) = ([0; LINE], u64::from_be_bytes(b));
        for place in (0..SET).map(|n| chosen >> (9 * n) & 511) {
            bits[(place >> 6) as usize] |= 1 << (place & 63);
        }
        (usize::try_from(line).unwrap_or(usize::MAX), bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tally_evidence::sha256;

    fn id(number: u64) -> Id {
        sha256(&number.to_le_bytes())
    }

    /// The next piece of the table, as the index gives it.
    fn step(filter: &mut Filter, table: &BTreeSet<Id>, count: usize) {
        if let Some(from) = filter.wants() {
            let ids: Vec<_> = table.range(from..).take(count).copied().collect();
            filter.give(&ids, ids.len() < count);
        }
    }

    #[test]
    fn what_is_in_is_never_denied_while_it_is_made_and_while_it_grows() {
        let mut table: BTreeSet<_> = (0..5_000).map(id).collect();
        let mut filter = Filter::of(5_000);
        // A small one, so that it has to grow.
        filter.next.as_mut().unwrap().0.room = 6_000;
        let mut grown = 0;
        for round in 0..40 {
            let new: Vec<_> = (0..500).map(|n| id(5_000 + round * 500 + n)).collect();
            table.extend(&new);
            filter.insert(new.into_iter());
            step(&mut filter, &table, 3_000);
            grown += u32::from(filter.whole.is_some() && filter.next.is_some());
            assert!(table.iter().all(|id| filter.may_have(id)), "round {round}");
        }
        assert!(filter.whole.is_some() && grown > 0);
    }

    #[test]
    fn what_is_not_in_is_nearly_always_denied_once_it_is_whole() {
        let table: BTreeSet<_> = (0..ROOM_MIN).map(id).collect();
        let mut filter = Filter::of(1);
        assert!(filter.may_have(&id(1 << 40)), "it does not know yet");
        step(&mut filter, &table, usize::MAX);
        let wrong = (0..100_000).filter(|n| filter.may_have(&id((1 << 40) + n))).count();
        assert!(wrong < 2_500, "{wrong} of 100,000");
    }
}
