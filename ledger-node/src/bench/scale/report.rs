//! What came out, and as a table.

use super::look::{Memory, Opening, ScalePart};
use serde::Serialize;
use std::fmt;

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct ScaleReport {
    /// The looks, in order.
    pub parts: Vec<ScalePart>,
    /// Bytes of the data folder at the end: place, what they are, how many.
    pub folder: Vec<(String, String, u64)>,
    /// Memory of the process behind the last opening. What was freed when the engine before closed may still be in it.
    pub open_memory: Memory,
}

/// Bytes in millions.
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl ScalePart {
    /// What the columns of its line are.
    pub const COLUMNS: &str = "   entries  entries/s  p50 ms  p99 ms  cpu µs   order    keep   index | execute   prove     log   apply | KB written  MB disk VmRSS MB  anon MB";
}

impl fmt::Display for ScalePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, per_second, p50_ms, p99_ms, cpu_us_per_statement, .. } = self;
        let Self { order_us_per_statement, keep_us_per_statement, index_us_per_statement, .. } = self;
        let Self { phases, written_per_statement, .. } = self;
        write!(f, "{entries:>10} {per_second:>10.0} {p50_ms:>7.1} {p99_ms:>7.1} {cpu_us_per_statement:>7.1} ")?;
        write!(
            f,
            "{order_us_per_statement:>7.1} {keep_us_per_statement:>7.1} {index_us_per_statement:>7.1} | {:>7.1} {:>7.1} ",
            phases.execute, phases.prove
        )?;
        write!(f, "{:>7.1} {:>7.1} | {:>10.1} ", phases.log, phases.index, written_per_statement / 1e3)?;
        let Memory { resident, anonymous } = self.memory;
        write!(f, "{:>8.0} {:>8.1} {:>8.1}", mb(self.disk_bytes), mb(resident), mb(anonymous))?;
        if let (Some(baseline), Some(ratio)) = (self.baseline_verifications_per_second, self.ratio_to_baseline()) {
            write!(
                f,
                "\n             {ratio:.3} × the {baseline:.0} seals/s that all cores verify when they do nothing else, behind each batch"
            )?;
        }
        if let Some(receipted) = self.receipted_per_second {
            write!(f, "\n             {receipted:.0}/s with a receipt each")?;
        }
        for paced in &self.paced {
            write!(f, "\n             {paced}")?;
        }
        if let Some(Opening { close_seconds, open_seconds }) = self.opening {
            write!(f, "\n             closed in {close_seconds:.2} s, open again in {open_seconds:.2} s")?;
        }
        Ok(())
    }
}

impl fmt::Display for ScaleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", ScalePart::COLUMNS)?;
        for part in &self.parts {
            writeln!(f, "{part}")?;
        }
        let Memory { resident, anonymous } = self.open_memory;
        writeln!(f, "memory behind opening {:.1} MB, RssAnon {:.1} MB", mb(resident), mb(anonymous))?;
        for (place, what, bytes) in &self.folder {
            writeln!(f, "{:>10.1} MB  {place}: {what}", mb(*bytes))?;
        }
        let sum: u64 = self.folder.iter().map(|part| part.2).sum();
        write!(f, "{:>10.1} MB  together", mb(sum))
    }
}
