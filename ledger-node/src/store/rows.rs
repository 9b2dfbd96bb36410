//! The two packed rows a block has in the index. Private to the index, rebuilt from the log: no format of ours to others.
//!
//! All integers are little-endian.
//! ```text
//! block row     first entry u64 │ time i64 │ terms u32 │ entries u32 │ checkpoint length u32 │ checkpoint
//!               then per entry: offset u32 │ length u32 │ statement id [32]
//!               and when the highest bit of `entries` is set: batches u32, per batch its place among the entries u32 │ triggers u32
//! outcome row   count u32 │ per outcome: end u32 (offset behind it, from the first outcome's start) │ all outcomes
//! change row    per change: key hash [32] │ 0, or 1 │ value hash [32]
//! ```
//! In the outcome row the terms come first, then the entries, each batch followed by its triggers, as in the block's outcome tree.

use super::block::Span;
use tally_evidence::{Hash, StateChange, StatementId};
use tally_model::Timestamp;

/// Set in the number of entries when some of them are batches.
const HAS_BATCHES: u32 = 1 << 31;

/// What the index knows of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRow {
    /// Index of its first entry; where the next one begins when it has none.
    pub first_entry: u64,
    /// Block time.
    pub time: Timestamp,
    /// How many terms ran out in it.
    pub terms: u32,
    /// The sealed checkpoint.
    pub checkpoint: Vec<u8>,
    /// Where its statements lie in the log record, and their ids.
    pub entries: Vec<(Span, StatementId)>,
    /// Its batches in order: place among the entries, and number of triggers.
    pub batches: Vec<(u32, u32)>,
}

impl BlockRow {
    /// Entries in the tree after this block: the size its receipts are made for.
    pub fn size(&self) -> u64 {
        self.first_entry + self.entries.len() as u64
    }

    /// Where the outcome of entry `place` of the block stands among the block's.
    pub fn outcome_of(&self, place: usize) -> usize {
        let before = self.batches.iter().take_while(|(batch, _)| (*batch as usize) < place);
        self.terms as usize + place + before.map(|(_, triggers)| *triggers as usize).sum::<usize>()
    }

    /// How many triggers came in entry `place`, if it is a batch.
    pub fn triggers_of(&self, place: usize) -> Option<u32> {
        self.batches.iter().find(|(batch, _)| *batch as usize == place).map(|(_, triggers)| *triggers)
    }

    /// The row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(28 + self.checkpoint.len() + self.entries.len() * 40);
        row.extend_from_slice(&self.first_entry.to_le_bytes());
        row.extend_from_slice(&self.time.as_micros().to_le_bytes());
        row.extend_from_slice(&self.terms.to_le_bytes());
        let flag = if self.batches.is_empty() { 0 } else { HAS_BATCHES };
        row.extend_from_slice(&(number(self.entries.len()) | flag).to_le_bytes());
        row.extend_from_slice(&length(self.checkpoint.len()));
        row.extend_from_slice(&self.checkpoint);
        for ((offset, bytes), id) in &self.entries {
            row.extend_from_slice(&offset.to_le_bytes());
            row.extend_from_slice(&bytes.to_le_bytes());
            row.extend_from_slice(&id.0);
        }
        if !self.batches.is_empty() {
            row.extend_from_slice(&length(self.batches.len()));
        }
        for (place, triggers) in &self.batches {
            row.extend_from_slice(&place.to_le_bytes());
            row.extend_from_slice(&triggers.to_le_bytes());
        }
        row
    }

    /// `None` when the row is damaged.
    pub fn decode(row: &[u8]) -> Option<Self> {
        let mut row = Cut(row);
        let first_entry = u64::from_le_bytes(row.take()?);
        let time = Timestamp::from_micros(i64::from_le_bytes(row.take()?));
        let (terms, count) = (row.number()?, row.number()?);
        let bytes = row.number()?;
        let checkpoint = row.slice(bytes)?.to_vec();
        let mut entries = Vec::with_capacity(row.0.len() / 40);
        for _ in 0..count & !HAS_BATCHES {
            entries.push(((row.number()?, row.number()?), StatementId(row.take()?)));
        }
        let mut batches = Vec::new();
        for _ in 0..if count & HAS_BATCHES == 0 { 0 } else { row.number()? } {
            batches.push((row.number()?, row.number()?));
        }
        row.0.is_empty().then_some(Self { first_entry, time, terms, checkpoint, entries, batches })
    }
}

pub fn encode_outcomes(outcomes: &[Vec<u8>]) -> Vec<u8> {
    let bytes: usize = outcomes.iter().map(Vec::len).sum();
    let mut row = Vec::with_capacity(4 + 4 * outcomes.len() + bytes);
    row.extend_from_slice(&length(outcomes.len()));
    let mut end = 0;
    for outcome in outcomes {
        end += outcome.len();
        row.extend_from_slice(&length(end));
    }
    for outcome in outcomes {
        row.extend_from_slice(outcome);
    }
    row
}

/// `None` when the row is damaged.
pub fn decode_outcomes(row: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut row = Cut(row);
    let count = row.number()?;
    let ends = row.slice(count.checked_mul(4)?)?;
    let mut from = 0;
    let outcomes = ends.chunks_exact(4).map(|end| {
        let end = u32::from_le_bytes(end.try_into().ok()?) as usize;
        let outcome = row.0.get(from..end)?.to_vec();
        from = end;
        Some(outcome)
    });
    let outcomes = outcomes.collect::<Option<Vec<_>>>()?;
    (from == row.0.len()).then_some(outcomes)
}

/// What a block changes in the state tree.
pub fn encode_changes(changes: &[StateChange]) -> Vec<u8> {
    let mut row = Vec::with_capacity(changes.len() * 65);
    for (key, value) in changes {
        row.extend_from_slice(key);
        row.push(u8::from(value.is_some()));
        row.extend_from_slice(value.as_ref().map_or(&[][..], |value| &value[..]));
    }
    row
}

/// `None` when the row is damaged.
pub fn decode_changes(row: &[u8]) -> Option<Vec<StateChange>> {
    let (mut row, mut changes) = (Cut(row), Vec::with_capacity(row.len() / 65));
    while !row.0.is_empty() {
        let key: Hash = row.take()?;
        let value = match row.take()? {
            [0] => None,
            [1] => Some(row.take()?),
            _ => return None,
        };
        changes.push((key, value));
    }
    changes.is_sorted_by(|a, b| a.0 < b.0).then_some(changes)
}

fn length(bytes: usize) -> [u8; 4] {
    number(bytes).to_le_bytes()
}

fn number(bytes: usize) -> u32 {
    // Everything of a block is below the 16 MiB of its record.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn slice(&mut self, bytes: u32) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(bytes as usize)?;
        self.0 = rest;
        Some(front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_round_trip_and_cut_ones_are_noticed() {
        let entry = |n: u8| ((u32::from(n) * 7, 5), StatementId([n; 32]));
        let mut row = BlockRow {
            first_entry: 9,
            time: Timestamp::from_micros(-5),
            terms: 2,
            checkpoint: vec![1; 300],
            entries: vec![entry(1), entry(2), entry(3)],
            batches: Vec::new(),
        };
        for batches in [vec![], vec![(0, 5), (1, 7)]] {
            row.batches = batches;
            let bytes = row.encode();
            assert_eq!(BlockRow::decode(&bytes), Some(row.clone()));
            assert!((0..bytes.len()).all(|cut| BlockRow::decode(&bytes[..cut]).is_none()));
        }
        assert_eq!([0, 1, 2].map(|place| row.outcome_of(place)), [2, 2 + 6, 2 + 6 + 8]);
        assert_eq!([0, 1, 2].map(|place| row.triggers_of(place)), [Some(5), Some(7), None]);
        let outcomes = vec![vec![1, 2, 3], vec![], vec![4]];
        let bytes = encode_outcomes(&outcomes);
        assert_eq!(decode_outcomes(&bytes), Some(outcomes));
        assert!((0..bytes.len()).all(|cut| decode_outcomes(&bytes[..cut]).is_none()));
        let changes = vec![([1; 32], Some([2; 32])), ([3; 32], None), ([4; 32], Some([0; 32]))];
        let bytes = encode_changes(&changes);
        assert_eq!(decode_changes(&bytes), Some(changes));
        assert!((0..bytes.len()).filter(|cut| decode_changes(&bytes[..*cut]).is_some()).eq([0, 65, 98]));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = BlockRow::decode(&bytes);
            let _ = decode_outcomes(&bytes);
            let _ = decode_changes(&bytes);
        }
    }
}
