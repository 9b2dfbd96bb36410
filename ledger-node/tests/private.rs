//! Private fields of calls: sealed as commitments, kept beside the ledger, shown one by one, purged by a call, and then nowhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, call, config, node_config, open, plant, totals_are_zero};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tally_evidence::cbor::{int, text};
use tally_evidence::{Commitment, KeyScheme, Opening, Presented, SignedStatement};
use tally_ledger_node::backup::{copy, restore};
use tally_ledger_node::retain::{Retention, archive, import};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Committed, Engine, EngineConfig};

/// Nothing else in any file says this.
const SECRET: &str = "Tina Muster, broken wrist, 2026-03-14";
const REMARK: &str = "remark";

fn opening(value: &str, salt: u8) -> Vec<u8> {
    Opening { salt: [salt; 16], value: text(value), name: REMARK.into() }.encode()
}

/// A transfer from acme to fixit whose remark is sealed; the amount makes it fail or not.
fn transfer(plant: &Plant, opening: &[u8], nonce: u8, amount: i64) -> Vec<u8> {
    let remark = Commitment::to(opening).to_argument();
    let args = [("to", text("fixit")), ("amount", int(amount)), ("currency", text("EUR")), (REMARK, remark)];
    call(plant, "acme", ("accounts", "transfer"), nonce, &args)
}

fn presented(statement: &[u8], opening: &[u8]) -> Vec<u8> {
    Presented { statement: statement.to_vec(), openings: vec![opening.to_vec()] }.encode().unwrap()
}

async fn give(engine: &Engine, plant: &Plant, opening: &[u8], nonce: u8) -> Committed {
    let committed = engine.submit(presented(&transfer(plant, opening, nonce, 5), opening)).await.unwrap();
    assert_eq!(committed.refusal, 0);
    committed
}

async fn purge(engine: &Engine, plant: &Plant, signer: &str, entry: u64, nonce: u8) -> Committed {
    let args = [("entry", int(entry)), ("field", text(REMARK)), ("reason", text("request of 21 Nov"))];
    engine.submit(call(plant, signer, ("privacy", "purge"), nonce, &args)).await.unwrap()
}

/// What is kept of the remark of an entry.
fn kept(engine: &Engine, entry: u64) -> Option<Vec<u8>> {
    let field = engine.private_fields(entry).unwrap().remove(0);
    assert_eq!(field.field, REMARK);
    engine.opening(&field).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The files below `folder` in which the secret stands.
fn who_knows(folder: &Path) -> Vec<PathBuf> {
    let says = |file: &PathBuf| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
    };
    files(folder).into_iter().filter(says).collect()
}

fn only(folder: &Path) -> PathBuf {
    let mut found = files(folder);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[tokio::test]
async fn kept_shown_purged_and_then_nowhere() {
    // Of the first scheme: a folder of the second one says a later version from its first block on.
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant().with_keys(KeyScheme::Scattered));
    let (data, at) = (dir.path().join("data"), |name: &str| dir.path().join(name));
    let engine = open(&plant, &data);
    let secret = opening(SECRET, 1);
    let told = give(&engine, &plant, &secret, 1).await;
    let other = give(&engine, &plant, &opening("nothing special", 2), 2).await;
    let receipt = engine.receipt(&told).unwrap();
    assert_eq!(kept(&engine, told.entry), Some(secret.clone()));
    // In one file, which nobody else may read, and never in log, index or trees.
    let knowing = who_knows(&data);
    assert_eq!(knowing.len(), 1);
    assert!(knowing[0].starts_with(data.join("private")));
    assert_eq!(fs::metadata(&knowing[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(data.join("FORMAT")).unwrap(), "tallystick node data 3\n");
    let usage = engine.store().usage().unwrap();
    let part = usage.parts.iter().find(|part| part.place == "private/").unwrap();
    assert_eq!(
        part.bytes,
        files(&data.join("private")).iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>()
    );
    assert_eq!(usage.parts.iter().map(|part| part.bytes).sum::<u64>(), usage.bytes);
    // A copy has it, and a ledger made from the copy.
    copy(&node_config(&plant, dir.path(), "data", ""), &at("copy")).unwrap().finish().unwrap();
    restore(&node_config(&plant, dir.path(), "restored", ""), &at("copy")).unwrap();
    let restored = open(&plant, &at("restored"));
    assert_eq!(kept(&restored, told.entry), Some(secret.clone()));
    restored.close();
    // Nobody but who submitted it, or an admin.
    assert_eq!(purge(&engine, &plant, "tina", told.entry, 3).await.refusal, 151);
    assert_eq!(kept(&engine, told.entry), Some(secret.clone()));
    let purged = purge(&engine, &plant, "acme", told.entry, 4).await;
    assert_eq!(purged.refusal, 0);
    // With the answer it is gone; the other one is not, and the receipt is what it was.
    assert_eq!((who_knows(&data), kept(&engine, told.entry)), (Vec::new(), None));
    assert!(kept(&engine, other.entry).is_some());
    assert_eq!(engine.receipt(&told).unwrap(), receipt);
    let how = engine.private_fields(told.entry).unwrap().remove(0).purged.unwrap();
    assert_eq!((how.entry, how.by.as_str(), how.reason.as_str()), (purged.entry, "acme", "request of 21 Nov"));
    assert_eq!(purge(&engine, &plant, "acme", told.entry, 5).await.refusal, 186);
    // Sent again with its opening it gets its first receipt, and does not bring it back.
    let again = engine.submit(presented(&transfer(&plant, &secret, 1, 5), &secret)).await.unwrap();
    assert_eq!((&again, who_knows(&data)), (&told, Vec::new()));
    // Nor has a later copy it; the earlier one cannot be recalled.
    copy(&node_config(&plant, dir.path(), "data", ""), &at("later")).unwrap().finish().unwrap();
    assert_eq!((who_knows(&at("later")).len(), who_knows(&at("copy")).len()), (0, 1));
    assert_eq!(files(&at("later").join("private")).len(), 1);
    let head = engine.store().head().unwrap();
    engine.close();
    drop(engine);
    // Everything follows from what is left.
    fs::remove_file(data.join("state.redb")).unwrap();
    let engine = open(&plant, &data);
    assert_eq!(
        (engine.store().head().unwrap().sealed.clone(), engine.receipt(&told).unwrap()),
        (head.sealed.clone(), receipt)
    );
    assert!(totals_are_zero(&engine) && kept(&engine, other.entry).is_some());
    engine.close();
}

/// As if the power had gone at each step of a purge: before the file is touched, half-way through writing over it, behind that.
/// The next start ends it.
#[tokio::test]
async fn an_interrupted_purge_is_ended_on_opening() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let secret = opening(SECRET, 1);
    let engine = open(&plant, dir.path());
    let told = give(&engine, &plant, &secret, 1).await;
    let file = only(&dir.path().join("private"));
    purge(&engine, &plant, "acme", told.entry, 2).await;
    engine.close();
    drop(engine);
    let half = [&vec![0; secret.len() / 3][..], &secret[secret.len() / 3..]].concat();
    let pending = PathBuf::from(format!("{}.pending", file.display()));
    for place in [&file, &pending] {
        for left in [&secret[..], &half, &vec![0; secret.len()]] {
            fs::write(place, left).unwrap();
            let engine = open(&plant, dir.path());
            assert_eq!(files(&dir.path().join("private")), Vec::<PathBuf>::new());
            assert_eq!(kept(&engine, told.entry), None);
            engine.close();
        }
    }
    assert_eq!(who_knows(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_was_on_its_way_is_settled_on_opening() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let private = dir.path().join("private");
    let engine = open(&plant, dir.path());
    let secret = opening(SECRET, 1);
    let told = give(&engine, &plant, &secret, 1).await;
    // A refused call keeps nothing, however it is asked: too much money, one that is already there.
    let too_much = transfer(&plant, &opening(SECRET, 2), 2, 1 << 60);
    assert_eq!(engine.submit(presented(&too_much, &opening(SECRET, 2))).await.unwrap().refusal, 183);
    let file = only(&private);
    engine.close();
    drop(engine);
    // Died before the file got its name; died before the statement was in the ledger; died while writing.
    let pending = PathBuf::from(format!("{}.pending", file.display()));
    fs::rename(&file, &pending).unwrap();
    let never = opening(SECRET, 3);
    let id = SignedStatement::parse(&transfer(&plant, &never, 3, 5)).unwrap().id;
    let name = |opening: &[u8]| format!("{id}-{}.pending", hex::encode(Commitment::to(opening).0));
    fs::write(private.join(name(&never)), &never).unwrap();
    fs::write(private.join(format!("{}-{}.pending", told.id, hex::encode([9; 32]))), &secret[..9]).unwrap();
    let engine = open(&plant, dir.path());
    assert_eq!((only(&private), kept(&engine, told.entry)), (file, Some(secret)));
    // It comes again, and is taken then.
    let third = give(&engine, &plant, &never, 3).await;
    assert_eq!(kept(&engine, third.entry), Some(never));
    engine.close();
}

#[tokio::test]
async fn other_openings_are_turned_away_and_leave_no_trace() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let (secret, other) = (opening(SECRET, 1), opening("something else", 1));
    let statement = transfer(&plant, &secret, 1, 5);
    let fault = engine.submit(presented(&statement, &other)).await.unwrap_err().to_string();
    assert!(fault.contains("does not commit to this `remark`"), "{fault}");
    let batch_like = plant.worn(0, 0, "fault").unwrap();
    let fault = engine.submit(presented(&batch_like, &secret)).await.unwrap_err().to_string();
    assert!(fault.contains("only calls have private fields"), "{fault}");
    // A seal that does not hold writes nothing to the disk.
    let mut forged = statement.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(engine.submit(presented(&forged, &secret)).await.is_err());
    assert_eq!(files(&dir.path().join("private")), Vec::<PathBuf>::new());
    // Without its opening it is a call like any other; the opening may come later.
    let committed = engine.submit(statement.clone()).await.unwrap();
    assert_eq!((committed.refusal, kept(&engine, committed.entry)), (0, None));
    assert_eq!(engine.submit(presented(&statement, &secret)).await.unwrap(), committed);
    assert_eq!(kept(&engine, committed.entry), Some(secret));
    engine.close();
}

#[tokio::test]
async fn a_flipped_byte_is_named() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, &dir.path().join("data"));
    let told = give(&engine, &plant, &opening(SECRET, 1), 1).await;
    let file = only(&dir.path().join("data/private"));
    let bytes = fs::read(&file).unwrap();
    let field = engine.private_fields(told.entry).unwrap().remove(0);
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        fs::write(&file, flipped).unwrap();
        let fault = engine.opening(&field).unwrap_err().to_string();
        assert!(fault.contains(file.file_name().unwrap().to_str().unwrap()) && fault.contains("SHA-256"), "{fault}");
    }
    let fault = copy(&node_config(&plant, dir.path(), "data", ""), &dir.path().join("copy")).unwrap_err().to_string();
    assert!(fault.contains(file.file_name().unwrap().to_str().unwrap()), "{fault}");
    // Damaged or not, it can be purged.
    assert_eq!(purge(&engine, &plant, "acme", told.entry, 2).await.refusal, 0);
    assert_eq!(files(&dir.path().join("data/private")), Vec::<PathBuf>::new());
    engine.close();
}

const DAY: i64 = 86_400_000_000;

fn forgetful(plant: &Plant, data: &Path, archive: PathBuf, clock: &Arc<TestClock>) -> EngineConfig {
    let mut config = config(plant, data);
    config.clock = Arc::<TestClock>::clone(clock);
    config.retention =
        Retention { payloads: Some(Duration::from_secs(30 * 86_400)), archive: Some(archive), ..Retention::default() };
    config.segment_bytes = Some(4_096);
    config
}

/// Private fields go with their statements, into the archive; an import brings back those that were not purged meanwhile.
#[tokio::test]
async fn retention_takes_them_into_the_archive_and_import_brings_them_back() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), plant(), TestClock::at(START));
    let (data, archived) = (dir.path().join("data"), dir.path().join("archive"));
    let engine = Engine::open(forgetful(&plant, &data, archived.clone(), &clock)).unwrap();
    let (first, second) = (opening(SECRET, 1), opening(SECRET, 2));
    let told = give(&engine, &plant, &first, 1).await;
    let purged_later = give(&engine, &plant, &second, 2).await;
    let before = opening(SECRET, 3);
    let purged_before = give(&engine, &plant, &before, 3).await;
    assert_eq!(purge(&engine, &plant, "acme", purged_before.entry, 4).await.refusal, 0);
    for number in 0..40u8 {
        clock.set(START + i64::from(number) * 2 * DAY);
        engine.submit(plant.worn(1, number.into(), "again").unwrap()).await.unwrap();
    }
    let young = give(&engine, &plant, &opening("young", 5), 5).await;
    assert!(engine.retain().unwrap().segments > 2);
    assert_eq!(who_knows(&data), Vec::<PathBuf>::new(), "they went with their statements");
    assert_eq!((kept(&engine, told.entry), kept(&engine, young.entry).is_some()), (None, true));
    assert_eq!(archive::verify(&archived, plant.key.public()).unwrap().private, 2);
    // One that was pruned can still be purged: an import will not bring it back.
    assert_eq!(purge(&engine, &plant, "acme", purged_later.entry, 6).await.refusal, 0);
    engine.close();
    drop(engine);
    import(&node_config(&plant, dir.path(), "data", ""), &archived).unwrap();
    let engine = open(&plant, &data);
    assert_eq!((kept(&engine, told.entry), kept(&engine, purged_later.entry)), (Some(first), None));
    assert_eq!(who_knows(&data).len(), 1);
    engine.close();
    // A flipped bit in the archive is named, and the file may be deleted: the archive holds without it.
    let file =
        files(&archived).into_iter().find(|file| file.extension().is_some_and(|kind| kind == "private")).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let fault = archive::verify(&archived, plant.key.public()).unwrap_err().to_string();
    assert!(fault.contains(".private"), "{fault}");
    fs::remove_file(&file).unwrap();
    assert_eq!(archive::verify(&archived, plant.key.public()).unwrap().private, 0);
}
