//! What came out, and as a table.

use super::look::{Memory, Opening, ScalePart};
use super::turns::{Spread, Turn, Turns};
use crate::bench::Paced;
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
    /// Ledgers of each size of which something is promised, and of the last one, in turns.
    pub sizes: Vec<Turns>,
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
        if let Some(Opening { close_seconds, open_seconds }) = self.opening {
            write!(f, "\n             closed in {close_seconds:.2} s, open again in {open_seconds:.2} s")?;
        }
        Ok(())
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, p50_ms, p99_ms, receipted_per_second, .. } = self;
        write!(f, "{per_second:.0}/s ({:.3} × the seals/s between them), ", self.ratio_to_baseline())?;
        write!(f, "p50 {p50_ms:.0} ms, p99 {p99_ms:.0} ms; {receipted_per_second:.0}/s with a receipt each")?;
        self.paced.iter().try_for_each(|paced| write!(f, "\n             {paced}"))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, middle, most } = self;
        let digits = if *middle < 100.0 { 1 } else { 0 };
        write!(f, "{middle:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries, the middle of {} looks (least to most): ", self.entries, self.turns.len())?;
        let per_second = self.spread(|turn| turn.per_second);
        let receipted = self.spread(|turn| turn.receipted_per_second);
        let (p50, p99) = (self.spread(|turn| turn.p50_ms), self.spread(|turn| turn.p99_ms));
        write!(f, "{per_second}/s, p50 {p50} ms, p99 {p99} ms; {receipted}/s with a receipt each")?;
        for pace in 0..self.turns.first().map_or(0, |turn| turn.paced.len()) {
            let of = |what: fn(&Paced) -> f64| self.paced(pace, what);
            let (p50, p99) = (of(|paced| paced.p50_ms), of(|paced| paced.p99_ms));
            write!(f, "\n             at {}/s p50 {p50} ms, p99 {p99} ms", of(|paced| paced.per_second))?;
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
        write!(f, "{:>10.1} MB  together", mb(sum))?;
        self.sizes.iter().try_for_each(|size| write!(f, "\n{size}"))
    }
}
