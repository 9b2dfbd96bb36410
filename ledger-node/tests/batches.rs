//! Signed batches through the whole node: executed one by one, each trigger found and shown alone, the same after every restart;
//! and hostile ones, each refused by its own code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{config, fingerprint, open, plant, state_of, totals_are_zero};
use std::fs;
use std::path::Path;
use tally_evidence::{
    BatchBody, BatchEnvelope, EvidenceFile, KeyScheme, OutcomeRecord, Place, Receipt, ShownTrigger, SignedStatement,
    SigningKey, StatementKind, TriggerBody, sign,
};
use tally_ledger_client::Client;
use tally_ledger_node::testing::{Plant, key_of};
use tally_ledger_node::{Engine, Listen, Node, NotNow, SubmitError};
use tally_model::{PartyId, Priority};
use tokio_util::sync::CancellationToken;

fn body(plant: &Plant, device: usize, number: u64) -> TriggerBody {
    plant.body(device, 0, number, &format!("fault-{number}"), Priority::High).unwrap()
}

/// Triggers of agent 0, whose devices are 0 and 2; the one in the middle speaks of a device of somebody else.
fn with_a_stranger(plant: &Plant) -> Vec<TriggerBody> {
    [(0, 0), (1, 1), (2, 2)].map(|(device, number)| body(plant, device, number)).to_vec()
}

fn outcomes(engine: &Engine, height: u64) -> Vec<OutcomeRecord> {
    let outcomes = engine.store().outcomes(height).unwrap().unwrap();
    outcomes.iter().map(|bytes| OutcomeRecord::decode(bytes).unwrap()).collect()
}

#[tokio::test]
async fn triggers_of_a_batch_are_executed_one_by_one_and_one_refused_stops_no_other() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let batch = plant.batch(0, &with_a_stranger(&plant)).unwrap();
    let committed = engine.submit(batch.clone()).await.unwrap();
    assert_eq!((committed.entry, committed.refusal, committed.refused), (1, 0, 1));
    assert_eq!(committed.subject, "agent-00");
    let found = outcomes(&engine, committed.height);
    let (index, statement) = (committed.entry, committed.id);
    assert_eq!(found[0].place, Place::Entry { index, statement });
    assert_eq!(found[0].events[0].kind, "batch.executed");
    for (item, outcome) in (0..).zip(&found[1..]) {
        assert_eq!(outcome.place, Place::Item { index, statement, item });
    }
    // 132: not the device's agent.
    assert_eq!(found.iter().map(|outcome| outcome.refusal).collect::<Vec<_>>(), [0, 0, 132, 0]);
    // The refused one used no number: the next one is a gap, on record.
    assert_eq!(found[3].events[0].kind, "agent.gap");
    assert_eq!((state_of(&engine, "mo-1"), state_of(&engine, "mo-2")), ("reported".into(), "reported".into()));
    // Again, now and after every kind of restart: the first receipt, and the same ledger.
    let receipt = engine.receipt(&committed).unwrap();
    assert_eq!(engine.submit(batch.clone()).await.unwrap(), committed);
    let single = engine.submit(plant.worn(0, 3, "single").unwrap()).await.unwrap();
    assert_eq!((single.entry, single.refusal), (2, 0));
    let expected = fingerprint(&engine);
    engine.close();
    drop(engine);
    for is_rebuilt in [false, true] {
        if is_rebuilt {
            std::fs::remove_file(dir.path().join("state.redb")).unwrap();
        }
        let engine = open(&plant, dir.path());
        assert_eq!(fingerprint(&engine), expected);
        assert!(totals_are_zero(&engine));
        let again = engine.submit(batch.clone()).await.unwrap();
        assert_eq!((engine.receipt(&again).unwrap(), again), (receipt.clone(), committed.clone()));
        engine.close();
    }
}

#[tokio::test]
async fn a_batch_among_others_in_one_block_leaves_everyone_his_outcome() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let batch = plant.batch(0, &(0..40).map(|number| body(&plant, 0, number)).collect::<Vec<_>>()).unwrap();
    let singles = (0..3).map(|number| plant.worn(1, number, &format!("single-{number}")).unwrap());
    let mut all: Vec<_> = singles.collect();
    all.insert(1, batch);
    let waiting: Vec<_> = all.iter().map(|bytes| engine.submit(bytes.clone())).collect();
    let committed = futures_util::future::join_all(waiting).await;
    for committed in committed {
        let committed = committed.unwrap();
        let found = engine.find(&committed.id).unwrap().unwrap().0;
        assert_eq!((found.refusal, found.refused, found), (0, 0, committed));
    }
}

fn format(dir: &Path) -> String {
    fs::read_to_string(dir.join("FORMAT")).unwrap()
}

/// A program that knows only version 1 refuses the folder by what `FORMAT` says, before it meets a record that it cannot read.
#[tokio::test]
async fn the_folder_says_version_2_before_the_first_batch_is_in_its_log_and_not_sooner() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant().with_keys(KeyScheme::Scattered));
    let (one, two) = ("tallystick node data 1\n", "tallystick node data 2\n");
    let engine = open(&plant, dir.path());
    engine.submit(plant.worn(0, 0, "single").unwrap()).await.unwrap();
    assert_eq!(format(dir.path()), one);
    let height = engine.store().head().unwrap().checkpoint.height;
    // It cannot be raised: the batch must not be in the log then, and nothing more is taken.
    fs::create_dir(dir.path().join("FORMAT.new")).unwrap();
    let batch = plant.batch(0, &[body(&plant, 0, 1), body(&plant, 2, 2)]).unwrap();
    assert!(engine.submit(batch.clone()).await.is_err());
    engine.close();
    drop(engine);
    fs::remove_dir(dir.path().join("FORMAT.new")).unwrap();
    assert_eq!(format(dir.path()), one);
    let engine = open(&plant, dir.path());
    assert_eq!(engine.store().head().unwrap().checkpoint.height, height);
    let committed = engine.submit(batch.clone()).await.unwrap();
    assert_eq!((committed.refusal, format(dir.path())), (0, two.to_owned()));
    engine.close();
    drop(engine);
    // A log with batches in a folder that does not say so, as a copy of the log alone: marked when it is executed again.
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    fs::remove_file(dir.path().join("state.redb")).unwrap();
    let engine = open(&plant, dir.path());
    assert_eq!((engine.submit(batch).await.unwrap(), format(dir.path())), (committed, two.to_owned()));
    engine.close();
}

/// A node over a socket.
async fn served(engine: &Engine) -> (Client, CancellationToken) {
    let node = Node::bind(engine.clone(), &[Listen::Tcp(([127, 0, 0, 1], 0).into())]).await.unwrap();
    let Some(Listen::Tcp(place)) = node.places().first().cloned() else { panic!("no place") };
    let stop = CancellationToken::new();
    tokio::spawn(node.serve(stop.clone()));
    (Client::new(format!("tcp:{place}").parse().unwrap()), stop)
}

#[tokio::test]
async fn one_trigger_of_a_batch_is_asked_for_shown_and_proved_alone() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let (client, stop) = served(&engine).await;
    let triggers = with_a_stranger(&plant);
    let batch = plant.batch(0, &triggers).unwrap();
    let submitted = client.submit(&batch).await.unwrap();
    assert_eq!((submitted.entry, submitted.refusal, submitted.refused_triggers), (1, None, 1));
    let statement = BatchEnvelope::split(&batch).unwrap().statement.to_vec();
    let sealed = SignedStatement::parse(&statement).unwrap();
    let get = async |path: String| client.get_bytes(&path).await;
    assert_eq!(get(format!("/entries/{}/statement", sealed.id)).await.unwrap(), statement);
    assert_eq!(get("/entries/1/batch".to_owned()).await.unwrap(), batch);
    assert!(get("/entries/0/batch".to_owned()).await.is_err());
    for name in [format!("{}.2", sealed.id), "1.2".to_owned()] {
        let shown = ShownTrigger::decode(&get(format!("/entries/{name}")).await.unwrap()).unwrap();
        assert_eq!((&shown.statement, &shown.receipt), (&statement, &submitted.receipt));
        let receipt = Receipt::parse(&shown.receipt).unwrap();
        receipt.check(&sealed.id, engine.key()).unwrap();
        let trigger = shown.batched.check(&BatchBody::decode(&sealed.payload).unwrap()).unwrap();
        assert_eq!(trigger, triggers[2]);
    }
    let outcome = client.get_json("/entries/1.1/outcome").await.unwrap();
    assert_eq!((outcome["refusal"].as_u64(), outcome["item"].as_u64()), (Some(132), Some(1)));
    let outcome = client.get_json("/entries/1/outcome").await.unwrap();
    assert_eq!((outcome["refusal"].as_u64(), outcome["triggers"].as_array().unwrap().len()), (Some(0), 3));
    for name in ["1.3", "0.0", "1.", "1.x", "9.0"] {
        assert!(get(format!("/entries/{name}")).await.is_err(), "{name}");
    }
    let line = &client.get_json("/entries?limit=1").await.unwrap()["entries"][0];
    assert_eq!(
        (line["kind"].as_str(), line["triggers"].as_u64(), line["refused"].as_u64()),
        (Some("batch"), Some(3), Some(1))
    );
    // The evidence of an order that a batched trigger opened holds that trigger and no other.
    let agreement = client.get_json("/agreements/mo-2").await.unwrap();
    assert_eq!(
        (agreement["history"].to_string(), agreement["steps"].to_string()),
        ("[1]".into(), r#"[{"entry":1,"item":2}]"#.into())
    );
    let file = get("/agreements/mo-2/evidence".to_owned()).await.unwrap();
    let report = tally_verifier::verify(&file, Some(engine.key()));
    let broken: Vec<_> = report.links.iter().filter(|link| !link.holds).map(|link| link.step).collect();
    assert_eq!(broken, [tally_verifier::Step::Readings], "only the agent's readings are missing: {report:#?}");
    let entries = EvidenceFile::decode(&file).unwrap().entries;
    let batched = entries.iter().filter_map(|entry| entry.batched.as_ref()).collect::<Vec<_>>();
    assert_eq!((batched.len(), batched[0].item), (1, 2));
    assert_eq!(TriggerBody::decode(&batched[0].body).as_ref(), Ok(&triggers[2]));
    stop.cancel();
    engine.close();
}

/// `triggers` in an envelope, sealed by `signer` with `key` as something else than the plant would.
fn sealed(signer: &str, key: &SigningKey, about: (&str, &str), batch: BatchBody, triggers: &[Vec<u8>]) -> Vec<u8> {
    let issuer = PartyId::try_new(signer).unwrap();
    let statement = sign(StatementKind::Batch, key, &issuer, about.0, about.1, 0, batch.encode());
    BatchEnvelope::encode(&statement, triggers)
}

#[tokio::test]
async fn hostile_batches_are_refused_by_their_own_codes_and_leave_no_trace() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = open(&plant, dir.path());
    let (agent, other) = (key_of("agent-00").unwrap(), key_of("agent-01").unwrap());
    let bodies: Vec<_> = (0..4).map(|number| body(&plant, 0, number).encode()).collect();
    let over = |bodies: &[Vec<u8>]| BatchBody::over(0, bodies).unwrap();
    let by = |batch: BatchBody, triggers: &[Vec<u8>]| {
        sealed("agent-00", &agent, ("agent-00", "press-line"), batch, triggers)
    };
    let good = over(&bodies);
    let mut swapped = bodies.clone();
    swapped.swap(0, 1);
    let twice = vec![bodies[0].clone(); 2];
    let nested = vec![bodies[0].clone(), by(good, &bodies)];
    let many: Vec<_> = (0..1_001).map(|number| body(&plant, 0, number).encode()).collect();
    let mut altered = by(good, &bodies);
    let end = altered.len() - 1;
    altered[end] ^= 1;
    let bare = BatchEnvelope::split(&by(good, &bodies)).unwrap().statement.to_vec();
    let envelope_of_a_trigger = BatchEnvelope::encode(&plant.worn(0, 0, "f").unwrap(), &bodies);
    let large: Vec<_> = (0..1_000)
        .map(|number| {
            let mut body = body(&plant, 0, number);
            body.call.as_mut().unwrap().with.insert("fault".into(), tally_model::Value::Text("x".repeat(1_000)));
            body.encode()
        })
        .collect();
    for (hostile, code) in [
        (by(good, &bodies[..3]), "batch-count"),
        (by(BatchBody { count: 3, ..good }, &bodies), "batch-count"),
        (by(good, &swapped), "batch-root"),
        (by(BatchBody { root: [7; 32], ..good }, &bodies), "batch-root"),
        (altered, "batch-root"),
        (by(over(&swapped), &swapped), "batch-number"),
        (by(over(&twice), &twice), "batch-number"),
        (by(over(&nested), &nested), "batch-trigger"),
        (by(over(&[vec![0xa0]]), &[vec![0xa0]]), "batch-trigger"),
        (by(over(&many[..1_000]), &many), "batch-size"),
        (by(good, &[]), "batch-size"),
        (bare, "batch-bare"),
        (envelope_of_a_trigger, "batch-kind"),
        (vec![0x82, 0x41], "batch-malformed"),
        (by(over(&large), &large), "too-large"),
        (sealed("agent-00", &agent, ("press-000", "press-line"), good, &bodies), "subject"),
        (sealed("agent-00", &agent, ("agent-00", "other-line"), good, &bodies), "wrong-ledger"),
        (sealed("agent-00", &other, ("agent-00", "press-line"), good, &bodies), "unknown-key"),
        (sealed("nobody", &other, ("nobody", "press-line"), good, &bodies), "unknown-signer"),
    ] {
        match engine.submit(hostile).await {
            Err(SubmitError::Refused(refused)) => assert_eq!(refused.code(), code, "{refused}"),
            other => panic!("{code}: {other:?}"),
        }
    }
    assert_eq!(engine.store().head().unwrap().checkpoint.size, 1);
    // Triggers of somebody else's devices are taken and refused one by one, as single ones are.
    let foreign: Vec<_> = (0..2).map(|number| body(&plant, 0, number)).collect();
    let committed = engine.submit(plant.batch(1, &foreign).unwrap()).await.unwrap();
    assert_eq!((committed.refusal, committed.refused), (0, 2));
    assert_eq!(state_of(&engine, "mo-1"), "none");
    // What one batch used up, neither another batch nor a single trigger uses again.
    engine.submit(by(good, &bodies)).await.unwrap();
    let again: Vec<_> = (2..5).map(|number| body(&plant, 0, number)).collect();
    let committed = engine.submit(plant.batch(0, &again).unwrap()).await.unwrap();
    assert_eq!((committed.refusal, committed.refused), (0, 2));
}

#[tokio::test]
async fn limits_count_the_triggers_of_a_batch() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let mut config = config(&plant, dir.path());
    config.limits.per_signer_per_second = 10;
    let engine = Engine::open(config).unwrap();
    let triggers: Vec<_> = (0..100).map(|number| body(&plant, 0, number)).collect();
    engine.submit(plant.batch(0, &triggers).unwrap()).await.unwrap();
    // A hundred were taken where ten a second are: nine seconds and some are to be waited for.
    match engine.submit(plant.worn(0, 100, "f").unwrap()).await {
        Err(SubmitError::NotNow(NotNow::Rate { wait_ms, .. })) => {
            assert!((1_000..=9_100).contains(&wait_ms), "{wait_ms}")
        }
        other => panic!("{other:?}"),
    }
    engine.submit(plant.worn(1, 0, "f").unwrap()).await.unwrap();
}
