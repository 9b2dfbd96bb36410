//! `checkup`: a sound ledger holds, pruned or not; every kind of damage is found by the check that is there for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, config, open, plant};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tally_evidence::SigningKey;
use tally_ledger_node::checkup::{Checkup, CheckupFault, Stage, checkup};
use tally_ledger_node::retain::Retention;
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Engine, EngineConfig, FlushLimits, RunLimits};

const DAY: i64 = 86_400_000_000;

fn check(plant: &Plant, data: &Path) -> Checkup {
    let found = checkup(data, plant.key.public(), &mut |_| {}).unwrap();
    assert!(!data.join("checking").exists());
    found
}

fn broken(found: &Checkup) -> Vec<&'static str> {
    assert_eq!(found.holds, found.checks.iter().all(|check| check.holds));
    found.checks.iter().filter(|check| !check.holds).map(|check| check.what).collect()
}

fn small(plant: &Plant, data: &Path, clock: &Arc<TestClock>) -> EngineConfig {
    let mut config = config(plant, data);
    config.clock = Arc::<TestClock>::clone(clock);
    config.retention = Retention { payloads: Some(Duration::from_secs(30 * 86_400)), ..Retention::default() };
    config.segment_bytes = Some(4_096);
    config.flush = FlushLimits { blocks: 7, entries: 1_000, runs: RunLimits { ids: 5, merge: 3 }, aside: true };
    config
}

async fn live(engine: &Engine, plant: &Plant, clock: &TestClock) {
    for number in 0..40 {
        clock.set(START + i64::try_from(number).unwrap() * 2 * DAY);
        engine.submit(plant.worn(0, number, &format!("again {number}")).unwrap()).await.unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some());
    files.sort();
    files
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_sound_ledger_holds_and_a_node_that_has_it_open_keeps_it() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    match checkup(dir.path(), plant.key.public(), &mut |_| {}) {
        Err(CheckupFault::NoLedger(_)) => {}
        other => panic!("{other:?}"),
    }
    let engine = open(&plant, dir.path());
    for number in 0..9 {
        engine.submit(plant.worn(0, number, &format!("again {number}")).unwrap()).await.unwrap();
    }
    assert!(matches!(checkup(dir.path(), plant.key.public(), &mut |_| {}), Err(CheckupFault::InUse)));
    engine.close();
    drop(engine);
    let mut stages = Vec::new();
    let found = checkup(dir.path(), plant.key.public(), &mut |stage| stages.push(stage)).unwrap();
    assert!(found.holds, "{found:#?}");
    assert_eq!(
        found.checks.iter().map(|check| check.what).collect::<Vec<_>>(),
        ["log", "chain", "snapshots", "state", "index"]
    );
    assert_eq!((found.ledger.as_deref(), found.height, found.executed_from), (Some("press-line"), Some(9), Some(0)));
    assert!(stages.contains(&Stage::Begins("state")) && stages.contains(&Stage::Executed(9)));
    // The node goes on with what was checked.
    let engine = open(&plant, dir.path());
    engine.submit(plant.worn(0, 9, "again").unwrap()).await.unwrap();
    engine.close();
    drop(engine);

    let other = SigningKey::from_secret(&[9; 32]).unwrap();
    let found = checkup(dir.path(), other.public(), &mut |_| {}).unwrap();
    assert_eq!((broken(&found), found.ledger), (vec!["log"], None));
    // An index that is gone is no damage.
    fs::remove_file(dir.path().join("state.redb")).unwrap();
    assert!(check(&plant, dir.path()).holds);
}

#[tokio::test]
async fn a_pruned_ledger_holds_and_each_damage_is_found_where_it_is() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), plant(), TestClock::at(START));
    let engine = Engine::open(small(&plant, dir.path(), &clock)).unwrap();
    live(&engine, &plant, &clock).await;
    assert!(engine.retain().unwrap().segments > 3);
    engine.close();
    drop(engine);
    let found = check(&plant, dir.path());
    assert!(found.holds && found.kept_below > 0 && found.executed_from > Some(found.kept_below), "{found:#?}");

    let damaged = |file: &Path, at: usize, wanted: &[&str]| {
        flip(file, at);
        let found = check(&plant, dir.path());
        assert_eq!(broken(&found), wanted, "{}: {found:#?}", file.display());
        let words = &found.checks.iter().find(|check| !check.holds).unwrap().words;
        flip(file, at);
        words.clone()
    };
    // A sealed segment, in a record that opening does not read.
    let words = damaged(&files(&dir.path().join("log"))[0], 700, &["log"]);
    assert!(words.contains(".seg"), "{words}");
    let words = damaged(&files(&dir.path().join("kept"))[1], 900, &["chain"]);
    assert!(words.contains(".kept"), "{words}");
    damaged(&files(&dir.path().join("snapshot"))[0], 300, &["snapshots", "state"]);
    assert!(check(&plant, dir.path()).holds);
}

/// A row of the index that is of another ledger: its log is sound, the answers of the node would not be.
#[tokio::test]
async fn an_index_of_another_history_is_found() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), plant(), TestClock::at(START));
    let other = tempfile::tempdir().unwrap();
    for (folder, count) in [(dir.path(), 12), (other.path(), 8)] {
        let mut config = config(&plant, folder);
        config.clock = Arc::<TestClock>::clone(&clock);
        let engine = Engine::open(config).unwrap();
        for number in 0..count {
            // The same genesis, other reasons.
            let reason = format!("number {number} of {count}");
            engine.submit(plant.worn(0, number, &reason).unwrap()).await.unwrap();
        }
        engine.close();
    }
    fs::copy(other.path().join("state.redb"), dir.path().join("state.redb")).unwrap();
    let found = check(&plant, dir.path());
    assert_eq!(broken(&found), ["index"], "{found:#?}");
    assert!(found.checks[4].words.contains("remove `state.redb`"), "{found:#?}");
}
