//! A witness's numbers for Prometheus.

use prometheus::{Encoder, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// Counters of a witness.
pub struct WitnessMetrics {
    registry: Registry,
    answers: IntCounterVec,
    size: IntGaugeVec,
    alarm: IntGaugeVec,
    pub(super) failed: IntGauge,
}

impl WitnessMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// Never with these names.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauges = |name, help| IntGaugeVec::new(Opts::new(name, help), &["log"]);
        let answers = Opts::new("tally_witness_answers_total", "requests for a cosignature, by what was answered");
        let metrics = Self {
            answers: IntCounterVec::new(answers, &["code"])?,
            size: gauges("tally_witness_size", "entries of the log's tree as cosigned last")?,
            alarm: gauges("tally_witness_alarm", "1 while the log is proved to have two histories")?,
            failed: IntGauge::new("tally_witness_failed", "1 when a write failed and nothing is cosigned any more")?,
            registry,
        };
        metrics.registry.register(Box::new(metrics.answers.clone()))?;
        metrics.registry.register(Box::new(metrics.size.clone()))?;
        metrics.registry.register(Box::new(metrics.alarm.clone()))?;
        metrics.registry.register(Box::new(metrics.failed.clone()))?;
        Ok(metrics)
    }

    pub(super) fn answered(&self, code: &'static str) {
        self.answers.with_label_values(&[code]).inc();
    }

    pub(super) fn seen(&self, log: &str, size: u64, is_alarmed: bool) {
        self.size.with_label_values(&[log]).set(i64::try_from(size).unwrap_or(i64::MAX));
        self.alarm.with_label_values(&[log]).set(i64::from(is_alarmed));
    }

    /// In Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(2 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        text
    }
}
