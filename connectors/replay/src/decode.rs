//! From a cell to a value, by what the point says it is.

use tally_model::{Encoding, NoValue, Outcome, PointSpec, Value, ValueKind};

/// The value of a cell, or why it is none; `Err` when the cell is not even of the point's kind, with what would be.
///
/// # Errors
/// What is expected, for people.
pub fn value_of(spec: &PointSpec, text: &str) -> Result<Outcome, &'static str> {
    let text = text.trim();
    let value = match spec.kind() {
        Some(ValueKind::Bool) => flag(text).ok_or("a flag (`true`, `false`, `1`, `0`)")?,
        Some(ValueKind::Integer) => integer(spec.encoding, text).ok_or("a whole number that fits the type")?,
        Some(ValueKind::Float) => match text.parse().map(Value::from_f64).map_err(|_| "a number")? {
            Ok(value) => value,
            Err(reason) => return Ok(Err(reason)),
        },
        Some(ValueKind::Text) => Value::Text(text.to_owned()),
        None => guessed(text),
    };
    Ok(in_range(spec, value))
}

fn flag(text: &str) -> Option<Value> {
    match text {
        "true" | "1" => Some(Value::Bool(true)),
        "false" | "0" => Some(Value::Bool(false)),
        _ => None,
    }
}

fn integer(encoding: Encoding, text: &str) -> Option<Value> {
    let number: i128 = text.parse().ok()?;
    let (lowest, highest) = match encoding {
        Encoding::U16 => (0, i128::from(u16::MAX)),
        Encoding::I16 => (i128::from(i16::MIN), i128::from(i16::MAX)),
        Encoding::U32 => (0, i128::from(u32::MAX)),
        Encoding::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Encoding::U64 => (0, i128::from(u64::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    if !(lowest..=highest).contains(&number) {
        return None;
    }
    i64::try_from(number).map(Value::Integer).ok().or_else(|| u64::try_from(number).ok().map(Value::from_u64))
}

/// A recording without a type: a flag, a whole number, a decimal number, else a text.
fn guessed(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text
            .parse()
            .map(Value::Integer)
            .or_else(|_| text.parse().map(Value::from_u64))
            .ok()
            .or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float))
            .unwrap_or_else(|| Value::Text(text.to_owned())),
    }
}

fn in_range(spec: &PointSpec, value: Value) -> Outcome {
    match (spec.range, value.as_f64()) {
        (Some((lowest, highest)), Some(number)) if number < lowest || number > highest => Err(NoValue::OutOfRange),
        _ => Ok(value),
    }
}
