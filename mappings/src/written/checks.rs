//! `checks:` of a device and of a point: truth before the seal.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is checked of the readings of this device before a trigger is sealed over them; `{}` takes the defaults: `frozen` and
/// `replay` of every point that is a decimal number, `skew` of every point, `limits` where a point has a `range`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceChecksWritten {
    /// How far back before the trigger the checks look at least, 0s to 24h; default: as far as the rule and the checks need.
    /// Evidence of a trigger reaches as far.
    pub look_back: Option<String>,
    /// When a value counts as standing still; default 20 readings over 1min.
    pub frozen: Option<FrozenWritten>,
    /// How far the device's time and the time of receipt may be apart, 1ms to 24h; default 10s.
    pub skew: Option<String>,
    /// When values count as a recording played again; default 32 readings of the last 10000.
    pub replay: Option<ReplayWritten>,
    /// What the device calls itself: maker, product, revision, as `tally probe` and the agent's log show it (Modbus function 43/14, OPC UA
    /// BuildInfo). From then on evidence of a device that calls itself something else, or no longer says, is contradicted.
    pub identity: Option<String>,
    /// Relations between points of this device that physics makes hold, by name.
    #[serde(default)]
    pub related: BTreeMap<String, RelatedWritten>,
}

/// What is checked of this point, beside or instead of what the device says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PointChecksWritten {
    /// Checks of the device that make no sense for this point.
    #[serde(default)]
    pub off: Vec<CheckWord>,
    /// When the value counts as standing still.
    pub frozen: Option<FrozenWritten>,
    /// Fastest change that is possible, in the point's unit per second.
    pub rate: Option<f64>,
    /// When values count as a recording played again.
    pub replay: Option<ReplayWritten>,
    /// How far the device's time and the time of receipt may be apart, 1ms to 24h.
    pub skew: Option<String>,
    /// Engineering limits in the point's unit; default: its `range`. Outside the value stays, but the evidence is doubtful.
    pub limits: Option<(f64, f64)>,
    /// Another point of the device that measures the same.
    pub redundant: Option<RedundantWritten>,
}

/// A check that a device has for all its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CheckWord {
    /// Standing still.
    Frozen,
    /// A recording played again.
    Replay,
    /// Times apart.
    Skew,
    /// Outside the limits.
    Limits,
}

/// Both must be reached.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrozenWritten {
    /// For how long, 0s to 24h.
    #[serde(rename = "for")]
    #[schemars(required)]
    pub lasting: Option<String>,
    /// Readings of the same value in a row, 2 to 1000000; default 20.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub readings: Option<u32>,
}

/// A run of values that equals an earlier one bit for bit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayWritten {
    /// Values in a row, 8 to 10000; a quarter of them must differ from each other.
    #[schemars(required, range(min = 8, max = 10_000))]
    pub readings: Option<u32>,
    /// Values of the point that are remembered, 16 to 1000000; default 10000. 40 bytes each, for each trigger.
    #[schemars(range(min = 16, max = 1_000_000))]
    pub remembered: Option<u32>,
}

/// A second sensor.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedundantWritten {
    /// The other point; of the same unit.
    #[schemars(required)]
    pub with: Option<String>,
    /// How far apart both may be, in the point's unit.
    #[schemars(required)]
    pub tolerance: Option<f64>,
    /// For how long they may be further apart, 0s to 1h; default 5s.
    #[serde(rename = "for")]
    pub lasting: Option<String>,
}

/// A condition over points of the device.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelatedWritten {
    /// CEL condition in the language of `when`: true as long as the sensors tell the truth.
    #[schemars(required)]
    pub holds: Option<String>,
    /// For how long it may be false, 0s to 1h; default 5s.
    #[serde(rename = "for")]
    pub lasting: Option<String>,
}

/// How good evidence is after the checks before the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QualityWritten {
    /// No check found anything.
    Sound,
    /// The readings should not look like this.
    Doubtful,
    /// The readings cannot all be true.
    Contradicted,
}

impl From<QualityWritten> for tally_model::EvidenceQuality {
    fn from(written: QualityWritten) -> Self {
        match written {
            QualityWritten::Sound => Self::Sound,
            QualityWritten::Doubtful => Self::Doubtful,
            QualityWritten::Contradicted => Self::Contradicted,
        }
    }
}
