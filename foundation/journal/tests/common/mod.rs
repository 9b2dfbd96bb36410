//! What all tests of this crate share: a naive model of a journal, and lives of a journal on a disk that fails.
#![allow(dead_code)]

use sha2::{Digest, Sha256};
use tally_journal::testing::{DiskFault, MemStorage, Random};
use tally_journal::{Journal, JournalError, OpenError, Options, Storage};

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

/// Several lives of one journal, each ended by a fault, a kill or a power cut. All of it follows from the seed.
pub struct Lives {
    random: Random,
    storage: MemStorage,
    options: Options,
    model: Model,
    faults: &'static [DiskFault],
    /// What happened, so that a test can be sure that it tested something.
    pub poisonings: u32,
    pub repairs: u32,
    pub failed_opens: u32,
}

impl Lives {
    pub fn new(seed: u64, faults: &'static [DiskFault]) -> Self {
        let mut random = Random(seed);
        let options = small_segments(200 + random.below(1800) as u64);
        let (storage, model) = (MemStorage::new(), Model::default());
        Lives { random, storage, options, model, faults, poisonings: 0, repairs: 0, failed_opens: 0 }
    }

    pub fn live(&mut self, lives: u32) {
        for _ in 0..lives {
            self.live_once();
        }
        self.end_life();
        let journal = Journal::open_on(self.storage.clone(), self.options.clone()).expect("opens without faults");
        self.model.reopened(&journal);
    }

    fn live_once(&mut self) {
        if !self.faults.is_empty() {
            let fault = self.faults[self.random.below(self.faults.len())];
            self.storage.fail_operation(1 + self.random.below(40) as u64, fault);
        }
        match Journal::open_on(self.storage.clone(), self.options.clone()) {
            Ok(mut journal) => {
                self.repairs += u32::from(journal.repaired().is_some());
                self.model.reopened(&journal);
                self.act_until_poisoned(&mut journal);
                if self.random.below(2) == 0 {
                    drop(journal); // In good order, if it still can: leaves a mark.
                    self.end_life();
                } else {
                    self.end_life(); // Under its feet.
                }
            }
            Err(error @ (OpenError::Read { .. } | OpenError::Repair { .. } | OpenError::Create { .. })) => {
                assert!(!self.faults.is_empty(), "{error}");
                self.failed_opens += 1;
                self.end_life();
            }
            Err(error) => panic!("no fault may look like this: {error}"),
        }
    }

    fn end_life(&mut self) {
        let seed = self.random.bits();
        self.storage = if seed.is_multiple_of(3) { self.storage.restart() } else { self.storage.power_cut(seed) };
    }

    fn act_until_poisoned(&mut self, journal: &mut Journal<MemStorage>) {
        for _ in 0..self.random.below(24) {
            if let Err(error) = self.act(journal) {
                assert!(journal.is_poisoned(), "after {error}");
                self.poisonings += 1;
                assert_refuses_everything(journal);
                return;
            }
        }
        if self.random.below(4) == 0 {
            self.model.check(journal);
        }
    }

    fn act(&mut self, journal: &mut Journal<MemStorage>) -> Result<(), JournalError> {
        match self.random.below(10) {
            0..=4 => {
                let record = self.record();
                self.model.push(&record);
                let number = journal.append(&record)?;
                assert_eq!(number + 1, self.model.records.len() as u64);
            }
            5 => {
                let records: Vec<_> = (0..self.random.below(5)).map(|_| self.record()).collect();
                let first = self.model.records.len() as u64;
                records.iter().for_each(|record| self.model.push(record));
                assert_eq!(journal.append_all(&records)?, first..self.model.records.len() as u64);
            }
            6..=8 => {
                journal.sync()?;
                self.model.synced();
            }
            _ => {
                let number = self.random.below(self.model.records.len() + 2) as u64;
                self.model.wish_discarded(number);
                journal.discard_before(number)?;
            }
        }
        Ok(())
    }

    fn record(&mut self) -> Vec<u8> {
        let length = match self.random.below(12) {
            0 => 0,
            1 => self.random.below(2000),
            _ => self.random.below(60),
        };
        (0..length).map(|_| self.random.byte()).collect()
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
