//! The trees on disk, damaged while the node works and while it does not: no false proof is ever given, and the next start builds
//! again what was damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{fingerprint, open, plant};
use std::fs;
use std::path::Path;
use tally_evidence::{ConsistencyReceipt, Receipt, StateProof};
use tally_ledger_node::{Committed, Engine};

/// Enough for three levels of the tree's files.
const STATEMENTS: u64 = 270;

/// A ledger with that many entries, each with the receipt it got.
async fn filled(dir: &Path) -> (Engine, Vec<(Committed, Vec<u8>)>) {
    let (plant, mut told) = (plant(), Vec::new());
    let engine = open(&plant, dir);
    for from in (0..STATEMENTS).step_by(30) {
        let worn = |n: u64| plant.worn((n % 4) as usize, n / 2, &format!("fault-{n}")).unwrap();
        // Devices 0 and 2 are of one agent, 1 and 3 of the other.
        let answers = (from..from + 30).map(|n| engine.submit(worn(n)));
        for committed in futures_util::future::join_all(answers).await {
            let committed = committed.unwrap();
            assert_eq!(committed.refusal, 0);
            let receipt = engine.receipt(&committed).unwrap();
            told.push((committed, receipt));
        }
    }
    (engine, told)
}

/// Flips a bit of a file in place.
fn flip(file: &Path, place: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[place] ^= 1 << (place % 8);
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_in_the_tree_of_entries_gives_no_false_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, told) = filled(dir.path()).await;
    let (mut refused, mut given) = (0, 0);
    for (level, step) in [("00", 1_201), ("04", 97), ("08", 11)] {
        let file = dir.path().join(format!("tree/entries.{level}"));
        for place in (0..fs::metadata(&file).unwrap().len()).step_by(step) {
            let place = usize::try_from(place).unwrap();
            flip(&file, place);
            for (committed, receipt) in told.iter().step_by(7) {
                match engine.receipt(committed) {
                    Ok(again) => {
                        assert_eq!(&again, receipt);
                        Receipt::parse(&again).unwrap().check(&committed.id, engine.key()).unwrap();
                        given += 1;
                    }
                    Err(fault) => {
                        assert!(fault.to_string().contains("the next start builds the tree again"), "{fault}");
                        refused += 1;
                    }
                }
            }
            flip(&file, place);
        }
    }
    assert!(given > 100 && refused > 20, "{given} given, {refused} refused");
    // Told once, it is built again, whatever the files hold by then.
    let last = fingerprint(&engine);
    engine.close();
    drop(engine);
    for level in ["00", "04"] {
        flip(&dir.path().join(format!("tree/entries.{level}")), 40);
    }
    let engine = open(&plant(), dir.path());
    assert_eq!(fingerprint(&engine), last);
    for (committed, receipt) in &told {
        assert_eq!(&engine.receipt(committed).unwrap(), receipt);
    }
    engine.close();
}

#[tokio::test]
async fn consistency_is_followed_from_root_to_root() {
    let dir = tempfile::tempdir().unwrap();
    let (mut engine, _) = filled(dir.path()).await;
    let size = engine.store().head().unwrap().checkpoint.size;
    let file = dir.path().join("tree/entries.04");
    let mut refused = 0;
    for damage in [None, Some(5), Some(130), Some(500)] {
        // What was hashed before is remembered, and right whatever the file says since.
        engine.close();
        drop(engine);
        engine = open(&plant(), dir.path());
        if let Some(place) = damage {
            flip(&file, place);
        }
        for old in (1..size).step_by(13) {
            for to in (old..=size).step_by(31) {
                match engine.store().consistency(old, to) {
                    Ok(proof) => {
                        let (path, root) = proof.unwrap();
                        let receipt = engine.sign_consistency(old, to, &path, &root).unwrap();
                        let old_root = engine.store().root_at(old).unwrap().unwrap();
                        ConsistencyReceipt::parse(&receipt).unwrap().check(old_root, engine.key()).unwrap();
                    }
                    Err(fault) => {
                        assert!(damage.is_some(), "{fault}");
                        refused += 1;
                    }
                }
            }
        }
        if let Some(place) = damage {
            flip(&file, place);
        }
    }
    assert!(refused > 0);
    assert_eq!(engine.store().consistency(1, size + 1).unwrap(), None);
    engine.close();
}

/// Whether every device is proved to be there, and one that is not.
fn proves(engine: &Engine) -> Result<(), String> {
    for (device, is_there) in [("press-000", true), ("press-003", true), ("press-999", false)] {
        let key = [b"d", device.as_bytes()].concat();
        let value = tally_contracts::StateRead::get(&engine.store().state().unwrap(), &key);
        assert_eq!(value.is_some(), is_there, "{device}");
        let (proof, head) = engine.store().prove_state(&key).map_err(|fault| fault.to_string())?.unwrap();
        let proof = StateProof::decode(&proof.encode()).unwrap();
        assert_eq!(proof.verify(&head.checkpoint.state, &key, value.as_deref()), Ok(()));
    }
    Ok(())
}

#[tokio::test]
async fn a_damaged_state_tree_is_found_when_it_is_read_and_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, told) = filled(dir.path()).await;
    proves(&engine).unwrap();
    engine.close();
    drop(engine);
    let pages = dir.path().join("tree/state.pages");
    let whole = fs::read(&pages).unwrap();
    fs::write(&pages, vec![0x5a; whole.len()]).unwrap();
    let engine = open(&plant(), dir.path());
    let fault = proves(&engine).unwrap_err();
    assert!(fault.contains("tree/state.pages") && fault.contains("next start"), "{fault}");
    drop(engine);
    let engine = open(&plant(), dir.path());
    proves(&engine).unwrap();
    // And so is one that is cut, or that has lost its tops.
    engine.close();
    drop(engine);
    for damage in 0..3 {
        match damage {
            0 => fs::write(&pages, &whole[..100]).unwrap(),
            1 => fs::remove_dir_all(dir.path().join("tree")).unwrap(),
            _ => {
                ["0", "1"].iter().for_each(|n| fs::write(dir.path().join(format!("tree/state.top.{n}")), "x").unwrap())
            }
        }
        let engine = open(&plant(), dir.path());
        proves(&engine).unwrap();
        let (committed, receipt) = &told[3];
        assert_eq!(&engine.receipt(committed).unwrap(), receipt);
        engine.close();
    }
}
