//! CBOR payloads (RFC 8949): the way to a value, and what it is there.
//!
//! A way is a JSON pointer (RFC 6901): keys of maps that are texts are named by themselves, keys that are whole numbers by
//! their digits (SenML and COSE have such), places of arrays by their index. Tags are looked through.
//!
//! Limits: one value and nothing behind it, 64 levels deep, the payload's size. Two keys that read alike: the first counts.

use super::DecodeFault;
use super::convert::{micros_of_millis, settle, short, wanted, wants_number, wrong_type};
use ciborium::Value as Cbor;
use tally_model::{PointSpec, Timestamp, Value};

/// Deepest nesting: what sensors send has three or four levels.
const DEPTH_MAX: usize = 64;

/// Reads a payload.
pub(super) fn parse(bytes: &[u8]) -> Result<Cbor, DecodeFault> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX)
        .map_err(|fault| DecodeFault::NotCbor(short(&fault.to_string())))?;
    match rest.len() {
        0 => Ok(value),
        more => Err(DecodeFault::NotCbor(format!("{more} bytes more behind the value"))),
    }
}

/// What is at `pointer`; the whole document at the empty one.
pub(super) fn at<'c>(document: &'c Cbor, pointer: &str) -> Result<&'c Cbor, DecodeFault> {
    let missing = || DecodeFault::Missing { pointer: pointer.to_owned(), found: contents(document) };
    let mut place = untagged(document);
    for token in pointer.split('/').skip(1) {
        let key = token.replace("~1", "/").replace("~0", "~");
        place = untagged(step(place, &key).ok_or_else(missing)?);
    }
    Ok(place)
}

fn step<'c>(place: &'c Cbor, key: &str) -> Option<&'c Cbor> {
    match place {
        Cbor::Map(entries) => {
            let is_key = |found: &Cbor| match untagged(found) {
                Cbor::Text(text) => text == key,
                Cbor::Integer(found) => i128::from(*found).to_string() == key,
                _ => false,
            };
            entries.iter().find(|(found, _)| is_key(found)).map(|(_, value)| value)
        }
        // RFC 6901 §4: digits without a leading zero.
        Cbor::Array(_) if key.starts_with('+') || key.len() > 1 && key.starts_with('0') => None,
        Cbor::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// The value of a point.
pub(super) fn value(spec: &PointSpec, found: &Cbor) -> Result<Value, DecodeFault> {
    match found {
        Cbor::Null if wants_number(spec) => Err(DecodeFault::NotANumber("null".into())),
        Cbor::Bool(flag) => settle(spec, Value::Bool(*flag)),
        Cbor::Text(text) => settle(spec, Value::Text(text.clone())),
        Cbor::Integer(number) => settle(spec, whole(i128::from(*number))?),
        Cbor::Float(number) if number.is_finite() => settle(spec, Value::Float(*number)),
        Cbor::Float(number) => Err(DecodeFault::NotANumber(number.to_string())),
        other => Err(wrong_type(wanted(spec), &contents(other))),
    }
}

/// CBOR has whole numbers of 65 bits (§3.1, major types 0 and 1).
fn whole(number: i128) -> Result<Value, DecodeFault> {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(signed), _) => Ok(Value::Integer(signed)),
        (_, Ok(unsigned)) => Ok(Value::from_u64(unsigned)),
        _ => Err(DecodeFault::OutOfRange {
            found: number.to_string(),
            lowest: i64::MIN.to_string(),
            highest: u64::MAX.to_string(),
        }),
    }
}

/// A top-level `timestamp`: RFC 3339 text, milliseconds since 1970, or a tagged instant (§3.4.1, §3.4.2: seconds).
pub(super) fn source_time(document: &Cbor) -> Option<Timestamp> {
    let Cbor::Map(entries) = untagged(document) else { return None };
    let (_, found) = entries.iter().find(|(key, _)| matches!(key, Cbor::Text(text) if text == "timestamp"))?;
    match found {
        Cbor::Text(text) => Timestamp::parse_rfc3339(text),
        Cbor::Tag(0, inner) => match inner.as_ref() {
            Cbor::Text(text) => Timestamp::parse_rfc3339(text),
            _ => None,
        },
        Cbor::Tag(1, inner) => micros(inner, 1_000_000),
        number => micros(number, 1_000),
    }
}

fn micros(number: &Cbor, factor: i64) -> Option<Timestamp> {
    match number {
        Cbor::Integer(number) => {
            i64::try_from(i128::from(*number)).ok()?.checked_mul(factor).map(Timestamp::from_micros)
        }
        #[allow(clippy::cast_precision_loss)] // 1,000 and 1,000,000
        Cbor::Float(number) => micros_of_millis(number * (factor as f64 / 1_000.0)).map(Timestamp::from_micros),
        _ => None,
    }
}

fn untagged(mut value: &Cbor) -> &Cbor {
    while let Cbor::Tag(_, inner) = value {
        value = inner;
    }
    value
}

/// What a value is, for people: the keys of a map, else the kind.
fn contents(value: &Cbor) -> String {
    match untagged(value) {
        Cbor::Map(entries) => {
            let key = |key: &Cbor| match untagged(key) {
                Cbor::Text(text) => text.clone(),
                Cbor::Integer(number) => i128::from(*number).to_string(),
                _ => "…".to_owned(),
            };
            let keys: Vec<_> = entries.iter().take(10).map(|(found, _)| key(found)).collect();
            short(&format!("a map with {} keys ({})", entries.len(), keys.join(", ")))
        }
        Cbor::Array(items) => format!("an array of {}", items.len()),
        Cbor::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Cbor::Null => "null".into(),
        Cbor::Text(text) => short(&format!("the text `{text}`")),
        other => short(&format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use crate::decode::tests::spec;
    use proptest::prelude::*;
    use tally_model::{Encoding, NoValue, Outcome, Quality};

    const RECEIVED: Timestamp = Timestamp::from_micros(7_000_000);

    fn encoded(value: &Cbor) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    fn text(text: &str) -> Cbor {
        Cbor::Text(text.into())
    }

    fn outcome(at: &str, payload: &[u8]) -> Outcome {
        decode(&[spec("p", at)], payload, RECEIVED).remove(0).outcome
    }

    #[test]
    fn values_are_found_by_texts_numbers_and_places() {
        let document = Cbor::Map(vec![
            (text("air"), Cbor::Map(vec![(text("a/b"), Cbor::Float(21.5))])),
            (Cbor::Integer((-3).into()), Cbor::Array(vec![Cbor::Bool(true), Cbor::Integer(u64::MAX.into())])),
            (text("name"), Cbor::Tag(4_711, Box::new(text("x")))),
            (text("none"), Cbor::Null),
            (text("nan"), Cbor::Float(f64::NAN)),
            (text("raw"), Cbor::Bytes(vec![1, 2])),
        ]);
        let bytes = encoded(&document);
        let at = |pointer: &str| outcome(&format!("cbor:t#{pointer}"), &bytes);
        assert_eq!(at("/air/a~1b"), Ok(Value::Float(21.5)));
        assert_eq!(at("/-3/0"), Ok(Value::Bool(true)));
        assert_eq!(at("/-3/1"), Ok(Value::Unsigned(u64::MAX)));
        assert_eq!(at("/name"), Ok(Value::Text("x".into())));
        assert_eq!(at("/nan"), Err(NoValue::NotANumber));
        for pointer in ["/none", "/raw", "/air", "/-3", "/-3/2", "/-3/x", "/nothing", ""] {
            assert_eq!(at(pointer), Err(NoValue::Nonsense), "{pointer}");
        }
        // RFC 8949, appendix A: the smallest negative number, half floats, one value alone.
        assert_eq!(outcome("cbor:t", b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff"), Err(NoValue::OutOfRange));
        assert_eq!(outcome("cbor:t", b"\xf9\x3e\x00"), Ok(Value::Float(1.5)));
        assert_eq!(outcome("cbor:t", b"\x20"), Ok(Value::Integer(-1)));
        let mut scaled = spec("p", "cbor:t");
        (scaled.scale, scaled.encoding) = (0.5, Encoding::F64);
        assert_eq!(decode(&[scaled], b"\x18\x64", RECEIVED)[0].outcome, Ok(Value::Float(50.0)));
    }

    #[test]
    fn the_device_s_own_time_counts() {
        for (timestamp, micros) in [
            (Cbor::Integer(1_500.into()), 1_500_000),
            (Cbor::Float(1_500.25), 1_500_250),
            (Cbor::Tag(1, Box::new(Cbor::Float(1.5))), 1_500_000),
            (Cbor::Tag(1, Box::new(Cbor::Integer(2.into()))), 2_000_000),
            (Cbor::Tag(0, Box::new(text("1970-01-01T00:00:03Z"))), 3_000_000),
            (text("1970-01-01T00:00:04Z"), 4_000_000),
            (text("yesterday"), 7_000_000),
            (Cbor::Integer(i64::MAX.into()), 7_000_000),
        ] {
            let document =
                Cbor::Map(vec![(text("v"), Cbor::Integer(1.into())), (text("timestamp"), timestamp.clone())]);
            let samples = decode(&[spec("p", "cbor:t#/v")], &encoded(&document), RECEIVED);
            assert_eq!(samples[0].source_time, Timestamp::from_micros(micros), "{timestamp:?}");
            assert_eq!(samples[0].quality, Quality::Good);
        }
    }

    #[test]
    fn depth_bounds_and_leftovers_are_nonsense() {
        let nested = |levels: usize| [vec![0x81; levels], vec![0x01]].concat();
        assert!(parse(&nested(DEPTH_MAX - 1)).is_ok());
        for bytes in [&nested(100_000)[..], b"\x01\x02", b"", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", b"\x62\xff\xff"]
        {
            assert!(matches!(parse(bytes), Err(DecodeFault::NotCbor(_))), "{:?}", &bytes[..bytes.len().min(20)]);
        }
    }

    fn document() -> impl Strategy<Value = Cbor> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Cbor::Bool),
            any::<i64>().prop_map(|number| Cbor::Integer(number.into())),
            any::<f64>().prop_filter("NaN is not itself", |number| !number.is_nan()).prop_map(Cbor::Float),
            "[a-z~/]{0,6}".prop_map(Cbor::Text),
            Just(Cbor::Null),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Cbor::Array),
                proptest::collection::btree_map("[a-z~/0-9]{0,4}", inner.clone(), 0..4)
                    .prop_map(|map| Cbor::Map(map.into_iter().map(|(key, value)| (Cbor::Text(key), value)).collect())),
                inner.prop_map(|value| Cbor::Tag(42, Box::new(value))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

        #[test]
        fn any_bytes_are_a_value_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in "(#(/[a-z0-9]{0,3}){0,3})?") {
            let samples = decode(&[spec("p", &format!("cbor:t{at}"))], &bytes, RECEIVED);
            prop_assert_eq!(samples[0].outcome.is_ok(), samples[0].quality == Quality::Good);
        }

        /// Whatever ciborium writes is read, and what JSON can say too is found at the same place with the same value.
        #[test]
        fn the_way_is_that_of_json(document in document(), way in "(/[a-z~/0-9]{0,3}){0,3}") {
            let parsed = parse(&encoded(&document));
            prop_assert_eq!(parsed.as_ref(), Ok(&document));
            let json: serde_json::Value = as_json(&document);
            let ours = at(&document, &way).ok().map(as_json);
            prop_assert_eq!(ours, json.pointer(&way).cloned());
        }
    }

    fn as_json(value: &Cbor) -> serde_json::Value {
        match untagged(value) {
            Cbor::Map(entries) => {
                entries.iter().map(|(key, value)| (key.as_text().unwrap().to_owned(), as_json(value))).collect()
            }
            Cbor::Array(items) => items.iter().map(as_json).collect(),
            Cbor::Bool(flag) => (*flag).into(),
            Cbor::Integer(number) => i64::try_from(i128::from(*number)).unwrap().into(),
            Cbor::Float(number) => (*number).into(),
            Cbor::Text(text) => text.as_str().into(),
            _ => serde_json::Value::Null,
        }
    }
}
