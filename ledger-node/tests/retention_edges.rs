//! A ledger that forgets, where one file ends exactly where the next one begins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, config, plant};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally_ledger_node::retain::{Retention, snapshot};
use tally_ledger_node::testing::{Plant, Terms};
use tally_ledger_node::{Engine, EngineConfig};

const DAY: i64 = 86_400_000_000;

fn forgetful(plant: &Plant, data: &Path, clock: &Arc<TestClock>) -> EngineConfig {
    let mut config = config(plant, data);
    config.clock = Arc::<TestClock>::clone(clock);
    config.retention = Retention { payloads: Some(Duration::from_secs(30 * 86_400)), ..Retention::default() };
    config.segment_bytes = Some(4_096);
    config
}

/// The newest snapshot is of the last block that was pruned: it is the state before the log's first block, and the index is made
/// anew from it.
#[tokio::test]
async fn a_snapshot_of_the_last_block_that_went_is_enough() {
    let plant = plant().with_terms(Terms { respond: "300d" });
    let mut met = 0;
    for blocks in 12..20 {
        let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
        let engine = Engine::open(forgetful(&plant, dir.path(), &clock)).unwrap();
        let submit = async |number: u64, day: i64| {
            clock.set(START + day * DAY);
            engine.submit(plant.worn(0, number, "worn").unwrap()).await.unwrap();
        };
        for number in 0..blocks {
            submit(number, 0).await;
        }
        submit(blocks, 31).await;
        let height = engine.store().head().unwrap().checkpoint.height;
        assert!(engine.retain().unwrap().segments > 0, "a snapshot is made, of this block");
        for number in blocks + 1..blocks + 12 {
            submit(number, 62).await;
        }
        engine.retain().unwrap();
        let (newest, _) = snapshot::list(dir.path()).unwrap().remove(0);
        let sealed = engine.store().head().unwrap().sealed.clone();
        met += u32::from((newest, engine.store().kept_below()) == (height, height + 1));
        engine.close();
        drop(engine);
        fs::remove_file(dir.path().join("state.redb")).unwrap();
        let engine = Engine::open(forgetful(&plant, dir.path(), &clock)).unwrap();
        assert_eq!(engine.store().head().unwrap().sealed, sealed);
        engine.close();
    }
    assert!(met > 0, "no segment of the log ended there");
}
