//! What the projection costs: the same load on two new ledgers, of which one is also kept as tables.

use super::fast::{Receipts, run_fast};
use super::load::Load;
use super::{BenchError, BenchOptions, RECEIPTED, open};
use crate::projection::Feed;
use crate::testing::Plant;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};
use tally_projection::Place;

/// How often it is looked whether the tables have everything.
const LOOK: Duration = Duration::from_millis(5);
/// Longest time the tables may take; behind it they stand still.
const PATIENCE: Duration = Duration::from_secs(600);

/// What was measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Projected {
    /// Triggers a second without tables.
    pub without_per_second: f64,
    /// Triggers a second while a thread of the lowest importance writes the tables (SQLite, on the same disk).
    pub with_per_second: f64,
    /// Triggers a second until the tables have all of them too.
    pub tables_per_second: f64,
}

/// Measures a part of the load, in the folder `dir`.
pub(super) fn projected(dir: &Path, options: &BenchOptions, cores: usize) -> Result<Projected, BenchError> {
    let (without_per_second, _) = run(&dir.join("without"), options, cores, None)?;
    let tables = Place::Sqlite(dir.join("with.sqlite"));
    let (with_per_second, tables_per_second) = run(&dir.join("with"), options, cores, Some(tables))?;
    Ok(Projected { without_per_second, with_per_second, tables_per_second })
}

/// Triggers a second to the last answer, and to the last row.
fn run(dir: &Path, options: &BenchOptions, cores: usize, tables: Option<Place>) -> Result<(f64, f64), BenchError> {
    let plant = Plant::new("bench", options.agents, options.devices)?;
    std::fs::create_dir_all(dir)?;
    let engine = open(&dir.join("ledger"), &plant, options)?;
    let lanes = Load::new(&plant, options.agents, options.devices).lanes(options.triggers / RECEIPTED, cores)?;
    // The feed is woken by a task; the ledger itself needs no runtime.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let inside = runtime.enter();
    let feed = tables.map(|place| Feed::start(&engine, place)).transpose()?;
    drop(inside);
    let began = Instant::now();
    let count = run_fast(&engine, lanes, Receipts::NotAskedFor)?.len() as f64;
    let answered = count / began.elapsed().as_secs_f64();
    let height = engine.store().head().map(|head| head.checkpoint.height);
    if let Some(feed) = feed {
        let questions = feed.questions();
        while questions.status().height < height {
            if let Some(fault) = questions.status().fault {
                return Err(BenchError::Projection(fault));
            }
            if began.elapsed() > PATIENCE {
                return Err(BenchError::Projection("it does not come to the last block".to_owned()));
            }
            std::thread::sleep(LOOK);
        }
        feed.stop();
    }
    let told = count / began.elapsed().as_secs_f64();
    engine.close();
    Ok((answered, told))
}
