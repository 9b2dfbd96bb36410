//! Times and windows as people write them.

use chrono::{DateTime, Months, Utc};
use tally_model::{Timestamp, parse_duration};

/// Reads an instant: RFC 3339, or whole microseconds since the epoch.
#[must_use]
pub fn instant(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| Timestamp::parse_rfc3339(text).map(Timestamp::as_micros))
}

/// When a window such as `2mo`, `1y`, `3w`, `30d` or `12h` that ends `now` began. Months and years are those of the calendar: one
/// month before 31 March is the last day of February. `None` when it is no such thing.
#[must_use]
pub fn reaching_back(now: Timestamp, text: &str) -> Option<Timestamp> {
    let months = |digits: &str, each: u32| {
        let months = digits.parse::<u32>().ok()?.checked_mul(each)?;
        let now = DateTime::<Utc>::from_timestamp_micros(now.as_micros())?;
        Some(Timestamp::from_micros(now.checked_sub_months(Months::new(months))?.timestamp_micros()))
    };
    if let Some(digits) = text.strip_suffix("mo") {
        return months(digits, 1);
    }
    if let Some(digits) = text.strip_suffix('y') {
        return months(digits, 12);
    }
    if let Some(digits) = text.strip_suffix('w') {
        let days = digits.parse::<u64>().ok()?.checked_mul(7)?;
        return parse_duration(&format!("{days}d")).ok().map(|duration| now.minus(duration));
    }
    parse_duration(text).ok().map(|duration| now.minus(duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn windows_as_people_write_them() {
        let now = Timestamp::parse_rfc3339("2026-03-31T10:00:00Z").unwrap();
        for (text, begin) in [
            ("1mo", "2026-02-28T10:00:00Z"),
            ("2mo", "2026-01-31T10:00:00Z"),
            ("1y", "2025-03-31T10:00:00Z"),
            ("2w", "2026-03-17T10:00:00Z"),
            ("30d", "2026-03-01T10:00:00Z"),
            ("90min", "2026-03-31T08:30:00Z"),
        ] {
            assert_eq!(reaching_back(now, text), Timestamp::parse_rfc3339(begin), "{text}");
        }
        for text in ["", "mo", "-1mo", "1 mo", "month", "99999999999mo", "1.5y", "w", "4294967295y"] {
            assert_eq!(reaching_back(now, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,20}", at in any::<i64>()) {
            let _ = reaching_back(Timestamp::from_micros(at), &text);
            let _ = instant(&text);
        }

        #[test]
        fn numbers_neither(number in any::<u64>(), unit in "mo|y|w|d|h|min|s|ms", at in any::<i64>()) {
            let _ = reaching_back(Timestamp::from_micros(at), &format!("{number}{unit}"));
        }
    }
}
