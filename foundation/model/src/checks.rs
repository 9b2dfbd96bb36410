//! Truth before the seal: what is checked about readings before a trigger is sealed over them, and what was found.
//! Meaning and words: `docs/formats/checks.md`.

use crate::PointId;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a rule asks to be checked before its triggers are sealed. Part of the rule, so part of its digest: whoever has the
/// rule and the readings checks again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checks {
    /// How far back before the deciding reading the checks look, receive time; evidence reaches as far.
    pub look_back: Duration,
    /// By point.
    pub points: BTreeMap<PointId, PointChecks>,
    /// Relations between points that physics makes hold, by name.
    pub related: BTreeMap<PointId, Related>,
    /// SHA-256 over addresses and scaling of the device's points, as they were when the rule was agreed to.
    pub map: Option<[u8; 32]>,
    /// What the device called itself then: maker, product, revision.
    pub identity: Option<String>,
}

impl Checks {
    /// Whether there is nothing to check.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.related.is_empty() && self.map.is_none() && self.identity.is_none()
    }
}

/// What is checked of one point; nothing that is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PointChecks {
    /// The value should not stand still.
    pub frozen: Option<Frozen>,
    /// The value cannot change faster than this, units of the point per second, either way.
    pub rate_max: Option<f64>,
    /// The values should not be a recording played again.
    pub replay: Option<Replay>,
    /// Source time and receive time should not be further apart.
    pub skew_max: Option<Duration>,
    /// Engineering limits, lowest and highest, in the unit of the point.
    pub limits: Option<(f64, f64)>,
    /// Another point of the device measures the same.
    pub redundant: Option<Redundant>,
}

/// When a value counts as standing still: both must be reached, so that a point that is only told when it changes
/// (deadband, report by exception) never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// Readings of the same value in a row, at least 2.
    pub readings: u32,
    /// From the first to the last of them.
    pub lasting: Duration,
}

/// When values count as a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Values in a row that equal earlier ones bit for bit.
    pub readings: u32,
    /// Values of the point that are remembered.
    pub remembered: u32,
}

/// A point that measures the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Redundant {
    /// Which.
    pub with: PointId,
    /// How far apart both may be, in the unit of the point.
    pub tolerance: f64,
    /// For how long they may be further apart (a step reaches two sensors at two times).
    pub lasting: Duration,
}

/// A relation that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// CEL condition over points of the device, in the language of rules.
    pub holds: String,
    /// For how long it may be false.
    pub lasting: Duration,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingCode {
    /// The value stood still.
    Frozen,
    /// The value changed faster than it can.
    Rate,
    /// The values are those of an earlier run, bit for bit.
    Replay,
    /// Source time and receive time lie too far apart.
    Skew,
    /// The value was outside the engineering limits.
    Limits,
    /// Two points that measure the same disagree.
    Redundant,
    /// A relation that physics makes hold did not.
    Related,
    /// Addresses or scaling are not those that the rule was agreed to with.
    Map,
    /// The device calls itself something else than when the rule was agreed to.
    Identity,
}

impl FindingCode {
    /// All of them; findings of a trigger are sorted in this order.
    pub const ALL: [Self; 9] = [
        Self::Frozen,
        Self::Rate,
        Self::Replay,
        Self::Skew,
        Self::Limits,
        Self::Redundant,
        Self::Related,
        Self::Map,
        Self::Identity,
    ];

    /// The word in formats and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Rate => "rate",
            Self::Replay => "replay",
            Self::Skew => "skew",
            Self::Limits => "limits",
            Self::Redundant => "redundant",
            Self::Related => "related",
            Self::Map => "map",
            Self::Identity => "identity",
        }
    }

    /// The code of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.word() == word)
    }

    /// What it makes of the evidence: [`EvidenceQuality::Contradicted`] when the readings cannot all be true of the device that
    /// was agreed on, [`EvidenceQuality::Doubtful`] when they can, but should not look like this.
    #[must_use]
    pub const fn leaves(self) -> EvidenceQuality {
        match self {
            Self::Frozen | Self::Skew | Self::Limits => EvidenceQuality::Doubtful,
            _ => EvidenceQuality::Contradicted,
        }
    }

    /// In words of somebody who stands in front of the machine.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Frozen => {
                "the value stood still; look at the sensor, its cable, and the program that fills the register"
            }
            Self::Rate => "the value jumped faster than the machine can; look for a loose contact or interference",
            Self::Replay => "the values are an exact copy of earlier ones; somebody or something plays a recording",
            Self::Skew => "the clocks of the device and of the agent do not agree; set the device's clock",
            Self::Limits => "the value was outside its engineering limits; look at the sensor and its scaling",
            Self::Redundant => "two sensors of the same thing disagree; one of them is wrong",
            Self::Related => "values that belong together do not fit together; one of the sensors is wrong",
            Self::Map => "registers or scaling were changed since the rule was agreed to",
            Self::Identity => {
                "the device says it is another one, or has other firmware, than when the rule was agreed to"
            }
        }
    }
}

/// One thing that a check found in the readings behind a trigger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// What.
    pub code: FindingCode,
    /// Of which point, or which relation; `None` when it concerns the device.
    pub point: Option<PointId>,
    /// Number of the first reading it was seen in.
    pub from: u64,
    /// Number of the last.
    pub to: u64,
    /// For a recording: number of the first reading of the original.
    pub earlier: Option<u64>,
}

/// `vibration frozen in readings 10–40`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = self.point.as_ref().map_or("the device", PointId::as_str);
        write!(f, "{point}: {} in readings {}–{}", self.code.word(), self.from, self.to)?;
        self.earlier.map_or(Ok(()), |earlier| write!(f, ", a copy of those from {earlier} on"))
    }
}

/// How good evidence is after the checks before the seal. Ordered: a contract asks for *at least*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceQuality {
    /// Some check says that the readings cannot all be true.
    Contradicted,
    /// Some check says that the readings should not look like this; none that they cannot be true.
    Doubtful,
    /// No check found anything.
    Sound,
}

impl EvidenceQuality {
    /// All, worst first.
    pub const ALL: [Self; 3] = [Self::Contradicted, Self::Doubtful, Self::Sound];

    /// What findings leave.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        findings.iter().map(|finding| finding.code.leaves()).min().unwrap_or(Self::Sound)
    }

    /// The word in formats and contracts.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Contradicted => "contradicted",
            Self::Doubtful => "doubtful",
            Self::Sound => "sound",
        }
    }

    /// The quality of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quality| quality.word() == word)
    }
}

impl fmt::Display for EvidenceQuality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let finding = |code| Finding { code, point: None, from: 1, to: 2, earlier: None };
        assert_eq!(EvidenceQuality::of(&[]), EvidenceQuality::Sound);
        assert_eq!(EvidenceQuality::of(&[finding(FindingCode::Skew)]), EvidenceQuality::Doubtful);
        let both = [finding(FindingCode::Skew), finding(FindingCode::Rate)];
        assert_eq!(EvidenceQuality::of(&both), EvidenceQuality::Contradicted);
        assert!(EvidenceQuality::Contradicted < EvidenceQuality::Doubtful);
    }

    #[test]
    fn words_have_one_meaning() {
        assert!(FindingCode::ALL.into_iter().all(|code| FindingCode::from_word(code.word()) == Some(code)));
        assert!(EvidenceQuality::ALL.into_iter().all(|one| EvidenceQuality::from_word(one.word()) == Some(one)));
    }
}
