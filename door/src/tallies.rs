//! What was turned away before it was a request, counted.

use crate::RateLimiter;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Every reason, so that a counter is there before it counts: connections above a peer's number, handshakes over time, and the codes of
/// [`tally_tls::code`].
const CODES: [&str; 11] = [
    "per-peer",
    "handshake-time",
    "no-certificate",
    "expired",
    "unknown-ca",
    "revoked",
    "bad-certificate",
    "not-tls",
    "old-tls",
    "refused-us",
    "broken",
];

/// Lines logged a second about what is counted here; all of it is counted.
const LINES_PER_SECOND: u32 = 10;

/// What came to nothing, by reason.
#[derive(Debug, Clone)]
pub struct Tallies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    help: &'static str,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    lines: RateLimiter<String>,
}

impl Default for Tallies {
    /// Connections.
    fn default() -> Self {
        Self::new("tally_connections_refused_total", "connections that came to nothing", &CODES)
    }
}

impl Tallies {
    /// Counts by these codes, under this name.
    #[must_use]
    pub fn new(name: &'static str, help: &'static str, codes: &[&'static str]) -> Self {
        let counts = Mutex::new(codes.iter().map(|code| (*code, 0)).collect());
        Self(Arc::new(Inner { name, help, counts, lines: RateLimiter::new(LINES_PER_SECOND) }))
    }

    /// One more. Says whether there is room for a line in the log: who floods us shall not fill the disk.
    pub fn count(&self, code: &'static str) -> bool {
        *self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_insert(0) += 1;
        self.0.lines.takes("", Instant::now())
    }

    /// How many of a reason.
    #[must_use]
    pub fn of(&self, code: &str) -> u64 {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).get(code).copied().unwrap_or(0)
    }

    /// In Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let Inner { name, help, counts, .. } = &*self.0;
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} counter\n");
        for (code, count) in counts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "{name}{{code=\"{code}\"}} {count}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_whole_and_told_in_ten_lines() {
        let tallies = Tallies::default();
        let told = (0..1_000).filter(|_| tallies.count("not-tls")).count();
        assert!((10..200).contains(&told), "{told}");
        assert_eq!((tallies.of("not-tls"), tallies.of("expired")), (1_000, 0));
        assert!(tallies.text().contains("tally_connections_refused_total{code=\"not-tls\"} 1000\n"));
    }
}
