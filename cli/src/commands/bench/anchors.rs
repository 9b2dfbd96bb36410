//! Readings covered by anchors, in this process.

use super::Figure;
use crate::answer::{Context, Fault};
use std::path::Path;
use tally_edge_agent::bench_anchors;

/// Readings a second.
pub fn measure(dir: &Path, seconds: u64) -> Result<Vec<Figure>, Fault> {
    let report = bench_anchors(&dir.join("covered"), seconds).context("measuring the anchors")?;
    Ok(vec![Figure {
        name: "readings covered by anchors".into(),
        value: format!(
            "{:.0} readings covered/s on {} cores, {:.4} bytes a reading on disk",
            report.readings_per_second, report.cores, report.bytes_per_reading
        ),
        promise: Some("at least 1,000,000/s on 2 cores"),
        method: format!(
            "{} readings of f32 points, on each core those of a device: encoded, salted, hashed into a leaf, chained, hashed into the \
             tree; {} anchors over 60,000 each, sealed (P-256) and put on the disk, fdatasync every second; only what an anchor \
             covers is counted, no sockets, the readings themselves are not written",
            report.readings, report.anchors
        ),
        baseline: Some(format!(
            "on one core: one SHA-256 over such a reading {:.0}/s, a leaf into the tree {:.0}/s",
            report.baseline_per_second, report.tree_per_second
        )),
    }])
}
