//! Tables of payloads and values, and the promise that no bytes can make the decoder panic.

use super::*;
use proptest::prelude::*;
use tally_model::{Encoding, PointId, Unit};

/// A plain point, for all tests of the crate.
pub(crate) fn spec(id: &str, at: &str) -> PointSpec {
    PointSpec::new(PointId::try_new(id).unwrap(), Address::parse_mqtt(at).unwrap(), Encoding::Auto, Unit::one())
}

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn one(spec: &PointSpec, payload: &[u8]) -> Sample {
    let mut samples = decode(std::slice::from_ref(spec), payload, NOW);
    assert_eq!(samples.len(), 1);
    samples.remove(0)
}

/// Encoding, payload, expected outcome; raw payloads and JSON payloads of one point.
fn check(at: &str, table: &[(Encoding, &str, Result<Value, NoValue>)]) {
    for (encoding, payload, expected) in table {
        let mut spec = spec("p", at);
        spec.encoding = *encoding;
        let sample = one(&spec, payload.as_bytes());
        assert_eq!(&sample.outcome, expected, "{encoding:?} from `{payload}`");
        assert_eq!(sample.quality == Quality::Bad, sample.outcome.is_err());
    }
}

fn text(text: &str) -> Result<Value, NoValue> {
    Ok(Value::Text(text.to_owned()))
}

#[test]
fn raw_payloads() {
    use Encoding::{Auto, Bool, F32, F64, I16, I64, Text, U16, U64};
    check(
        "hall/raw",
        &[
            (Auto, "21.5", Ok(Value::Float(21.5))),
            (Auto, " 42\n", Ok(Value::Integer(42))),
            (Auto, "-7", Ok(Value::Integer(-7))),
            (Auto, "18446744073709551615", Ok(Value::Unsigned(u64::MAX))),
            (Auto, "true", Ok(Value::Bool(true))),
            (Auto, "FALSE", Ok(Value::Bool(false))),
            (Auto, "running\n", text("running")),
            (Auto, "NaN", Err(NoValue::NotANumber)),
            (Auto, "-inf", Err(NoValue::NotANumber)),
            (Auto, "1e999", Err(NoValue::NotANumber)),
            (Auto, "", Err(NoValue::Nonsense)),
            (Bool, "ON", Ok(Value::Bool(true))),
            (Bool, "off", Ok(Value::Bool(false))),
            (Bool, "1", Ok(Value::Bool(true))),
            (Bool, "2", Err(NoValue::Nonsense)),
            (U16, "65535", Ok(Value::Integer(65_535))),
            (U16, "65536", Err(NoValue::OutOfRange)),
            (U16, "-1", Err(NoValue::OutOfRange)),
            (I16, "21.0", Ok(Value::Integer(21))),
            (I16, "21.5", Err(NoValue::Nonsense)),
            (I64, "1e30", Err(NoValue::OutOfRange)),
            (I64, "nan", Err(NoValue::NotANumber)),
            (U64, "18446744073709551615", Ok(Value::Unsigned(u64::MAX))),
            (U64, "18446744073709551616", Err(NoValue::OutOfRange)),
            (F64, "7", Ok(Value::Float(7.0))),
            (F32, "warm", Err(NoValue::Nonsense)),
            (F64, "", Err(NoValue::Nonsense)),
            (Text, "", text("")),
            (Text, "42 \0\0", text("42")),
        ],
    );
}

#[test]
fn json_payloads() {
    use Encoding::{Auto, Bool, F64, I32, Text, U32};
    check(
        "hall/climate#/a/b",
        &[
            (Auto, r#"{"a":{"b":21.5}}"#, Ok(Value::Float(21.5))),
            (Auto, r#"{"a":{"b":21}}"#, Ok(Value::Integer(21))),
            (Auto, r#"{"a":{"b":true}}"#, Ok(Value::Bool(true))),
            (Auto, r#"{"a":{"b":"21"}}"#, text("21")),
            (Auto, r#"{"a":{"b":null}}"#, Err(NoValue::Nonsense)),
            (Auto, r#"{"a":{"b":{}}}"#, Err(NoValue::Nonsense)),
            (Auto, r#"{"a":{"b":[1]}}"#, Err(NoValue::Nonsense)),
            (Auto, r#"{"a":{}}"#, Err(NoValue::Nonsense)),
            (Auto, r#"{"a":"#, Err(NoValue::Nonsense)),
            (Auto, "", Err(NoValue::Nonsense)),
            (F64, r#"{"a":{"b":21}}"#, Ok(Value::Float(21.0))),
            (F64, r#"{"a":{"b":"21.5"}}"#, Ok(Value::Float(21.5))),
            (F64, r#"{"a":{"b":null}}"#, Err(NoValue::NotANumber)),
            (F64, r#"{"a":{"b":"NaN"}}"#, Err(NoValue::NotANumber)),
            (F64, r#"{"a":{"b":true}}"#, Err(NoValue::Nonsense)),
            (I32, r#"{"a":{"b":-2147483648}}"#, Ok(Value::Integer(i64::from(i32::MIN)))),
            (U32, r#"{"a":{"b":4294967296}}"#, Err(NoValue::OutOfRange)),
            (Bool, r#"{"a":{"b":0}}"#, Ok(Value::Bool(false))),
            (Bool, r#"{"a":{"b":0.5}}"#, Err(NoValue::Nonsense)),
            (Text, r#"{"a":{"b":7}}"#, text("7")),
        ],
    );
    check("t#", &[(Auto, "7.5", Ok(Value::Float(7.5)))]);
    check("t#/list/1", &[(Auto, r#"{"list":[1,2]}"#, Ok(Value::Integer(2)))]);
}

#[test]
fn scale_and_range_make_numbers() {
    let mut scaled = spec("p", "t");
    scaled.scale = 0.1;
    scaled.offset = -40.0;
    scaled.range = Some((-20.0, 60.0));
    assert_eq!(one(&scaled, b"600").outcome, Ok(Value::Float(20.0)));
    assert_eq!(one(&scaled, b"1001").outcome, Err(NoValue::OutOfRange));
    assert_eq!(one(&scaled, b"--").outcome, Err(NoValue::Nonsense));
    scaled.scale = 1e300;
    assert_eq!(one(&scaled, b"1e300").outcome, Err(NoValue::NotANumber));
}

#[test]
fn the_source_time_is_the_message_s_own() {
    let spec = spec("p", "t#/v");
    let time = |payload: &str| one(&spec, payload.as_bytes()).source_time;
    assert_eq!(time(r#"{"v":1}"#), NOW);
    assert_eq!(time(r#"{"v":1,"timestamp":1500}"#), Timestamp::from_micros(1_500_000));
    assert_eq!(time(r#"{"v":1,"timestamp":1500.25}"#), Timestamp::from_micros(1_500_250));
    assert_eq!(time(r#"{"v":1,"timestamp":"1970-01-01T00:00:02Z"}"#), Timestamp::from_micros(2_000_000));
    for nonsense in [r#""yesterday""#, "9223372036854775807", "1e300", "null", "[]"] {
        assert_eq!(time(&format!(r#"{{"v":1,"timestamp":{nonsense}}}"#)), NOW, "{nonsense}");
    }
}

#[test]
fn oversized_payloads_and_texts_are_refused() {
    let auto = spec("p", "t");
    assert_eq!(one(&auto, &vec![b'x'; PAYLOAD_BYTES_MAX + 1]).outcome, Err(NoValue::Nonsense));
    assert_eq!(one(&auto, &vec![b'x'; TEXT_BYTES_MAX + 1]).outcome, Err(NoValue::Nonsense));
    assert_eq!(one(&auto, &vec![b'x'; TEXT_BYTES_MAX]).outcome, Ok(Value::Text("x".repeat(TEXT_BYTES_MAX))));
    let json = spec("p", "t#/a");
    let deep = "[".repeat(100_000);
    assert_eq!(one(&json, deep.as_bytes()).outcome, Err(NoValue::Nonsense));
}

#[test]
fn faults_name_what_was_asked_and_found() {
    let fault = |at: &str, payload: &str| {
        let decoded = decode_message([spec("p", at)].iter(), payload.as_bytes(), NOW);
        decoded.first().and_then(|decoded| decoded.fault.clone()).unwrap().to_string()
    };
    assert_eq!(
        fault("t#/temp", r#"{"temperature":1,"unit":"C"}"#),
        "there is no `/temp` in the payload; at the top there are: an object with 2 keys (temperature, unit)"
    );
    assert_eq!(fault("t#/a", r#"{"a":[1,2]}"#), "expected a number, a flag or a text, found an array of 2");
    assert!(fault("t#/a", "garbage").starts_with("the payload is not JSON: "));
}

fn any_spec() -> impl Strategy<Value = PointSpec> {
    use Encoding::{Auto, Bool, F32, F64, I16, I32, I64, Text, U16, U32, U64};
    let encodings = vec![Auto, Bool, F32, F64, I16, I32, I64, Text, U16, U32, U64];
    let at = prop_oneof![Just("t"), Just("t#"), Just("t#/a"), Just("t#/a/0"), Just("t#/timestamp")];
    let range = proptest::option::of((-1e6..0.0, 0.0..1e6));
    (at, proptest::sample::select(encodings), any::<(f64, f64, u16)>(), range).prop_map(
        |(at, encoding, (scale, offset, length), range)| PointSpec {
            encoding,
            scale,
            offset,
            length,
            range,
            ..spec("p", at)
        },
    )
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(spec in any_spec(), payload in proptest::collection::vec(any::<u8>(), 0..256)) {
        let sample = one(&spec, &payload);
        prop_assert_eq!(sample.quality == Quality::Bad, sample.outcome.is_err());
    }

    #[test]
    fn no_json_makes_it_panic(
        spec in any_spec(),
        inner in r#"-?[0-9]{1,40}(\.[0-9]{1,20})?([eE]-?[0-9]{1,4})?|"[^"\\]{0,20}"|true|null|\{\}|\[1\]"#,
    ) {
        let sample = one(&spec, format!(r#"{{"a":{inner},"timestamp":{inner}}}"#).as_bytes());
        if let Ok(Value::Float(number)) = sample.outcome {
            prop_assert!(number.is_finite());
        }
    }

    #[test]
    fn every_number_survives_the_way(number in any::<f64>().prop_filter("finite", |n| n.is_finite()), whole in any::<i64>()) {
        let mut spec = spec("p", "t#/a");
        spec.encoding = Encoding::F64;
        let payload = serde_json::json!({"a": number}).to_string();
        prop_assert_eq!(one(&spec, payload.as_bytes()).outcome, Ok(Value::Float(number)));
        spec.encoding = Encoding::Auto;
        let payload = serde_json::json!({"a": whole}).to_string();
        prop_assert_eq!(one(&spec, payload.as_bytes()).outcome, Ok(Value::Integer(whole)));
    }
}
