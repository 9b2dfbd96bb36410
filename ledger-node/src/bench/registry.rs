//! How fast devices are registered by the thousand, and how long it takes to look one up among all of them.
//!
//! **Method.** Calls `registry/register-many` of [`RECORDS`] devices each are sealed by the owner while the clock is stopped, then
//! submitted through the whole engine, executed, synced and answered. Then devices drawn at random are looked up as the node's
//! interface does it: a view of the state as of now, the record of one device, decoded.

use super::baseline::baseline_sync;
use super::fast::{IN_FLIGHT, Receipts, run_fast};
use super::numbers::percentile;
use super::scale::Memory;
use super::{BenchError, BenchOptions};
use crate::engine::{Engine, EngineConfig, ReadError};
use crate::testing::{Plant, PlantFault};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;
use tally_contracts::views;
use tally_evidence::DeviceRecord;
use tally_evidence::cbor::Cbor;
use tally_model::{DeviceId, PartyId};

/// Devices of one call.
const RECORDS: u64 = 1_000;
/// Calls sealed at once, while the clock is stopped.
const CALLS: u64 = 50;
/// Look-ups measured.
const LOOKUPS: u64 = 100_000;
/// Largest statement that the bench's node takes, in bytes.
const BODY_BYTES_MAX: usize = 4 << 20;

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegistryReport {
    /// Devices registered.
    pub devices: u64,
    /// Devices of one call.
    pub records_of_a_call: u64,
    /// Devices a second, over all.
    pub per_second: f64,
    /// The same in the first and in the last tenth.
    pub tenths: (f64, f64),
    /// Submission of a call to durable, with the queue kept full, in milliseconds.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// Calls' bytes appended and synced one by one, with nothing else, a second.
    pub raw_calls_per_second: f64,
    /// Look-ups measured.
    pub lookups: u64,
    /// One look-up, in microseconds.
    pub lookup_p50_us: f64,
    /// The same.
    pub lookup_p99_us: f64,
    /// The slowest.
    pub lookup_max_us: f64,
    /// Bytes of the data folder.
    pub folder_bytes: u64,
    /// Memory of the process behind it.
    pub memory: Memory,
}

/// Registers so many devices (rounded up to whole calls) in the empty folder `dir`, and leaves its files there.
///
/// # Errors
/// [`BenchError`].
pub fn bench_registry(dir: &Path, devices: u64, options: &BenchOptions) -> Result<RegistryReport, BenchError> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        return Err(BenchError::NotEmpty(dir.to_owned()));
    }
    let plant = Plant::new("bench", options.agents, 0)?;
    let mut config = EngineConfig::new("bench", dir.join("ledger"), plant.key.clone());
    config.genesis = Some(plant.genesis()?);
    config.block = options.block;
    config.limits.in_flight_max = IN_FLIGHT;
    config.limits.per_signer_per_second = 1_000_000;
    config.limits.body_bytes_max = BODY_BYTES_MAX;
    let engine = Engine::open(config)?;
    let calls = devices.div_ceil(RECORDS).max(1);
    let (mut waits, mut paces, mut bytes, mut sealed) = (Vec::new(), Vec::new(), 0, 0);
    while sealed < calls {
        let count = CALLS.min(calls - sealed);
        let statements = (sealed..sealed + count).map(|call| Ok(seal(&plant, call, options.agents)?.into()));
        let statements = statements.collect::<Result<Vec<std::sync::Arc<[u8]>>, PlantFault>>()?;
        bytes += statements.iter().map(|statement| statement.len() as u64).sum::<u64>();
        let began = Instant::now();
        waits.extend(run_fast(&engine, vec![statements], Receipts::NotAskedFor)?);
        paces.push(((count * RECORDS) as f64, began.elapsed().as_secs_f64()));
        sealed += count;
    }
    let (lookups, misses) = look_up(&engine, calls * RECORDS)?;
    if misses > 0 {
        return Err(BenchError::NotRegistered(misses));
    }
    let memory = Memory::now();
    let usage = engine.store().usage().map(|usage| usage.parts).unwrap_or_default();
    engine.close();
    let tenth = paces.len().div_ceil(10);
    Ok(RegistryReport {
        devices: calls * RECORDS,
        records_of_a_call: RECORDS,
        per_second: pace(&paces),
        tenths: (pace(&paces[..tenth]), pace(&paces[paces.len() - tenth..])),
        p50_ms: percentile(&waits, 0.50),
        p99_ms: percentile(&waits, 0.99),
        raw_calls_per_second: baseline_sync(&dir.join("baseline"), bytes as f64 / calls as f64)?,
        lookups: lookups.len() as u64,
        lookup_p50_us: percentile(&lookups, 0.50),
        lookup_p99_us: percentile(&lookups, 0.99),
        lookup_max_us: percentile(&lookups, 1.0),
        folder_bytes: usage.iter().map(|part| part.bytes).sum(),
        memory,
    })
}

/// Devices a second, of (devices, seconds).
fn pace(paces: &[(f64, f64)]) -> f64 {
    let (devices, seconds) =
        paces.iter().fold((0.0, 0.0), |(devices, seconds), pace| (devices + pace.0, seconds + pace.1));
    devices / seconds.max(f64::MIN_POSITIVE)
}

fn name_of(device: u64) -> String {
    format!("sensor-{device:08}")
}

fn seal(plant: &Plant, call: u64, agents: usize) -> Result<Vec<u8>, PlantFault> {
    let record = |device: u64| {
        let agent = usize::try_from(device).unwrap_or(0) % agents.max(1);
        let agent = PartyId::try_new(format!("agent-{agent:02}"))?;
        let (id, owner) = (DeviceId::try_new(name_of(device))?, PartyId::try_new("acme")?);
        Ok(DeviceRecord { id, agent, owner, site: None }.to_cbor())
    };
    let records = (call * RECORDS..(call + 1) * RECORDS).map(record).collect::<Result<Vec<_>, PlantFault>>()?;
    plant.registry("acme", "register-many", ("devices", Cbor::Array(records)))
}

/// Microseconds of each look-up, and how many found nothing.
fn look_up(engine: &Engine, devices: u64) -> Result<(Vec<f64>, u64), BenchError> {
    let (mut waits, mut misses) = (Vec::with_capacity(usize::try_from(LOOKUPS).unwrap_or(0)), 0);
    let mut next = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..LOOKUPS {
        // xorshift64 (Marsaglia 2003): no pattern that a cache could guess, and the same for every run.
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        let id = DeviceId::try_new(name_of(next % devices)).map_err(PlantFault::from)?;
        let began = Instant::now();
        let state = engine.store().state().map_err(ReadError::from)?;
        let found = views::device(&state, &id);
        waits.push(began.elapsed().as_secs_f64() * 1e6);
        misses += u64::from(found.is_none());
    }
    Ok((waits, misses))
}
