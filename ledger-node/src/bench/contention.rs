//! What it costs when all calls hit the same account: the same number of triggers, each time on a ledger of its own.

use super::fast::{Receipts, run_fast};
use super::load::Load;
use super::{BenchError, BenchOptions, open};
use crate::testing::Plant;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// Times each kind is run; the best counts, so that a moment's other work on the machine does not.
const ROUNDS: usize = 2;

/// Triggers a second by where their money comes from.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Contention {
    /// Every device has an owner of its own: the money comes from as many accounts.
    pub spread_per_second: f64,
    /// All devices have one owner: all money comes from one account.
    pub one_account_per_second: f64,
    /// One device of one owner, whose one agent's triggers must stay in order, so one thread submits them.
    pub one_device_per_second: f64,
}

/// Measures the three in turn in `dir`.
pub(super) fn contention(dir: &Path, options: &BenchOptions, cores: usize) -> Result<Contention, BenchError> {
    let BenchOptions { agents, devices, .. } = *options;
    let mut best = Contention::default();
    for round in 0..ROUNDS {
        for (name, agents, devices, owners, best) in [
            ("spread", agents, devices, devices, &mut best.spread_per_second),
            ("one-account", agents, devices, 1, &mut best.one_account_per_second),
            ("one-device", 1, 1, 1, &mut best.one_device_per_second),
        ] {
            let plant = Plant::new("bench", agents, devices)?.with_owners(owners);
            let lanes = Load::new(&plant, agents, devices).lanes(options.contended, cores)?;
            let engine = open(&dir.join(format!("{name}-{round}")), &plant, options)?;
            let began = Instant::now();
            let done = run_fast(&engine, lanes, Receipts::NotAskedFor)?.len();
            *best = best.max(done as f64 / began.elapsed().as_secs_f64());
            engine.close();
        }
    }
    Ok(best)
}
