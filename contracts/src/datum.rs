//! What a field, an argument or an expression holds. No floats except in arguments of triggers, and never in money.

use crate::codec::{Reader, Record, Writer, major};
use tally_evidence::cbor::{self, Cbor};
use tally_model::parse_duration;

/// Longest text in a field or argument, bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 1_000;
/// Longest list in a field, items.
pub(crate) const LIST_ITEMS_MAX: usize = 256;

/// A value of a field, an argument or an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    /// A whole number; money in minor units, times and durations in microseconds.
    Integer(i64),
    /// A flag.
    Bool(bool),
    /// A text; devices and parties by id.
    Text(String),
    /// Texts.
    List(Vec<String>),
    /// Only in arguments of triggers (a measured peak), to compare with.
    Number(f64),
}

impl Datum {
    /// As CBOR, for events.
    #[must_use]
    pub fn to_cbor(&self) -> Cbor {
        match self {
            Self::Integer(number) => cbor::int(*number),
            Self::Bool(flag) => Cbor::Bool(*flag),
            Self::Text(text) => cbor::text(text.clone()),
            Self::List(items) => Cbor::Array(items.iter().map(cbor::text).collect()),
            Self::Number(number) => Cbor::Float(*number),
        }
    }

    /// As JSON, for views.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Integer(number) => (*number).into(),
            Self::Bool(flag) => (*flag).into(),
            Self::Text(text) => text.clone().into(),
            Self::List(items) => items.clone().into(),
            Self::Number(number) => (*number).into(),
        }
    }

    /// The text, or nothing.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl std::fmt::Display for Datum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => write!(f, "[{}]", items.join(", ")),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Record for Datum {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Integer(number) => to.int(*number),
            Self::Bool(flag) => to.flag(*flag),
            Self::Text(text) => to.text(text),
            Self::List(items) => to.texts(items),
            // Arguments are never stored, so a float never is; should one get here it must not be lost silently.
            Self::Number(number) => to.text(&number.to_string()),
        };
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(match from.peek_major()? {
            major::TEXT => Self::Text(from.text()?.to_owned()),
            major::ARRAY => Self::List(from.texts()?),
            major::SIMPLE => Self::Bool(from.flag()?),
            _ => Self::Integer(from.int()?),
        })
    }
}

/// The types a contract gives its fields and arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A device id.
    Device,
    /// A party id, in standing terms and arguments.
    Party,
    /// A text of at most 1,000 bytes.
    Text,
    /// An amount in minor units of the agreement's currency.
    Money,
    /// A whole number.
    Integer,
    /// A flag.
    Bool,
    /// An instant, in microseconds since the epoch.
    Time,
    /// A duration, in microseconds; written `4h`.
    Duration,
    /// Texts, at most 256.
    List,
    /// A decimal number; only in arguments.
    Number,
}

impl FieldType {
    /// Every type with its word in a contract.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Device, "device"),
        (Self::Party, "party"),
        (Self::Text, "text"),
        (Self::Money, "money"),
        (Self::Integer, "integer"),
        (Self::Bool, "bool"),
        (Self::Time, "time"),
        (Self::Duration, "duration"),
        (Self::List, "list"),
        (Self::Number, "number"),
    ];

    /// The word in a contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// The value of a field nobody has set, and of an optional argument that was not given.
    #[must_use]
    pub fn zero(self) -> Datum {
        match self {
            Self::Device | Self::Party | Self::Text => Datum::Text(String::new()),
            Self::Money | Self::Integer | Self::Time | Self::Duration => Datum::Integer(0),
            Self::Bool => Datum::Bool(false),
            Self::List => Datum::List(Vec::new()),
            Self::Number => Datum::Number(0.0),
        }
    }

    /// What is expected, for refusals.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Device => "a device id",
            Self::Party => "a party id",
            Self::Text => "a text of at most 1000 bytes",
            Self::Money => "a whole number of minor units",
            Self::Integer => "a whole number",
            Self::Bool => "true or false",
            Self::Time => "whole microseconds since the epoch",
            Self::Duration => "a duration such as `30s` or `4h`, or whole microseconds, not negative",
            Self::List => "a list of at most 256 texts",
            Self::Number => "a number",
        }
    }

    /// Reads an argument of this type.
    pub(crate) fn read(self, value: &Cbor) -> Option<Datum> {
        let integer = || value.as_integer().and_then(|number| i64::try_from(number).ok());
        let short = |text: &str| text.len() <= TEXT_BYTES_MAX;
        let text = || value.as_text().filter(|text| short(text)).map(str::to_owned);
        match self {
            Self::Device => tally_model::DeviceId::try_new(text()?).ok().map(|id| Datum::Text(id.into())),
            Self::Party => tally_model::PartyId::try_new(text()?).ok().map(|id| Datum::Text(id.into())),
            Self::Text => text().map(Datum::Text),
            Self::Money | Self::Integer | Self::Time => integer().map(Datum::Integer),
            Self::Bool => value.as_bool().map(Datum::Bool),
            Self::Duration => match value {
                Cbor::Text(text) => parse_micros(text).map(Datum::Integer),
                _ => integer().filter(|micros| *micros >= 0).map(Datum::Integer),
            },
            Self::List => {
                let items = value.as_array().filter(|items| items.len() <= LIST_ITEMS_MAX)?;
                let items = items.iter().map(|item| item.as_text().filter(|text| short(text)).map(str::to_owned));
                items.collect::<Option<_>>().map(Datum::List)
            }
            #[allow(clippy::cast_precision_loss)] // a measured number to compare with, never money
            Self::Number => integer().map(|number| number as f64).or(value.as_float()).map(Datum::Number),
        }
    }
}

/// Microseconds of a duration text.
pub(crate) fn parse_micros(text: &str) -> Option<i64> {
    i64::try_from(parse_duration(text).ok()?.as_micros()).ok()
}
