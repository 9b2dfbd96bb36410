//! Modbus values decoded and chained into the vault, in this process.

use super::Figure;
use crate::answer::{Context, Fault};
use std::path::Path;
use tally_edge_agent::bench_vault;

/// Values a second.
pub fn measure(dir: &Path, seconds: u64) -> Result<Vec<Figure>, Fault> {
    let report = bench_vault(&dir.join("vault"), seconds).context("measuring the vault")?;
    Ok(vec![Figure {
        name: "Modbus values decoded and chained into the vault".into(),
        value: format!("{:.0}/s, {:.0} bytes a value on disk", report.values_per_second, report.bytes_per_value),
        promise: Some("at least 200,000/s"),
        method: format!(
            "{} values of f32 points: decoded from raw words, numbered, salted, hashed, chained, appended; one thread, no sockets; \
             {}; longest sync {:.1} ms",
            report.values, report.durability, report.sync_ms_max
        ),
        baseline: Some(format!(
            "{:.1} × the time of one SHA-256 over the same readings ({:.0}/s)",
            report.times_baseline, report.baseline_per_second
        )),
    }])
}
