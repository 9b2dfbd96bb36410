//! What all tests of this crate share: a naive model of a journal.
#![allow(dead_code)]

use sha2::{Digest, Sha256};
use tally_journal::{Journal, JournalError, Options, Storage};

pub fn small_segments(segment_bytes_max: u64) -> Options {
    Options { segment_bytes_max, ..Options::default() }
}

/// What a journal must answer. Knows nothing of segments, frames or files.
#[derive(Default)]
pub struct Model {
    /// Every record ever handed to the journal and not known to be lost, by number.
    pub records: Vec<Vec<u8>>,
    /// Chain hash after that many records.
    heads: Vec<[u8; 32]>,
    /// Confirmed records.
    pub durable: usize,
    /// First record kept, and the highest number ever given to `discard_before`.
    first: u64,
    discard_wish: u64,
}

impl Model {
    pub fn push(&mut self, record: &[u8]) {
        let number = self.records.len();
        let hash = Sha256::new()
            .chain_update(self.head(number))
            .chain_update((number as u64).to_le_bytes())
            .chain_update(record)
            .finalize();
        self.heads.truncate(number);
        self.heads.push(hash.into());
        self.records.push(record.to_vec());
    }

    pub fn synced(&mut self) {
        self.durable = self.records.len();
    }

    pub fn wish_discarded(&mut self, number: u64) {
        self.discard_wish = self.discard_wish.max(number);
    }

    fn head(&self, number: usize) -> [u8; 32] {
        number.checked_sub(1).map_or([0; 32], |last| self.heads[last])
    }

    /// After opening: nothing confirmed is gone, nothing is there that was not appended. What is there counts from now on.
    pub fn reopened<S: Storage>(&mut self, journal: &Journal<S>) {
        let next = usize::try_from(journal.next_number()).unwrap();
        assert!(next >= self.durable, "confirmed {} records, found {next}", self.durable);
        assert!(next <= self.records.len(), "appended {} records, found {next}", self.records.len());
        assert_eq!(journal.durable_number(), journal.next_number(), "what opening finds is durable");
        self.records.truncate(next);
        self.durable = next;
        self.check(journal);
    }

    /// Compares everything that can be asked.
    pub fn check<S: Storage>(&mut self, journal: &Journal<S>) {
        let next = self.records.len() as u64;
        let first = journal.first_number();
        assert_eq!(journal.next_number(), next);
        assert!(journal.durable_number() >= self.durable as u64);
        assert!(first >= self.first, "discarded records came back");
        assert!(first <= self.discard_wish.max(self.first), "a live record was deleted");
        self.first = first;
        assert_eq!(journal.head_hash(), self.head(self.records.len()));
        let found: Vec<_> = journal.iter_from(0).unwrap().map(Result::unwrap).collect();
        let wanted = (first..).zip(self.records[usize::try_from(first).unwrap()..].iter().cloned());
        assert!(wanted.eq(found), "records differ");
        for number in [first, (first + next) / 2, next.saturating_sub(1)] {
            let wanted = self.records.get(usize::try_from(number).unwrap()).filter(|_| number >= first);
            assert_eq!(journal.read(number).unwrap().as_ref(), wanted);
        }
        assert_eq!(journal.read(next).unwrap(), None);
        assert_eq!(first.checked_sub(1).map(|gone| journal.read(gone).unwrap()), first.checked_sub(1).map(|_| None));
    }
}

pub fn assert_refuses_everything<S: Storage>(journal: &mut Journal<S>) {
    let next = journal.next_number();
    assert!(matches!(journal.append(b"x"), Err(JournalError::Poisoned)));
    assert!(matches!(journal.append_all([b"x"]), Err(JournalError::Poisoned)));
    assert!(matches!(journal.sync(), Err(JournalError::Poisoned)));
    assert!(matches!(journal.read(0), Err(JournalError::Poisoned)));
    assert!(matches!(journal.iter_from(0), Err(JournalError::Poisoned)));
    assert!(matches!(journal.discard_before(u64::MAX), Err(JournalError::Poisoned)));
    assert!(journal.is_poisoned());
    assert_eq!(journal.next_number(), next);
}
