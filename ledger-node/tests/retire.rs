//! Agreements that ended leave the state: what stays to be asked, proved, followed and made anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{PATIENCE, START, TestClock, config, node_config, plant, state_of, totals_are_zero};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_contracts::views;
use tally_evidence::cbor::{int, text};
use tally_ledger_client::{Client, RequestError};
use tally_ledger_node::checkup::checkup;
use tally_ledger_node::follow::{Source, join};
use tally_ledger_node::retain::{Retention, archive, import};
use tally_ledger_node::testing::{Plant, Terms};
use tally_ledger_node::{CommitError, Engine, EngineConfig, FlushLimits, Listen, Node, RunLimits, check};
use tally_model::AgreementId;
use tally_projection::Place;
use tally_verifier::{Report, Step};
use tokio_util::sync::CancellationToken;

const DAY: i64 = 86_400_000_000;

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

fn timed(plant: &Plant, data: &Path, clock: &Arc<TestClock>) -> EngineConfig {
    let mut config = config(plant, data);
    config.clock = Arc::<TestClock>::clone(clock);
    config
}

async fn submit(engine: &Engine, statement: Vec<u8>) -> u16 {
    engine.submit(statement).await.unwrap().refusal
}

/// A whole order on device 0: opened, accepted, done, confirmed by the machine and paid. `number` is the agent's next trigger.
async fn repair(engine: &Engine, plant: &Plant, order: &str, number: u64) {
    let fault = format!("fault {number}");
    assert_eq!(submit(engine, plant.worn(0, number, &fault).unwrap()).await, 0);
    for (nonce, action) in [(1, "accept"), (2, "done")] {
        assert_eq!(submit(engine, plant.call("tina", action, order, nonce).unwrap()).await, 0);
    }
    assert_eq!(submit(engine, plant.good(0, number + 1, &fault).unwrap()).await, 0);
    assert_eq!(state_of(engine, order), "confirmed");
}

/// Everything but the readings, which only an agent has.
fn holds_but_for_readings(report: &Report) {
    let broken: Vec<_> = report.links.iter().filter(|link| !link.holds).collect();
    assert!(broken.iter().all(|link| matches!(link.step, Step::Readings | Step::Recomputed)), "{broken:?}");
}

/// What the verifier that has nothing of ours says about the history.
fn history_by_python(file: &[u8]) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join(".tools/venv/bin/python");
    assert!(python.exists(), "{} is missing; run `cargo xtask tools`", python.display());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mo-1.evidence");
    fs::write(&path, file).unwrap();
    let said =
        Command::new(python).arg(root.join("tests/interop/verify.py")).arg(&path).arg("--json").output().unwrap();
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    let link = said["links"].as_array().unwrap().iter().find(|link| link["step"] == "history").unwrap();
    (link["holds"] == true, link["detail"].as_str().unwrap().to_owned())
}

/// The rows of a list.
async fn rows(client: &Client, path: &str, what: &str, height: u64) -> Vec<Value> {
    let mark = if path.contains('?') { '&' } else { '?' };
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match client.get_json(&format!("{path}{mark}min_height={height}")).await {
            Ok(answer) => return answer[what].as_array().unwrap().clone(),
            Err(RequestError::NotNow { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(other) => panic!("{path}: {other}"),
        }
    }
    panic!("the projection does not come to block {height}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paid_order_leaves_the_state_and_is_told_proved_and_followed_as_before() {
    let plant = plant().with_terms(Terms { respond: "300d" }).retiring_after(days(10));
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    let data = dir.path().join("data");
    let engine = Engine::open(timed(&plant, &data, &clock)).unwrap();
    let node = Node::bind(engine.clone(), &[Listen::Tcp(([127, 0, 0, 1], 0).into())]).await.unwrap();
    let address = node.places()[0].to_string();
    let client = Client::new(address.parse().unwrap());
    let stop = CancellationToken::new();
    let node = node.with_projection(Some(Place::Sqlite(data.join("projection.sqlite"))));
    let serving = tokio::spawn(node.serve(stop.clone()));

    repair(&engine, &plant, "mo-1", 0).await;
    let before = client.get_json("/agreements/mo-1").await.unwrap();
    let ended = before["updated_at"].as_i64().unwrap();
    assert_eq!((&before["retires_at"], before.get("retired")), (&json!(ended + 10 * DAY), None));
    let head = || engine.store().head().unwrap().checkpoint.height;
    let listed = rows(&client, "/query/agreements", "agreements", head()).await;

    // The next block behind its time retires it, before anything else in the block.
    clock.set(START + 11 * DAY);
    assert_eq!(submit(&engine, plant.worn(1, 0, "another").unwrap()).await, 0);
    assert_eq!((state_of(&engine, "mo-1"), state_of(&engine, "mo-2")), ("none".into(), "reported".into()));
    assert!(totals_are_zero(&engine));

    // Late words get their number; an id that was never given out gets the other one.
    assert_eq!(submit(&engine, plant.call("tina", "accept", "mo-1", 9).unwrap()).await, 170);
    assert_eq!(submit(&engine, plant.call("tina", "accept", "mo-3", 9).unwrap()).await, 137);

    // Whoever asks is told what it was.
    let mut told = client.get_json("/agreements/mo-1").await.unwrap();
    assert_eq!(told.as_object_mut().unwrap().remove("retired"), Some(json!(true)));
    assert_eq!(told, before);
    assert!(matches!(client.get_json("/agreements/mo-3").await, Err(RequestError::Refused { status: 404, .. })));
    let still = rows(&client, "/query/agreements?state=confirmed", "agreements", head()).await;
    assert_eq!(still, listed, "the tables have it as it ended");
    let history = rows(&client, "/query/agreements/mo-1/history", "events", head()).await;
    assert!(history.iter().any(|event| event["kind"] == "agreement.retired"), "{history:?}");

    // Its evidence file is made as ever, ends with its retirement, and shows that nothing is missing.
    let file = client.get_bytes("/agreements/mo-1/evidence").await.unwrap();
    let report = tally_verifier::verify(&file, Some(engine.key()));
    holds_but_for_readings(&report);
    let history = report.links.iter().find(|link| link.step == Step::History).unwrap();
    assert_eq!(history.detail, "without a hole, now confirmed, retired; nothing of it is missing");
    assert_eq!(history_by_python(&file), (true, history.detail.clone()));
    let mut less = tally_evidence::EvidenceFile::decode(&file).unwrap();
    let is_call = |entry: &tally_evidence::EvidenceEntry| {
        tally_evidence::SignedStatement::parse(&entry.statement).unwrap().subject == "mo-1"
    };
    let place = less.entries.iter().position(is_call).unwrap();
    less.entries.remove(place);
    let report = tally_verifier::verify(&less.encode(), Some(engine.key()));
    assert!(report.links.iter().any(|link| link.step == Step::History && !link.holds), "a step that is left out shows");
    assert!(!history_by_python(&less.encode()).0);

    // A second node comes to the same state, and so does the same ledger without its index.
    let (second, mut tell) = (dir.path().join("second"), |_| {});
    join(&Source::new(address.parse().unwrap()).impatient(), engine.key(), &second, &mut tell).await.unwrap();
    let sealed = engine.store().head().unwrap().sealed.clone();
    let other = Engine::open(EngineConfig::new(&plant.ledger, &second, plant.key.public().clone())).unwrap();
    assert_eq!(
        (other.store().head().unwrap().sealed.clone(), state_of(&other, "mo-1")),
        (sealed.clone(), "none".into())
    );
    other.close();
    stop.cancel();
    serving.await.unwrap().unwrap();
    drop(engine);
    let found = checkup(&data, plant.key.public(), &mut |_| {}).unwrap();
    assert!(found.holds, "{found:#?}");
    // The projection made anew, when the state has the order no more, has the same rows.
    let config = node_config(&plant, dir.path(), "data", "");
    let checked = tokio::task::block_in_place(|| check(&config)).unwrap();
    assert_eq!(checked.found.differences, Vec::<String>::new());
    fs::remove_file(data.join("state.redb")).unwrap();
    let engine = Engine::open(timed(&plant, &data, &clock)).unwrap();
    assert_eq!(engine.store().head().unwrap().sealed, sealed);
    engine.close();
}

fn forgetful(plant: &Plant, data: &Path, clock: &Arc<TestClock>) -> EngineConfig {
    let mut config = timed(plant, data, clock);
    config.retention = Retention { payloads: Some(days(50)), ..Retention::default() };
    config.segment_bytes = Some(4_096);
    config.flush = FlushLimits { blocks: 7, entries: 1_000, runs: RunLimits { ids: 5, merge: 3 }, aside: true };
    config
}

/// The statements of the order's steps that are there.
fn statements_of(engine: &Engine, id: &AgreementId) -> usize {
    let agreement = engine.store().agreement(id).unwrap().unwrap();
    agreement.history.iter().filter(|entry| matches!(engine.entry(**entry), Ok(Some(_)))).count()
}

/// What the operator keeps counts from the order's end, also when the state has it no more.
#[tokio::test]
async fn what_is_kept_of_a_retired_order_is_what_is_kept_of_any_other() {
    let plant = plant().with_terms(Terms { respond: "500d" }).retiring_after(days(10));
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    let engine = Engine::open(forgetful(&plant, dir.path(), &clock)).unwrap();
    let mut number = 0;
    let mut noise = async |engine: &Engine, day: i64| {
        for _ in 0..14 {
            clock.set(START + day * DAY + i64::try_from(number).unwrap());
            assert_eq!(submit(engine, plant.worn(1, number, "noise").unwrap()).await, 0);
            number += 1;
        }
    };
    assert_eq!(submit(&engine, plant.worn(0, 0, "long").unwrap()).await, 0);
    let opened = engine.store().head().unwrap().checkpoint.height;
    noise(&engine, 1).await;
    clock.set(START + 60 * DAY);
    for (nonce, action) in [(1, "accept"), (2, "done")] {
        assert_eq!(submit(&engine, plant.call("tina", action, "mo-1", nonce).unwrap()).await, 0);
    }
    assert_eq!(submit(&engine, plant.good(0, 1, "long").unwrap()).await, 0);
    noise(&engine, 100).await;
    assert_eq!(state_of(&engine, "mo-1"), "none", "retired on day 70");

    // Opened 100 days ago, ended 40 days ago: its opening stays in the kept file.
    let order = AgreementId::try_new("mo-1").unwrap();
    assert!(engine.retain().unwrap().segments > 0);
    assert!(engine.store().kept_below() > opened);
    assert_eq!(statements_of(&engine, &order), 4);

    // Ended 140 days ago: what is gone is named, and that it was there is still known.
    noise(&engine, 200).await;
    assert!(engine.retain().unwrap().segments > 0);
    let sealed = engine.store().head().unwrap().sealed.clone();
    engine.close();
    drop(engine);
    for without in [false, true] {
        if without {
            fs::remove_file(dir.path().join("state.redb")).unwrap();
        }
        let engine = Engine::open(forgetful(&plant, dir.path(), &clock)).unwrap();
        assert_eq!(engine.store().head().unwrap().sealed, sealed);
        match engine.store().agreement(&order) {
            Err(CommitError::Pruned(pruned)) => assert!(pruned.to_string().contains("mo-1"), "{pruned}"),
            other => panic!("{other:?}"),
        }
        engine.close();
    }
    let engine = Engine::open(forgetful(&plant, dir.path(), &clock)).unwrap();
    assert_eq!(submit(&engine, plant.call("tina", "accept", "mo-1", 7).unwrap()).await, 170);
    engine.close();
    drop(engine);
    let found = checkup(dir.path(), plant.key.public(), &mut |_| {}).unwrap();
    assert!(found.holds, "{found:#?}");
}

/// Rows of the state that are of agreements: they themselves, their steps, their terms.
fn rows_of_agreements(engine: &Engine) -> usize {
    let (mut rows, view) = (0, engine.store().view().unwrap());
    let count = |pairs: Vec<(Vec<u8>, Vec<u8>)>| {
        rows += pairs.iter().filter(|(key, _)| matches!(key.first(), Some(b'm' | b'h' | b't'))).count();
        Ok::<_, tally_ledger_node::IndexFault>(())
    };
    view.each_state(1_000, count).unwrap();
    rows
}

#[tokio::test]
async fn the_state_does_not_grow_with_what_is_over() {
    let plant = plant().with_terms(Terms { respond: "300d" }).retiring_after(days(1));
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    let engine = Engine::open(timed(&plant, dir.path(), &clock)).unwrap();
    let mut sizes = Vec::new();
    for round in 0..4_i64 {
        clock.set(START + 2 * round * DAY);
        for order in 1..=10 {
            let number = u64::try_from(round).unwrap() * 10 + order;
            assert_eq!(submit(&engine, plant.worn(0, number, &format!("fault {number}")).unwrap()).await, 0);
            let cancel = plant.call("acme", "cancel", &format!("mo-{number}"), 1).unwrap();
            assert_eq!(submit(&engine, cancel).await, 0);
        }
        sizes.push(rows_of_agreements(&engine));
    }
    assert_eq!(sizes, [30; 4], "of each of the ten of the day: itself, its end, its term");
    assert!(totals_are_zero(&engine));
    engine.close();
}

/// A ledger that kept everything begins to retire because an admin says so, and whoever has its log comes to the same state.
#[tokio::test]
async fn an_admin_has_a_running_ledger_retire() {
    let plant = plant().with_terms(Terms { respond: "300d" });
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    let engine = Engine::open(timed(&plant, dir.path(), &clock)).unwrap();
    repair(&engine, &plant, "mo-1", 0).await;
    let after = ("after", int(10 * DAY));
    assert_eq!(submit(&engine, plant.registry("acme", "set-retirement", after.clone()).unwrap()).await, 151);
    assert_eq!(submit(&engine, plant.registry("admin", "set-retirement", after).unwrap()).await, 0);
    let state = engine.store().state().unwrap();
    assert_eq!(views::retire_after(&state), Some(days(10)));
    drop(state);
    repair(&engine, &plant, "mo-2", 2).await;

    clock.set(START + 30 * DAY);
    assert_eq!(submit(&engine, plant.worn(1, 0, "another").unwrap()).await, 0);
    assert_eq!((state_of(&engine, "mo-1"), state_of(&engine, "mo-2")), ("confirmed".into(), "none".into()));
    // What ended before goes when it was asked for, too: at the next block.
    assert_eq!(submit(&engine, plant.registry("admin", "apply-retirement", ("from", text("mo-1"))).unwrap()).await, 0);
    clock.set(START + 31 * DAY);
    assert_eq!(submit(&engine, plant.call("tina", "accept", "mo-1", 9).unwrap()).await, 170);
    assert_eq!(state_of(&engine, "mo-3"), "reported");
    assert!(engine.store().agreement(&AgreementId::try_new("mo-1").unwrap()).unwrap().unwrap().retired);

    let sealed = engine.store().head().unwrap().sealed.clone();
    engine.close();
    drop(engine);
    let found = checkup(dir.path(), plant.key.public(), &mut |_| {}).unwrap();
    assert!(found.holds, "{found:#?}");
    fs::remove_file(dir.path().join("state.redb")).unwrap();
    let engine = Engine::open(timed(&plant, dir.path(), &clock)).unwrap();
    assert_eq!((engine.store().head().unwrap().sealed.clone(), state_of(&engine, "mo-1")), (sealed, "none".into()));
    engine.close();
}

/// `tally ledger du`: its parts add up, to what lies in the folder.
fn every_byte_is_accounted_for(engine: &Engine, data: &Path) {
    fn bytes(folder: &Path) -> u64 {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries
            .map(|entry| if entry.path().is_dir() { bytes(&entry.path()) } else { entry.metadata().unwrap().len() })
            .sum()
    }
    // Statement ids are written and merged aside: what is compared must stand still meanwhile.
    let (before, usage) = loop {
        let (before, usage) = (bytes(data), engine.store().usage().unwrap());
        if before == bytes(data) {
            break (before, usage);
        }
    };
    let parts: u64 = usage.parts.iter().map(|part| part.bytes).sum();
    assert_eq!((parts, usage.bytes), (before, before), "{:#?}", usage.parts);
}

/// Orders that left the state are pruned with their segments, and come back with them from the archive.
#[tokio::test]
async fn what_was_retired_comes_back_from_the_archive() {
    let plant = plant().with_terms(Terms { respond: "500d" }).retiring_after(days(10));
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    let (data, archived) = (dir.path().join("data"), dir.path().join("archive"));
    let mut config = forgetful(&plant, &data, &clock);
    config.retention.archive = Some(archived.clone());
    let engine = Engine::open(config).unwrap();
    for (order, number) in [("mo-1", 0), ("mo-2", 2)] {
        repair(&engine, &plant, order, number).await;
    }
    for number in 0..28_u64 {
        clock.set(START + (100 + 100 * i64::try_from(number / 14).unwrap()) * DAY + i64::try_from(number).unwrap());
        assert_eq!(submit(&engine, plant.worn(1, number, "noise").unwrap()).await, 0);
    }
    let orders = ["mo-1", "mo-2"].map(|id| AgreementId::try_new(id).unwrap());
    let before = orders.clone().map(|id| engine.store().agreement(&id).unwrap().unwrap());
    assert!(before.iter().all(|order| order.retired && order.history.len() == 4));
    every_byte_is_accounted_for(&engine, &data);
    assert!(engine.retain().unwrap().segments > 0);
    assert!(matches!(engine.store().agreement(&orders[0]), Err(CommitError::Pruned(_))));
    every_byte_is_accounted_for(&engine, &data);
    let sealed = engine.store().head().unwrap().sealed.clone();
    engine.close();
    drop(engine);

    let verified = archive::verify(&archived, plant.key.public()).unwrap();
    assert!(verified.roots && verified.first_block == 0);
    import(&node_config(&plant, dir.path(), "data", ""), &archived).unwrap();
    let engine = Engine::open(timed(&plant, &data, &clock)).unwrap();
    assert_eq!((engine.store().head().unwrap().sealed.clone(), state_of(&engine, "mo-1")), (sealed, "none".into()));
    assert_eq!(orders.clone().map(|id| engine.store().agreement(&id).unwrap().unwrap()), before);
    assert_eq!(orders.map(|id| statements_of(&engine, &id)), [4, 4]);
    every_byte_is_accounted_for(&engine, &data);
    engine.close();
    drop(engine);
    let found = checkup(&data, plant.key.public(), &mut |_| {}).unwrap();
    assert!(found.holds, "{found:#?}");
}
