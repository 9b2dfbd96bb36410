//! Everyday use: numbers, limits, one write for each sync, discarding, a full disk, real folders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Model, assert_refuses_everything, small_segments};
use std::io::ErrorKind;
use tally_journal::testing::MemStorage;
use tally_journal::{Fault, Journal, JournalError, OpenError, Options};

fn open(storage: &MemStorage, segment_bytes_max: u64) -> Journal<MemStorage> {
    Journal::open_on(storage.clone(), small_segments(segment_bytes_max)).unwrap()
}

#[test]
fn an_empty_journal() {
    let mut journal = open(&MemStorage::new(), 1000);
    assert_eq!((journal.first_number(), journal.durable_number(), journal.next_number()), (0, 0, 0));
    assert_eq!((journal.head_hash(), journal.bytes_on_disk()), ([0; 32], 64));
    assert_eq!(journal.read(0).unwrap(), None);
    assert_eq!(journal.iter_from(0).unwrap().count(), 0);
    assert_eq!(journal.append_all([[0_u8; 0]; 0]).unwrap(), 0..0);
    journal.discard_before(u64::MAX).unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.append(b"").unwrap(), 0);
    assert_eq!(journal.read(0).unwrap(), Some(Vec::new()));
}

#[test]
fn segments_are_told_with_their_bytes() {
    let storage = MemStorage::new();
    let mut journal = open(&storage, 300);
    for _ in 0..10 {
        journal.append(&[7; 100]).unwrap();
        journal.sync().unwrap();
    }
    let all: Vec<_> = journal.segments().collect();
    assert!(all.len() > 3 && all.is_sorted(), "{all:?}");
    assert_eq!((all[0].0, all.iter().map(|(_, bytes)| bytes).sum::<u64>()), (0, journal.bytes_on_disk()));
    journal.discard_before(all[2].0).unwrap();
    assert_eq!(journal.segments().collect::<Vec<_>>(), all[2..]);
}

#[test]
fn unsynced_records_can_be_read_but_are_not_durable() {
    let mut journal = open(&MemStorage::new(), 1 << 20);
    journal.append(b"a").unwrap();
    journal.sync().unwrap();
    journal.append(b"b").unwrap();
    assert_eq!((journal.durable_number(), journal.next_number()), (1, 2));
    assert_eq!(journal.read(1).unwrap(), Some(b"b".to_vec()));
    let all: Vec<_> = journal.iter_from(0).unwrap().map(Result::unwrap).collect();
    assert_eq!(all, [(0, b"a".to_vec()), (1, b"b".to_vec())]);
}

#[test]
fn many_small_records_are_one_write_and_one_sync() {
    let storage = MemStorage::new();
    let mut journal = open(&storage, 1 << 30);
    let (writes, syncs) = (storage.writes(), storage.syncs());
    for _ in 0..5000 {
        journal.append(&[1; 100]).unwrap();
    }
    journal.sync().unwrap();
    journal.sync().unwrap();
    assert_eq!((storage.writes() - writes, storage.syncs() - syncs), (1, 1));
    // Without a sync memory stays bounded all the same.
    for _ in 0..50_000 {
        journal.append(&[1; 100]).unwrap();
    }
    assert_eq!((storage.writes() - writes, storage.syncs() - syncs), (1 + 5, 1));
    assert_eq!(journal.read(54_000).unwrap(), Some(vec![1; 100]));
    assert_eq!(journal.iter_from(0).unwrap().map(Result::unwrap).count(), 55_000);
}

#[test]
fn too_large_refuses_that_call_and_nothing_else() {
    let options = Options { record_bytes_max: 100, ..small_segments(50) };
    let mut journal = Journal::open_on(MemStorage::new(), options).unwrap();
    assert_eq!(journal.append(&[1; 100]).unwrap(), 0);
    assert!(matches!(journal.append(&[1; 101]), Err(JournalError::TooLarge { bytes: 101, bytes_max: 100 })));
    assert!(matches!(journal.append_all([vec![1; 1], vec![1; 101]]), Err(JournalError::TooLarge { .. })));
    assert!(!journal.is_poisoned());
    assert_eq!(journal.append(b"next").unwrap(), 1);
}

/// The known first mistake: a segment that holds `number` or anything behind it must stay, whatever else it holds.
#[test]
fn discarding_stops_at_the_segment_that_holds_the_number() {
    let fill = || {
        let storage = MemStorage::new();
        let mut journal = open(&storage, 200);
        let mut model = Model::default();
        for number in 0..20_u8 {
            model.push(&[number; 30]);
            journal.append(&[number; 30]).unwrap();
        }
        journal.sync().unwrap();
        model.synced();
        (storage, journal, model)
    };
    let starts: Vec<u64> = fill().0.names().iter().map(|name| name.trim_end_matches(".seg").parse().unwrap()).collect();
    assert!(starts.len() >= 5, "{starts:?}");
    for number in 0..=25_u64 {
        let (storage, mut journal, mut model) = fill();
        model.wish_discarded(number);
        journal.discard_before(number).unwrap();
        let first = starts.iter().copied().filter(|&start| start <= number).max().unwrap();
        assert_eq!(journal.first_number(), first, "before {number}");
        model.check(&journal);
        let bytes: usize = storage.names().iter().map(|name| storage.contents(name).unwrap().len()).sum();
        assert_eq!(journal.bytes_on_disk(), bytes as u64);
        drop(journal);
        let journal = open(&storage.power_cut(number), 200);
        assert_eq!(journal.first_number(), first, "a discarded segment came back");
        model.reopened(&journal);
    }
}

#[test]
fn numbers_and_chain_go_on_after_everything_was_discarded() {
    let storage = MemStorage::new();
    let mut journal = open(&storage, 100);
    journal.append_all([[1; 90], [2; 90], [3; 90]]).unwrap();
    journal.sync().unwrap();
    journal.discard_before(u64::MAX).unwrap();
    assert_eq!((journal.first_number(), journal.next_number()), (2, 3), "the last segment stays");
    let head = journal.head_hash();
    drop(journal);
    let mut journal = open(&storage, 100);
    assert_eq!((journal.first_number(), journal.head_hash()), (2, head));
    assert_eq!(journal.append(b"x").unwrap(), 3);
}

#[test]
fn a_full_disk_poisons_loses_nothing_and_goes_on_when_there_is_room() {
    for bytes_max in (80..3_000).step_by(7) {
        let storage = MemStorage::new();
        let mut journal = open(&storage, 300);
        let mut model = Model::default();
        storage.set_bytes_max(Some(bytes_max));
        let error = loop {
            model.push(&[7; 33]);
            match journal.append(&[7; 33]).and_then(|_| journal.sync()) {
                Ok(()) => model.synced(),
                Err(error) => break error,
            }
        };
        let (JournalError::Write { source, .. } | JournalError::Create { source, .. }) = error else {
            panic!("{error}")
        };
        assert_eq!(source.kind(), ErrorKind::StorageFull);
        assert_refuses_everything(&mut journal);

        // Opens while still full, and discarding makes room.
        let storage = storage.power_cut(bytes_max);
        let mut journal = open(&storage, 300);
        model.reopened(&journal);
        model.wish_discarded(journal.next_number());
        journal.discard_before(journal.next_number()).unwrap();
        storage.set_bytes_max(None);
        model.push(b"room");
        journal.append(b"room").unwrap();
        journal.sync().unwrap();
        model.synced();
        model.check(&journal);
    }
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/yet");
    let journal = Journal::open(&path, Options::default()).unwrap();
    let error = Journal::open(&path, Options::default()).unwrap_err();
    assert!(matches!(&error, OpenError::InUse { dir, .. } if *dir == path), "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("in use by process {} (", std::process::id())), "{said}");
    // Whatever stands in the file instead, the lock holds and the message stays one line.
    for nonsense in [&b""[..], b"\x1b[2J", &[0xFF; 300]] {
        std::fs::write(path.join("LOCK"), nonsense).unwrap();
        let said = Journal::open(&path, Options::default()).unwrap_err().to_string();
        assert!(said.contains("in use by") && !said.contains(char::is_control), "{said:?}");
    }
    drop(journal);
    Journal::open(&path, Options::default()).unwrap();
}

#[test]
fn a_wrong_folder_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter.txt"), "hello").unwrap();
    let error = Journal::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { file } if file.ends_with("letter.txt")), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let file = dir.path().join("letter.txt");
    assert!(matches!(Journal::open(&file, Options::default()), Err(OpenError::Folder { .. })));
    assert!(matches!(Journal::open(file.join("below"), Options::default()), Err(OpenError::Folder { .. })));
}

#[test]
fn real_files_roll_read_discard_and_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let mut journal = Journal::open(dir.path(), small_segments(1 << 12)).unwrap();
    for number in 0..2000_u32 {
        // More segments than read handles are kept open.
        model.push(&[number.to_le_bytes(); 50].concat());
        journal.append(&[number.to_le_bytes(); 50].concat()).unwrap();
        if number % 500 == 0 {
            journal.sync().unwrap();
        }
    }
    journal.sync().unwrap();
    model.synced();
    model.check(&journal);
    model.wish_discarded(777);
    journal.discard_before(777).unwrap();
    drop(journal);
    let journal = Journal::open(dir.path(), small_segments(1 << 12)).unwrap();
    assert_eq!(journal.repaired(), None);
    model.reopened(&journal);
}

#[test]
fn errors_name_the_whole_path() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), Options::default()).unwrap();
    journal.append(b"a").unwrap();
    journal.sync().unwrap();
    journal.append(b"b").unwrap();
    journal.sync().unwrap();
    drop(journal);
    let path = dir.path().join("00000000000000000000.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[72] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    match Journal::open(dir.path(), Options::default()) {
        Err(OpenError::Damaged(damage)) => {
            assert_eq!((damage.file, damage.offset, damage.fault), (path.display().to_string(), 64, Fault::Checksum));
        }
        other => panic!("{other:?}"),
    }
}
