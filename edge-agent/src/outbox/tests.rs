use super::*;
use crate::seal::tests::{batch, sealed};
use crate::store::open_journal;
use tally_journal::testing::{DiskFault, MemStorage};

fn open(disk: &MemStorage, bytes_max: u64, answered: &[u64]) -> Outbox<MemStorage> {
    let journal = open_journal("outbox", disk.clone(), journal_options(bytes_max)).unwrap();
    Outbox::begin(journal, bytes_max, &answered.iter().copied().collect(), |_| ()).unwrap()
}

fn put(outbox: &mut Outbox<MemStorage>, priorities: &[Priority]) {
    for priority in priorities {
        outbox.put(&sealed(outbox.next_number(), *priority)).unwrap();
    }
    outbox.sync().unwrap();
}

/// Numbers in the order in which they are submitted.
fn drain(outbox: &mut Outbox<MemStorage>) -> Vec<u64> {
    let mut order = Vec::new();
    while let Some(next) = outbox.next().unwrap() {
        order.push(next.number);
        outbox.done(&next);
    }
    order
}

#[test]
fn strictly_in_order_because_the_ledger_takes_only_rising_numbers() {
    let mut outbox = open(&MemStorage::new(), 1 << 20, &[]);
    put(&mut outbox, &[Priority::Low, Priority::Critical, Priority::High, Priority::Critical]);
    assert_eq!(drain(&mut outbox), [0, 1, 2, 3]);
    assert_eq!((outbox.pending(), outbox.pending_bytes()), (0, 0));
}

#[test]
fn nothing_leaves_before_its_sync() {
    let disk = MemStorage::new();
    let mut outbox = open(&disk, 1 << 20, &[]);
    outbox.put(&sealed(0, Priority::Critical)).unwrap();
    assert_eq!(outbox.next().unwrap(), None);
    outbox.sync().unwrap();
    assert_eq!(outbox.next().unwrap().unwrap().number, 0);
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_only_what_has_no_answer_is_sent_again() {
    let disk = MemStorage::new();
    let mut outbox = open(&disk, 1 << 20, &[]);
    put(&mut outbox, &[Priority::Low, Priority::Critical, Priority::Low]);
    for number in [1, 0] {
        let trigger = outbox.get(number).unwrap().unwrap();
        outbox.done(&trigger);
    }
    let mut outbox = open(&disk.power_cut(4), 1 << 20, &[0, 1]);
    assert_eq!((outbox.next_number(), outbox.pending()), (3, 1));
    assert_eq!(drain(&mut outbox), [2]);
}

#[test]
fn a_batch_is_there_whole_or_not_at_all_after_every_power_cut() {
    let mut whole = 0;
    for seed in 0..40 {
        let disk = MemStorage::new();
        let mut outbox = open(&disk, 1 << 20, &[]);
        put(&mut outbox, &[Priority::Low]);
        outbox.put_all(&batch(1, 5)).unwrap();
        // The power goes while it is synced: any prefix of its five records may survive.
        disk.fail_operation(1 + seed % 4, DiskFault::PowerOff);
        let _ = outbox.sync();
        let mut outbox = open(&disk.power_cut(seed), 1 << 20, &[]);
        let kept = outbox.pending();
        assert!(kept == 1 || kept == 6, "{kept}");
        assert_eq!(outbox.next_number(), kept, "their numbers are taken");
        whole += u64::from(kept == 6);
        put(&mut outbox, &[Priority::Low]);
        assert_eq!(drain(&mut outbox), (0..=kept).collect::<Vec<_>>());
        assert_eq!((outbox.pending(), outbox.pending_bytes()), (0, 0));
    }
    assert!((1..40).contains(&whole), "both happened: {whole}");
}

#[test]
fn each_trigger_of_a_batch_is_found_with_all_that_share_its_seal() {
    let disk = MemStorage::new();
    let mut outbox = open(&disk, 1 << 20, &[]);
    let sealed = [vec![sealed(0, Priority::High)], batch(1, 3), batch(4, 2), vec![sealed(6, Priority::High)]].concat();
    outbox.put_all(&sealed).unwrap();
    outbox.sync().unwrap();
    for answered in [&[][..], &[0, 1, 2]] {
        let mut outbox = open(&disk.restart(), 1 << 20, answered);
        for (number, expected) in (0..).zip(&sealed) {
            assert_eq!(outbox.get(number).unwrap().as_ref(), Some(expected));
        }
        assert_eq!(outbox.some_from(2, 4).unwrap(), sealed[2..6]);
        assert_eq!(outbox.together(&sealed[3]).unwrap(), sealed[1..4]);
        assert_eq!(outbox.together(&sealed[6]).unwrap(), sealed[6..]);
        assert_eq!(drain(&mut outbox).len(), 7 - answered.len());
    }
}

#[test]
fn a_batch_is_given_up_as_a_whole() {
    let mut outbox = open(&MemStorage::new(), 8 << 20, &[]);
    for round in 0..6 {
        outbox.put_all(&batch(round * 300, 300)).unwrap();
    }
    outbox.sync().unwrap();
    drain(&mut outbox);
    for published in [450, 1_000, 1_799] {
        outbox.discard(published).unwrap();
        assert!(outbox.first_kept() <= published / 300 * 300, "{published}");
        assert_eq!(outbox.get(published).unwrap().map(|sealed| sealed.number), Some(published));
    }
    assert!(outbox.first_kept() > 0);
}

proptest::proptest! {
    #[test]
    fn random_records_never_panic(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..300), kind in 0u8..6) {
        bytes[0] = kind;
        let _ = Record::decode(7, &bytes);
    }
}

#[test]
fn the_last_sixteenth_is_for_critical_triggers() {
    let mut outbox = open(&MemStorage::new(), 64 << 10, &[]);
    let (mut normal, mut critical) = (0, 0);
    while outbox.has_room(Priority::High, 750, 0) {
        put(&mut outbox, &[Priority::High]);
        normal += 1;
    }
    while outbox.has_room(Priority::Critical, 750, 0) {
        put(&mut outbox, &[Priority::Critical]);
        critical += 1;
    }
    assert!(normal > 70 && critical > 3, "{normal} {critical}");
    assert!(outbox.pending_bytes() <= 64 << 10);
}

#[test]
fn disk_comes_back_and_an_absent_broker_cannot_keep_it() {
    let mut outbox = open(&MemStorage::new(), 1 << 20, &[]);
    put(&mut outbox, &[Priority::Low; 1000]);
    drain(&mut outbox);
    let before = outbox.journal.bytes_on_disk();
    outbox.discard(0).unwrap();
    assert!(before > 700_000 && outbox.journal.bytes_on_disk() <= (512 << 10) + (64 << 10));
    let unpublished = outbox.first_kept();
    assert!(unpublished > 0);
    outbox.discard(1000).unwrap();
    assert!(outbox.journal.bytes_on_disk() < 128 << 10);
    assert_eq!(outbox.next_number(), 1000);
}
