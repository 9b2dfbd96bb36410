//! Tables made anew when the log has forgotten its beginning: what the ledger kept is in them, and they say from where on they are complete.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, config, node_config, plant};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::views;
use tally_ledger_node::retain::{Retention, import};
use tally_ledger_node::testing::{Plant, Terms};
use tally_ledger_node::{Engine, check, rebuild};

const DAY: i64 = 86_400_000_000;

/// An order that is paid early, one that stays open, a refused call, and then sixty days of notes; the oldest part is pruned.
async fn pruned(plant: &Plant, dir: &Path, clock: &Arc<TestClock>) -> Engine {
    let mut config = config(plant, &dir.join("data"));
    config.clock = Arc::<TestClock>::clone(clock);
    let payloads = Some(Duration::from_secs(30 * 86_400));
    config.retention = Retention { payloads, disk: None, archive: Some(dir.join("archive")) };
    config.segment_bytes = Some(4_096);
    let engine = Engine::open(config).unwrap();
    let submit = async |statement: Vec<u8>| engine.submit(statement).await.unwrap().refusal;
    assert_eq!(submit(plant.worn(0, 0, "paid").unwrap()).await, 0);
    for (nonce, action) in [(1, "accept"), (2, "done")] {
        assert_eq!(submit(plant.call("tina", action, "mo-1", nonce).unwrap()).await, 0);
    }
    assert_eq!(submit(plant.good(0, 1, "paid").unwrap()).await, 0);
    assert_eq!(submit(plant.call("tina", "accept", "mo-1", 3).unwrap()).await, 171);
    for number in 0..40 {
        clock.set(START + i64::try_from(number).unwrap() * 3 * DAY / 2);
        assert_eq!(submit(plant.worn(1, number, "left open").unwrap()).await, 0);
    }
    assert!(engine.retain().unwrap().segments > 2);
    engine
}

/// One number of the tables.
fn number(dir: &Path, sql: &str) -> i64 {
    let file = dir.join("data/projection.sqlite");
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What the ledger says of its accounts, and what the tables do.
fn balances(dir: &Path, engine: &Engine) -> [Vec<(String, i64)>; 2] {
    let state = engine.store().state().unwrap();
    let ledger = views::accounts(&state).into_iter().map(|account| (account.id, account.balance_minor)).collect();
    let database = Connection::open(dir.join("data/projection.sqlite")).unwrap();
    let mut rows = database.prepare("SELECT account, balance_minor FROM accounts ORDER BY account").unwrap();
    let tables = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    [ledger, tables]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_a_ledger_that_forgot_say_from_where_on_they_are_complete() {
    let plant = plant().with_terms(Terms { respond: "300d" });
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    let engine = pruned(&plant, dir.path(), &clock).await;
    let (kept_below, entries) = (engine.store().kept_below(), engine.store().head().unwrap().checkpoint.size);
    engine.close();
    drop(engine);
    let config = node_config(&plant, dir.path(), "data", "");
    let made = tokio::task::block_in_place(|| rebuild(&config)).unwrap();
    assert_eq!((made.at.complete_from, made.at.balanced, made.at.entries), (kept_below, true, entries));

    // Every entry has its row, with its refusal; of those that went it says no more than that.
    let sql = |text: &str| number(dir.path(), text);
    assert_eq!(sql("SELECT COUNT(*) FROM entries"), i64::try_from(entries).unwrap());
    assert_eq!(sql("SELECT COUNT(*) FROM entries WHERE refusal = 171 AND kind = 'pruned'"), 1);
    assert!(sql("SELECT COUNT(*) FROM entries WHERE kind = 'pruned'") > 3);
    // The open order is whole, from its opening on; who and what is registered too; the paid one went with its statements.
    assert_eq!(sql("SELECT COUNT(*) FROM agreements WHERE agreement = 'mo-2' AND state = 'reported' AND ended = 0"), 1);
    assert_eq!(sql("SELECT COUNT(*) FROM agreements WHERE agreement = 'mo-1'"), 0);
    assert_eq!(sql("SELECT COUNT(*) FROM devices"), 4);
    assert!(sql("SELECT COUNT(*) FROM parties WHERE name IS NOT NULL") > 4);

    // It goes on from there, and the accounts stay what the ledger's are, though old movements are not known.
    let engine = Engine::open(common::config(&plant, &dir.path().join("data"))).unwrap();
    let [ledger, tables] = balances(dir.path(), &engine);
    assert_eq!(ledger, tables);
    engine.submit(plant.worn(2, 2, "new").unwrap()).await.unwrap();
    engine.close();
    drop(engine);
    let again = tokio::task::block_in_place(|| check(&config)).unwrap();
    assert_eq!(again.found.differences, Vec::<String>::new(), "one that went on, and one made anew");
    let engine = Engine::open(common::config(&plant, &dir.path().join("data"))).unwrap();
    let [ledger, tables] = balances(dir.path(), &engine);
    assert_eq!(ledger, tables);
    engine.close();
    drop(engine);

    // With the segments back from the archive everything is there again.
    import(&config, &dir.path().join("archive")).unwrap();
    let made = tokio::task::block_in_place(|| rebuild(&config)).unwrap();
    assert_eq!(made.at.complete_from, 0);
    assert_eq!(number(dir.path(), "SELECT COUNT(*) FROM agreements WHERE agreement = 'mo-1' AND ended = 1"), 1);
    assert_eq!(number(dir.path(), "SELECT COUNT(*) FROM entries WHERE kind = 'pruned'"), 0);
}
