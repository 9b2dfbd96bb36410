//! From a value to what a device is told: the way back of [`crate::decode()`], for the writing half. Pure.

use crate::decode::{DecodeFault, settled};
use serde_json::Value as Json;
use tally_model::{Encoding, MqttCommand, PointSpec, Value};

/// Whole numbers up to here have a double of their own: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Why a value cannot be said to a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeFault {
    /// The point takes another kind of value, or cannot hold it.
    #[error("`{point}` cannot be told `{found}`: {reason}")]
    Value {
        /// Which point.
        point: String,
        /// What was to be said.
        found: String,
        /// Why not.
        reason: String,
    },
    /// The mapping does not say how the device is told values.
    #[error("the mapping says no topic on which `{0}` takes values")]
    NoCommand(String),
}

/// The payload that tells a device `value`, in the form that the mapping says.
///
/// # Errors
/// [`EncodeFault`]. Nothing is rounded but by the scale, where a number between two raw numbers becomes the nearer one.
pub fn encode(spec: &PointSpec, value: &Value) -> Result<Vec<u8>, EncodeFault> {
    let command = spec.options.command.as_ref().ok_or_else(|| EncodeFault::NoCommand(spec.id.to_string()))?;
    let raw = raw(spec, value)?;
    Ok(payload(command, &raw).into_bytes())
}

fn payload(command: &MqttCommand, raw: &Value) -> String {
    let said = match raw {
        Value::Text(text) if !is_json(&command.payload) => text.clone(),
        raw => json(raw).to_string(),
    };
    command.payload.replace(MqttCommand::PLACE, &said)
}

/// Whether the value stands inside of JSON; alone, it goes as it is.
fn is_json(payload: &str) -> bool {
    payload.trim() != MqttCommand::PLACE
        && serde_json::from_str::<Json>(&payload.replace(MqttCommand::PLACE, "0")).is_ok()
}

fn json(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => Json::from(*flag),
        Value::Integer(number) => Json::from(*number),
        Value::Unsigned(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Text(text) => Json::from(text.as_str()),
    }
}

/// The value before scale and offset. What the point would not read back as a value cannot be said.
pub(crate) fn raw(spec: &PointSpec, value: &Value) -> Result<Value, EncodeFault> {
    let fault = |reason: String| EncodeFault::Value { point: spec.id.to_string(), found: value.to_string(), reason };
    let is_kind = match (spec.encoding, value) {
        (Encoding::Auto, Value::Bool(_) | Value::Text(_)) => !spec.is_scaled(),
        (Encoding::Auto, _) => true,
        (Encoding::Bool, value) => matches!(value, Value::Bool(_)),
        (encoding, Value::Text(_)) => encoding.is_text(),
        (_, Value::Bool(_)) => false,
        (encoding, _) => !encoding.is_text(),
    };
    if !is_kind {
        return Err(fault("it takes another kind of value".to_owned()));
    }
    let raw = unscaled(spec, value);
    let held = settled(spec, raw.clone()).map_err(|found: DecodeFault| fault(found.to_string()))?;
    // A text that is cut when it is read would never read back as what was written.
    match (&held, value) {
        (Value::Text(held), Value::Text(wanted)) if held != wanted => Err(fault(format!("it would read `{held}`"))),
        _ => Ok(raw),
    }
}

#[allow(clippy::cast_possible_truncation)] // checked to be exact
fn unscaled(spec: &PointSpec, value: &Value) -> Value {
    let Some(number) = value.as_f64().filter(|_| !matches!(value, Value::Bool(_))) else { return value.clone() };
    let raw = if spec.is_scaled() { (number - spec.offset) / spec.scale } else { number };
    let whole = |number: f64| Value::Integer(number as i64);
    match spec.encoding {
        Encoding::F16 | Encoding::F32 | Encoding::F64 => Value::Float(raw),
        Encoding::Auto if !spec.is_scaled() => value.clone(),
        Encoding::Auto if raw.fract() == 0.0 && raw.abs() <= EXACT_MAX => whole(raw),
        Encoding::Auto => Value::Float(raw),
        _ if spec.is_scaled() && raw.abs() <= EXACT_MAX => whole(raw.round()),
        _ if matches!(value, Value::Float(_)) && raw.fract() == 0.0 && raw.abs() <= EXACT_MAX => whole(raw),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;
    use crate::decode::tests::spec;
    use proptest::prelude::*;
    use std::sync::Arc;
    use tally_model::Timestamp;

    fn point(at: &str, encoding: Encoding, payload: &str) -> PointSpec {
        let mut point = PointSpec { encoding, ..spec("position", at) };
        let command = MqttCommand { topic: "valve/set".into(), payload: payload.into() };
        point.options.command = Some(Arc::new(command));
        point
    }

    fn said(point: &PointSpec, value: Value) -> String {
        String::from_utf8(encode(point, &value).unwrap()).unwrap()
    }

    #[test]
    fn values_stand_where_the_payload_says() {
        let plain = point("valve/state", Encoding::F64, "{value}");
        assert_eq!(said(&plain, Value::Integer(42)), "42.0");
        let json = point("valve/state#/position", Encoding::Auto, r#"{"position": {value}, "why": "permit"}"#);
        assert_eq!(said(&json, Value::Float(42.5)), r#"{"position": 42.5, "why": "permit"}"#);
        assert_eq!(said(&json, Value::Text("a \"b\"".into())), r#"{"position": "a \"b\"", "why": "permit"}"#);
        assert_eq!(said(&point("lamp", Encoding::Text, "{value}"), Value::Text("ON".into())), "ON");
        assert_eq!(said(&point("lamp", Encoding::Text, "SET {value}"), Value::Text("ON".into())), "SET ON");
        assert_eq!(said(&point("lamp", Encoding::Bool, "{value}"), Value::Bool(true)), "true");
    }

    #[test]
    fn scale_and_type_are_undone_or_refused() {
        let tenths = PointSpec { scale: 0.1, range: Some((0.0, 100.0)), ..point("t", Encoding::U16, "{value}") };
        assert_eq!(said(&tenths, Value::Float(42.3)), "423");
        for wrong in [Value::Float(100.5), Value::Bool(true), Value::Text("42".into())] {
            assert!(encode(&tenths, &wrong).is_err(), "{wrong}");
        }
        let whole = point("t", Encoding::U8, "{value}");
        assert_eq!(said(&whole, Value::Float(7.0)), "7");
        assert!(encode(&whole, &Value::Float(7.5)).is_err() && encode(&whole, &Value::Integer(256)).is_err());
        assert!(encode(&point("lamp", Encoding::Bool, "{value}"), &Value::Integer(1)).is_err());
        assert!(encode(&point("t", Encoding::Text, "{value}"), &Value::Text("cut \n".into())).is_err());
        assert!(matches!(encode(&spec("position", "t"), &Value::Integer(1)), Err(EncodeFault::NoCommand(_))));
    }

    proptest! {
        /// A device that repeats what it is told is read as what was meant.
        #[test]
        fn what_is_said_reads_back(number in -1e6..1e6_f64, scale in 1e-3..1e3_f64, offset in -1e3..1e3_f64) {
            let point = PointSpec { scale, offset, ..point("t", Encoding::F64, "{value}") };
            let payload = encode(&point, &Value::Float(number)).unwrap();
            let sample = decode(&[point], &payload, Timestamp::default()).remove(0);
            let Ok(Value::Float(read)) = sample.outcome else { panic!("{sample:?}") };
            prop_assert!((read - number).abs() <= 1e-6 * number.abs().max(1e3), "{} {}", read, number);
        }

        #[test]
        fn any_text_stays_one_text_of_the_json(text in ".{0,40}") {
            let point = point("t#/v", Encoding::Text, r#"{"v": {value}}"#);
            if let Ok(payload) = encode(&point, &Value::Text(text.clone())) {
                let json: Json = serde_json::from_slice(&payload).unwrap();
                prop_assert_eq!(json, serde_json::json!({"v": text}));
            }
        }
    }
}
