//! Lives of a journal on a disk that fails, or under a careless journal to see that the lives would show it.

use crate::common::{Model, assert_refuses_everything, small_segments};
use tally_journal::testing::{Careless, DiskFault, MemStorage, Random, Slip};
use tally_journal::{Check, Journal, JournalError, OpenError, Options, SegmentName};

/// Several lives of one journal, each ended by a fault, a kill or a power cut. All of it follows from the seed.
pub struct Lives {
    random: Random,
    disk: MemStorage,
    slip: Slip,
    options: Options,
    model: Model,
    faults: &'static [DiskFault],
    /// What happened, so that a test can be sure that it tested something.
    pub poisonings: u32,
    pub repairs: u32,
    pub failed_opens: u32,
    pub rolls: u32,
    pub discards: u32,
}

impl Lives {
    pub fn new(seed: u64, faults: &'static [DiskFault], slip: Slip) -> Self {
        let mut random = Random(seed);
        // Half of the journals believe summaries.
        let check = if seed.is_multiple_of(2) { Check::Everything } else { Check::LastSegment };
        let options = Options { check, ..small_segments(200 + random.below(1800) as u64) };
        let (disk, model) = (MemStorage::new(), Model::default());
        let (poisonings, repairs, failed_opens, rolls, discards) = (0, 0, 0, 0, 0);
        Lives { random, disk, slip, options, model, faults, poisonings, repairs, failed_opens, rolls, discards }
    }

    pub fn live(&mut self, lives: u32) {
        for _ in 0..lives {
            self.live_once();
        }
        self.end_life();
        let journal = self.open().expect("opens without faults");
        self.model.reopened(&journal);
    }

    fn open(&self) -> Result<Journal<Careless>, OpenError> {
        Journal::open_on(Careless::new(self.disk.clone(), self.slip), self.options.clone())
    }

    fn live_once(&mut self) {
        if !self.faults.is_empty() {
            let fault = self.faults[self.random.below(self.faults.len())];
            self.disk.fail_operation(1 + self.random.below(40) as u64, fault);
        }
        match self.open() {
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
        self.disk = if seed.is_multiple_of(3) { self.disk.restart() } else { self.disk.power_cut(seed) };
    }

    fn act_until_poisoned(&mut self, journal: &mut Journal<Careless>) {
        for _ in 0..self.random.below(24) {
            if let Err(error) = self.act(journal) {
                assert!(journal.is_poisoned(), "after {error}");
                self.poisonings += 1;
                assert_refuses_everything(journal);
                return;
            }
        }
        // The power may have gone while a summary was written, which the journal does not mind; then nobody is left to look.
        if self.random.below(4) == 0 && !self.disk.is_off() {
            self.model.check(journal);
            journal.check_everything().expect("nothing is damaged");
        }
    }

    fn act(&mut self, journal: &mut Journal<Careless>) -> Result<(), JournalError> {
        let segments = self.disk.names().len();
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
                journal.discard_before(self.with_slip(number))?;
                self.discards += u32::from(self.disk.names().len() < segments);
            }
        }
        self.rolls += u32::from(self.disk.names().len() > segments);
        Ok(())
    }

    /// The number that the careless hand to `discard_before`: the start of the next segment, so that the one which holds
    /// `number` goes as well.
    fn with_slip(&self, number: u64) -> u64 {
        if self.slip != Slip::DeletesLiveSegment {
            return number;
        }
        let starts = self.disk.names().into_iter().filter_map(|name| SegmentName::parse(&name));
        starts.map(|name| name.0).filter(|start| *start > number).min().unwrap_or(number)
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
