//! Recordings played again: runs of values that equal, bit for bit, an earlier run of the same length.
//!
//! A rolling fingerprint over the last values finds candidates in constant time; equal fingerprints are compared value by
//! value, so that none is called a copy by accident. 40 bytes for each remembered value.

use std::collections::{HashMap, VecDeque};
use tally_model::Replay;

/// Base of the fingerprint, odd: `Σ value·base^k` modulo 2⁶⁴.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The values of one point, as far as they are remembered.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    length: usize,
    remembered: usize,
    /// BASE^length: what the value that leaves the run is multiplied with.
    leaving: u64,
    /// Number and bits, oldest first.
    values: VecDeque<(u64, u64)>,
    /// How many values were forgotten: place in the whole of `values[0]`.
    forgotten: u64,
    fingerprint: u64,
    /// Fingerprint of a run to the place of its last value in the whole, the latest.
    ends: HashMap<u64, u64>,
    /// Runs whose end is too young to be compared with: a copy must not overlap its original.
    young: VecDeque<(u64, u64)>,
}

/// A run that equals an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy {
    /// Number of its first reading.
    pub(super) from: u64,
    /// Number of the first reading of the original.
    pub(super) earlier: u64,
}

impl Runs {
    pub(super) fn new(replay: Replay) -> Self {
        let length = usize::try_from(replay.readings.max(2)).unwrap_or(usize::MAX);
        Self {
            length,
            // Less than two runs can find nothing.
            remembered: usize::try_from(replay.remembered).unwrap_or(usize::MAX).max(length.saturating_mul(2)),
            leaving: BASE.wrapping_pow(replay.readings.max(2)),
            values: VecDeque::new(),
            forgotten: 0,
            fingerprint: 0,
            ends: HashMap::new(),
            young: VecDeque::new(),
        }
    }

    /// Takes in the next value; says when the run that ends with it is a copy.
    pub(super) fn push(&mut self, number: u64, bits: u64) -> Option<Copy> {
        let place = self.forgotten + self.values.len() as u64;
        self.values.push_back((number, bits));
        self.fingerprint = self.fingerprint.wrapping_mul(BASE).wrapping_add(bits);
        if let Some(left) = self.values.len().checked_sub(self.length + 1).and_then(|at| self.values.get(at)) {
            self.fingerprint = self.fingerprint.wrapping_sub(left.1.wrapping_mul(self.leaving));
        }
        self.forget();
        while let Some((fingerprint, end)) = self.young.front().copied()
            && end + self.length as u64 <= place
        {
            self.young.pop_front();
            self.ends.insert(fingerprint, end);
        }
        let copy = self.find();
        if self.values.len() >= self.length {
            self.young.push_back((self.fingerprint, place));
        }
        copy
    }

    fn find(&self) -> Option<Copy> {
        let from = self.values.len().checked_sub(self.length)?;
        let end = self.ends.get(&self.fingerprint)?;
        let earlier = usize::try_from(end.checked_sub(self.forgotten)?).ok()?.checked_sub(self.length - 1)?;
        let run = |at: usize| self.values.range(at..at + self.length);
        let same = run(from).map(|(_, bits)| bits).eq(run(earlier).map(|(_, bits)| bits));
        (same && self.varies(from)).then(|| Copy { from: self.values[from].0, earlier: self.values[earlier].0 })
    }

    /// A value that stands still, or swings between a few, is no recording: a quarter of the run must be different values.
    fn varies(&self, from: usize) -> bool {
        let mut values: Vec<_> = self.values.range(from..from + self.length).map(|(_, bits)| *bits).collect();
        values.sort_unstable();
        values.dedup();
        values.len() * 4 >= self.length && values.len() > 2
    }

    fn forget(&mut self) {
        while self.values.len() > self.remembered {
            self.values.pop_front();
            self.forgotten += 1;
        }
        // Ends of forgotten runs go in one sweep, when they are as many as what is remembered.
        if self.ends.len() > self.remembered.saturating_mul(2) {
            let first = self.forgotten + self.length as u64 - 1;
            self.ends.retain(|_, end| *end >= first);
        }
    }
}
