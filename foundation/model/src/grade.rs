//! Who signed nearest the sensor: the grade of evidence.

use std::fmt;
use std::str::FromStr;

/// Who sealed what a device said, and so whose word it is first of all. Ordered: what is nearer the sensor is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Grade {
    /// A gateway passed on what it had from devices or systems behind it: the agent never spoke with the sensor.
    Gateway,
    /// The agent read the device itself, which has no key, and sealed for it.
    #[default]
    Agent,
    /// The device sealed its own payloads with a key that is registered for it, and the agent checked each seal.
    Device,
}

/// Not the word of a grade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GradeFault(String);

impl fmt::Display for GradeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no grade; allowed: device-sealed, agent-sealed, gateway-sealed", self.0)
    }
}

impl std::error::Error for GradeFault {}

impl Grade {
    /// All, the least first.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::Agent, Self::Device];

    /// The word in triggers, contracts and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway-sealed",
            Self::Agent => "agent-sealed",
            Self::Device => "device-sealed",
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Grade {
    type Err = GradeFault;

    fn from_str(word: &str) -> Result<Self, GradeFault> {
        Self::ALL.into_iter().find(|grade| grade.word() == word).ok_or_else(|| GradeFault(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearer_the_sensor_is_more() {
        assert!(Grade::ALL.is_sorted());
        assert!(Grade::ALL.iter().all(|grade| grade.word().parse() == Ok(*grade)));
        assert!("sealed".parse::<Grade>().unwrap_err().to_string().contains("agent-sealed"));
        assert_eq!(Grade::default(), Grade::Agent);
    }
}
