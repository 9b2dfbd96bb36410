//! A node opens its log by the last segment: what that overlooks is named when it is read, and by a copy; and it never gives a wrong
//! answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{config, fingerprint, plant};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Committed, Engine, OpenLedgerError};

fn open(plant: &Plant, data: &Path) -> Result<Engine, OpenLedgerError> {
    let mut config = config(plant, data);
    config.segment_bytes = Some(4_096);
    Engine::open(config)
}

/// A ledger of several segments, closed; what was told of its triggers.
async fn filled(plant: &Plant, data: &Path) -> Vec<(Committed, Vec<u8>)> {
    let engine = open(plant, data).unwrap();
    let mut told = Vec::new();
    for number in 0..30 {
        let statement = plant.worn(0, number, &format!("fault-{number}")).unwrap();
        told.push((engine.submit(statement.clone()).await.unwrap(), statement));
    }
    engine.close();
    told
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = names.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    names.sort();
    names
}

fn words(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", words(cause)))
}

#[tokio::test]
async fn a_flipped_byte_in_a_complete_segment_is_named_and_never_an_answer() {
    let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
    let told = filled(&plant, dir.path()).await;
    let log = files(&dir.path().join("log"), ".seg");
    assert!(log.len() > 4, "{log:?}");
    assert_eq!(files(&dir.path().join("summary"), ".sum").len(), log.len() - 1);
    let mut bytes = fs::read(&log[2]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log[2], &bytes).unwrap();
    let name = log[2].display().to_string();

    let engine = open(&plant, dir.path()).expect("opens: the last segment and all summaries are good");
    let mut damaged = 0;
    for (committed, statement) in &told {
        match engine.entry(committed.entry) {
            Ok(found) => assert_eq!(found.unwrap(), (committed.clone(), statement.clone())),
            Err(error) => {
                let words = words(&error);
                assert!(words.contains(&name) && words.contains("damaged at byte"), "{words}");
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1, "one block of one trigger");
    engine.close();
    drop(engine);

    // Without what is known of the segments everything is checked.
    fs::remove_dir_all(dir.path().join("summary")).unwrap();
    let error = words(&open(&plant, dir.path()).err().expect("reads the whole log"));
    assert!(error.contains(&name) && error.contains("damaged at byte"), "{error}");
    bytes[middle] ^= 1;
    fs::write(&log[2], &bytes).unwrap();
    open(&plant, dir.path()).unwrap().close();
    assert_eq!(files(&dir.path().join("summary"), ".sum").len(), log.len() - 1, "kept again");
}

#[tokio::test]
async fn a_segment_missing_from_the_middle_is_named_on_opening() {
    let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
    filled(&plant, dir.path()).await;
    let log = files(&dir.path().join("log"), ".seg");
    let bytes = fs::read(&log[2]).unwrap();
    fs::remove_file(&log[2]).unwrap();
    let error = words(&open(&plant, dir.path()).err().expect("a hole"));
    assert!(error.contains(&log[3].display().to_string()) && error.contains("ends at record"), "{error}");
    fs::write(&log[2], &bytes[..bytes.len() - 1]).unwrap();
    let error = words(&open(&plant, dir.path()).err().expect("a cut"));
    assert!(error.contains(&log[2].display().to_string()), "{error}");
    fs::write(&log[2], &bytes).unwrap();
    let engine = open(&plant, dir.path()).unwrap();
    assert_eq!(fingerprint(&engine).1, 31);
}

#[tokio::test]
async fn summaries_that_are_torn_lost_or_exchanged_change_no_answer() {
    let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
    let told = filled(&plant, dir.path()).await;
    let before = fingerprint(&open(&plant, dir.path()).unwrap());
    let sums = files(&dir.path().join("summary"), ".sum");
    let good: Vec<_> = sums.iter().map(|file| fs::read(file).unwrap()).collect();
    fs::write(&sums[0], &good[0][..good[0].len() / 2]).unwrap();
    fs::write(&sums[1], &good[2]).unwrap();
    fs::remove_file(&sums[2]).unwrap();
    fs::write(&sums[3], b"").unwrap();
    let engine = open(&plant, dir.path()).unwrap();
    assert_eq!(fingerprint(&engine), before);
    for (committed, statement) in told {
        assert_eq!(engine.entry(committed.entry).unwrap().unwrap(), (committed, statement));
    }
    let again: Vec<_> = sums.iter().map(|file| fs::read(file).unwrap()).collect();
    assert_eq!(again, good, "made anew, the same bytes");
}
