//! ISO 4217: the codes in use and the digits of their minor units.

/// Codes whose minor unit has another number of digits than two.
const DIGITS: [(&str, u32); 26] = [
    ("BHD", 3),
    ("BIF", 0),
    ("CLF", 4),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYI", 0),
    ("UYW", 4),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
];

/// Codes with two digits.
const TWO: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE \
    CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF \
    IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV \
    MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP \
    STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG";

/// Digits of the minor unit; `None` for what is no currency code.
#[must_use]
pub fn minor_digits(code: &str) -> Option<u32> {
    let special = DIGITS.iter().find(|(known, _)| *known == code).map(|(_, digits)| *digits);
    special.or_else(|| TWO.split_ascii_whitespace().any(|known| known == code).then_some(2))
}

/// `1000.00` in minor units; whole and decimal digits only, exactly as many decimals as the currency has, or none.
#[must_use]
pub fn parse_amount(text: &str, code: &str) -> Option<i64> {
    let digits = minor_digits(code)?;
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let right_length = decimals.is_empty() && !text.ends_with('.') || decimals.len() == digits as usize;
    if whole.is_empty() || !all_digits(whole) || !all_digits(decimals) || !right_length {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let minor: i64 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
    whole.checked_mul(10_i64.checked_pow(digits)?)?.checked_add(minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        assert_eq!(parse_amount("1000.00", "EUR"), Some(100_000));
        assert_eq!(parse_amount("1000", "EUR"), Some(100_000));
        assert_eq!(parse_amount("1000", "JPY"), Some(1000));
        assert_eq!(parse_amount("1.234", "KWD"), Some(1234));
        for (text, code) in [
            ("1000.0", "EUR"),
            ("1000.", "EUR"),
            ("1.00", "JPY"),
            ("-1", "EUR"),
            ("1", "EURO"),
            ("", "EUR"),
            ("1e3", "EUR"),
            ("99999999999999999999", "EUR"),
        ] {
            assert_eq!(parse_amount(text, code), None, "{text} {code}");
        }
    }
}
