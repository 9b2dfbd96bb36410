//! The registry at size: devices registered by the thousand under one seal, and one looked up among all.

use super::Figure;
use crate::answer::{Context, Fault};
use std::path::Path;
use tally_ledger_node::bench::{BenchOptions, bench_registry};

/// Devices when nobody says otherwise.
pub const DEVICES: u64 = 1_000_000;

/// Registers so many devices, looks 100,000 of them up, and removes it all.
pub fn measure(dir: &Path, devices: u64) -> Result<Vec<Figure>, Fault> {
    let folder = dir.join("registry");
    let report = bench_registry(&folder, devices, &BenchOptions::default()).context("registering devices")?;
    std::fs::remove_dir_all(&folder).context("removing the ledger that was filled")?;
    let calls = report.per_second / report.records_of_a_call as f64;
    let registering = Figure {
        name: format!("devices registered a second, up to {} devices", report.devices),
        value: format!(
            "{:.0}/s; {:.0}/s in the first tenth, {:.0}/s in the last; a call of {} durable after p50 {:.0} ms, p99 {:.0} ms with the queue full",
            report.per_second, report.tenths.0, report.tenths.1, report.records_of_a_call, report.p50_ms, report.p99_ms
        ),
        promise: Some("≥ 5,000/s in bulk"),
        method: format!(
            "calls `registry/register-many` of {} devices, sealed while the clock is stopped; each device has an outcome of its own; the \
             block is fdatasynced before it is answered. {:.0} MB of files, {:.0} MB resident (VmRSS) behind it",
            report.records_of_a_call,
            report.folder_bytes as f64 / 1e6,
            report.memory.resident as f64 / 1e6
        ),
        baseline: Some(format!(
            "{:.0} calls/s appended and fdatasynced one by one with nothing else, in the same run: the registry does {:.3} of that",
            report.raw_calls_per_second,
            calls / report.raw_calls_per_second
        )),
    };
    let looking = Figure {
        name: format!("looking a device up among {}", report.devices),
        value: format!(
            "p50 {:.1} µs, p99 {:.1} µs, slowest {:.1} µs",
            report.lookup_p50_us, report.lookup_p99_us, report.lookup_max_us
        ),
        promise: Some("p99 under 1 ms at 10 million devices"),
        method: format!(
            "{} devices drawn at random, one thread; a view of the state as of now and the device's record, as the node's interface does \
             it, without HTTP; files may be in the system's memory",
            report.lookups
        ),
        baseline: None,
    };
    Ok(vec![registering, looking])
}
