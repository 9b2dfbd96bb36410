//! What a connector hands over ([`Sample`]) and what the vault makes of it ([`Reading`]).

use crate::{DeviceId, Outcome, PointId, Quality, Timestamp, Unit};
use std::sync::Arc;

/// A decoded answer of a device, before the vault has numbered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which point.
    pub point: PointId,
    /// The value in `unit`, or why there is none.
    pub outcome: Outcome,
    /// Unit of the value, after scaling.
    pub unit: Unit,
    /// How far to trust it. [`Quality::Bad`] exactly when `outcome` is an error.
    pub quality: Quality,
    /// When the device says the value arose; equal to `received` for protocols without source times (Modbus).
    pub source_time: Timestamp,
    /// When the agent had it in hand.
    pub received: Timestamp,
    /// The message as the device sealed it, untouched, when the device seals its payloads itself and the seal holds.
    pub seal: Option<Arc<[u8]>>,
}

/// A numbered reading: the unit of evidence. Numbers of one device rise by one without gaps,
/// and `received` never falls from one number to the next, so rules can run on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which device.
    pub device: DeviceId,
    /// Place in the vault's chain of this device, from 0.
    pub number: u64,
    /// What was read.
    pub sample: Sample,
}

impl Sample {
    /// What a device without source times and without a seal answered `at` that time: good, or bad when there is no value.
    #[must_use]
    pub const fn at(point: PointId, outcome: Outcome, unit: Unit, at: Timestamp) -> Self {
        let quality = if outcome.is_ok() { Quality::Good } else { Quality::Bad };
        Self { seal: None, point, outcome, unit, quality, source_time: at, received: at }
    }

    /// The value as a number when it is good enough to compute with (quality not bad).
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        self.outcome.as_ref().ok().and_then(crate::Value::as_f64)
    }
}
