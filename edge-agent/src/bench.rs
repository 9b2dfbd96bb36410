//! How many Modbus values a second this machine decodes and chains into the vault.
//!
//! Method: ten devices of 100 single-precision points each; their answers (raw words, changing) are decoded by the Modbus
//! connector's decoder, numbered, salted, hashed, chained and appended to a real journal on the given disk, synced every
//! second as the agent does. One thread. No socket, no rules, no publishing. Baseline of the same run: nothing but one SHA-256 over
//! the same reading bytes, which no chain can do without.

use crate::error::StoreError;
use crate::store::open_journal;
use crate::vault::{VaultOpening, journal_options};
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};
use tally_connector_api::{Batch, Clock, SystemClock};
use tally_connector_modbus::{Plan, PlanFault, decode_response, plan};
use tally_evidence::{push_reading, sha256};
use tally_journal::DirStorage;
use tally_model::{
    Address, DeviceId, DeviceSpec, Encoding, Endpoint, IdFault, ModbusTable, PointId, PointSpec, Sample, Unit,
};

const DEVICES: u16 = 10;
const POINTS: u16 = 100;
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long the baseline runs.
const BASELINE: Duration = Duration::from_secs(1);

/// What came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Values decoded and chained.
    pub values: u64,
    /// In how much time.
    pub seconds: f64,
    /// The figure.
    pub values_per_second: f64,
    /// Values a second when they are only hashed once.
    pub baseline_per_second: f64,
    /// Time of a value in baselines.
    pub times_baseline: f64,
    /// Bytes on disk for each value.
    pub bytes_per_value: f64,
    /// Longest sync in milliseconds.
    pub sync_ms_max: f64,
    /// How durable it was.
    pub durability: &'static str,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bench's own devices.
    #[error(transparent)]
    Plan(#[from] PlanFault),
    /// Their names.
    #[error(transparent)]
    Id(#[from] IdFault),
    /// Their addresses.
    #[error(transparent)]
    Endpoint(#[from] tally_model::EndpointFault),
}

/// Measures for `seconds`. Writes below `dir/vault` and removes it again.
///
/// # Errors
/// [`BenchError`].
pub fn bench_vault(dir: &Path, seconds: u64) -> Result<Report, BenchError> {
    let folder = dir.join("vault");
    let storage = DirStorage::open(&folder).map_err(|source| StoreError::Open { store: "vault", source })?;
    let journal = open_journal("vault", storage, journal_options(1 << 30))?;
    let mut vault = VaultOpening::begin(journal, [7; 32].into(), HashSet::new())?.replay(|_, _, _, _| Ok(()))?;
    let plans = (0..DEVICES).map(|unit| Ok(plan(&device(unit)?)?)).collect::<Result<Vec<_>, BenchError>>()?;
    let clock = SystemClock::default();
    let (mut values, mut cycle, mut sync_max) = (0_u64, 0_u16, Duration::ZERO);
    let begin = Instant::now();
    let mut sync_at = begin + SYNC_EVERY;
    while begin.elapsed() < Duration::from_secs(seconds) {
        for plan in &plans {
            let batch = answer(plan, cycle, &clock);
            values += vault.keep(batch, true)?.readings.len() as u64;
        }
        cycle = cycle.wrapping_add(1);
        if Instant::now() >= sync_at {
            let syncing = Instant::now();
            vault.snapshot(false)?;
            vault.sync()?;
            sync_max = sync_max.max(syncing.elapsed());
            sync_at = Instant::now() + SYNC_EVERY;
        }
    }
    vault.sync()?;
    let elapsed = begin.elapsed().as_secs_f64();
    let bytes = vault.bytes_on_disk();
    drop(vault);
    std::fs::remove_dir_all(&folder).map_err(StoreError::file(&folder))?;
    let baseline = baseline(&plans, &clock);
    Ok(report(values, elapsed, baseline, bytes, sync_max))
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn report(values: u64, seconds: f64, baseline_per_second: f64, bytes: u64, sync_max: Duration) -> Report {
    let values_per_second = values as f64 / seconds;
    Report {
        values,
        seconds,
        values_per_second,
        baseline_per_second,
        times_baseline: baseline_per_second / values_per_second,
        bytes_per_value: bytes as f64 / values as f64,
        sync_ms_max: sync_max.as_secs_f64() * 1_000.0,
        durability: "fdatasync every second and at the end, as the agent does between triggers",
    }
}

/// The words a device answers with, decoded.
fn answer(plan: &Plan, cycle: u16, clock: &SystemClock) -> Batch {
    let mut samples: Vec<Sample> = Vec::with_capacity(usize::from(POINTS));
    let mut words = [0; 250];
    for request in &plan.requests {
        let words = &mut words[..usize::from(request.count)];
        for (place, word) in words.iter_mut().enumerate() {
            // High words of floats around 1, low words that change each cycle.
            *word = if place % 2 == 0 { 0x3f80 } else { cycle.wrapping_mul(31) };
        }
        decode_response(request, words, clock.now(), &mut samples);
    }
    Batch { device: plan.device.clone(), samples, origin: None }
}

/// One SHA-256 over each of the same readings' bytes.
fn baseline(plans: &[Plan], clock: &SystemClock) -> f64 {
    let mut readings = Vec::new();
    for plan in plans {
        for (number, sample) in answer(plan, 1, clock).samples.iter().enumerate() {
            let mut bytes = Vec::new();
            push_reading(&mut bytes, 1_000_000 + number as u64, 10_000, sample);
            readings.push(bytes);
        }
    }
    let (begin, mut hashed, mut check) = (Instant::now(), 0.0, 0);
    while begin.elapsed() < BASELINE {
        for reading in &readings {
            check ^= sha256(reading)[0];
            hashed += 1.0;
        }
    }
    // Used, so that the compiler cannot leave the hashing out.
    std::hint::black_box(check);
    hashed / begin.elapsed().as_secs_f64()
}

fn device(unit: u16) -> Result<DeviceSpec, BenchError> {
    let point = |place: u16| {
        Ok::<_, IdFault>(PointSpec::new(
            PointId::try_new(format!("value_{place}"))?,
            Address::Modbus { table: ModbusTable::Holding, offset: place * 2, bit: None },
            Encoding::F32,
            Unit::one(),
        ))
    };
    Ok(DeviceSpec {
        registers_per_request_max: 124,
        gap_max: 0,
        points: (0..POINTS).map(point).collect::<Result<_, _>>()?,
        ..DeviceSpec::new(DeviceId::try_new(format!("press-{unit:02}"))?, Endpoint::parse("modbus+tcp://127.0.0.1")?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_runs_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let report = bench_vault(dir.path(), 1).unwrap();
        assert!(report.values >= 1_000 && report.bytes_per_value > 20.0 && report.bytes_per_value < 100.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
