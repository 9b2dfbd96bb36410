//! Random actions against a naive model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Model, small_segments};
use proptest::prelude::*;
use tally_journal::testing::MemStorage;
use tally_journal::{DirStorage, Journal, Storage};

#[derive(Debug, Clone)]
enum Action {
    Append(Vec<u8>),
    AppendAll(Vec<Vec<u8>>),
    Sync,
    Discard(u64),
    Reopen,
    Kill,
    PowerCut(u64),
    Check,
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..80),
        1 => (any::<u8>(), 3_000..9_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => record().prop_map(Action::Append),
        2 => proptest::collection::vec(record(), 0..8).prop_map(Action::AppendAll),
        4 => Just(Action::Sync),
        2 => (0..60_u64).prop_map(Action::Discard),
        1 => Just(Action::Reopen),
        1 => Just(Action::Kill),
        1 => any::<u64>().prop_map(Action::PowerCut),
        1 => Just(Action::Check),
    ]
}

/// What both kinds of storage can do.
fn apply<S: Storage>(journal: &mut Journal<S>, model: &mut Model, action: &Action) {
    match action {
        Action::Append(record) => {
            model.push(record);
            journal.append(record).unwrap();
        }
        Action::AppendAll(records) => {
            records.iter().for_each(|record| model.push(record));
            assert_eq!(journal.append_all(records).unwrap().end, model.records.len() as u64);
        }
        Action::Sync => {
            journal.sync().unwrap();
            model.synced();
            assert_eq!(journal.durable_number(), journal.next_number());
        }
        Action::Discard(number) => {
            model.wish_discarded(*number);
            journal.discard_before(*number).unwrap();
        }
        Action::Check | Action::Reopen | Action::Kill | Action::PowerCut(_) => model.check(journal),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_memory(segment_bytes_max in 100..20_000_u64, actions in proptest::collection::vec(action(), 0..60)) {
        let mut storage = MemStorage::new();
        let mut model = Model::default();
        let mut journal = Journal::open_on(storage.clone(), small_segments(segment_bytes_max)).unwrap();
        for action in actions {
            apply(&mut journal, &mut model, &action);
            match action {
                Action::Reopen => drop(journal),
                Action::Kill => storage = storage.restart(),
                Action::PowerCut(seed) => storage = storage.power_cut(seed),
                _ => continue,
            }
            journal = Journal::open_on(storage.clone(), small_segments(segment_bytes_max)).unwrap();
            model.reopened(&journal);
        }
        model.check(&journal);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_real_files(actions in proptest::collection::vec(action(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let open = || Journal::<DirStorage>::open(dir.path(), small_segments(2_000)).unwrap();
        let mut journal = open();
        for action in actions {
            apply(&mut journal, &mut model, &action);
            if matches!(action, Action::Reopen) {
                drop(journal);
                journal = open();
                assert_eq!(journal.repaired(), None, "nothing is torn after an orderly end");
                model.reopened(&journal);
            }
        }
        model.check(&journal);
    }
}
