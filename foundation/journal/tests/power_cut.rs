//! Power cuts by the thousand. After each: nothing confirmed is lost, nothing is altered, no number means two things.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Lives, Model, small_segments};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tally_journal::Journal;
use tally_journal::testing::{DiskFault, MemStorage};

/// Runs seeds `from..to`; names the seed that failed.
fn run(from: u64, to: u64, lives: u32, faults: &'static [DiskFault]) -> [u32; 3] {
    let mut seen = [0; 3];
    for seed in from..to {
        let mut run = Lives::new(seed, faults);
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| run.live(lives))) {
            eprintln!("seed {seed}");
            resume_unwind(failure);
        }
        for (sum, n) in seen.iter_mut().zip([run.poisonings, run.repairs, run.failed_opens]) {
            *sum += n;
        }
    }
    seen
}

#[test]
fn cut_between_operations() {
    let [poisonings, repairs, failed_opens] = run(0, 5_000, 3, &[]);
    assert_eq!((poisonings, failed_opens), (0, 0));
    assert!(repairs > 100, "{repairs} torn tails are too few to have tested anything");
}

#[test]
fn cut_in_the_middle_of_an_operation() {
    let [poisonings, repairs, failed_opens] = run(10_000, 17_000, 3, &[DiskFault::PowerOff]);
    assert!(poisonings > 1_000 && repairs > 500 && failed_opens > 500, "{poisonings} {repairs} {failed_opens}");
}

#[test]
fn failed_operations_then_kills_and_cuts() {
    let [poisonings, _, failed_opens] =
        run(20_000, 26_000, 4, &[DiskFault::Io, DiskFault::NoSpace, DiskFault::PowerOff]);
    assert!(poisonings > 1_000 && failed_opens > 500, "{poisonings} {failed_opens}");
}

/// One scenario, every operation in turn: none is forgotten by chance.
#[test]
fn every_single_operation_fails_once() {
    for fault in [DiskFault::Io, DiskFault::NoSpace, DiskFault::PowerOff] {
        for n in 1..200 {
            for seed in 0..8 {
                if !scenario(n, fault, seed) {
                    break;
                }
            }
        }
    }
}

/// Answers whether the fault was met.
fn scenario(n: u64, fault: DiskFault, seed: u64) -> bool {
    let storage = MemStorage::new();
    let mut model = Model::default();
    storage.fail_operation(n, fault);
    let failed = match Journal::open_on(storage.clone(), small_segments(300)) {
        Ok(mut journal) => {
            let failed = fill(&mut journal, &mut model).is_err();
            assert_eq!(journal.is_poisoned(), failed);
            failed
        }
        Err(_) => true,
    };
    let storage = if seed == 0 { storage.restart() } else { storage.power_cut(seed) };
    let journal = Journal::open_on(storage, small_segments(300))
        .unwrap_or_else(|error| panic!("operation {n}, {fault:?}, seed {seed}: {error}"));
    model.reopened(&journal);
    failed
}

fn fill(journal: &mut Journal<MemStorage>, model: &mut Model) -> Result<(), tally_journal::JournalError> {
    for n in 0..30_u8 {
        let record = [n; 40];
        model.push(&record);
        journal.append(&record)?;
        if n % 3 == 0 {
            journal.sync()?;
            model.synced();
        }
        if n % 10 == 9 {
            model.wish_discarded(u64::from(n) - 3);
            journal.discard_before(u64::from(n) - 3)?;
        }
    }
    Ok(())
}
