//! What a point says of an alarm of an OPC UA server.

use std::fmt;

/// One fact about a condition (OPC UA Part 9), after `#/` in `alarm:nsu=…;s=…#/active`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmPart {
    /// Whether what is wrong is wrong now (ActiveState/Id): a flag.
    Active,
    /// Whether somebody acknowledged it (AckedState/Id): a flag.
    Acked,
    /// Whether somebody confirmed that it was dealt with (ConfirmedState/Id): a flag, on servers that have it.
    Confirmed,
    /// Whether the server watches it at all (EnabledState/Id): a flag.
    Enabled,
    /// 1 (least) to 1000 (Severity).
    Severity,
    /// What the server says about it, in its own words (Message).
    Message,
}

impl AlarmPart {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Active, Self::Acked, Self::Confirmed, Self::Enabled, Self::Severity, Self::Message];

    /// The word used in mappings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Acked => "acked",
            Self::Confirmed => "confirmed",
            Self::Enabled => "enabled",
            Self::Severity => "severity",
            Self::Message => "message",
        }
    }

    /// The part of this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.word() == word)
    }
}

impl fmt::Display for AlarmPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
