//! Evidence files checked offline, in this process.

use super::Figure;
use crate::answer::{Context, Fault};
use std::path::Path;
use std::time::{Duration, Instant};
use tally_ledger_node::bench::evidence_files;
use tally_verifier::{Step, verify};

/// Different files that are checked in turn.
const FILES: usize = 200;
/// Devices that their ledger's genesis registers; it is part of every file.
const DEVICES: usize = 4;

/// Links of evidence checked a second, on one core.
pub fn measure(dir: &Path, seconds: u64) -> Result<Vec<Figure>, Fault> {
    let files = evidence_files(&dir.join("evidence"), DEVICES, FILES).context("making evidence to check")?;
    let (began, mut links, mut checked) = (Instant::now(), 0, 0_usize);
    while began.elapsed() < Duration::from_secs(seconds.max(1)) {
        for file in &files {
            let report = verify(file, None);
            // The readings behind the triggers are made up, so they are not in the file: that link is neither expected nor counted.
            let (held, broken): (Vec<_>, Vec<_>) = report.links.iter().partition(|link| link.holds);
            if let Some(broken) = broken.iter().find(|link| link.step != Step::Readings) {
                return Err(format!(
                    "the evidence does not hold: {} of {}: {}",
                    broken.step, broken.about, broken.detail
                )
                .into());
            }
            links += held.len();
            checked += 1;
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    let bytes = files.iter().map(Vec::len).sum::<usize>() / files.len().max(1);
    Ok(vec![Figure {
        name: "evidence links verified offline".into(),
        value: format!("{:.0}/s on one core", links as f64 / elapsed),
        promise: Some("at least 10,000/s"),
        method: format!(
            "{FILES} evidence files of {bytes} bytes on average, each of an order that a trigger opened, checked in turn as `tally verify` \
             does: {} links each, among them the seals of statements, receipts and checkpoints, inclusion, outcomes and registrations, but \
             no readings; nothing is remembered from file to file; no disk, no node",
            links / checked.max(1)
        ),
        baseline: Some(format!("{:.0} whole files/s", checked as f64 / elapsed)),
    }])
}
