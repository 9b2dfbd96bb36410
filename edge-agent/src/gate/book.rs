//! The gate's memory on disk: what it intended, what came of it, what the ledger was told, what was revoked.
//!
//! Records (`docs/formats/agent-folder.md`; integers little-endian, `bytes` with a u32 length in front):
//! ```text
//! intention  1 u8, at i64 µs, permit bytes
//! report     2 u8, has a permit? u8, permit u64, statement bytes
//! answer     3 u8, journal record of the report u64, refusal u16 (65535: turned away by the node)
//! revoked    4 u8, permit u64, at i64 µs
//! asked      5 u8, until i64 µs, digest of the command as bytes
//! ```
//! **Order.** An intention is synced before the device is touched, a report before anybody is told. **Deleted** are whole
//! segments in which every report has its answer and every permit ran out more than a day ago: then its time alone refuses it.

use super::check::Known;
use crate::bytes::{Put, Take};
use crate::error::StoreError;
use crate::store::open_journal;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;
use tally_evidence::{Hash, Permit};
use tally_journal::{DirStorage, Journal, JournalError, Options, Storage};
use tally_model::Timestamp;

const STORE: &str = "gate";
const INTENTION: u8 = 1;
const REPORT: u8 = 2;
const ANSWER: u8 = 3;
const REVOKED: u8 = 4;
const ASKED: u8 = 5;
/// The node turned a report away for good.
pub(super) const TURNED_AWAY: u16 = u16::MAX;
/// How long a permit is remembered after its time: longer than any clock of ours may be wrong without being noticed.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Revocations of permits we never saw: a permit lives a day at most.
const REVOKED_REMEMBERED: Duration = Duration::from_secs(3 * 24 * 3600);

/// A permit in the book.
struct Used {
    record: u64,
    until: Timestamp,
    /// Kept until there is a report.
    permit: Option<Permit>,
}

/// The open book.
pub struct Book<S: Storage> {
    journal: Journal<S>,
    used: HashMap<u64, Used>,
    revoked: HashMap<u64, (u64, Timestamp)>,
    /// Commands that were heard and might come again, by digest: their record, and until when they would count.
    asked: HashMap<Hash, (u64, Timestamp)>,
    /// Reports without an answer, by record.
    pending: BTreeMap<u64, ()>,
}

pub(super) fn open(data: &Path) -> Result<Book<DirStorage>, StoreError> {
    let storage = DirStorage::open(data.join(STORE)).map_err(|source| StoreError::Open { store: STORE, source })?;
    Book::begin(open_journal(STORE, storage, Options { segment_bytes_max: 1 << 20, ..Options::default() })?)
}

fn fault(source: JournalError) -> StoreError {
    StoreError::Journal { store: STORE, source }
}

/// A record, read.
#[derive(Debug, Clone, PartialEq)]
enum Record {
    Intention(Timestamp, Box<Permit>),
    Report(Option<u64>, Vec<u8>),
    Answer(u64, u16),
    Revoked(u64, Timestamp),
    Asked(Timestamp, Hash),
}

impl Record {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        match self {
            Self::Intention(at, permit) => {
                bytes.push(INTENTION);
                bytes.put_time(*at);
                bytes.put_bytes(&permit.encode());
            }
            Self::Report(permit, statement) => {
                bytes.extend([REPORT, u8::from(permit.is_some())]);
                bytes.put_u64(permit.unwrap_or_default());
                bytes.put_bytes(statement);
            }
            Self::Answer(report, refusal) => {
                bytes.push(ANSWER);
                bytes.put_u64(*report);
                bytes.put_u16(*refusal);
            }
            Self::Revoked(permit, at) => {
                bytes.push(REVOKED);
                bytes.put_u64(*permit);
                bytes.put_time(*at);
            }
            Self::Asked(until, digest) => {
                bytes.push(ASKED);
                bytes.put_time(*until);
                bytes.put_bytes(digest);
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let record = match take.u8()? {
            INTENTION => Self::Intention(take.time()?, Box::new(Permit::decode(take.bytes()?).ok()?)),
            REPORT => {
                let (has_permit, permit) = (take.u8()? == 1, take.u64()?);
                Self::Report(has_permit.then_some(permit), take.bytes()?.to_vec())
            }
            ANSWER => Self::Answer(take.u64()?, take.u16()?),
            REVOKED => Self::Revoked(take.u64()?, take.time()?),
            ASKED => Self::Asked(take.time()?, take.bytes()?.try_into().ok()?),
            _ => return None,
        };
        take.end()?;
        Some(record)
    }
}

impl<S: Storage> Book<S> {
    /// Reads what is there.
    pub(super) fn begin(journal: Journal<S>) -> Result<Self, StoreError> {
        let (used, revoked, asked) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut book = Self { journal, used, revoked, asked, pending: BTreeMap::new() };
        let mut records = Vec::new();
        for record in book.journal.iter_from(0).map_err(fault)? {
            let (number, bytes) = record.map_err(fault)?;
            records.push((number, Record::decode(&bytes).ok_or(StoreError::Foreign { store: STORE, record: number })?));
        }
        for (number, record) in records {
            book.follow(number, record);
        }
        Ok(book)
    }

    fn follow(&mut self, number: u64, record: Record) {
        match record {
            Record::Intention(_, permit) => {
                let used = Used { record: number, until: permit.until, permit: Some(*permit) };
                self.used.insert(used.permit.as_ref().map_or(0, |permit| permit.id), used);
            }
            Record::Report(permit, _) => {
                self.pending.insert(number, ());
                if let Some(used) = permit.and_then(|permit| self.used.get_mut(&permit)) {
                    used.permit = None;
                }
            }
            Record::Answer(report, _) => {
                self.pending.remove(&report);
            }
            Record::Revoked(permit, at) => {
                self.revoked.insert(permit, (number, at));
            }
            Record::Asked(until, digest) => {
                self.asked.insert(digest, (number, until));
            }
        }
    }

    fn write(&mut self, record: Record) -> Result<(), StoreError> {
        let number = self.journal.append(&record.encode()).map_err(fault)?;
        self.journal.sync().map_err(fault)?;
        self.follow(number, record);
        Ok(())
    }

    /// What is known of a permit.
    pub(super) fn known(&self, id: u64) -> Known {
        match (self.used.contains_key(&id), self.revoked.contains_key(&id)) {
            (true, _) => Known::Used,
            (_, true) => Known::Revoked,
            _ => Known::Nothing,
        }
    }

    /// From here on the permit is never carried out again. Durable when this returns.
    pub(super) fn intend(&mut self, permit: &Permit, now: Timestamp) -> Result<(), StoreError> {
        self.discard(now)?;
        self.write(Record::Intention(now, Box::new(permit.clone())))
    }

    /// A sealed result of this permit, or an attempt. Durable when this returns.
    pub(super) fn report(&mut self, permit: Option<u64>, statement: &[u8]) -> Result<(), StoreError> {
        self.write(Record::Report(permit, statement.to_vec()))
    }

    /// The ledger took it back. Durable when this returns.
    pub(super) fn revoked(&mut self, permit: u64, now: Timestamp) -> Result<(), StoreError> {
        if self.known(permit) != Known::Nothing {
            return Ok(());
        }
        self.write(Record::Revoked(permit, now))
    }

    /// A command is heard, for the first time? From here on it is never asked for again. Durable when this returns. A command is
    /// forgotten a day after `until`: then its age alone refuses it.
    pub(super) fn ask(&mut self, digest: Hash, until: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        if self.asked.contains_key(&digest) {
            return Ok(false);
        }
        self.discard(now)?;
        self.write(Record::Asked(until, digest))?;
        Ok(true)
    }

    /// Permits with an intention and no report.
    pub(super) fn unfinished(&self) -> Vec<Permit> {
        let mut unfinished: Vec<_> = self.used.values().filter_map(|used| used.permit.clone()).collect();
        unfinished.sort_by_key(|permit| permit.id);
        unfinished
    }

    /// The oldest report without an answer, with its record.
    pub(super) fn next(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let Some((record, ())) = self.pending.first_key_value() else { return Ok(None) };
        let bytes = self.journal.read(*record).map_err(fault)?.unwrap_or_default();
        match Record::decode(&bytes) {
            Some(Record::Report(_, statement)) => Ok(Some((*record, statement))),
            _ => Err(StoreError::Foreign { store: STORE, record: *record }),
        }
    }

    /// Reports without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The ledger has it. Lost in a crash, it is submitted again and gets the same answer.
    pub(super) fn answer(&mut self, report: u64, refusal: u16) -> Result<(), StoreError> {
        let record = Record::Answer(report, refusal);
        let number = self.journal.append(&record.encode()).map_err(fault)?;
        self.follow(number, record);
        Ok(())
    }

    fn discard(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let is_over = |used: &Used| used.permit.is_none() && now.since(used.until) > REMEMBERED;
        let old = |(_, at): &(u64, Timestamp)| now.since(*at) > REVOKED_REMEMBERED;
        let needed = self.used.values().filter(|used| !is_over(used)).map(|used| used.record);
        let needed = needed.chain(self.revoked.values().filter(|row| !old(row)).map(|(record, _)| *record));
        self.asked.retain(|_, (_, until)| now.since(*until) <= REMEMBERED);
        let needed = needed.chain(self.asked.values().map(|(record, _)| *record));
        let needed = needed.chain(self.pending.keys().copied()).min().unwrap_or_else(|| self.journal.next_number());
        if needed > self.journal.first_number() {
            self.journal.discard_before(needed).map_err(fault)?;
            let first = self.journal.first_number();
            self.used.retain(|_, used| used.record >= first);
            self.revoked.retain(|_, (record, _)| *record >= first);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::samples;
    use proptest::prelude::*;
    use tally_journal::testing::MemStorage;

    fn permit(id: u64, until: i64) -> Permit {
        Permit { id, until: Timestamp::from_micros(until), ..samples::permit() }
    }

    fn open(disk: &MemStorage) -> Book<MemStorage> {
        let options = Options { segment_bytes_max: 4096, ..Options::default() };
        Book::begin(open_journal(STORE, disk.clone(), options).unwrap()).unwrap()
    }

    #[test]
    fn an_intention_survives_a_power_cut_at_any_moment() {
        for seed in 0..20 {
            let disk = MemStorage::new();
            let mut book = open(&disk);
            book.intend(&permit(1, 9), Timestamp::default()).unwrap();
            let mut book = open(&disk.power_cut(seed));
            assert_eq!(book.known(1), Known::Used);
            assert_eq!(book.unfinished(), [permit(1, 9)]);
            book.report(Some(1), b"said").unwrap();
            assert!(book.unfinished().is_empty());
            assert_eq!(book.next().unwrap().unwrap().1, b"said");
        }
    }

    #[test]
    fn reports_wait_for_their_answer_in_order() {
        let disk = MemStorage::new();
        let mut book = open(&disk);
        book.report(None, b"one").unwrap();
        book.report(None, b"two").unwrap();
        let (record, statement) = book.next().unwrap().unwrap();
        assert_eq!(statement, b"one");
        book.answer(record, 0).unwrap();
        assert_eq!((book.next().unwrap().unwrap().1, book.waiting()), (b"two".to_vec(), 1));
    }

    #[test]
    fn revocations_are_remembered() {
        let disk = MemStorage::new();
        let mut book = open(&disk);
        book.revoked(5, Timestamp::default()).unwrap();
        assert_eq!(open(&disk.power_cut(3)).known(5), Known::Revoked);
    }

    #[test]
    fn a_command_is_heard_once_also_after_a_power_cut() {
        let disk = MemStorage::new();
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        assert!(open(&disk).ask([7; 32], at(10), at(1)).unwrap());
        let mut book = open(&disk.power_cut(5));
        assert!(!book.ask([7; 32], at(10), at(2)).unwrap());
        assert!(book.ask([8; 32], at(10), at(2)).unwrap());
        let day = 24 * 3600;
        assert!(book.ask([9; 32], at(day * 3), at(day * 3)).unwrap());
        assert_eq!(book.asked.len(), 1, "what is over is forgotten: its age refuses it");
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_is_not_is_not() {
        let disk = MemStorage::new();
        let mut book = open(&disk);
        let day = 24 * 3_600_000_000_i64;
        for id in 0..200 {
            let now = Timestamp::from_micros(i64::try_from(id).unwrap() * day);
            book.intend(&permit(id, now.as_micros() + 5), now).unwrap();
            book.report(Some(id), &[7; 200]).unwrap();
            let (record, _) = book.next().unwrap().unwrap();
            book.answer(record, 0).unwrap();
        }
        assert_eq!((book.known(199), book.known(198)), (Known::Used, Known::Used));
        assert!(book.used.len() < 50, "{}", book.used.len());
    }

    /// Golden bytes: a change here is a change of format.
    #[test]
    fn records_have_the_bytes_that_the_page_says() {
        let (at, permit) = (Timestamp::from_micros(2), permit(1, 9));
        let length = u32::try_from(permit.encode().len()).unwrap().to_le_bytes();
        let intention = [&b"\x01\x02\0\0\0\0\0\0\0"[..], &length, &permit.encode()].concat();
        for (record, bytes) in [
            (Record::Intention(at, Box::new(permit)), &intention[..]),
            (Record::Report(Some(3), b"said".to_vec()), b"\x02\x01\x03\0\0\0\0\0\0\0\x04\0\0\0said"),
            (Record::Report(None, b"said".to_vec()), b"\x02\0\0\0\0\0\0\0\0\0\x04\0\0\0said"),
            (Record::Answer(5, TURNED_AWAY), b"\x03\x05\0\0\0\0\0\0\0\xff\xff"),
            (Record::Revoked(6, at), b"\x04\x06\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"),
            (Record::Asked(at, [7; 32]), &[&b"\x05\x02\0\0\0\0\0\0\0\x20\0\0\0"[..], &[7; 32]].concat()),
        ] {
            assert_eq!(record.encode(), bytes);
            assert_eq!(Record::decode(bytes), Some(record));
            assert_eq!(Record::decode(&[bytes, b"\0"].concat()), None, "nothing behind the end");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), kind in 0u8..7) {
            bytes[0] = kind;
            let _ = Record::decode(&bytes);
        }
    }
}
