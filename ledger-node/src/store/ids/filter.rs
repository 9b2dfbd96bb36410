//! Which statement ids are certainly not in a run, in memory: every statement that is admitted asks, nearly every one is new, and each
//! such question would read a page of every run.
//!
//! A Bloom filter of lines of 512 bits (one line of the processor's cache a question); ids are SHA-256, so their own bits choose. It may
//! say *maybe* of an id that is not there, never *no* of one that is. Made with its run and kept in the run's file.
//! **Memory** 12 bits an id.

use super::Id;

/// Bits for each id: of two hundred that are not there, one is looked for.
const BITS_EACH: u64 = 12;
/// Words of a line.
const LINE: usize = 8;
/// Bytes of a line.
const LINE_BYTES: u64 = 8 * LINE as u64;
/// Bits set for an id.
const SET: u32 = 6;

/// The filter of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter(Vec<[u64; LINE]>);

impl Filter {
    /// An empty one with room for so many ids.
    pub fn of(ids: u64) -> Self {
        Self(vec![[0; LINE]; usize::try_from(Self::lines(ids)).unwrap_or(1)])
    }

    /// Bytes of a filter for so many ids.
    pub const fn bytes_for(ids: u64) -> u64 {
        Self::lines(ids) * LINE_BYTES
    }

    const fn lines(ids: u64) -> u64 {
        ids * BITS_EACH / (8 * LINE_BYTES) + 1
    }

    pub fn insert(&mut self, id: &Id) {
        let (line, wanted) = self.place(id);
        let Some(line) = self.0.get_mut(line) else { return };
        line.iter_mut().zip(wanted).for_each(|(word, bits)| *word |= bits);
    }

    /// Whether an id may be in the run.
    pub fn may_have(&self, id: &Id) -> bool {
        let (line, wanted) = self.place(id);
        self.0.get(line).is_none_or(|line| line.iter().zip(wanted).all(|(word, bits)| word & bits == bits))
    }

    /// Its bytes: each word little-endian.
    pub fn encode(&self) -> Vec<u8> {
        self.0.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A filter from [its bytes](Self::encode).
    pub fn decode(bytes: &[u8]) -> Self {
        let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Self(words.as_chunks().0.to_vec())
    }

    /// The line of an id, and its bits there.
    fn place(&self, id: &Id) -> (usize, [u64; LINE]) {
        let [a, b, ..] = *id.as_chunks::<8>().0 else { return (0, [0; LINE]) };
        let line = (u128::from(u64::from_be_bytes(a)) * self.0.len() as u128) >> 64;
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
    use tally_evidence::sha256;

    fn id(number: u64) -> Id {
        sha256(&number.to_le_bytes())
    }

    #[test]
    fn what_is_in_is_never_denied_and_what_is_not_nearly_always() {
        for count in [1, 7, 42, 43, 5_000, 100_000] {
            let mut filter = Filter::of(count);
            (0..count).for_each(|number| filter.insert(&id(number)));
            assert!((0..count).all(|number| filter.may_have(&id(number))), "{count}");
            let wrong = (0..100_000).filter(|number| filter.may_have(&id((1 << 40) + number))).count();
            assert!(wrong < 2_000, "{wrong} of 100,000 at {count}");
            let bytes = filter.encode();
            assert_eq!((bytes.len() as u64, Filter::decode(&bytes)), (Filter::bytes_for(count), filter));
        }
    }
}
