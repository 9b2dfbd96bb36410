//! What came of each device: values, readings without one by reason, and when the last value came.
//!
//! Written by the ingest thread once a batch, read by `/metrics` and `/status`.

use crate::vault::Kept;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;
use tally_model::{DeviceId, NoValue};

/// By reason, in the order of their codes; the words are those of the topics.
pub(super) const REASONS: [(NoValue, &str); 7] = [
    (NoValue::Timeout, "timeout"),
    (NoValue::Refused, "refused"),
    (NoValue::LinkDown, "link-down"),
    (NoValue::Nonsense, "nonsense"),
    (NoValue::NotANumber, "not-a-number"),
    (NoValue::OutOfRange, "out-of-range"),
    (NoValue::NoSuchAddress, "no-such-address"),
];

/// One device.
#[derive(Debug, Default, Clone)]
pub(super) struct DeviceCount {
    pub values: u64,
    /// In the order of [`REASONS`].
    pub without: [u64; REASONS.len()],
    pub last_value: Option<Instant>,
}

/// All devices.
#[derive(Debug, Default)]
pub(super) struct Devices(pub BTreeMap<DeviceId, DeviceCount>);

impl Devices {
    pub fn took(&mut self, kept: &Kept) {
        if !self.0.contains_key(&kept.device) {
            self.0.insert(kept.device.clone(), DeviceCount::default());
        }
        let Some(count) = self.0.get_mut(&kept.device) else { return };
        let mut values = 0;
        for kept in &kept.readings {
            match kept.reading.sample.outcome {
                Ok(_) => values += 1,
                Err(reason) => {
                    if let Some(place) = REASONS.iter().position(|(known, _)| *known == reason) {
                        count.without[place] += 1;
                    }
                }
            }
        }
        if values > 0 {
            count.values += values;
            count.last_value = Some(Instant::now());
        }
    }

    /// Prometheus text format 0.0.4. Device ids need no escaping.
    pub fn write(&self, text: &mut String) {
        let head = |name: &str, kind: &str| format!("# TYPE tally_agent_{name} {kind}\n");
        let mut values = head("device_values_total", "counter");
        let mut without = head("device_no_values_total", "counter");
        let mut ages = head("device_last_value_age_seconds", "gauge");
        // Writing into a String cannot fail.
        for (device, count) in &self.0 {
            let _ = writeln!(values, "tally_agent_device_values_total{{device=\"{device}\"}} {}", count.values);
            for ((_, reason), count) in REASONS.iter().zip(count.without) {
                let labels = format!("device=\"{device}\",reason=\"{reason}\"");
                let _ = writeln!(without, "tally_agent_device_no_values_total{{{labels}}} {count}");
            }
            if let Some(at) = count.last_value {
                let age = at.elapsed().as_secs_f64();
                let _ = writeln!(ages, "tally_agent_device_last_value_age_seconds{{device=\"{device}\"}} {age:.3}");
            }
        }
        text.extend([values, without, ages]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_the_word_that_the_topics_use() {
        for (reason, word) in REASONS {
            assert_eq!(serde_json::to_value(reason).unwrap(), word);
        }
        assert_eq!(REASONS.map(|(reason, _)| reason.code()), [1, 2, 3, 4, 5, 6, 7]);
    }
}
