//! Units of measure as UCUM codes (`Cel`, `mm/s`, `kW.h`, `%`, `1`).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest unit code in bytes.
const UNIT_BYTES_MAX: usize = 32;

/// Why a text is not a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitFault {
    /// Longer than 32 bytes.
    #[error("a unit code has at most {UNIT_BYTES_MAX} characters")]
    TooLong,
    /// A common spelling that UCUM writes differently.
    #[error("`{found}` is not a UCUM code; write `{instead}`")]
    Spelling {
        /// What was written.
        found: String,
        /// The UCUM code for it.
        instead: &'static str,
    },
    /// UCUM codes are printable ASCII without spaces (UCUM §2.1 ■1).
    #[error("`{0}` cannot be part of a UCUM code, which is printable ASCII without spaces")]
    Character(char),
}

/// Spellings people use that mean something else or nothing in UCUM.
const SPELLINGS: &[(&str, &str)] = &[
    ("°C", "Cel"),
    ("degC", "Cel"),
    ("celsius", "Cel"),
    ("°F", "[degF]"),
    ("degF", "[degF]"),
    ("rpm", "/min"),
    ("RPM", "/min"),
    ("kWh", "kW.h"),
    ("Wh", "W.h"),
    ("Ah", "A.h"),
    ("sec", "s"),
    ("ohm", "Ohm"),
    ("Ω", "Ohm"),
    ("m³", "m3"),
    ("m²", "m2"),
    ("m³/h", "m3/h"),
    ("µm", "um"),
    ("percent", "%"),
    ("psi", "[psi]"),
    ("litre", "L"),
];

/// A UCUM unit code; `1` is the code for "no unit" (counts, flags, texts).
///
/// The character set and common misspellings are checked, not the full UCUM grammar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Unit(std::sync::Arc<str>);

impl Unit {
    /// Checks `code` and makes the unit. The empty text means `1`.
    ///
    /// # Errors
    /// [`UnitFault`] naming the UCUM spelling where one is known.
    pub fn try_new(code: impl AsRef<str>) -> Result<Self, UnitFault> {
        let code = code.as_ref();
        if code.is_empty() {
            return Ok(Self::one());
        }
        if let Some((_, instead)) = SPELLINGS.iter().find(|(spelling, _)| *spelling == code) {
            return Err(UnitFault::Spelling { found: code.to_owned(), instead });
        }
        if let Some(c) = code.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(UnitFault::Character(c));
        }
        if code.len() > UNIT_BYTES_MAX {
            return Err(UnitFault::TooLong);
        }
        Ok(Self(code.into()))
    }

    /// The unit of plain numbers, flags and texts.
    #[must_use]
    pub fn one() -> Self {
        Self("1".into())
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Unit {
    type Error = UnitFault;
    fn try_from(code: String) -> Result<Self, UnitFault> {
        Self::try_new(code)
    }
}

impl From<Unit> for String {
    fn from(unit: Unit) -> String {
        unit.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_misspellings_are_named() {
        assert_eq!(Unit::try_new("°C"), Err(UnitFault::Spelling { found: "°C".into(), instead: "Cel" }));
        assert_eq!(Unit::try_new("mm /s"), Err(UnitFault::Character(' ')));
        assert_eq!(Unit::try_new("").map(|u| u.to_string()), Ok("1".into()));
    }
}
