//! Values, and the reasons why there is none.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a point said.
///
/// Integers have one form each: [`Value::Unsigned`] holds only what [`Value::Integer`] cannot
/// (above `i64::MAX`), so that equal numbers have equal bytes. Use [`Value::from_u64`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A flag or coil.
    Bool(bool),
    /// A whole number up to `i64::MAX`.
    Integer(i64),
    /// A whole number above `i64::MAX`.
    Unsigned(u64),
    /// A finite IEEE 754 double; what is not finite is [`NoValue::NotANumber`].
    Float(f64),
    /// A text.
    Text(String),
}

impl Value {
    /// The canonical form of an unsigned number.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        i64::try_from(number).map_or(Self::Unsigned(number), Self::Integer)
    }

    /// A float, or the reason why it is no value.
    ///
    /// # Errors
    /// [`NoValue::NotANumber`] for NaN and infinities.
    pub fn from_f64(number: f64) -> Result<Self, NoValue> {
        if number.is_finite() { Ok(Self::Float(number)) } else { Err(NoValue::NotANumber) }
    }

    /// The value as a number; flags are 0 and 1, texts have none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a window function works in doubles and says so
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Self::Integer(number) => Some(*number as f64),
            Self::Unsigned(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Text(_) => None,
        }
    }

    /// Which kind of value this is.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Bool(_) => ValueKind::Bool,
            Self::Integer(_) | Self::Unsigned(_) => ValueKind::Integer,
            Self::Float(_) => ValueKind::Float,
            Self::Text(_) => ValueKind::Text,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The kinds of value, for type checks before anything runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A decimal number.
    Float,
    /// A text.
    Text,
}

/// How far a value can be trusted (OPC UA Part 8 §6.3: the severity bits of the status code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// As good as the device can make it.
    Good,
    /// There is a value, but the device or the link doubts it (first sample after a reset, sensor not accurate).
    Uncertain,
    /// There is no usable value; see the [`NoValue`] beside it.
    Bad,
}

/// Why a reading has no value. The name is also the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum NoValue {
    /// The device did not answer in time.
    #[error("the device did not answer in time")]
    Timeout,
    /// The device refused: Modbus exception, OPC UA bad status.
    #[error("the device refused")]
    Refused,
    /// The link to the device is down.
    #[error("the link is down")]
    LinkDown,
    /// The answer made no sense (wrong length, wrong type, garbage).
    #[error("the answer made no sense")]
    Nonsense,
    /// A float that is NaN or infinite.
    #[error("not a number")]
    NotANumber,
    /// Outside the range the mapping allows.
    #[error("out of range")]
    OutOfRange,
    /// The device has no such address.
    #[error("the device has no such address")]
    NoSuchAddress,
}

impl NoValue {
    /// Stable number for wire formats; see `docs/formats/reading.cddl`.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Timeout => 1,
            Self::Refused => 2,
            Self::LinkDown => 3,
            Self::Nonsense => 4,
            Self::NotANumber => 5,
            Self::OutOfRange => 6,
            Self::NoSuchAddress => 7,
        }
    }

    /// The reason with this number, if there is one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Timeout,
            2 => Self::Refused,
            3 => Self::LinkDown,
            4 => Self::Nonsense,
            5 => Self::NotANumber,
            6 => Self::OutOfRange,
            7 => Self::NoSuchAddress,
            _ => return None,
        })
    }
}

/// A value, or why there is none.
pub type Outcome = Result<Value, NoValue>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_have_one_form() {
        assert_eq!(Value::from_u64(7), Value::Integer(7));
        assert_eq!(Value::from_u64(u64::MAX), Value::Unsigned(u64::MAX));
    }

    #[test]
    fn no_value_codes_round_trip() {
        for code in 0..=u8::MAX {
            if let Some(reason) = NoValue::from_code(code) {
                assert_eq!(reason.code(), code);
            }
        }
        assert_eq!((1..=7).filter_map(NoValue::from_code).count(), 7);
    }
}
