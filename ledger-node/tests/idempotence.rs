//! The same statement again is the same entry, whatever happened to the first attempt: answered, refused by the contracts, still
//! in flight, abandoned by its client, or cut off by a crash. And clocks that jump both ways, across restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, config, open, plant, state_of, totals_are_zero};
use redb::backends::InMemoryBackend;
use std::path::Path;
use std::time::Duration;
use tally_journal::testing::{DiskFault, MemStorage};
use tally_ledger_node::{Clock, Engine, IndexDisk, LogDisk, NotNow, SubmitError};

#[tokio::test]
async fn a_refused_statement_stays_refused_with_its_first_receipt() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    // Too early: there is no such order yet.
    let accept = plant.call("tina", "accept", "mo-1", 0).unwrap();
    let first = engine.submit(accept.clone()).await.unwrap();
    let receipt = engine.receipt(&first).unwrap();
    assert_ne!(first.refusal, 0);
    engine.submit(plant.worn(0, 0, "bearing").unwrap()).await.unwrap();
    // Now it could be done. But it was answered: who wants it done says so anew.
    let again = engine.submit(accept.clone()).await.unwrap();
    assert_eq!((&again, engine.receipt(&again).unwrap()), (&first, receipt.clone()));
    assert_eq!(state_of(&engine, "mo-1"), "reported");
    engine.close();
    drop(engine);
    let engine = open(&plant, dir.path());
    let later = engine.submit(accept).await.unwrap();
    assert_eq!((&later, engine.receipt(&later).unwrap()), (&first, receipt));
    let anew = engine.submit(plant.call("tina", "accept", "mo-1", 1).unwrap()).await.unwrap();
    assert_eq!((anew.refusal, state_of(&engine, "mo-1").as_str()), (0, "accepted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_in_flight_finds_one_entry_when_it_comes_back() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    for number in 0..20 {
        let statement = plant.worn(0, number, &format!("fault-{number}")).unwrap();
        let gone = tokio::spawn({
            let (engine, statement) = (engine.clone(), statement.clone());
            async move { engine.submit(statement).await }
        });
        // Before it is taken, in the queue, or behind the answer: as the threads happen to run.
        if number % 3 > 0 {
            tokio::time::sleep(Duration::from_micros(number * 200)).await;
        }
        gone.abort();
        let _ = gone.await;
        let committed = engine.submit(statement.clone()).await.unwrap();
        assert_eq!((committed.entry, committed.refusal), (number + 1, 0));
        assert_eq!(engine.submit(statement).await.unwrap(), committed);
    }
    assert_eq!(engine.store().head().unwrap().checkpoint.size, 21);
}

fn on(disk: &MemStorage) -> Engine {
    let mut config = config(&plant(), Path::new("/nowhere"));
    config.clock = TestClock::at(START);
    let index = IndexDisk::Backend(std::sync::Arc::new(|_| Box::new(InMemoryBackend::new())));
    Engine::open_on(config, LogDisk::new(disk.clone()), &index).unwrap()
}

/// Whoever waits when the ledger dies is told "not now", joined waiters too; the same bytes after the restart are one entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_for_one_statement_are_told_when_the_ledger_dies() {
    let plant = plant();
    for operation in 1..4 {
        let disk = MemStorage::new();
        let engine = on(&disk);
        let statement = plant.worn(0, 0, "bearing").unwrap();
        disk.fail_operation(operation, DiskFault::Io);
        let waiting = (0..6).map(|_| engine.submit(statement.clone()));
        let answers = futures_util::future::join_all(waiting).await;
        let told: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        // Either the fault met this block, and nobody was told yes; or it comes later, and all were told the same.
        assert!(told.is_empty() || told.len() == answers.len(), "{answers:?}");
        for answer in &answers {
            assert!(matches!(answer, Ok(_) | Err(SubmitError::NotNow(NotNow::Failed(_)))), "{answer:?}");
        }
        let first = told.first().map(|committed| (*committed).clone());
        engine.close();
        drop(engine);
        let engine = on(&disk.power_cut(operation));
        let committed = engine.submit(statement).await.unwrap();
        assert!(first.is_none_or(|first| first == committed));
        assert_eq!((committed.entry, committed.refusal), (1, 0));
        assert_eq!(engine.store().head().unwrap().checkpoint.size, 2);
        engine.close();
    }
}

#[tokio::test]
async fn a_clock_that_jumps_both_ways_across_restarts_harms_nothing() {
    const HOUR: i64 = 3_600_000_000;
    const YEARS: i64 = 24 * 365 * 10 * HOUR;
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let mut last = 0;
    let mut agent = [0, 0];
    for (round, jump) in [0, YEARS, -YEARS, 5 * HOUR, -1, YEARS, i64::MIN / 4, 0].into_iter().enumerate() {
        let clock = TestClock::at(START + jump);
        let mut config = config(&plant, dir.path());
        config.clock = clock.clone();
        let engine = Engine::open(config).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let device = round % 2;
        let statement = plant.worn(device, agent[device], &format!("fault-{round}")).unwrap();
        agent[device] += 1;
        let committed = engine.submit(statement).await.unwrap();
        assert_eq!(committed.refusal, 0, "round {round}");
        let time = engine.store().head().unwrap().checkpoint.time.as_micros();
        assert!(time > last && time >= clock.now().as_micros(), "round {round}: {time} after {last}");
        last = time;
        assert!(totals_are_zero(&engine));
        engine.close();
        drop(engine);
        // Every second time everything is executed from the log, whose times are not the clock's.
        if round % 2 == 0 {
            std::fs::remove_file(dir.path().join("state.redb")).unwrap();
        }
    }
    let engine = open(&plant, dir.path());
    assert_eq!(engine.store().head().unwrap().checkpoint.time.as_micros(), last);
    // The first order's term of four hours ran out when the clock jumped ahead, and stays so.
    assert_eq!(state_of(&engine, "mo-1"), "escalated");
}
