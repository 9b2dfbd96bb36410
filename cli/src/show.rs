//! Durations, instants and money as people write them. JSON output never passes through here: it stays exact.

use serde_json::Value;
use tally_contracts::{FieldType, minor_digits};
use tally_model::Timestamp;

/// Units of a duration in microseconds, largest first; `parse_duration` of the model reads them all.
const UNITS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Microseconds as `4h`, `1d 2h`, `30min`, `500ms`. Nothing is rounded away.
pub fn duration(micros: i64) -> String {
    let mut rest = micros.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, size) in UNITS {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    let text = if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") };
    if micros < 0 { format!("-{text}") } else { text }
}

/// Microseconds since the epoch as `2026-11-21 14:00:00 UTC`; what is below a second is cut off.
pub fn time(micros: i64) -> String {
    let exact = Timestamp::from_micros(micros).to_string();
    match exact.get(..19).and_then(|text| text.split_once('T')) {
        Some((day, clock)) => format!("{day} {clock} UTC"),
        // An instant beyond every calendar.
        None => exact,
    }
}

/// Minor units as people write them: `125000` and `EUR` → `1,250.00 EUR`, with the decimals of ISO 4217.
pub fn money(minor: i64, currency: &str) -> String {
    let digits = minor_digits(currency).unwrap_or(2);
    let scale = 10_u64.pow(digits);
    let (whole, part) = (minor.unsigned_abs() / scale, minor.unsigned_abs() % scale);
    let sign = if minor < 0 { "-" } else { "" };
    let decimals = if digits == 0 { String::new() } else { format!(".{part:0width$}", width = digits as usize) };
    format!("{sign}{}{decimals} {currency}", thousands(whole))
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A field of an agreement by its type in the contract; as it came when the type is not known.
pub fn field(kind: Option<FieldType>, value: &Value, currency: &str) -> String {
    match (kind, value.as_i64()) {
        (Some(FieldType::Money), Some(minor)) => money(minor, currency),
        (Some(FieldType::Duration), Some(micros)) => duration(micros),
        (Some(FieldType::Time), Some(micros)) => time(micros),
        _ => word(value),
    }
}

/// One line without control characters: what is shown was written by others, and a terminal obeys escapes.
pub fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{b7}' } else { letter }).collect()
}

/// The same for texts of several lines.
pub fn lines(text: &str) -> String {
    text.lines().map(one_line).collect::<Vec<_>>().join("\n")
}

/// A JSON value without quotes; `-` for what is not there or empty.
pub fn word(value: &Value) -> String {
    let joined = |items: &[Value]| items.iter().map(word).collect::<Vec<_>>().join(", ");
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::String(text) => one_line(text),
        Value::Array(items) => joined(items),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_written_as_in_mappings_and_contracts() {
        for text in ["0s", "500ms", "10s", "30min", "4h", "1d 2h", "1h 30min 1ms 7us"] {
            let read = tally_model::parse_duration(text).unwrap();
            assert_eq!(duration(i64::try_from(read.as_micros()).unwrap()), text);
        }
        assert_eq!(duration(-90_000_000), "-1min 30s");
        // Any number is read back as it was.
        let mut micros = 1_i64;
        while let Some(next) = micros.checked_mul(7) {
            let read = tally_model::parse_duration(&duration(micros)).unwrap();
            assert_eq!(read.as_micros(), u128::from(micros.unsigned_abs()));
            micros = next;
        }
    }

    #[test]
    fn instants_are_in_utc_to_the_second() {
        assert_eq!(time(1_795_269_600_999_999), "2026-11-21 14:00:00 UTC");
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert!(!time(i64::MAX).is_empty() && !time(i64::MIN).is_empty());
    }

    #[test]
    fn money_is_written_with_the_decimals_of_its_currency() {
        for (minor, currency, expected) in [
            (125_000, "EUR", "1,250.00 EUR"),
            (90_005, "EUR", "900.05 EUR"),
            (-5, "EUR", "-0.05 EUR"),
            (0, "EUR", "0.00 EUR"),
            (90_005, "JPY", "90,005 JPY"),
            (90_005, "KWD", "90.005 KWD"),
            (-123_456_789_000, "USD", "-1,234,567,890.00 USD"),
            (i64::MIN, "EUR", "-92,233,720,368,547,758.08 EUR"),
        ] {
            assert_eq!(money(minor, currency), expected);
        }
    }

    #[test]
    fn fields_are_shown_by_their_type() {
        let hours = json!(14_400_000_000_i64);
        assert_eq!(field(Some(FieldType::Duration), &hours, "EUR"), "4h");
        assert_eq!(field(Some(FieldType::Money), &json!(90_000), "EUR"), "900.00 EUR");
        assert_eq!(field(Some(FieldType::Integer), &json!(90_000), "EUR"), "90000");
        assert_eq!(field(None, &hours, "EUR"), "14400000000");
        assert_eq!(field(Some(FieldType::List), &json!(["tom", "tina"]), "EUR"), "tom, tina");
        assert_eq!(field(Some(FieldType::Text), &json!(""), "EUR"), "-");
    }
}
