//! How good a clock is, as the computer itself knows it.

use std::fmt;

/// What a computer knows of its own clock. Says nothing about a time by itself: it stands beside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClockState {
    /// Kept right from outside (NTP, PTP, GPS).
    Synchronised {
        /// Microseconds that it is off at most, by the word of who keeps it right.
        error_us: u64,
    },
    /// Nobody keeps it right: it may be off by anything.
    FreeRunning,
    /// Nobody could say.
    #[default]
    Unknown,
}

impl ClockState {
    /// The word for it, without the error.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Synchronised { .. } => "synchronised",
            Self::FreeRunning => "free-running",
            Self::Unknown => "unknown",
        }
    }

    /// Microseconds that it is off at most; `None` when nobody promises anything.
    #[must_use]
    pub const fn error_us(self) -> Option<u64> {
        match self {
            Self::Synchronised { error_us } => Some(error_us),
            Self::FreeRunning | Self::Unknown => None,
        }
    }

    /// From both; `None` when they do not belong together: a bound goes with `synchronised` and with nothing else.
    #[must_use]
    pub fn try_new(word: &str, error_us: Option<u64>) -> Option<Self> {
        match (word, error_us) {
            ("synchronised", Some(error_us)) => Some(Self::Synchronised { error_us }),
            ("free-running", None) => Some(Self::FreeRunning),
            ("unknown", None) => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// For people: `synchronised, ± 1.250 ms`.
impl fmt::Display for ClockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self.error_us() {
            Some(error) => write!(f, ", ± {}.{:03} ms", error / 1_000, error % 1_000),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bounds_belong_together() {
        for state in [ClockState::Synchronised { error_us: 1_250 }, ClockState::FreeRunning, ClockState::Unknown] {
            assert_eq!(ClockState::try_new(state.word(), state.error_us()), Some(state));
        }
        assert_eq!(ClockState::try_new("synchronised", None), None);
        assert_eq!(ClockState::try_new("free-running", Some(1)), None);
        assert_eq!(ClockState::try_new("good", Some(1)), None);
        assert_eq!(ClockState::Synchronised { error_us: 1_250 }.to_string(), "synchronised, ± 1.250 ms");
        assert_eq!(ClockState::FreeRunning.to_string(), "free-running");
    }
}
