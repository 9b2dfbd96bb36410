//! Data folders kept from the first days of a format (`tests/formats/node-1`, `node-4`): this program opens them, with their index and
//! without, and finds the same ledger. Folders of newer programs are refused with the reason and left as they are.
//!
//! `TALLY_REGENERATE=node-4 cargo test -p tally-ledger-node --test formats` writes a folder anew. Only before a release: afterwards
//! it is what users have, and a program that cannot open it any more needs a new format number and a way over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "common/outside.rs"]
mod outside;

use common::{START, TestClock, config, plant, state_of, totals_are_zero};
use outside::{audit, recompute};
use std::fs;
use std::path::{Path, PathBuf};
use tally_contracts::views;
use tally_evidence::{KeyScheme, Receipt, SignedStatement};
use tally_journal::DirStorage;
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Engine, OpenLedgerError, StoreOpenError};

/// A kept folder: how its state is hashed, and which version it says.
#[derive(Clone, Copy)]
struct Kept(&'static str, KeyScheme, u32);

const KEPT: [Kept; 2] = [FIRST, Kept("node-4", KeyScheme::Grouped, 4)];
const FIRST: Kept = Kept("node-1", KeyScheme::Scattered, 1);

impl Kept {
    fn folder(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats").join(self.0)
    }

    fn plant(self) -> Plant {
        plant().with_keys(self.1)
    }

    fn checkpoint(self) -> Vec<u8> {
        hex::decode(fs::read_to_string(self.folder().join("checkpoint.hex")).unwrap().trim()).unwrap()
    }

    async fn regenerate(self) {
        let dir = tempfile::tempdir().unwrap();
        make(self.plant(), dir.path()).await;
        let head = open(dir.path()).unwrap().store().head().unwrap();
        fs::create_dir_all(self.folder().join("log")).unwrap();
        fs::copy(dir.path().join(SEGMENT), self.folder().join(SEGMENT)).unwrap();
        fs::copy(dir.path().join("FORMAT"), self.folder().join("FORMAT")).unwrap();
        fs::write(self.folder().join("checkpoint.hex"), format!("{}\n", hex::encode(&head.sealed))).unwrap();
    }

    /// A copy to work in: with the log alone, as after a restore. The index is rebuilt; one of another version is thrown away.
    fn copy(self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        for file in [SEGMENT, "FORMAT"] {
            fs::copy(self.folder().join(file), dir.path().join(file)).unwrap_or_else(|fault| panic!("{file}: {fault}"));
        }
        dir
    }
}

const SEGMENT: &str = "log/00000000000000000000.seg";

fn open(dir: &Path) -> Result<Engine, OpenLedgerError> {
    let mut config = config(&plant(), dir);
    config.genesis = None;
    config.clock = TestClock::at(START + 60_000_000);
    Engine::open(config)
}

/// An order from wear to payment, a refusal, and an order that is still open.
async fn make(plant: Plant, dir: &Path) {
    let clock = TestClock::at(START);
    let mut config = config(&plant, dir);
    config.clock = clock.clone();
    let engine = Engine::open(config).unwrap();
    let statements = [
        plant.worn(0, 0, "bearing").unwrap(),
        plant.call("tina", "accept", "mo-1", 0).unwrap(),
        plant.call("tina", "done", "mo-1", 0).unwrap(),
        plant.good(0, 1, "bearing").unwrap(),
        plant.call("tina", "accept", "mo-1", 1).unwrap(),
        plant.worn(1, 0, "bearing").unwrap(),
    ];
    for (n, statement) in (1..).zip(statements) {
        clock.set(START + n * 1_000_000);
        engine.submit(statement).await.unwrap();
    }
    engine.close();
}

#[tokio::test]
async fn a_data_folder_of_each_format_is_opened_and_gives_the_same_ledger() {
    for kept in KEPT {
        if std::env::var_os("TALLY_REGENERATE").is_some_and(|name| name == kept.0) {
            kept.regenerate().await;
        }
        opens_as_ever(kept).await;
    }
}

async fn opens_as_ever(kept: Kept) {
    let (dir, Kept(name, keys, version)) = (kept.copy(), kept);
    // Twice: executed from the log, then from the index that came of it; the third time without the file that says the version.
    for round in 0..3 {
        let engine = open(dir.path()).unwrap();
        assert_eq!(engine.store().head().unwrap().sealed, kept.checkpoint(), "{name}, round {round}");
        assert_eq!(views::key_scheme(&engine.store().state().unwrap()), Some(keys));
        assert_eq!(state_of(&engine, "mo-1"), "confirmed");
        assert_eq!(state_of(&engine, "mo-2"), "reported");
        assert!(totals_are_zero(&engine));
        let (refused, bytes) = engine.entry(5).unwrap().unwrap();
        assert_ne!(refused.refusal, 0);
        assert_eq!(SignedStatement::parse(&bytes).unwrap().subject, "mo-1");
        let receipt = Receipt::parse(&engine.receipt(&refused).unwrap()).unwrap();
        receipt.check(&refused.id, engine.key()).unwrap();
        engine.close();
        drop(engine);
        if round == 1 {
            fs::remove_file(dir.path().join("FORMAT")).unwrap();
        }
    }
    let format = fs::read_to_string(dir.path().join("FORMAT")).unwrap();
    assert_eq!(format, format!("tallystick node data {version}\n"));
    let log = || DirStorage::open(dir.path().join("log")).unwrap();
    let found = audit(log(), plant().key.public());
    assert_eq!(found.ids.len(), 7);
    recompute(&plant(), log(), &(kept.checkpoint(), 7));
    // And it goes on from there.
    let engine = open(dir.path()).unwrap();
    assert_eq!(engine.submit(plant().worn(1, 1, "again").unwrap()).await.unwrap().entry, 7);
    engine.close();
}

/// Everything in a folder, to see that nothing changed. The lock names who looked last.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false if path.ends_with("LOCK") => {}
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_folder_of_a_newer_program_is_refused_with_the_reason_and_left_alone() {
    let dir = FIRST.copy();
    open(dir.path()).unwrap().close();
    fs::write(dir.path().join("FORMAT"), "tallystick node data 5\n").unwrap();
    let before = contents(dir.path());
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenLedgerError::Store(StoreOpenError::Newer { found: 5, known: 4, .. })), "{error}");
    let said = error.to_string();
    assert!(
        said.contains("newer version") && said.contains("FORMAT") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(contents(dir.path()), before);

    // Likewise when only the log is newer.
    fs::write(dir.path().join("FORMAT"), "tallystick node data 1\n").unwrap();
    let mut segment = fs::read(dir.path().join(SEGMENT)).unwrap();
    segment[8] = 2;
    // CRC32C over bytes 0..60, see docs/formats/journal.md.
    let crc = crc32c(&segment[..60]);
    segment[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(dir.path().join(SEGMENT), segment).unwrap();
    let before = contents(dir.path());
    let said = open(dir.path()).err().unwrap().to_string();
    assert!(said.contains("format version 2") && said.contains("use the newer program"), "{said}");
    assert_eq!(contents(dir.path()), before);
}

/// An index of another version is none: it is rebuilt from the log, whichever of the two programs is the newer.
#[tokio::test]
async fn an_index_of_another_version_is_rebuilt() {
    let dir = FIRST.copy();
    open(dir.path()).unwrap().close();
    let index = dir.path().join("state.redb");
    {
        let db = redb::Database::open(&index).unwrap();
        let write = db.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, (u64, &[u8])>::new("meta");
        write.open_table(meta).unwrap().insert("format", (99, &[][..])).unwrap();
        write.commit().unwrap();
    }
    let engine = open(dir.path()).unwrap();
    assert_eq!(engine.store().head().unwrap().sealed, FIRST.checkpoint());
    engine.close();
}

/// Bit by bit: the test must not use the code it tests.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}
