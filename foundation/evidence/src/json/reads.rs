//! What a byte string says, for people: names for labels, times as RFC 3339, readings with their parts named.

use crate::cbor::{self, Cbor};
use crate::{VerifyingKey, decode_reading};
use serde_json::{Map, Value as Json, json};
use tally_model::{DeviceId, Reading, Timestamp};

/// Whole numbers up to here are the same in every JSON program (RFC 8259 §6); greater ones are shown as text.
const EXACT_MAX: i128 = (1 << 53) - 1;
/// Lengths of salts, hashes, signatures and keys: never looked into, though they might be CBOR by chance.
const PLAIN: [usize; 4] = [16, 32, 64, 65];
/// How many byte strings inside each other are looked into: a rule in a payload in a statement are three.
const DEEP: u8 = 4;

/// What a value is, as far as it changes how it is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    /// Microseconds.
    Time,
    /// Seconds.
    Seconds,
    Header,
    Claims,
    Proofs,
    Trigger,
    Call,
    Anchor,
    Gap,
    Checkpoint,
    Outcome,
    Disclosure,
    Parts,
}

impl Kind {
    /// Of a field, of what it stands in.
    fn of_field(self, key: &str) -> Self {
        match (self, key) {
            (Self::Trigger | Self::Call, "at") | (Self::Checkpoint, "time") | (Self::Outcome, "due") => Self::Time,
            (Self::Anchor, "received" | "source") | (Self::Gap, "from" | "to") => Self::Time,
            (Self::Anchor, "gaps") => Self::Gap,
            (Self::Disclosure, "parts") => Self::Parts,
            (Self::Header, "claims") => Self::Claims,
            (Self::Header, "proofs") => Self::Proofs,
            (Self::Claims, "iat") => Self::Seconds,
            _ => Self::Any,
        }
    }

    /// Of the payload, by the content type (COSE header 3).
    fn of_content(content: Option<&str>) -> Self {
        let kind = content.and_then(|content| content.strip_prefix("application/vnd.tallystick."));
        match kind.and_then(|kind| kind.strip_suffix("+cbor")) {
            Some("trigger") => Self::Trigger,
            Some("call") => Self::Call,
            Some("anchor") => Self::Anchor,
            Some("checkpoint") => Self::Checkpoint,
            _ => Self::Any,
        }
    }

    /// Names of COSE header labels (RFC 9052 §3.1, RFC 9597, RFC 9942 §2) and CWT claims (RFC 8392 §3.1).
    fn label(self, label: i128) -> Option<&'static str> {
        Some(match (self, label) {
            (Self::Header, 1) => "alg",
            (Self::Header, 3) => "content-type",
            (Self::Header, 4) => "kid",
            (Self::Header, 15) => "claims",
            (Self::Header, 395) => "tree",
            (Self::Header, 396) => "proofs",
            (Self::Claims, 1) => "iss",
            (Self::Claims, 2) => "sub",
            (Self::Claims, 3) => "aud",
            (Self::Claims, 6) => "iat",
            (Self::Proofs, -1) => "inclusion",
            (Self::Proofs, -2) => "consistency",
            _ => return None,
        })
    }
}

/// What the byte string in the field `name` says; `None`: nothing but its bytes.
pub(super) fn reads(name: Option<&str>, bytes: &[u8]) -> Option<Json> {
    if name == Some("key")
        && let Ok(key) = VerifyingKey::from_sec1(bytes)
    {
        return Some(json!({"thumbprint": key.id().to_string()}));
    }
    let kind = match name {
        Some("outcome") => Kind::Outcome,
        Some("disclosure") => Kind::Disclosure,
        // Of a batched trigger.
        Some("body") => Kind::Trigger,
        _ => Kind::Any,
    };
    inside(bytes, DEEP).map(|(value, deep)| show(kind, deep, &value))
}

/// The item in `bytes`, if it is one of several parts, and how much deeper one may look.
fn inside(bytes: &[u8], deep: u8) -> Option<(Cbor, u8)> {
    let deep = deep.checked_sub(1)?;
    let value = if PLAIN.contains(&bytes.len()) { None } else { cbor::decode(bytes).ok() };
    value.filter(|value| matches!(value, Cbor::Map(_) | Cbor::Array(_) | Cbor::Tag(..))).map(|value| (value, deep))
}

fn show(kind: Kind, deep: u8, value: &Cbor) -> Json {
    match value {
        Cbor::Bool(flag) => (*flag).into(),
        Cbor::Text(text) => text.clone().into(),
        Cbor::Float(number) => (*number).into(),
        Cbor::Integer(number) => show_number(kind, i128::from(*number)),
        Cbor::Bytes(bytes) => {
            inside(bytes, deep).map_or_else(|| hex::encode(bytes).into(), |(value, deep)| show(kind, deep, &value))
        }
        Cbor::Tag(18, inner) => show_sign1(deep, inner),
        Cbor::Tag(tag, inner) => json!({"tag": tag, "value": show(Kind::Any, deep, inner)}),
        Cbor::Array(items) if kind == Kind::Parts => items.iter().map(|part| show_part(deep, part)).collect(),
        Cbor::Array(items) => items.iter().map(|item| show(kind, deep, item)).collect(),
        Cbor::Map(pairs) => show_map(kind, deep, pairs),
        _ => Json::Null,
    }
}

fn show_number(kind: Kind, number: i128) -> Json {
    let micros = match kind {
        Kind::Time => i64::try_from(number).ok(),
        Kind::Seconds => i64::try_from(number.saturating_mul(1_000_000)).ok(),
        _ => None,
    };
    match (micros, i64::try_from(number)) {
        (Some(micros), _) => Timestamp::from_micros(micros).to_string().into(),
        (None, Ok(small)) if number.abs() <= EXACT_MAX => small.into(),
        _ => number.to_string().into(),
    }
}

fn show_map(kind: Kind, deep: u8, pairs: &[(Cbor, Cbor)]) -> Json {
    let mut members = Map::new();
    for (key, value) in pairs {
        let key = match key {
            Cbor::Text(text) => text.clone(),
            Cbor::Integer(label) => {
                let label = i128::from(*label);
                kind.label(label).map_or_else(|| label.to_string(), str::to_owned)
            }
            other => show(Kind::Any, deep, other).to_string(),
        };
        let shown = match (kind, key.as_str(), value) {
            (Kind::Header, "alg", value) if *value == cbor::int(-7) => "ES256".into(),
            (_, _, value) => show(kind.of_field(&key), deep, value),
        };
        members.insert(key, shown);
    }
    Json::Object(members)
}

/// `COSE_Sign1` (RFC 9052 §4.2) with its parts named.
fn show_sign1(deep: u8, sign1: &Cbor) -> Json {
    let Some([protected, unprotected, payload, signature]) = sign1.as_array().and_then(|items| items.as_array()) else {
        return show(Kind::Any, deep, sign1);
    };
    let header = protected.as_bytes().and_then(|bytes| inside(bytes, deep)).map(|(header, _)| header);
    let pairs = header.as_ref().and_then(Cbor::as_map);
    let content = pairs.and_then(|pairs| pairs.iter().find(|(label, _)| *label == cbor::int(3)));
    let content = content.and_then(|(_, content)| content.as_text());
    json!({
        "protected": header.as_ref().map_or(Json::Null, |header| show(Kind::Header, deep, header)),
        "unprotected": show(Kind::Header, deep, unprotected),
        "payload": show(Kind::of_content(content), deep, payload),
        "signature": show(Kind::Any, deep, signature),
    })
}

/// A part of a disclosure: `[salt, reading]` or `[count, hash]`.
fn show_part(deep: u8, part: &Cbor) -> Json {
    match part.as_array().map(Vec::as_slice) {
        Some([Cbor::Integer(count), Cbor::Bytes(hash)]) => {
            json!({"hidden": show_number(Kind::Any, i128::from(*count)), "hash": hex::encode(hash)})
        }
        Some([Cbor::Bytes(salt), Cbor::Bytes(reading)]) => {
            json!({"salt": hex::encode(salt), "reading": show_reading(deep, reading)})
        }
        _ => show(Kind::Any, deep, part),
    }
}

fn show_reading(deep: u8, bytes: &[u8]) -> Json {
    // The device is not in the bytes; any serves to read them.
    let read = DeviceId::try_new("device").ok().and_then(|device| decode_reading(&device, bytes).ok());
    let Some((Reading { number, sample, .. }, point_number)) = read else {
        return show(Kind::Any, deep, &cbor::bytes(bytes));
    };
    let mut shown = json!({
        "number": show_number(Kind::Any, number.into()),
        "point": sample.point.as_str(),
        "point-number": show_number(Kind::Any, point_number.into()),
        "unit": sample.unit.as_str(),
        "quality": sample.quality,
        "source-time": sample.source_time.to_string(),
        "received": sample.received.to_string(),
    });
    match &sample.outcome {
        Ok(value) => shown["value"] = show(Kind::Any, deep, &cbor::from_value(value)),
        Err(reason) => shown["no-value"] = json!(reason),
    }
    shown
}
