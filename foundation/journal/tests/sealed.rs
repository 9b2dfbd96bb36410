//! Opening that reads the last segment alone: how little it reads, what it still finds, and what reading and the full check find.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Model;
use std::cell::Cell;
use std::fs;
use std::io;
use std::rc::Rc;
use tally_journal::testing::{DiskFault, MemStorage};
use tally_journal::{
    Check, Damage, DirStorage, Fault, Journal, JournalError, OpenError, Options, SegmentName, Storage,
};

const SEGMENT_BYTES: u64 = 50_000;

fn options(check: Check) -> Options {
    Options { segment_bytes_max: SEGMENT_BYTES, check, ..Options::default() }
}

fn open_with<S: Storage>(storage: S, check: Check) -> Result<Journal<S>, OpenError> {
    Journal::open_on(storage, options(check))
}

fn open<S: Storage>(storage: S) -> Result<Journal<S>, OpenError> {
    open_with(storage, Check::LastSegment)
}

/// A record of 900 bytes that no other record is like.
fn record(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(112)
}

fn append(journal: &mut Journal<impl Storage>, model: &mut Model, records: u64) {
    for _ in 0..records {
        let bytes = record(journal.next_number());
        model.push(&bytes);
        journal.append(&bytes).unwrap();
        if journal.next_number().is_multiple_of(7) {
            journal.sync().unwrap();
            model.synced();
        }
    }
    journal.sync().unwrap();
    model.synced();
}

/// About five segments, closed in good order.
fn filled() -> (MemStorage, Model) {
    let (storage, mut model) = (MemStorage::new(), Model::default());
    append(&mut open(storage.clone()).unwrap(), &mut model, 250);
    assert_eq!(storage.names().len(), 5);
    (storage, model)
}

fn change(storage: &MemStorage, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut contents = storage.contents(name).unwrap();
    change(&mut contents);
    storage.put(name, &contents);
}

fn segments(storage: &MemStorage) -> Vec<SegmentName> {
    storage.names().iter().map(|name| SegmentName::parse(name).unwrap()).collect()
}

/// Counts the bytes of segments that are read; one summary can fail half-way, and nothing else with it.
struct Counting(MemStorage, Rc<Cell<u64>>, Option<Torn>);

/// Which summary fails (counted down to 0), and how.
struct Torn(Rc<Cell<i32>>, DiskFault);

impl Storage for Counting {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        self.0.create(segment)
    }
    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(segment, offset, bytes)
    }
    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        self.0.sync(segment)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.0.sync_directory()
    }
    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.1.set(self.1.get() + into.len() as u64);
        self.0.read_at(segment, offset, into)
    }
    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        self.0.truncate(segment, length)
    }
    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        self.0.delete(segment)
    }
    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        self.0.len(segment)
    }
    fn put_summary(&mut self, segment: SegmentName, summary: &[u8]) -> io::Result<()> {
        if let Some(Torn(left, fault)) = &self.2 {
            left.set(left.get() - 1);
            if left.get() == 0 {
                // Its file is cut to nothing first, and then written.
                self.0.fail_operation(2, *fault);
            }
        }
        self.0.put_summary(segment, summary)
    }
    fn summary(&self, segment: SegmentName) -> io::Result<Option<Vec<u8>>> {
        self.0.summary(segment)
    }
}

/// Bytes of segments that opening reads.
fn read_by_opening(storage: &MemStorage, model: &mut Model) -> u64 {
    let read = Rc::new(Cell::new(0));
    let journal = open(Counting(storage.clone(), Rc::clone(&read), None)).unwrap();
    let bytes = read.get();
    model.reopened(&journal);
    journal.check_everything().unwrap();
    bytes
}

/// All of it, of a sealed segment: twice the last one is read (to check it, and to write its end again).
const READ_ALL: u64 = 4 * (SEGMENT_BYTES - 2_000);
const READ_LITTLE: u64 = 2 * SEGMENT_BYTES + 4 * 200;

#[test]
fn opening_reads_headers_and_the_last_segment() {
    let (storage, mut model) = filled();
    assert!(read_by_opening(&storage, &mut model) < READ_LITTLE);
    // And what was found without reading goes on as if it had been read.
    append(&mut open(storage.clone()).unwrap(), &mut model, 120);
    model.reopened(&open_with(storage.clone(), Check::Everything).unwrap());
    let mut journal = open(storage).unwrap();
    model.wish_discarded(140);
    journal.discard_before(140).unwrap();
    model.check(&journal);
    assert!(journal.first_number() > 0);
    assert!(journal.bytes_from(200) < journal.bytes_on_disk());
}

#[test]
fn a_summary_that_is_lost_torn_stale_or_of_another_segment_is_made_anew() {
    let spoil: [fn(&MemStorage, &[SegmentName]); 5] = [
        |storage, names| names.iter().for_each(|name| storage.remove_file(&name.summary()).unwrap()),
        |storage, names| {
            names[..4].iter().for_each(|name| change(storage, &name.summary(), |bytes| bytes.truncate(90)))
        },
        |storage, names| names[..4].iter().for_each(|name| change(storage, &name.summary(), |bytes| bytes[81] ^= 1)),
        |storage, names| {
            let other = storage.contents(&names[0].summary()).unwrap();
            names[1..4].iter().for_each(|name| storage.put(&name.summary(), &other));
            storage.put(&names[0].summary(), b"");
        },
        // Whole, of the same records, but of a time when the segment was shorter.
        |storage, names| {
            names[..4].iter().for_each(|name| change(storage, &name.summary(), |bytes| three_records_earlier(bytes)));
        },
    ];
    for (how, spoil) in spoil.into_iter().enumerate() {
        let (storage, mut model) = filled();
        spoil(&storage, &segments(&storage));
        assert!(read_by_opening(&storage, &mut model) > READ_ALL, "spoilt by {how}: read again");
        assert!(read_by_opening(&storage, &mut model) < READ_LITTLE, "spoilt by {how}: kept again");
    }
}

/// Each summary in turn fails: every record is there, acknowledged as ever, also after a power cut; the summary is made anew.
#[test]
fn a_failing_summary_costs_nothing_that_was_acknowledged() {
    for (number, fault) in (1..=4).flat_map(|number| [(number, DiskFault::Io), (number, DiskFault::NoSpace)]) {
        let (disk, mut model, left) = (MemStorage::new(), Model::default(), Rc::new(Cell::new(number)));
        let torn = Some(Torn(Rc::clone(&left), fault));
        let mut journal = open(Counting(disk.clone(), Rc::default(), torn)).unwrap();
        append(&mut journal, &mut model, 250);
        assert!(left.get() <= 0, "summary {number} was never written");
        assert!(!disk.is_fault_pending() && !journal.is_poisoned(), "summary {number}");
        drop(journal);
        let after = disk.power_cut(u64::from(number.unsigned_abs()));
        let journal = open(after.clone()).unwrap();
        model.reopened(&journal);
        journal.check_everything().unwrap();
        drop(journal);
        assert!(read_by_opening(&after, &mut model) < READ_LITTLE, "summary {number} was made anew");
    }
}

/// Makes of a summary one of fewer records, with a right checksum.
fn three_records_earlier(summary: &mut [u8]) {
    let length = u64::from_le_bytes(summary[56..64].try_into().unwrap()) - 3 * 904;
    let number = u64::from_le_bytes(summary[64..72].try_into().unwrap()) - 3;
    summary[56..64].copy_from_slice(&length.to_le_bytes());
    summary[64..72].copy_from_slice(&number.to_le_bytes());
    let body = summary.len() - 4;
    let crc = crc32c::crc32c(&summary[..body]);
    summary[body..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_segment_that_is_missing_short_or_foreign_is_named_on_opening() {
    let damage = |storage: &MemStorage| match open(storage.clone()) {
        Err(OpenError::Damaged(damage)) => damage,
        other => panic!("not found: {other:?}"),
    };
    let (storage, _) = filled();
    let names = segments(&storage);
    let mut disk = storage.clone();
    disk.delete(names[2]).unwrap();
    let found = damage(&storage);
    let expected = Fault::Gap { expected: names[2].0 };
    assert_eq!(found, Damage { file: names[3].to_string(), offset: 0, fault: expected });

    let (storage, _) = filled();
    change(&storage, &names[1].to_string(), |bytes| bytes.truncate(bytes.len() - 3));
    assert_eq!((damage(&storage).file, damage(&storage).fault), (names[1].to_string(), Fault::CutShort));

    let (storage, _) = filled();
    change(&storage, &names[1].to_string(), |bytes| bytes[30] ^= 1);
    assert_eq!(damage(&storage), Damage { file: names[1].to_string(), offset: 0, fault: Fault::Header });

    // Another journal's segments of the same numbers and lengths, with their summaries.
    let (storage, other) = (filled().0, MemStorage::new());
    let mut journal = open(other.clone()).unwrap();
    for number in 0..250_u64 {
        journal.append(&record(number + 1000)).unwrap();
        if (number + 1).is_multiple_of(7) {
            journal.sync().unwrap();
        }
    }
    drop(journal);
    for name in [names[1].to_string(), names[1].summary()] {
        storage.put(&name, &other.contents(&name).unwrap());
    }
    assert_eq!(damage(&storage), Damage { file: names[1].to_string(), offset: 0, fault: Fault::Chain });
}

#[test]
fn a_flipped_byte_in_a_sealed_segment_is_found_by_reading_and_by_the_full_check() {
    let (storage, model) = filled();
    let name = segments(&storage)[1];
    let file = name.to_string();
    let good = storage.contents(&file).unwrap();
    for at in (64..good.len()).step_by(1_009) {
        change(&storage, &file, |bytes| bytes[at] ^= 0x10);
        let journal = open(storage.clone()).unwrap();
        match journal.check_everything() {
            Err(JournalError::Damaged(damage)) => {
                assert!(damage.file == file && damage.offset <= at as u64, "byte {at}: {damage}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        let mut wrong = 0;
        for (number, right) in (0..).zip(&model.records) {
            match journal.read(number) {
                Ok(found) => assert_eq!(found.as_ref(), Some(right), "byte {at}, record {number}"),
                Err(JournalError::Damaged(damage)) => {
                    assert_eq!(damage.file, file);
                    wrong += 1;
                }
                Err(error) => panic!("byte {at}, record {number}: {error}"),
            }
        }
        // A sync mark holds no record: only its first bytes are needed to step over it.
        let is_damaged = |error| matches!(error, OpenError::Damaged(damage) if damage.file == file);
        assert!(wrong > 0 || is_damaged(open_with(storage.clone(), Check::Everything).unwrap_err()), "byte {at}");
        storage.put(&file, &good);
    }
    open(storage).unwrap().check_everything().unwrap();
}

/// Power cuts at every change on the way through several segments: what is found later is right, and soon cheap again.
#[test]
fn power_cuts_while_segments_are_sealed() {
    let mut repaired = 0;
    for operation in 1..120 {
        let (storage, mut model) = filled();
        storage.fail_operation(operation, DiskFault::PowerOff);
        if let Ok(mut journal) = open(storage.clone()) {
            for _ in 0..150 {
                let bytes = record(journal.next_number());
                model.push(&bytes);
                if journal.append(&bytes).is_err() {
                    break;
                }
                if journal.next_number().is_multiple_of(5) {
                    if journal.sync().is_err() {
                        break;
                    }
                    model.synced();
                }
            }
        }
        let after = storage.power_cut(operation);
        let journal = open(after.clone()).unwrap();
        repaired += u32::from(journal.repaired().is_some());
        model.reopened(&journal);
        journal.check_everything().unwrap();
        drop(journal);
        assert!(read_by_opening(&after, &mut model) < READ_LITTLE, "operation {operation}");
    }
    assert!(repaired > 5, "{repaired} torn tails");
}

/// Nobody relies on a summary: one that cannot be written is lost, and neither sealing nor opening stops. A full disk must not keep
/// anybody from discarding.
#[test]
fn a_summary_that_cannot_be_written_is_only_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sums) = (dir.path().join("log"), dir.path().join("summary"));
    let disk = || DirStorage::open(&log).unwrap().with_summaries(&sums);
    let mut model = Model::default();
    append(&mut open_with(disk(), Check::Everything).unwrap(), &mut model, 150);
    assert!(!sums.exists(), "kept when asked for");

    fs::write(&sums, "a file where the folder should be").unwrap();
    let mut journal = open(disk()).unwrap();
    model.reopened(&journal);
    let segments = journal.segments().count();
    append(&mut journal, &mut model, 100);
    assert!(journal.segments().count() > segments + 1, "sealed without");
    model.check(&journal);
    drop(journal);

    fs::remove_file(&sums).unwrap();
    model.reopened(&open(disk()).unwrap());
    let mut names: Vec<_> = fs::read_dir(&sums).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    // One that is longer than any summary can be, and one that is no file.
    fs::File::create(&names[0]).unwrap().set_len(1 << 40).unwrap();
    fs::remove_file(&names[1]).unwrap();
    fs::create_dir(&names[1]).unwrap();
    let mut journal = open(disk()).unwrap();
    model.reopened(&journal);
    model.wish_discarded(149);
    journal.discard_before(149).unwrap();
    model.check(&journal);
    assert!(journal.first_number() > 0 && !names[0].exists(), "a summary goes with its segment");
}
