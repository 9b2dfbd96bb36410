//! Damage to synced bytes is named with file and offset, never skipped; garbage neither panics nor takes memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Model, small_segments};
use proptest::prelude::*;
use tally_journal::testing::MemStorage;
use tally_journal::{Damage, Fault, Journal, JournalError, OpenError, Options};

const FIRST: &str = "00000000000000000000.seg";

/// Three segments' worth of records in groups of three, closed in good order.
fn filled() -> (MemStorage, Model) {
    filled_with(0)
}

fn filled_with(salt: u8) -> (MemStorage, Model) {
    let (storage, mut model) = (MemStorage::new(), Model::default());
    let mut journal = open(&storage).unwrap();
    for number in 0..24_u8 {
        model.push(&[number ^ salt; 20]);
        journal.append(&[number ^ salt; 20]).unwrap();
        if number % 3 == 2 {
            journal.sync().unwrap();
        }
    }
    drop(journal);
    assert_eq!(storage.names().len(), 3);
    (storage, model)
}

fn open(storage: &MemStorage) -> Result<Journal<MemStorage>, OpenError> {
    Journal::open_on(storage.clone(), small_segments(400))
}

fn change(storage: &MemStorage, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut contents = storage.contents(name).unwrap();
    change(&mut contents);
    storage.put(name, &contents);
}

fn damage(storage: &MemStorage) -> Damage {
    match open(storage) {
        Err(OpenError::Damaged(damage)) => damage,
        other => panic!("not found: {other:?}"),
    }
}

#[test]
fn any_flipped_bit_is_found_before_anything_changes() {
    let (storage, _) = filled();
    for name in storage.names() {
        let good = storage.contents(&name).unwrap();
        // The last 24 bytes of the last segment are the closing mark: nothing is lost with it.
        let is_last = storage.names().last() == Some(&name);
        let end = good.len() - if is_last { 24 } else { 0 };
        for bit in 0..end * 8 {
            change(&storage, &name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let before = storage.names().len();
            match open(&storage) {
                Err(OpenError::Damaged(damage)) => {
                    assert!(damage.offset <= (bit / 8) as u64 && damage.file >= name, "bit {bit}: {damage}");
                }
                Err(OpenError::Foreign { file }) => assert!(bit < 64 && file == name, "bit {bit}"),
                other => panic!("{name} bit {bit}: {other:?}"),
            }
            assert_eq!(storage.names().len(), before);
            storage.put(&name, &good);
        }
    }
    assert_eq!(open(&storage).unwrap().repaired(), None);
}

#[test]
fn damage_before_a_later_group_is_no_torn_tail_even_without_a_closing_mark() {
    let storage = MemStorage::new();
    let mut journal = open(&storage).unwrap();
    for record in [[1; 20], [2; 20], [3; 20]] {
        journal.append(&record).unwrap();
        journal.sync().unwrap();
    }
    let storage = storage.restart();
    drop(journal); // The process is dead: no closing mark.
    // Record 0 at 64, mark, record 1 at 116, mark, record 2.
    change(&storage, FIRST, |bytes| bytes[116 + 10] ^= 1);
    assert_eq!(damage(&storage), Damage { file: FIRST.into(), offset: 116, fault: Fault::Checksum });
    // A length that swallows everything behind it must not hide the mark.
    change(&storage, FIRST, |bytes| bytes[116..120].copy_from_slice(&50_000_u32.to_le_bytes()));
    assert_eq!(damage(&storage), Damage { file: FIRST.into(), offset: 116, fault: Fault::CutShort });
}

/// What the crate head says cannot be told apart, pinned: reported, not silent.
#[test]
fn rot_in_the_last_group_right_before_a_crash_is_reported_as_torn() {
    let storage = MemStorage::new();
    let mut journal = open(&storage).unwrap();
    journal.append_all([[1; 20], [2; 20], [3; 20]]).unwrap();
    journal.sync().unwrap();
    let storage = storage.restart();
    change(&storage, FIRST, |bytes| bytes[92 + 10] ^= 1);
    let journal = open(&storage).unwrap();
    let repair = journal.repaired().unwrap();
    assert_eq!((repair.offset, repair.bytes, repair.fault), (92, 56, Fault::Checksum));
    assert_eq!((journal.next_number(), journal.read(0).unwrap()), (1, Some(vec![1; 20])));
}

/// Once opened after a crash, the same rot is damage: opening confirmed the bytes, and closing says so.
#[test]
fn opening_after_a_crash_leaves_a_mark_behind_what_it_found() {
    let storage = MemStorage::new();
    let mut journal = open(&storage).unwrap();
    journal.append_all([[1; 20], [2; 20], [3; 20]]).unwrap();
    journal.sync().unwrap();
    let storage = storage.restart();
    drop(open(&storage).unwrap());
    change(&storage, FIRST, |bytes| bytes[92 + 10] ^= 1);
    assert_eq!(damage(&storage), Damage { file: FIRST.into(), offset: 92, fault: Fault::Checksum });
}

#[test]
fn an_old_mark_on_reused_disk_space_proves_nothing() {
    for (number, is_damage) in [(0_u64, false), (23, false), (24, true)] {
        let (storage, _) = filled();
        let last = storage.names().pop().unwrap();
        change(&storage, &last, |bytes| {
            bytes.extend_from_slice(&[0; 40]);
            let mut mark = [0xFF; 24];
            mark[8..16].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            mark[16..24].copy_from_slice(&number.to_le_bytes());
            let crc = crc32c::crc32c_append(crc32c::crc32c(&mark[..4]), &mark[8..]);
            mark[4..8].copy_from_slice(&crc.to_le_bytes());
            bytes.extend_from_slice(&mark);
        });
        match open(&storage) {
            Ok(journal) => assert!(!is_damage && journal.repaired().is_some() && journal.next_number() == 24),
            Err(error) => assert!(is_damage, "{error}"),
        }
    }
}

#[test]
fn a_segment_before_an_unfinished_one_has_no_torn_tail() {
    for unfinished in [0, 10, 64] {
        let (storage, _) = filled();
        let names = storage.names();
        change(&storage, &names[2], |bytes| bytes.truncate(unfinished));
        change(&storage, &names[1], |bytes| *bytes.last_mut().unwrap() ^= 1);
        assert_eq!(damage(&storage).file, names[1]);
        assert_eq!(storage.names(), names, "nothing was deleted");
    }
}

#[test]
fn torn_tail_is_cut_reported_and_overwritten() {
    let (storage, mut model) = filled();
    let last = storage.names().pop().unwrap();
    let length = storage.contents(&last).unwrap().len() as u64;
    for garbage in [&[0; 100][..], &[0xFF; 100], &[7], &[5, 0, 0, 0, 1, 2, 3, 4, 5, 6]] {
        change(&storage, &last, |bytes| bytes.extend_from_slice(garbage));
        let journal = open(&storage).unwrap();
        let repair = journal.repaired().unwrap();
        assert_eq!((repair.offset, repair.bytes, &repair.file), (length, garbage.len() as u64, &last));
        model.synced();
        model.reopened(&journal);
        drop(journal);
        assert_eq!(open(&storage).unwrap().repaired(), None);
    }
    let mut journal = open(&storage).unwrap();
    model.push(b"goes on");
    assert_eq!(journal.append(b"goes on").unwrap(), 24);
    journal.sync().unwrap();
    model.check(&journal);
}

#[test]
fn missing_swapped_and_shortened_segments() {
    let (storage, _) = filled();
    let names = storage.names();
    let [a, b, c] = [0, 1, 2].map(|n| storage.contents(&names[n]).unwrap());

    storage.put(&names[1], &b[..b.len() - 28]); // ends at a frame border, one record short
    let damage_found = damage(&storage);
    assert_eq!((&damage_found.file, damage_found.offset), (&names[2], 0));
    assert!(matches!(damage_found.fault, Fault::Gap { .. }));
    storage.put(&names[1], &b[..b.len() - 3]);
    assert_eq!(damage(&storage).fault, Fault::CutShort);
    storage.put(&names[1], &a);
    assert_eq!(damage(&storage), Damage { file: names[1].clone(), offset: 0, fault: Fault::Name });
    storage.put(&names[1], &b);

    // Another journal's segment fits in number but not in the chain.
    let (other, _) = filled_with(0x80);
    storage.put(&names[1], &other.contents(&names[1]).unwrap());
    storage.put(&names[2], &other.contents(&names[2]).unwrap());
    assert_eq!(damage(&storage), Damage { file: names[1].clone(), offset: 0, fault: Fault::Chain });
    storage.put(&names[1], &b);
    storage.put(&names[2], &c);
    open(&storage).unwrap();
}

#[test]
fn foreign_newer_and_headless_files() {
    let storage = MemStorage::new();
    storage.put("notes.txt", b"hello");
    assert!(matches!(open(&storage), Err(OpenError::Foreign { file }) if file == "notes.txt"));

    let storage = MemStorage::new();
    storage.put(FIRST, &[b'x'; 100]);
    assert!(matches!(open(&storage), Err(OpenError::Foreign { file }) if file == FIRST));

    let storage = MemStorage::new();
    drop(open(&storage).unwrap());
    change(&storage, FIRST, |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(matches!(open(&storage), Err(OpenError::Newer { version: 2, .. })));

    // The only segment left, without a header: the number to go on with is lost. That must not start again at 0.
    let storage = MemStorage::new();
    storage.put("00000000000000000042.seg", b"");
    assert_eq!(damage(&storage).fault, Fault::Header);
}

#[test]
fn damage_after_opening_is_found_by_reading_and_does_not_poison() {
    let (storage, _) = filled();
    let mut journal = open(&storage).unwrap();
    change(&storage, FIRST, |bytes| bytes[64 + 28 + 10] ^= 1);
    assert!(matches!(journal.read(1), Err(JournalError::Damaged(damage)) if damage.offset == 64 + 28));
    assert_eq!(journal.read(2).unwrap(), Some(vec![2; 20]));
    let found: Vec<_> = journal.iter_from(0).unwrap().map(|item| item.is_ok()).collect();
    assert_eq!(found, [true, false], "one error ends it");
    for length in [u32::MAX - 1, u32::MAX, 1 << 30, 400] {
        change(&storage, FIRST, |bytes| bytes[64..68].copy_from_slice(&length.to_le_bytes()));
        assert!(matches!(journal.read(1), Err(JournalError::Damaged(_))), "{length}");
    }
    journal.append(b"still works").unwrap();
    journal.sync().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random bytes where frames should be: opens with what is good, or says why not.
    #[test]
    fn random_bytes_behind_a_header(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        lengths in proptest::collection::vec((0..3000_usize, 0..200_u32), 0..8),
    ) {
        let storage = MemStorage::new();
        drop(open(&storage).unwrap());
        change(&storage, FIRST, |file| {
            file.extend_from_slice(&bytes);
            for (at, length) in lengths {
                if let Some(four) = file.get_mut(64 + at..68 + at) {
                    four.copy_from_slice(&length.to_le_bytes());
                }
            }
        });
        if let Ok(mut journal) = open(&storage) {
            journal.append(b"x").unwrap();
            journal.sync().unwrap();
        }
    }

    /// Random bytes as files, good and bad names.
    #[test]
    fn random_files(
        files in proptest::collection::vec((0..4_u64, proptest::collection::vec(any::<u8>(), 0..200)), 0..4),
        with_header in any::<bool>(),
    ) {
        let storage = MemStorage::new();
        for (number, bytes) in files {
            let mut file = Vec::new();
            if with_header {
                let other = MemStorage::new();
                drop(open(&other).unwrap());
                file = other.contents(FIRST).unwrap();
            }
            file.extend_from_slice(&bytes);
            storage.put(&format!("{number:020}.seg"), &file);
        }
        if let Ok(mut journal) = open(&storage) {
            journal.append(b"x").unwrap();
            journal.sync().unwrap();
        }
    }

    /// Any change at all to a good journal: never a panic, and never another record than was written.
    #[test]
    fn random_damage(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let (storage, model) = filled();
        let names = storage.names();
        for (at, byte) in changes {
            let name = &names[at.index(names.len())];
            change(&storage, name, |bytes| { let at = at.index(bytes.len()); bytes[at] = byte; });
        }
        if let Ok(journal) = Journal::open_on(storage, Options::default()) {
            for item in journal.iter_from(0).unwrap() {
                let (number, record) = item.unwrap();
                prop_assert_eq!(&record, &model.records[usize::try_from(number).unwrap()]);
            }
        }
    }
}
