//! From what a payload holds to what the mapping wants: types, limits of types, scale, range.

use super::{DecodeFault, TEXT_BYTES_MAX};
use serde_json::Value as Json;
use tally_model::{Encoding, PointSpec, Value};

/// The value of a point that was found in JSON.
pub(super) fn from_json(spec: &PointSpec, json: &Json) -> Result<Value, DecodeFault> {
    match json {
        Json::Null if wants_number(spec) => Err(DecodeFault::NotANumber("null".into())),
        Json::Null | Json::Array(_) | Json::Object(_) => Err(wrong_type(wanted(spec), &contents(json))),
        Json::Bool(flag) => settle(spec, Value::Bool(*flag)),
        Json::String(text) => settle(spec, Value::Text(text.clone())),
        Json::Number(number) => settle(spec, natural_number(number)?),
    }
}

fn natural_number(number: &serde_json::Number) -> Result<Value, DecodeFault> {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(signed), _, _) => Ok(Value::Integer(signed)),
        (None, Some(unsigned), _) => Ok(Value::from_u64(unsigned)),
        (None, None, Some(float)) if float.is_finite() => Ok(Value::Float(float)),
        _ => Err(DecodeFault::NotANumber(short(&number.to_string()))),
    }
}

/// The natural type of a raw text: number, then flag, else text.
pub(super) fn natural_text(text: &str) -> Result<Value, DecodeFault> {
    let trimmed = text.trim();
    if let Ok(number) = trimmed.parse::<i64>() {
        return Ok(Value::Integer(number));
    }
    if let Ok(number) = trimmed.parse::<u64>() {
        return Ok(Value::from_u64(number));
    }
    match trimmed.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Float(number)),
        Ok(_) => Err(DecodeFault::NotANumber(short(trimmed))),
        Err(_) if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        Err(_) if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        Err(_) => Ok(Value::Text(text.to_owned())),
    }
}

/// Makes of a natural value what the mapping wants: its type, then scale and offset, then the range.
pub(super) fn settle(spec: &PointSpec, value: Value) -> Result<Value, DecodeFault> {
    let value = match spec.encoding {
        Encoding::Auto => value,
        Encoding::Bool => return flag(value),
        Encoding::Text | Encoding::TextLow | Encoding::TextHigh => return text(spec, value.to_string()),
        Encoding::F16 | Encoding::F32 | Encoding::F64 => Value::Float(float(value)?),
        Encoding::U8 => integer(value, 0, i128::from(u8::MAX))?,
        Encoding::I8 => integer(value, i128::from(i8::MIN), i128::from(i8::MAX))?,
        Encoding::Bcd16 => integer(value, 0, 9_999)?,
        Encoding::Bcd32 => integer(value, 0, 99_999_999)?,
        Encoding::Bcd64 => integer(value, 0, 9_999_999_999_999_999)?,
        Encoding::U16 => integer(value, 0, i128::from(u16::MAX))?,
        Encoding::I16 => integer(value, i128::from(i16::MIN), i128::from(i16::MAX))?,
        Encoding::U32 => integer(value, 0, i128::from(u32::MAX))?,
        Encoding::I32 => integer(value, i128::from(i32::MIN), i128::from(i32::MAX))?,
        Encoding::U64 => integer(value, 0, i128::from(u64::MAX))?,
        Encoding::I64 => integer(value, i128::from(i64::MIN), i128::from(i64::MAX))?,
    };
    match value {
        // A sensor that says "--" where the mapping gives a range or a scale has no number to say.
        Value::Text(found) if wants_number(spec) => Err(wrong_type("a number", &format!("the text `{found}`"))),
        Value::Text(found) => text(spec, found),
        Value::Bool(_) => Ok(value),
        number => in_range(spec, scaled(spec, number)?),
    }
}

/// Whether only a number makes sense, by type, scale or range.
pub(super) fn wants_number(spec: &PointSpec) -> bool {
    match spec.encoding {
        Encoding::Bool | Encoding::Text => false,
        Encoding::Auto => spec.is_scaled() || spec.range.is_some(),
        _ => true,
    }
}

pub(super) fn wanted(spec: &PointSpec) -> &'static str {
    match spec.encoding {
        Encoding::Bool => "a flag",
        Encoding::Text => "a text",
        Encoding::Auto if !wants_number(spec) => "a number, a flag or a text",
        _ => "a number",
    }
}

fn flag(value: Value) -> Result<Value, DecodeFault> {
    let is_word = |word: &str, words: [&str; 3]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    match &value {
        Value::Bool(_) => Ok(value),
        Value::Integer(0) => Ok(Value::Bool(false)),
        Value::Integer(1) => Ok(Value::Bool(true)),
        Value::Text(text) if is_word(text.trim(), ["true", "on", "1"]) => Ok(Value::Bool(true)),
        Value::Text(text) if is_word(text.trim(), ["false", "off", "0"]) => Ok(Value::Bool(false)),
        other => Err(wrong_type("a flag", &format!("`{other}`"))),
    }
}

fn text(spec: &PointSpec, found: String) -> Result<Value, DecodeFault> {
    let text = found.trim_end_matches(['\0', ' ', '\n', '\r']);
    let bytes_max = if spec.length == 0 { TEXT_BYTES_MAX } else { usize::from(spec.length).min(TEXT_BYTES_MAX) };
    if text.len() > bytes_max {
        return Err(DecodeFault::TextTooLong { bytes: text.len(), bytes_max });
    }
    Ok(Value::Text(text.to_owned()))
}

fn float(value: Value) -> Result<f64, DecodeFault> {
    let number = match &value {
        Value::Text(text) => text.trim().parse().ok(),
        Value::Bool(_) => None,
        number => number.as_f64(),
    };
    match number {
        Some(number) if f64::is_finite(number) => Ok(number),
        Some(_) => Err(DecodeFault::NotANumber(short(&value.to_string()))),
        None => Err(wrong_type("a number", &format!("`{value}`"))),
    }
}

fn integer(value: Value, lowest: i128, highest: i128) -> Result<Value, DecodeFault> {
    let number = match &value {
        Value::Integer(number) => i128::from(*number),
        Value::Unsigned(number) => i128::from(*number),
        Value::Text(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => whole(float(value)?)?,
        },
        _ => whole(float(value)?)?,
    };
    if number < lowest || number > highest {
        return Err(out_of_range(number, lowest, highest));
    }
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(signed), _) => Ok(Value::Integer(signed)),
        (Err(_), Ok(unsigned)) => Ok(Value::from_u64(unsigned)),
        (Err(_), Err(_)) => Err(out_of_range(number, lowest, highest)),
    }
}

#[allow(clippy::cast_possible_truncation)] // has no fraction; what exceeds i128 saturates and is out of range later
fn whole(number: f64) -> Result<i128, DecodeFault> {
    if number.fract() == 0.0 {
        return Ok(number as i128);
    }
    Err(wrong_type("a whole number", &number.to_string()))
}

/// Integers stay integers unless scaled; scaling happens in doubles.
fn scaled(spec: &PointSpec, value: Value) -> Result<Value, DecodeFault> {
    match value.as_f64() {
        Some(number) if spec.is_scaled() => Value::from_f64(number * spec.scale + spec.offset)
            .map_err(|_| DecodeFault::NotANumber(format!("{number} after scaling"))),
        _ => Ok(value),
    }
}

fn in_range(spec: &PointSpec, value: Value) -> Result<Value, DecodeFault> {
    match (spec.range, value.as_f64()) {
        (Some((lowest, highest)), Some(number)) if number < lowest || number > highest => {
            Err(out_of_range(number, lowest, highest))
        }
        _ => Ok(value),
    }
}

fn out_of_range<T: ToString>(found: T, lowest: T, highest: T) -> DecodeFault {
    DecodeFault::OutOfRange { found: found.to_string(), lowest: lowest.to_string(), highest: highest.to_string() }
}

pub(super) fn wrong_type(expected: &'static str, found: &str) -> DecodeFault {
    DecodeFault::WrongType { expected, found: short(found) }
}

/// What a JSON value is, for people: the keys of an object, else the kind.
pub(super) fn contents(json: &Json) -> String {
    match json {
        Json::Object(map) => {
            let keys: Vec<_> = map.keys().take(10).map(String::as_str).collect();
            short(&format!("an object with {} keys ({})", map.len(), keys.join(", ")))
        }
        Json::Array(list) => format!("an array of {}", list.len()),
        Json::Null => "null".into(),
        other => short(&other.to_string()),
    }
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Milliseconds with a fraction as whole microseconds; `None` beyond what a timestamp holds.
#[allow(clippy::cast_possible_truncation)] // the fraction below a microsecond is meant to go
pub(super) fn micros_of_millis(millis: f64) -> Option<i64> {
    // 2^63 microseconds are some 292,000 years.
    let micros = millis * 1_000.0;
    (micros.abs() < 9.2e18).then_some(micros as i64)
}
