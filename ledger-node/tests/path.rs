//! The whole path in one process: genesis, trigger, order, calls, payment; repeats, restarts, rebuilt indexes, terms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, config, fingerprint, open, plant, state_of, totals_are_zero, until};
use std::time::Duration;
use tally_evidence::{Checkpoint, Receipt, SignedStatement, SigningKey};
use tally_ledger_node::testing::{Plant, Terms};
use tally_ledger_node::{Engine, OpenLedgerError, Refused, StoreOpenError, SubmitError};
use tally_model::Priority;

#[tokio::test]
async fn a_bearing_is_replaced_and_paid() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let worn = engine.submit(plant.worn(0, 0, "bearing").unwrap()).await.unwrap();
    assert_eq!((worn.entry, worn.refusal), (1, 0));
    assert_eq!(state_of(&engine, "mo-1"), "reported");
    for (signer, action, state) in [("tina", "accept", "accepted"), ("tina", "done", "repaired")] {
        let call = engine.submit(plant.call(signer, action, "mo-1", 0).unwrap()).await.unwrap();
        assert_eq!((call.refusal, state_of(&engine, "mo-1").as_str()), (0, state));
    }
    let good = engine.submit(plant.good(0, 1, "bearing").unwrap()).await.unwrap();
    assert_eq!((good.refusal, state_of(&engine, "mo-1").as_str()), (0, "confirmed"));
    assert!(totals_are_zero(&engine));
    // A contract's refusal is an entry with a receipt all the same.
    let late = engine.submit(plant.call("tina", "accept", "mo-1", 1).unwrap()).await.unwrap();
    assert_ne!(late.refusal, 0);
    assert_eq!(late.entry, good.entry + 1);
}

#[tokio::test]
async fn receipts_hold_and_point_into_the_checkpoint() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let committed = engine.submit(plant.worn(0, 0, "bearing").unwrap()).await.unwrap();
    let receipt = Receipt::parse(&engine.receipt(&committed).unwrap()).unwrap();
    let root = receipt.check(&committed.id, engine.key()).unwrap();
    let row = engine.store().block(committed.height).unwrap().unwrap();
    let checkpoint = Checkpoint::open(&row.checkpoint, engine.key()).unwrap();
    assert_eq!((root, receipt.size), (checkpoint.root, checkpoint.size));
}

#[tokio::test]
async fn a_repeat_gets_the_first_receipt_now_and_after_a_restart() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let statement = plant.worn(0, 0, "bearing").unwrap();
    let engine = open(&plant, dir.path());
    let first = engine.submit(statement.clone()).await.unwrap();
    let receipt = engine.receipt(&first).unwrap();
    engine.submit(plant.worn(1, 0, "bearing").unwrap()).await.unwrap();
    let again = engine.submit(statement.clone()).await.unwrap();
    assert_eq!((&again, engine.receipt(&again).unwrap()), (&first, receipt.clone()));
    engine.close();
    drop(engine);
    let engine = open(&plant, dir.path());
    let later = engine.submit(statement).await.unwrap();
    assert_eq!((&later, engine.receipt(&later).unwrap()), (&first, receipt));
    assert_eq!(engine.store().head().unwrap().checkpoint.size, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_statements_at_the_same_time_are_one_entry() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    for round in 0..20 {
        let statement = plant.worn(0, round, &format!("fault-{round}")).unwrap();
        let submitted: Vec<_> = (0..8)
            .map(|_| {
                let (engine, statement) = (engine.clone(), statement.clone());
                tokio::spawn(async move { engine.submit(statement).await.unwrap() })
            })
            .collect();
        let answers = futures_util::future::join_all(submitted).await;
        let first = answers[0].as_ref().unwrap();
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap() == first));
    }
    assert_eq!(engine.store().head().unwrap().checkpoint.size, 21);
}

#[tokio::test]
async fn what_is_revoked_is_refused_but_keeps_its_receipts() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let statement = plant.worn(0, 0, "bearing").unwrap();
    let first = engine.submit(statement.clone()).await.unwrap();
    let name = tally_evidence::cbor::text("agent-00");
    let revoked = engine.submit(plant.registry("admin", "revoke-party", ("party", name)).unwrap()).await.unwrap();
    assert_eq!(revoked.refusal, 0);
    let next = engine.submit(plant.worn(0, 1, "again").unwrap()).await;
    assert_eq!(next, Err(Refused::Revoked { signer: "agent-00".into() }.into()));
    assert_eq!(engine.submit(statement).await, Ok(first));
}

#[tokio::test]
async fn a_new_party_may_sign_from_the_next_block_on() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let theo =
        tally_ledger_node::testing::party("theo", tally_evidence::PartyKind::Person, Some("fixit"), &["bearing"]);
    let call = plant.call("theo", "accept", "mo-1", 0).unwrap();
    let stranger = engine.submit(call.clone()).await;
    assert_eq!(stranger, Err(Refused::UnknownSigner { signer: "theo".into() }.into()));
    let register = plant.registry("fixit", "register-party", ("party", theo.unwrap().to_cbor())).unwrap();
    assert_eq!(engine.submit(register).await.unwrap().refusal, 0);
    assert!(engine.submit(call).await.is_ok());
}

#[tokio::test]
async fn an_alarm_goes_its_own_way_and_is_committed() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let alarm = plant.trigger(0, 0, 0, "bearing", Priority::Critical).unwrap();
    assert_eq!(engine.submit(alarm).await.unwrap().refusal, 0);
}

#[tokio::test]
async fn bad_statements_are_refused_with_their_code_and_leave_no_trace() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let good = plant.worn(0, 0, "bearing").unwrap();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let elsewhere = Plant::new("other-line", 1, 1).unwrap().worn(0, 0, "bearing").unwrap();
    let stranger = plant.call("nobody", "accept", "mo-1", 0).unwrap();
    let big = vec![0; (1 << 20) + 1];
    for (code, statement) in [
        ("malformed", b"no statement".to_vec()),
        ("malformed", good[..good.len() - 1].to_vec()),
        ("seal", forged),
        ("wrong-ledger", elsewhere),
        ("unknown-signer", stranger),
        ("too-large", big),
        ("unknown-signer", resealed(&good, "tallystick", "press-000")),
        ("unknown-key", resealed(&good, "tina", "press-000")),
        ("subject", resealed(&good, "agent-00", "press-001")),
        ("body", sealed_nonsense()),
    ] {
        match engine.submit(statement).await {
            Err(SubmitError::Refused(refused)) => assert_eq!(refused.code(), code, "{refused}"),
            other => panic!("{code}: {other:?}"),
        }
    }
    assert_eq!(engine.store().head().unwrap().checkpoint.size, 1);
}

/// The same body under another name or subject, sealed with agent-00's key.
fn resealed(statement: &[u8], issuer: &str, subject: &str) -> Vec<u8> {
    let parsed = SignedStatement::parse(statement).unwrap();
    let key = tally_ledger_node::testing::key_of("agent-00").unwrap();
    let issuer = tally_model::PartyId::try_new(issuer).unwrap();
    tally_evidence::sign(parsed.kind, &key, &issuer, subject, &parsed.audience, 0, parsed.payload)
}

fn sealed_nonsense() -> Vec<u8> {
    let key = tally_ledger_node::testing::key_of("agent-00").unwrap();
    let issuer = tally_model::PartyId::try_new("agent-00").unwrap();
    let kind = tally_evidence::StatementKind::Trigger;
    tally_evidence::sign(kind, &key, &issuer, "press-000", "press-line", 0, vec![0xa0])
}

#[tokio::test]
async fn every_restart_and_every_rebuilt_index_is_the_same_ledger() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let mut expected = None;
    for round in 0u8..6 {
        let engine = open(&plant, dir.path());
        if let Some(expected) = expected {
            assert_eq!(fingerprint(&engine), expected, "round {round}");
        }
        for device in 0..4 {
            let number = u64::from(round) * 2 + device as u64 / 2;
            let fault = format!("fault-{round}-{device}");
            let committed = engine.submit(plant.worn(device, number, &fault).unwrap()).await.unwrap();
            assert_eq!(committed.refusal, 0);
        }
        expected = Some(fingerprint(&engine));
        assert!(totals_are_zero(&engine));
        engine.close();
        drop(engine);
        let index = dir.path().join("state.redb");
        match round {
            1 => std::fs::remove_file(&index).unwrap(),
            2 => std::fs::write(&index, b"this is no index").unwrap(),
            3 => damage(&index),
            _ => {}
        }
    }
}

/// Flips bits all over the file.
fn damage(index: &std::path::Path) {
    let mut bytes = std::fs::read(index).unwrap();
    for place in (5_000..bytes.len()).step_by(997) {
        bytes[place] ^= 0x55;
    }
    std::fs::write(index, bytes).unwrap();
}

#[tokio::test]
async fn an_index_that_is_behind_catches_up() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    engine.close();
    drop(engine);
    let index = dir.path().join("state.redb");
    let old = std::fs::read(&index).unwrap();
    let engine = open(&plant, dir.path());
    for number in 0..5 {
        engine.submit(plant.worn(0, number, &format!("fault-{number}")).unwrap()).await.unwrap();
    }
    let expected = fingerprint(&engine);
    engine.close();
    drop(engine);
    std::fs::write(&index, old).unwrap();
    let engine = open(&plant, dir.path());
    assert_eq!(fingerprint(&engine), expected);
    assert_eq!(state_of(&engine, "mo-5"), "reported");
}

#[tokio::test]
async fn a_log_that_lost_its_end_is_noticed() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    engine.close();
    drop(engine);
    let segment = std::fs::read_dir(dir.path().join("log")).unwrap().map(|file| file.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some()).unwrap();
    let old = std::fs::read(&segment).unwrap();
    let engine = open(&plant, dir.path());
    engine.submit(plant.worn(0, 0, "bearing").unwrap()).await.unwrap();
    engine.close();
    drop(engine);
    std::fs::write(&segment, old).unwrap();
    let opened = Engine::open(config(&plant, dir.path()));
    let Err(OpenLedgerError::Store(StoreOpenError::LogCut { index: 1, log: 1 })) = opened else {
        panic!("{:?}", opened.err())
    };
}

#[test]
fn wrong_name_wrong_key_second_node_and_no_genesis_are_refused() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let mut empty = config(&plant, dir.path());
    empty.genesis = None;
    assert!(matches!(Engine::open(empty), Err(OpenLedgerError::NoGenesis)));
    let engine = open(&plant, dir.path());
    let second = Engine::open(config(&plant, dir.path())).err().unwrap();
    let holder = format!("in use by process {} (", std::process::id());
    assert!(second.to_string().contains(&holder), "{second}");
    engine.close();
    drop(engine);
    let mut renamed = config(&plant, dir.path());
    renamed.ledger = "other-line".into();
    let renamed = Engine::open(renamed).err().unwrap();
    assert!(matches!(renamed, OpenLedgerError::Store(StoreOpenError::OtherLedger { .. })), "{renamed}");
    let mut other_key = config(&plant, dir.path());
    other_key.key = SigningKey::from_secret(&[1; 32]).unwrap().into();
    let other_key = Engine::open(other_key).err().unwrap();
    assert!(matches!(other_key, OpenLedgerError::Store(StoreOpenError::Key { height: 0, .. })), "{other_key}");
    // None of that changed anything.
    open(&plant, dir.path()).close();
}

#[test]
fn a_genesis_that_contracts_refuse_writes_nothing() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let mut broken = config(&plant, dir.path());
    if let Some(genesis) = &mut broken.genesis {
        genesis.parties.clear();
    }
    let opened = Engine::open(broken);
    assert!(matches!(opened, Err(OpenLedgerError::GenesisRefused { .. })), "{:?}", opened.err());
    open(&plant, dir.path()).close();
}

async fn wait_for(engine: &Engine, agreement: &str, state: &str) {
    until(&format!("{agreement} to be {state}"), async || state_of(engine, agreement) == state).await;
}

#[tokio::test]
async fn terms_fire_by_block_time_without_any_statement() {
    let dir = tempfile::tempdir().unwrap();
    let plant = common::plant().with_terms(Terms { respond: "10min" });
    let clock = TestClock::at(START);
    let mut config = config(&plant, dir.path());
    config.clock = clock.clone();
    let engine = Engine::open(config.clone()).unwrap();
    engine.submit(plant.worn(0, 0, "bearing").unwrap()).await.unwrap();
    let height = engine.store().head().unwrap().checkpoint.height;
    clock.set(START + 599_000_000);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(state_of(&engine, "mo-1"), "reported");
    clock.set(START + 600_000_000 + 1_000);
    wait_for(&engine, "mo-1", "escalated").await;
    let head = engine.store().head().unwrap();
    // One block for the term alone: one outcome, no entry.
    assert_eq!((head.checkpoint.height, head.checkpoint.size, head.checkpoint.outcome_count), (height + 1, 2, 1));
    engine.close();
    drop(engine);
    // The term is part of what is executed again.
    std::fs::remove_file(dir.path().join("state.redb")).unwrap();
    let engine = Engine::open(config).unwrap();
    assert_eq!(state_of(&engine, "mo-1"), "escalated");
    assert_eq!(engine.store().head().unwrap().checkpoint, head.checkpoint);
}

#[tokio::test]
async fn block_time_never_falls() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let clock = TestClock::at(START);
    let mut config = config(&plant, dir.path());
    config.clock = clock.clone();
    let engine = Engine::open(config).unwrap();
    let time = |engine: &Engine| engine.store().head().unwrap().checkpoint.time.as_micros();
    assert_eq!(time(&engine), START);
    clock.set(START - 3_600_000_000);
    engine.submit(plant.worn(0, 0, "one").unwrap()).await.unwrap();
    assert_eq!(time(&engine), START + 1);
    clock.set(START + 500);
    engine.submit(plant.worn(0, 1, "two").unwrap()).await.unwrap();
    assert_eq!(time(&engine), START + 500);
}
