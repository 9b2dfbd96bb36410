//! From payloads to values. Pure: no socket, no clock, never panics, whatever the bytes are.
//!
//! A point with a JSON pointer takes its value out of a JSON payload, one without takes the whole payload as text; `cbor:`
//! before its topic means that the payload is CBOR ([`cbor`]). What becomes of it depends on the point's encoding:
//!
//! | encoding | JSON, CBOR | raw text, and texts inside JSON and CBOR |
//! |---|---|---|
//! | `auto` | its own type | raw: a number, else `true`/`false`, else a text; inside JSON: a text |
//! | `bool` | `true`, `false`, 1, 0 | `true`, `false`, `on`, `off`, 1, 0 in any case |
//! | `u16` … `i64` | a whole number that fits (21.0 is one) | the same, written out |
//! | `f32`, `f64` | a number | the same, written out |
//! | `text` | a text, number or flag as text | as it is, without trailing NULs, spaces and line ends |
//!
//! `null` is [`NoValue::NotANumber`] where a number is expected: JSON has no NaN, and writers put `null` in its place.
//! A top-level `timestamp` (RFC 3339, or milliseconds since 1970 as a number) of a JSON object or CBOR map is the source time of
//! all points of the message; without one it is the receive time.
//!
//! Limits: payloads up to [`PAYLOAD_BYTES_MAX`], text values up to [`TEXT_BYTES_MAX`], JSON up to 128 levels deep.

mod cbor;
mod convert;

use crate::decode::convert::{natural_text, settle};
use serde_json::Value as Json;
use std::cell::OnceCell;
use tally_model::{Address, NoValue, PointSpec, Quality, Sample, Timestamp, Value};

/// Largest payload in bytes that is looked at; a sensor's message has some hundred, a camera picture has more.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 10;

/// Longest text value in bytes: a value goes into the vault and into evidence, where documents do not belong.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Decodes one message: one sample per point, in order. `received` is the source time of messages without one.
#[must_use]
pub fn decode(points: &[PointSpec], payload: &[u8], received: Timestamp) -> Vec<Sample> {
    decode_message(points.iter(), payload, received).into_iter().map(|decoded| decoded.sample).collect()
}

/// A sample with the reason why it has no value, for the log.
pub(crate) struct Decoded {
    pub sample: Sample,
    pub fault: Option<DecodeFault>,
    pub has_source_time: bool,
}

pub(crate) fn decode_message<'s>(
    points: impl Iterator<Item = &'s PointSpec> + Clone,
    payload: &[u8],
    received: Timestamp,
) -> Vec<Decoded> {
    let payload = Payload { bytes: payload, json: OnceCell::new(), cbor: OnceCell::new() };
    let source_time = points.clone().find_map(|spec| match spec.address {
        Address::Mqtt { pointer: Some(_), .. } => payload.source_time(),
        Address::MqttCbor { .. } => payload.cbor().ok().and_then(cbor::source_time),
        _ => None,
    });
    let decode = |spec: &PointSpec| {
        let result = payload.value(spec);
        let fault = result.as_ref().err().cloned();
        let sample = Sample {
            seal: None,
            point: spec.id.clone(),
            quality: if result.is_ok() { Quality::Good } else { Quality::Bad },
            outcome: result.map_err(|fault| fault.reason()),
            unit: spec.unit.clone(),
            source_time: source_time.unwrap_or(received),
            received,
        };
        Decoded { sample, fault, has_source_time: source_time.is_some() }
    };
    points.map(decode).collect()
}

/// A value that came in another way than in a payload of its own: type, scale and range as the mapping wants them.
pub(crate) fn settled(spec: &PointSpec, value: Value) -> Result<Value, DecodeFault> {
    settle(spec, value)
}

/// Why a payload holds no value for a point. The text says what was asked and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    /// Larger than we look at.
    #[error("the payload has {bytes} bytes, allowed are {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// Not a text.
    #[error("the payload is not UTF-8 text; write a JSON pointer (`topic#/key`) only for JSON payloads")]
    NotUtf8,
    /// Not JSON, though the address has a pointer.
    #[error("the payload is not JSON: {0}")]
    NotJson(String),
    /// Not CBOR, though the address begins with `cbor:`.
    #[error("the payload is not CBOR: {0}")]
    NotCbor(String),
    /// The payload is empty.
    #[error("the payload is empty")]
    Empty,
    /// The pointer leads nowhere.
    #[error("there is no `{pointer}` in the payload; at the top there are: {found}")]
    Missing {
        /// The JSON pointer.
        pointer: String,
        /// What the payload has at its top level, cut after 80 characters.
        found: String,
    },
    /// A value of another type than the mapping says.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What the mapping says.
        expected: &'static str,
        /// What came, cut after 80 characters.
        found: String,
    },
    /// NaN, an infinity, or `null` where a number is expected.
    #[error("not a number: {0}")]
    NotANumber(String),
    /// A number that the type or the mapping's range does not allow.
    #[error("{found} is outside {lowest} to {highest}")]
    OutOfRange {
        /// What came.
        found: String,
        /// Lowest allowed.
        lowest: String,
        /// Highest allowed.
        highest: String,
    },
    /// A text longer than the mapping's `length` or our limit.
    #[error("the text has {bytes} bytes, allowed are {bytes_max}")]
    TextTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
}

impl DecodeFault {
    /// What the reading says instead of a value.
    #[must_use]
    pub const fn reason(&self) -> NoValue {
        match self {
            Self::NotANumber(_) => NoValue::NotANumber,
            Self::OutOfRange { .. } => NoValue::OutOfRange,
            Self::TooLarge { .. }
            | Self::NotUtf8
            | Self::NotJson(_)
            | Self::NotCbor(_)
            | Self::Empty
            | Self::Missing { .. }
            | Self::WrongType { .. }
            | Self::TextTooLong { .. } => NoValue::Nonsense,
        }
    }
}

/// One received payload, parsed at most once however many points look into it.
struct Payload<'p> {
    bytes: &'p [u8],
    json: OnceCell<Result<Json, DecodeFault>>,
    cbor: OnceCell<Result<ciborium::Value, DecodeFault>>,
}

impl Payload<'_> {
    fn value(&self, spec: &PointSpec) -> Result<Value, DecodeFault> {
        self.check_size()?;
        match &spec.address {
            Address::Mqtt { pointer: Some(pointer), .. } => convert::from_json(spec, self.at(pointer)?),
            Address::MqttCbor { pointer, .. } => {
                cbor::value(spec, cbor::at(self.cbor()?, pointer.as_deref().unwrap_or_default())?)
            }
            _ => self.raw(spec),
        }
    }

    fn check_size(&self) -> Result<(), DecodeFault> {
        let bytes = self.bytes.len();
        if bytes > PAYLOAD_BYTES_MAX { Err(DecodeFault::TooLarge { bytes }) } else { Ok(()) }
    }

    fn raw(&self, spec: &PointSpec) -> Result<Value, DecodeFault> {
        let text = std::str::from_utf8(self.bytes).map_err(|_| DecodeFault::NotUtf8)?;
        match spec.encoding {
            tally_model::Encoding::Text => settle(spec, Value::Text(text.to_owned())),
            _ if text.trim().is_empty() => Err(DecodeFault::Empty),
            tally_model::Encoding::Auto => settle(spec, natural_text(text)?),
            _ => settle(spec, Value::Text(text.to_owned())),
        }
    }

    fn json(&self) -> Result<&Json, DecodeFault> {
        self.check_size()?;
        let parse = || serde_json::from_slice(self.bytes).map_err(|fault| DecodeFault::NotJson(fault.to_string()));
        self.json.get_or_init(parse).as_ref().map_err(Clone::clone)
    }

    fn cbor(&self) -> Result<&ciborium::Value, DecodeFault> {
        self.check_size()?;
        self.cbor.get_or_init(|| cbor::parse(self.bytes)).as_ref().map_err(Clone::clone)
    }

    fn at(&self, pointer: &str) -> Result<&Json, DecodeFault> {
        let json = self.json()?;
        json.pointer(pointer)
            .ok_or_else(|| DecodeFault::Missing { pointer: pointer.to_owned(), found: convert::contents(json) })
    }

    fn source_time(&self) -> Option<Timestamp> {
        let timestamp = self.json().ok()?.as_object()?.get("timestamp")?;
        match timestamp {
            Json::String(text) => Timestamp::parse_rfc3339(text),
            Json::Number(number) => match number.as_i64() {
                Some(millis) => millis.checked_mul(1_000).map(Timestamp::from_micros),
                None => convert::micros_of_millis(number.as_f64()?).map(Timestamp::from_micros),
            },
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
