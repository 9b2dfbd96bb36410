//! What a node counts of its witnesses, for Prometheus.

use prometheus::{Encoder, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Counters of the asking side.
pub struct Tallies {
    registry: Registry,
    signed: IntCounterVec,
    failed: IntCounterVec,
    pub(super) size: IntGauge,
    pub(super) lag: IntGauge,
    pub(super) alarm: IntGauge,
}

/// Why a witness did not sign: the labels of the counter.
pub const FAULTS: [&str; 5] = ["away", "conflict", "refused", "bad-signature", "wrong-time"];

impl Tallies {
    /// Registers them; every witness begins with zeros.
    ///
    /// # Errors
    /// Never with these names.
    pub fn new<'a>(witnesses: impl Iterator<Item = &'a str>) -> Result<Self, prometheus::Error> {
        let signed = Opts::new("tally_witnesses_signed_total", "checkpoints that a witness cosigned");
        let failed = Opts::new("tally_witnesses_failed_total", "questions to a witness that gave no cosignature");
        let tallies = Self {
            registry: Registry::new(),
            signed: IntCounterVec::new(signed, &["witness"])?,
            failed: IntCounterVec::new(failed, &["witness", "code"])?,
            size: IntGauge::new("tally_witnesses_size", "entries covered by as many cosignatures as are needed")?,
            lag: IntGauge::new("tally_witnesses_lag_seconds", "how long entries have waited for their cosignatures")?,
            alarm: IntGauge::new("tally_witnesses_alarm", "1 when a witness has seen another history of this ledger")?,
        };
        for witness in witnesses {
            tallies.signed.with_label_values(&[witness]);
            FAULTS.iter().for_each(|code| drop(tallies.failed.with_label_values(&[witness, code])));
        }
        tallies.registry.register(Box::new(tallies.signed.clone()))?;
        tallies.registry.register(Box::new(tallies.failed.clone()))?;
        for gauge in [&tallies.size, &tallies.lag, &tallies.alarm] {
            tallies.registry.register(Box::new(gauge.clone()))?;
        }
        Ok(tallies)
    }

    pub(super) fn signed(&self, witness: &str) {
        self.signed.with_label_values(&[witness]).inc();
    }

    pub(super) fn failed(&self, witness: &str, code: &str) {
        self.failed.with_label_values(&[witness, code]).inc();
    }

    /// In Prometheus' text format.
    #[must_use]
    pub fn text(&self, lag: std::time::Duration) -> Vec<u8> {
        self.lag.set(i64::try_from(lag.as_secs()).unwrap_or(i64::MAX));
        let mut text = Vec::with_capacity(2 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        text
    }
}
