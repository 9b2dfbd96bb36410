//! A ledger that forgets: segments go, receipts stay byte for byte, what open agreements rest on stays, and an index that is lost
//! is made anew from a snapshot with the same roots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, config, node_config, plant, state_of, totals_are_zero};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::views;
use tally_evidence::cbor::{self, Cbor};
use tally_evidence::{
    Allowed, BatchBody, BatchEnvelope, CallBody, Policy, Receipt, Right, SignedStatement, StatementKind, TriggerBody,
    Who, sign,
};
use tally_ledger_node::backup::{copy, restore};
use tally_ledger_node::retain::{Reason, Retention, archive, import, import_with, kept, snapshot};
use tally_ledger_node::testing::{Plant, Terms, key_of};
use tally_ledger_node::{CommitError, Committed, Engine, EngineConfig, FlushLimits, ReadError, RunLimits};
use tally_model::{AgreementId, Priority, Timestamp};

/// Bytes of a segment: some five blocks of one trigger.
const SEGMENT: u64 = 4_096;
const DAY: i64 = 86_400_000_000;

fn forgetful(plant: &Plant, data: &Path, retention: Retention, clock: &Arc<TestClock>) -> EngineConfig {
    let mut config = config(plant, data);
    config.clock = Arc::<TestClock>::clone(clock);
    config.retention = retention;
    config.segment_bytes = Some(SEGMENT);
    config.flush = FlushLimits { blocks: 7, entries: 1_000, runs: RunLimits { ids: 5, merge: 3 }, aside: true };
    config
}

fn days(days: u64) -> Retention {
    Retention { payloads: Some(Duration::from_secs(days * 86_400)), ..Retention::default() }
}

/// What was told of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    committed: Committed,
    receipt: Vec<u8>,
    statement: Vec<u8>,
}

async fn submit(engine: &Engine, statement: Vec<u8>) -> Told {
    let committed = engine.submit(statement.clone()).await.unwrap();
    assert_eq!(committed.refusal, 0);
    let receipt = engine.receipt(&committed).unwrap();
    Told { committed, receipt, statement }
}

/// Nobody has to accept an order for a year: it stays open by itself.
fn patient() -> Plant {
    plant().with_terms(Terms { respond: "365d" })
}

/// A whole order on device 0 (opened, accepted, done, confirmed), and one left open on device 1, 100 days ago; then `rest` triggers
/// on the open one, which are mere notes, until today.
async fn live_a_while(engine: &Engine, plant: &Plant, clock: &TestClock, rest: u64) -> Vec<Told> {
    let mut told = Vec::new();
    clock.set(START);
    told.push(submit(engine, plant.worn(1, 0, "left open").unwrap()).await);
    told.push(submit(engine, plant.worn(0, 0, "to be repaired").unwrap()).await);
    for (nonce, action) in [(1, "accept"), (2, "done")] {
        told.push(submit(engine, plant.call("tina", action, "mo-2", nonce).unwrap()).await);
    }
    told.push(submit(engine, plant.good(0, 1, "to be repaired").unwrap()).await);
    for number in 0..rest {
        clock.set(START + 100 * DAY * i64::try_from(number + 1).unwrap() / i64::try_from(rest).unwrap());
        told.push(submit(engine, plant.worn(1, number + 1, "left open").unwrap()).await);
    }
    assert_eq!((state_of(engine, "mo-1"), state_of(engine, "mo-2")), ("reported".into(), "confirmed".into()));
    assert_eq!(state_of(engine, "mo-3"), "none", "notes open no order");
    told
}

fn is_pruned(engine: &Engine, entry: u64) -> bool {
    match engine.entry(entry) {
        Err(ReadError::Store(CommitError::Pruned(pruned))) => {
            assert!(pruned.segment.ends_with(".seg"), "{pruned}");
            true
        }
        found => {
            found.unwrap().unwrap();
            false
        }
    }
}

/// Every receipt is still the same bytes, by id and by index, and still holds; and every statement, sent again, is known.
async fn all_is_as_told(engine: &Engine, told: &[Told]) {
    for Told { committed, receipt, statement } in told {
        assert_eq!(engine.find_committed(&committed.id).unwrap().as_ref(), Some(committed));
        assert_eq!(&engine.receipt(&engine.committed(committed.entry).unwrap().unwrap()).unwrap(), receipt);
        let parsed = Receipt::parse(receipt).unwrap();
        let root = parsed.check(&committed.id, engine.key()).unwrap();
        assert_eq!(engine.store().root_at(parsed.size).unwrap(), Some(root));
        assert_eq!(&engine.submit(statement.clone()).await.unwrap(), committed, "a repeat gives the first receipt");
    }
    assert!(totals_are_zero(engine));
}

/// The entries that an evidence file of `id` needs are all there.
fn evidence_is_whole(engine: &Engine, id: &str) {
    let state = engine.store().state().unwrap();
    let agreement = views::agreement(&state, &AgreementId::try_new(id).unwrap()).unwrap();
    let mut entries = agreement.history;
    entries.extend(views::parties(&state).into_iter().map(|(_, entry)| entry));
    entries.extend(views::devices(&state).into_iter().map(|(_, entry)| entry));
    state.check().unwrap();
    for entry in entries {
        assert!(!is_pruned(engine, entry), "entry {entry} of {id} is gone");
    }
}

#[tokio::test]
async fn old_segments_go_and_receipts_stay_the_same() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), patient(), TestClock::at(START));
    let engine = Engine::open(forgetful(&plant, dir.path(), days(30), &clock)).unwrap();
    let told = live_a_while(&engine, &plant, &clock, 60).await;
    assert!(engine.store().segments().len() > 8);
    let plan = engine.retention_plan().unwrap();
    assert!(!plan.segments.is_empty() && plan.segments.iter().all(|segment| segment.reason == Reason::Age));
    assert_eq!(engine.store().segments()[0].0, 0, "a plan changes nothing");
    let before = engine.store().log_bytes();
    let done = engine.retain().unwrap();
    assert_eq!(done.segments, plan.segments.len() as u64);
    assert_eq!(before - engine.store().log_bytes(), done.freed);
    let kept_below = engine.store().kept_below();
    assert_eq!(engine.store().segments()[0].0, kept_below);
    // Younger than 30 days: all there. Older: the statement is gone unless something rests on it.
    let row = engine.store().block(kept_below - 1).unwrap().unwrap();
    assert!(row.time.as_micros() < START + 70 * DAY);
    let gone = told.iter().filter(|told| is_pruned(&engine, told.committed.entry)).count();
    assert!(gone > 20 && gone < 50, "{gone}");
    all_is_as_told(&engine, &told).await;
    evidence_is_whole(&engine, "mo-1");
    assert_eq!(engine.retain().unwrap().segments, 0, "nothing is left to do");
    // Opened again with the index, without its files of statement ids, and without all of it.
    let head = engine.store().head().unwrap();
    engine.close();
    drop(engine);
    for without in [None, Some("statements"), Some("state.redb")] {
        let lost = without.map(|name| dir.path().join(name));
        match lost {
            Some(folder) if folder.is_dir() => fs::remove_dir_all(folder).unwrap(),
            Some(file) => fs::remove_file(file).unwrap(),
            None => {}
        }
        let engine = Engine::open(forgetful(&plant, dir.path(), days(30), &clock)).unwrap();
        assert_eq!(engine.store().head().unwrap().sealed, head.sealed, "the same tree root and state root");
        assert_eq!(engine.store().kept_below(), kept_below);
        assert_eq!(told.iter().filter(|told| is_pruned(&engine, told.committed.entry)).count(), gone);
        all_is_as_told(&engine, &told).await;
        evidence_is_whole(&engine, "mo-1");
        engine.close();
    }
}

#[tokio::test]
async fn an_ended_agreement_stays_whole_for_its_days() {
    let plant = plant().with_terms(Terms { respond: "90d" });
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    let engine = Engine::open(forgetful(&plant, dir.path(), days(50), &clock)).unwrap();
    let opened = submit(&engine, plant.worn(0, 0, "long").unwrap()).await;
    let mut number = 0;
    let mut until = async |day: i64, engine: &Engine| {
        for _ in 0..12 {
            number += 1;
            clock.set(START + day * DAY + i64::try_from(number).unwrap());
            submit(engine, plant.worn(1, number, "noise").unwrap()).await;
        }
    };
    until(1, &engine).await;
    clock.set(START + 60 * DAY);
    for (nonce, action) in [(1, "accept"), (2, "done")] {
        submit(&engine, plant.call("tina", action, "mo-1", nonce).unwrap()).await;
    }
    submit(&engine, plant.good(0, 1, "long").unwrap()).await;
    assert_eq!(state_of(&engine, "mo-1"), "confirmed");
    until(100, &engine).await;
    assert!(engine.retain().unwrap().segments > 0);
    assert!(engine.store().kept_below() > opened.committed.height);
    evidence_is_whole(&engine, "mo-1");
    engine.close();
}

#[tokio::test]
async fn bytes_win_over_days_and_what_must_stay_is_an_alarm_and_not_deleted() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), patient(), TestClock::at(START));
    let tight = Retention { disk: Some(1_000), ..days(400) };
    let engine = Engine::open(forgetful(&plant, dir.path(), tight, &clock)).unwrap();
    let told = live_a_while(&engine, &plant, &clock, 40).await;
    assert!(engine.retention_plan().unwrap().segments.iter().all(|segment| segment.reason == Reason::Disk));
    let done = engine.retain().unwrap();
    assert!(done.segments > 5 && done.over > 0, "{done:?}");
    assert_eq!(engine.last_pass().unwrap().done.unwrap(), done);
    assert!(!engine.store().segments().is_empty());
    all_is_as_told(&engine, &told).await;
    for order in ["mo-1", "mo-2"] {
        evidence_is_whole(&engine, order);
    }
    engine.close();
}

/// A policy in force is 100 days old and still shown; one that was taken away meanwhile is gone.
#[tokio::test]
async fn what_access_rests_on_stays() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), patient(), TestClock::at(START));
    let engine = Engine::open(forgetful(&plant, dir.path(), days(30), &clock)).unwrap();
    let reading = Allowed { address: "holding:17".into(), rights: vec![Right::Read], range: None };
    let policy = |name: &str| Policy {
        id: name.parse().unwrap(),
        devices: vec!["press-000".parse().unwrap()],
        who: vec![Who { firm: Some("fixit".parse().unwrap()), skill: None, party: None, sender: None }],
        points: [("vibration".parse().unwrap(), reading.clone())].into(),
        rate: None,
        hours: None,
        days: None,
        from: None,
        until: None,
        lasts: Duration::from_secs(60),
    };
    let call = |action: &str, argument: (&str, Cbor)| {
        let body = CallBody {
            contract: "access".parse().unwrap(),
            action: action.parse().unwrap(),
            agreement: None,
            args: [(argument.0.to_owned(), argument.1)].into(),
            nonce: [7; 16],
            at: Timestamp::from_micros(START),
        };
        let (key, acme) = (key_of("acme").unwrap(), "acme".parse().unwrap());
        sign(StatementKind::Call, &key, &acme, "access", &plant.ledger, 0, body.encode())
    };
    let kept = submit(&engine, call("policy", ("policy", cbor::bytes(policy("stays").encode())))).await;
    let gone = submit(&engine, call("policy", ("policy", cbor::bytes(policy("goes").encode())))).await;
    let barred = submit(&engine, call("revoke", ("party", cbor::text("tom")))).await;
    submit(&engine, call("revoke", ("policy", cbor::text("goes")))).await;
    live_a_while(&engine, &plant, &clock, 30).await;
    assert!(engine.retain().unwrap().segments > 2);
    assert!(engine.store().kept_below() > barred.committed.height);
    let pruned = [&kept, &gone, &barred].map(|told| is_pruned(&engine, told.committed.entry));
    assert_eq!(pruned, [false, true, false]);
    engine.close();
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_deletes_nothing() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), patient(), TestClock::at(START));
    let engine = Engine::open(forgetful(&plant, dir.path(), days(400), &clock)).unwrap();
    live_a_while(&engine, &plant, &clock, 40).await;
    clock.set(START + 100_000 * DAY);
    assert_eq!(engine.retain().unwrap().segments, 0);
    engine.close();
}

/// Every file that matters, damaged or taken away: never a ledger with other contents, always the file named.
#[tokio::test]
async fn a_lost_index_beside_damaged_files_is_refused_by_name() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), patient(), TestClock::at(START));
    let open = || Engine::open(forgetful(&plant, dir.path(), days(30), &clock));
    let engine = open().unwrap();
    live_a_while(&engine, &plant, &clock, 60).await;
    engine.retain().unwrap();
    engine.close();
    drop(engine);
    let (_, snapshot) = snapshot::list(dir.path()).unwrap().remove(0);
    let names = kept::list(dir.path()).unwrap();
    let kept_file = dir.path().join("kept").join(names[names.len() / 2].file());
    for file in [snapshot, kept_file] {
        let bytes = fs::read(&file).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damage in [Some(&flipped[..]), Some(&bytes[..bytes.len() - 1]), None] {
            match damage {
                Some(bytes) => fs::write(&file, bytes).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let _ = fs::remove_file(dir.path().join("state.redb"));
            let error = open().map(|_| ()).unwrap_err().to_string();
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(
                error.contains(name) || damage.is_none() && error.contains("missing") || error.contains("no snapshot"),
                "{error}"
            );
        }
        fs::write(&file, &bytes).unwrap();
    }
    open().unwrap().close();
}

/// Two batches of equal age: the one that opened an order stays whole, every trigger with its proof; the other goes, and its receipt
/// and what became of it stay.
#[tokio::test]
async fn a_batch_goes_as_a_whole_unless_an_order_rests_on_one_of_its_triggers() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    // Nobody accepts the orders: they stay open all the time.
    let plant = plant().with_terms(Terms { respond: "300d" });
    let body = |device, number| plant.body(device, 0, number, "worn out", Priority::High).unwrap();
    let engine = Engine::open(forgetful(&plant, dir.path(), days(30), &clock)).unwrap();
    // Agent 0 has the devices 0 and 2, agent 1 the devices 1 and 3.
    let opener = plant.batch(0, &[body(0, 0), body(0, 1)]).unwrap();
    let kept = submit(&engine, opener.clone()).await;
    let mut told = vec![kept.clone()];
    told.extend(live_on(&engine, &plant, &clock, body).await);
    let gone = told[2].clone();
    assert_eq!((kept.committed.refused, gone.committed.refused), (0, 0));
    assert!(engine.retain().unwrap().segments > 2);
    let (head, kept_below) = (engine.store().head().unwrap(), engine.store().kept_below());
    assert!(kept_below > gone.committed.height, "it was old enough");
    engine.close();
    drop(engine);
    for without in [false, true] {
        if without {
            fs::remove_file(dir.path().join("state.redb")).unwrap();
        }
        let engine = Engine::open(forgetful(&plant, dir.path(), days(30), &clock)).unwrap();
        assert_eq!(engine.store().head().unwrap().sealed, head.sealed, "the same tree root and state root");
        let pruned = [&kept, &gone].map(|told| is_pruned(&engine, told.committed.entry));
        assert_eq!((pruned, state_of(&engine, "mo-1")), ([false, true], "reported".into()));
        all_is_as_told(&engine, &told).await;
        evidence_is_whole(&engine, "mo-1");
        let (_, bytes) = engine.entry(kept.committed.entry).unwrap().unwrap();
        assert_eq!(bytes, opener);
        let envelope = BatchEnvelope::split(&bytes).unwrap();
        let batch = BatchBody::decode(&SignedStatement::parse(envelope.statement).unwrap().payload).unwrap();
        for item in [0, 1] {
            assert_eq!(envelope.show(item).unwrap().check(&batch).unwrap(), body(0, item.into()));
        }
        engine.close();
    }
}

/// An order opened alone, a batch of notes on it, and then single notes for 100 days.
async fn live_on(
    engine: &Engine,
    plant: &Plant,
    clock: &TestClock,
    body: impl Fn(usize, u64) -> TriggerBody,
) -> Vec<Told> {
    let mut told = vec![submit(engine, plant.worn(1, 0, "worn out").unwrap()).await];
    told.push(submit(engine, plant.batch(1, &[body(1, 1), body(1, 2), body(1, 3)]).unwrap()).await);
    for number in 4..44 {
        clock.set(START + 100 * DAY * (i64::try_from(number).unwrap() - 3) / 40);
        told.push(submit(engine, plant.worn(1, number, "worn out").unwrap()).await);
    }
    told
}

/// What the auditors of a whole plant would do: archived, pruned, backed up, brought back here and there; always the same ledger.
#[tokio::test]
async fn archived_pruned_copied_and_brought_back_it_is_the_same_ledger() {
    let (dir, plant, clock) = (tempfile::tempdir().unwrap(), patient(), TestClock::at(START));
    let at = |name: &str| dir.path().join(name);
    let node = |name: &str| node_config(&plant, dir.path(), name, "");
    let retention = Retention { archive: Some(at("archive")), ..days(30) };
    let engine = Engine::open(forgetful(&plant, &at("data"), retention.clone(), &clock)).unwrap();
    let told = live_a_while(&engine, &plant, &clock, 60).await;
    let whole: Vec<_> = (0..told.len() as u64 + 1).map(|entry| engine.entry(entry).unwrap().unwrap()).collect();
    assert!(engine.retain().unwrap().segments > 5);
    let kept_below = engine.store().kept_below();
    // Copied while it works, and restored: pruned as it was, with the same head, rebuilt from the snapshot in the copy.
    let head = engine.store().head().unwrap();
    let copied = copy(&node("data"), &at("copy")).unwrap();
    assert!(copied.is_live);
    let manifest = copied.finish().unwrap();
    assert_eq!((manifest.tallystick_backup, manifest.snapshot.len()), (4, 1));
    restore(&node("restored"), &at("copy")).unwrap();
    let restored = Engine::open(forgetful(&plant, &at("restored"), retention, &clock)).unwrap();
    assert_eq!(
        (restored.store().head().unwrap().sealed.clone(), restored.store().kept_below()),
        (head.sealed.clone(), kept_below)
    );
    all_is_as_told(&restored, &told).await;
    restored.close();
    drop(restored);
    engine.close();
    drop(engine);
    // The archive alone, with nothing but the public key.
    let archived = archive::verify(&at("archive"), plant.key.public()).unwrap();
    assert_eq!((archived.first_block, archived.last_block + 1, archived.roots), (0, kept_below, true));
    // Back into the pruned folder: all statements are there again, byte for byte, and nothing is kept beside them.
    assert_eq!(import(&node("data"), &at("archive")).unwrap().height, head.checkpoint.height);
    let engine = Engine::open(forgetful(&plant, &at("data"), Retention::default(), &clock)).unwrap();
    assert_eq!((engine.store().head().unwrap().sealed.clone(), engine.store().kept_below()), (head.sealed.clone(), 0));
    let again: Vec<_> = (0..whole.len() as u64).map(|entry| engine.entry(entry).unwrap().unwrap()).collect();
    assert_eq!(again, whole);
    all_is_as_told(&engine, &told).await;
    engine.close();
    drop(engine);
    assert!(import(&node("data"), &at("archive")).unwrap_err().to_string().contains("nothing is missing"));
    // Into an empty folder: the same roots as far as the archive goes.
    let imported = import(&node("empty"), &at("archive")).unwrap();
    assert_eq!(imported.height + 1, kept_below);
    // A file missing, a bit flipped, another key: named.
    let names: Vec<_> = archive::list(&at("archive")).unwrap();
    let second = at("archive").join(&names[1].segment);
    let bytes = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    let missing = format!("blocks {} to {}", names[1].first_block, names[1].last_block);
    assert!(archive::verify(&at("archive"), plant.key.public()).unwrap_err().to_string().contains(&missing));
    assert!(import(&node("other"), &at("archive")).unwrap_err().to_string().contains(&missing));
    for place in [70, bytes.len() / 2, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
        fs::write(&second, flipped).unwrap();
        let fault = archive::verify(&at("archive"), plant.key.public()).unwrap_err().to_string();
        assert!(fault.contains(&names[1].segment), "{fault}");
    }
    fs::write(&second, &bytes).unwrap();
    archive::verify(&at("archive"), plant.key.public()).unwrap();
    let stranger = tally_ledger_node::testing::key_of("stranger").unwrap();
    assert!(archive::verify(&at("archive"), stranger.public()).is_err());
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("log")).unwrap();
    for name in ["FORMAT", "state.redb"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for entry in fs::read_dir(from.join("log")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join("log").join(entry.file_name())).unwrap();
    }
}

/// The folder of the ledger whose pass dies, and the step it dies behind.
const FOLDER: &str = "TALLY_RETENTION_FOLDER";
const STEP: &str = "TALLY_RETENTION_STEP";

fn retention_of(folder: &Path) -> Retention {
    Retention { archive: Some(folder.join("archive")), ..days(60) }
}

/// Not a test by itself: does nothing unless [`a_pass_that_dies_anywhere_is_made_again`] started it.
#[test]
fn the_pass_that_dies() {
    let (Ok(folder), Ok(step)) = (std::env::var(FOLDER), std::env::var(STEP)) else { return };
    let (folder, mut left) = (Path::new(&folder), step.parse::<u32>().unwrap());
    let clock = TestClock::at(START + 100 * DAY);
    let engine = Engine::open(forgetful(&patient(), &folder.join("data"), retention_of(folder), &clock)).unwrap();
    let done = engine.retain_with(&mut |_| {
        left -= 1;
        if left == 0 {
            // As kill -9: nothing is closed, nothing is flushed.
            std::process::abort();
        }
        true
    });
    assert!(done.unwrap().segments > 2);
    engine.close();
}

/// The process dies behind each step of a pass in turn. Whatever is on the disk then opens, with and without its index, as the
/// same ledger with the same receipts; and the next pass comes to its end.
#[tokio::test]
async fn a_pass_that_dies_anywhere_is_made_again() {
    let (whole, plant, clock) = (tempfile::tempdir().unwrap(), patient(), TestClock::at(START));
    let engine = Engine::open(forgetful(&plant, whole.path(), days(60), &clock)).unwrap();
    let told = live_a_while(&engine, &plant, &clock, 20).await;
    let head = engine.store().head().unwrap();
    engine.close();
    drop(engine);
    let mut deaths = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        copy_folder(whole.path(), &dir.path().join("data"));
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_pass_that_dies", "--nocapture", "--test-threads=1"]);
        let child = child.env(FOLDER, dir.path()).env(STEP, (deaths + 1).to_string()).output().unwrap();
        let is_dead = child.status.code().is_none();
        assert!(is_dead || child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        for without in [false, true] {
            if without {
                fs::remove_file(dir.path().join("data/state.redb")).unwrap();
            }
            let engine = reopened(&plant, dir.path(), &clock);
            assert_eq!(engine.store().head().unwrap().sealed, head.sealed);
            all_is_as_told(&engine, &told).await;
            if without {
                engine.retain().unwrap();
                all_is_as_told(&engine, &told).await;
                assert!(engine.store().kept_below() > 5);
                archive::verify(&dir.path().join("archive"), plant.key.public()).unwrap();
            }
            engine.close();
        }
        if !is_dead {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 12, "{deaths}");
}

/// The folder of the ledger whose import dies, and the step it dies behind.
const IMPORT_FOLDER: &str = "TALLY_IMPORT_FOLDER";
const IMPORT_STEP: &str = "TALLY_IMPORT_STEP";

/// Not a test by itself: does nothing unless [`an_import_that_dies_anywhere_is_made_again`] started it.
#[test]
fn the_import_that_dies() {
    let (Ok(folder), Ok(step)) = (std::env::var(IMPORT_FOLDER), std::env::var(IMPORT_STEP)) else { return };
    let (folder, mut left) = (Path::new(&folder), step.parse::<u32>().unwrap());
    import_with(&node_config(&patient(), folder, "data", ""), &folder.join("archive"), &mut |_| {
        left -= 1;
        if left == 0 {
            std::process::abort();
        }
    })
    .unwrap();
}

/// The process dies behind each step of an import in turn. A node opens what is there, as the same ledger with the same receipts; and
/// the same import, made again, brings everything back, whether a node was there in between or not.
#[tokio::test]
async fn an_import_that_dies_anywhere_is_made_again() {
    let (whole, plant, clock) = (tempfile::tempdir().unwrap(), patient(), TestClock::at(START));
    let engine =
        Engine::open(forgetful(&plant, &whole.path().join("data"), retention_of(whole.path()), &clock)).unwrap();
    let told = live_a_while(&engine, &plant, &clock, 20).await;
    let statements: Vec<_> = told.iter().map(|told| engine.entry(told.committed.entry).unwrap().unwrap()).collect();
    assert!(engine.retain().unwrap().segments > 2);
    let head = engine.store().head().unwrap();
    engine.close();
    drop(engine);
    let (mut deaths, mut step) = (0, 1);
    loop {
        let dir = tempfile::tempdir().unwrap();
        copy_all(whole.path(), dir.path());
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_import_that_dies", "--nocapture", "--test-threads=1"]);
        let child = child.env(IMPORT_FOLDER, dir.path()).env(IMPORT_STEP, step.to_string()).output().unwrap();
        let is_dead = child.status.code().is_none();
        assert!(is_dead || child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        if is_dead && step % 2 == 0 {
            let engine = reopened(&plant, dir.path(), &clock);
            assert_eq!(engine.store().head().unwrap().sealed, head.sealed, "step {step}");
            all_is_as_told(&engine, &told).await;
            engine.close();
        }
        if is_dead {
            import_again(dir.path(), head.checkpoint.height, step);
        }
        let engine = reopened(&plant, dir.path(), &clock);
        assert_eq!(
            (engine.store().head().unwrap().sealed.clone(), engine.store().kept_below()),
            (head.sealed.clone(), 0)
        );
        let again: Vec<_> = told.iter().map(|told| engine.entry(told.committed.entry).unwrap().unwrap()).collect();
        assert!(again == statements, "step {step}");
        all_is_as_told(&engine, &told).await;
        engine.close();
        let left: Vec<_> = ["log.importing", "kept", "snapshot"]
            .into_iter()
            .filter(|name| has_files(&dir.path().join("data").join(name)))
            .collect();
        assert_eq!(left, Vec::<&str>::new(), "step {step}");
        if !is_dead {
            break;
        }
        (deaths, step) = (deaths + 1, step + 1);
    }
    assert!(deaths > 7, "{deaths}");
}

/// Once everything is there the import says so; else it ends what was begun.
fn import_again(folder: &Path, height: u64, step: u32) {
    match import(&node_config(&patient(), folder, "data", ""), &folder.join("archive")) {
        Ok(imported) => assert_eq!(imported.height, height, "step {step}"),
        Err(fault) => assert!(fault.to_string().contains("nothing is missing"), "step {step}: {fault}"),
    }
}

fn has_files(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_all(&path, &target)
        } else {
            let _ = fs::copy(&path, &target).unwrap();
        }
    }
}

fn reopened(plant: &Plant, folder: &Path, clock: &Arc<TestClock>) -> Engine {
    Engine::open(forgetful(plant, &folder.join("data"), retention_of(folder), clock)).unwrap()
}
