//! From what the server sent to a sample: value, quality, both times. Pure; total over all variants.

use crate::path;
use opcua::types::custom::DataTypeTree;
use opcua::types::{DataValue, DateTime, StatusCode, Variant};
use tally_model::{Address, BitField, Encoding, NoValue, Outcome, PointSpec, Quality, Sample, Timestamp, Value};

/// Upper half of a status code: severity and sub-code. The lower half are info bits (OPC UA Part 4 §7.39.1).
const CODE_MASK: u32 = 0xFFFF_0000;

/// Decodes one data change of `point`.
pub(crate) fn decode(point: &PointSpec, data: &DataValue, received: Timestamp, types: Option<&DataTypeTree>) -> Sample {
    // A status that is not sent means Good (Part 6 §5.2.2.17).
    let status = data.status.unwrap_or(StatusCode::Good);
    let outcome = if is_bad(status) { Err(no_value(status)) } else { value(point, data.value.as_ref(), types) };
    Sample {
        seal: None,
        point: point.id.clone(),
        quality: quality(status, &outcome),
        outcome,
        unit: point.unit.clone(),
        source_time: source_time(data, received),
        received,
    }
}

/// Severity in the two top bits: 00 good, 01 uncertain, 10 bad, 11 reserved and taken as bad (Part 8 §6.3, Part 4 §7.39).
fn is_bad(status: StatusCode) -> bool {
    status.bits() >> 31 == 1
}

fn quality(status: StatusCode, outcome: &Outcome) -> Quality {
    // Overflow: values near this one were dropped from the server's queue; this one is right, but the row has a gap.
    // The bit counts only with the info type "data value" (Part 4 §7.39.1), which async-opcua's server forgets to set;
    // without that type the info bits are zero, so nothing else can be meant.
    match outcome {
        Err(_) => Quality::Bad,
        Ok(_) if status.is_good() && !status.overflow() => Quality::Good,
        Ok(_) => Quality::Uncertain,
    }
}

/// Sorts bad codes, of values and of refused monitored items, into reasons.
pub(crate) fn no_value(status: StatusCode) -> NoValue {
    match StatusCode::from(status.bits() & CODE_MASK) {
        StatusCode::BadNodeIdUnknown | StatusCode::BadNodeIdInvalid | StatusCode::BadAttributeIdInvalid => {
            NoValue::NoSuchAddress
        }
        StatusCode::BadTimeout | StatusCode::BadRequestTimeout => NoValue::Timeout,
        StatusCode::BadOutOfRange => NoValue::OutOfRange,
        _ => NoValue::Refused,
    }
}

/// The device's time, else the server's, else ours. A zero time (1601-01-01) is a server's way to send none.
fn source_time(data: &DataValue, received: Timestamp) -> Timestamp {
    let sent = [data.source_timestamp, data.server_timestamp].into_iter().flatten().find(|time| !time.is_null());
    sent.map_or(received, |time: DateTime| Timestamp::from_micros(time.as_chrono().timestamp_micros()))
}

fn value(point: &PointSpec, variant: Option<&Variant>, types: Option<&DataTypeTree>) -> Outcome {
    let whole = variant.ok_or(NoValue::Nonsense)?;
    let part = match &point.address {
        Address::OpcUa { pointer: Some(pointer), .. } => path::at(whole, pointer, types).ok_or(NoValue::Nonsense)?,
        _ => whole,
    };
    let mut value = natural(part)?;
    if let Some(bits) = point.options.bits {
        let is_signed = matches!(part, Variant::SByte(_) | Variant::Int16(_) | Variant::Int32(_) | Variant::Int64(_));
        value = bit_field(&value, bits, is_signed)?;
    }
    if let Some(labels) = &point.options.labels {
        let number = whole_number(&value).and_then(|number| i64::try_from(number).ok()).ok_or(NoValue::Nonsense)?;
        return labels.get(&number).cloned().map(Value::Text).ok_or(NoValue::OutOfRange);
    }
    let value = scaled(point, encoded(point.encoding, value)?)?;
    match (point.range, value.as_f64()) {
        (Some((lowest, highest)), Some(number)) if number < lowest || number > highest => Err(NoValue::OutOfRange),
        _ => Ok(value),
    }
}

/// Some bits of a whole number; of a signed one the highest bit of the field is the sign.
fn bit_field(value: &Value, bits: BitField, is_signed: bool) -> Outcome {
    let number = whole_number(value).ok_or(NoValue::Nonsense)?;
    let (unused, width) = (128 - u32::from(bits.width()), u32::from(bits.low));
    let lifted = (number >> width) << unused;
    let part = if is_signed { lifted >> unused } else { (lifted.cast_unsigned() >> unused).cast_signed() };
    match i64::try_from(part) {
        Ok(number) => Ok(Value::Integer(number)),
        Err(_) => u64::try_from(part).map(Value::from_u64).map_err(|_| NoValue::Nonsense),
    }
}

/// The value in the type the server sent. Arrays, structures and identifiers are no point values.
pub(crate) fn natural(variant: &Variant) -> Outcome {
    match variant {
        Variant::Boolean(flag) => Ok(Value::Bool(*flag)),
        Variant::SByte(number) => Ok(Value::Integer((*number).into())),
        Variant::Byte(number) => Ok(Value::Integer((*number).into())),
        Variant::Int16(number) => Ok(Value::Integer((*number).into())),
        Variant::UInt16(number) => Ok(Value::Integer((*number).into())),
        Variant::Int32(number) => Ok(Value::Integer((*number).into())),
        Variant::UInt32(number) => Ok(Value::Integer((*number).into())),
        Variant::Int64(number) => Ok(Value::Integer(*number)),
        Variant::UInt64(number) => Ok(Value::from_u64(*number)),
        Variant::Float(number) => Value::from_f64((*number).into()),
        Variant::Double(number) => Value::from_f64(*number),
        Variant::String(text) => text.value().clone().map(Value::Text).ok_or(NoValue::Nonsense),
        Variant::LocalizedText(text) => text.text.value().clone().map(Value::Text).ok_or(NoValue::Nonsense),
        Variant::DateTime(time) => {
            Ok(Value::Text(Timestamp::from_micros(time.as_chrono().timestamp_micros()).to_string()))
        }
        _ => Err(NoValue::Nonsense),
    }
}

/// The value in the type the mapping asks for, when nothing is lost on the way.
fn encoded(encoding: Encoding, value: Value) -> Outcome {
    match encoding {
        Encoding::Auto => Ok(value),
        Encoding::Bool => flag(&value),
        Encoding::Text | Encoding::TextLow | Encoding::TextHigh => match value {
            Value::Text(_) => Ok(value),
            _ => Err(NoValue::Nonsense),
        },
        Encoding::F16 | Encoding::F32 | Encoding::F64 => float(&value),
        Encoding::U8 => whole_within(&value, 0, u8::MAX.into()),
        Encoding::I8 => whole_within(&value, i8::MIN.into(), i8::MAX.into()),
        // Decimal digits in nibbles are a matter of registers.
        Encoding::Bcd16 | Encoding::Bcd32 | Encoding::Bcd64 => Err(NoValue::Nonsense),
        Encoding::U16 => whole_within(&value, 0, u16::MAX.into()),
        Encoding::I16 => whole_within(&value, i16::MIN.into(), i16::MAX.into()),
        Encoding::U32 => whole_within(&value, 0, u32::MAX.into()),
        Encoding::I32 => whole_within(&value, i32::MIN.into(), i32::MAX.into()),
        Encoding::U64 => whole_within(&value, 0, u64::MAX.into()),
        Encoding::I64 => whole_within(&value, i64::MIN.into(), i64::MAX.into()),
    }
}

fn flag(value: &Value) -> Outcome {
    match whole_number(value) {
        Some(0) => Ok(Value::Bool(false)),
        Some(1) => Ok(Value::Bool(true)),
        _ => Err(NoValue::Nonsense),
    }
}

/// Largest magnitude up to which every whole number has its own double.
const EXACT_IN_F64: i128 = 1 << 53;

#[allow(clippy::cast_precision_loss)] // checked to be exact
fn float(value: &Value) -> Outcome {
    match (value, whole_number(value)) {
        (Value::Float(number), _) => Value::from_f64(*number),
        (_, Some(number)) if number.abs() <= EXACT_IN_F64 => Value::from_f64(number as f64),
        _ => Err(NoValue::Nonsense),
    }
}

fn whole_within(value: &Value, lowest: i128, highest: i128) -> Outcome {
    let number = whole_number(value).filter(|number| (lowest..=highest).contains(number)).ok_or(NoValue::Nonsense)?;
    match i64::try_from(number) {
        Ok(number) => Ok(Value::Integer(number)),
        Err(_) => u64::try_from(number).map(Value::from_u64).map_err(|_| NoValue::Nonsense),
    }
}

/// The value as a whole number, if it is exactly one.
#[allow(clippy::cast_possible_truncation, clippy::float_cmp)] // "exactly whole" is the question
fn whole_number(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(flag) => Some((*flag).into()),
        Value::Integer(number) => Some((*number).into()),
        Value::Unsigned(number) => Some((*number).into()),
        Value::Float(number) if number.trunc() == *number && number.abs() < 2e19 => Some(*number as i128),
        Value::Float(_) | Value::Text(_) => None,
    }
}

/// Applies scale and offset; flags and texts have none.
fn scaled(point: &PointSpec, value: Value) -> Outcome {
    match (&value, value.as_f64()) {
        (Value::Bool(_), _) | (_, None) => Ok(value),
        (_, Some(number)) if point.is_scaled() => Value::from_f64(number * point.scale + point.offset),
        _ => Ok(value),
    }
}

/// What the server sent, in words, for the one log line about a point that makes no sense.
pub(crate) fn describe(variant: Option<&Variant>) -> String {
    match variant {
        None | Some(Variant::Empty) => "no value at all".to_owned(),
        Some(Variant::Array(array)) => format!("an array of {} elements; map one element of it", array.values.len()),
        Some(Variant::ExtensionObject(_)) => "a structure; map one of its fields".to_owned(),
        Some(other) => format!("a value of type {:?}", other.type_id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::point;
    use opcua::types::{Array, BinaryDecodable, ContextOwned, NodeId, UAString, VariantScalarTypeId};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn read(encoding: Encoding, variant: impl Into<Variant>) -> Outcome {
        let data = DataValue { value: Some(variant.into()), ..DataValue::null() };
        decode(&point("p", "i=1", encoding), &data, NOW, None).outcome
    }

    #[test]
    fn natural_types_stay_what_they_are() {
        assert_eq!(read(Encoding::Auto, true), Ok(Value::Bool(true)));
        assert_eq!(read(Encoding::Auto, -3_i16), Ok(Value::Integer(-3)));
        assert_eq!(read(Encoding::Auto, u64::MAX), Ok(Value::Unsigned(u64::MAX)));
        assert_eq!(read(Encoding::Auto, 0.5_f32), Ok(Value::Float(0.5)));
        assert_eq!(read(Encoding::Auto, "on"), Ok(Value::Text("on".into())));
        assert_eq!(read(Encoding::Auto, f64::NAN), Err(NoValue::NotANumber));
        assert_eq!(read(Encoding::Auto, f32::INFINITY), Err(NoValue::NotANumber));
        assert_eq!(read(Encoding::Auto, Variant::Empty), Err(NoValue::Nonsense));
        assert_eq!(read(Encoding::Auto, UAString::null()), Err(NoValue::Nonsense));
        assert_eq!(read(Encoding::Auto, NodeId::null()), Err(NoValue::Nonsense));
    }

    #[test]
    fn types_change_only_when_nothing_is_lost() {
        assert_eq!(read(Encoding::U16, 65_535_i64), Ok(Value::Integer(65_535)));
        assert_eq!(read(Encoding::U16, 65_536_i64), Err(NoValue::Nonsense));
        assert_eq!(read(Encoding::U64, -1_i32), Err(NoValue::Nonsense));
        assert_eq!(read(Encoding::I64, 12.0_f64), Ok(Value::Integer(12)));
        assert_eq!(read(Encoding::I64, 12.5_f64), Err(NoValue::Nonsense));
        assert_eq!(read(Encoding::F64, 7_u16), Ok(Value::Float(7.0)));
        assert_eq!(read(Encoding::F64, (1_i64 << 53) + 1), Err(NoValue::Nonsense));
        assert_eq!(read(Encoding::Bool, 1_u16), Ok(Value::Bool(true)));
        assert_eq!(read(Encoding::Bool, 2_u16), Err(NoValue::Nonsense));
        assert_eq!(read(Encoding::Text, 2_u16), Err(NoValue::Nonsense));
        assert_eq!(read(Encoding::F64, "7"), Err(NoValue::Nonsense));
    }

    #[test]
    fn arrays_and_structures_are_told_apart_in_words() {
        let array = Array::new(VariantScalarTypeId::Int32, vec![Variant::Int32(1), Variant::Int32(2)]).unwrap();
        let array = Variant::Array(Box::new(array));
        assert_eq!(read(Encoding::Auto, array.clone()), Err(NoValue::Nonsense));
        assert!(describe(Some(&array)).contains("array of 2"));
    }

    #[test]
    fn bits_and_labels() {
        let mut field = point("p", "i=1", Encoding::Auto);
        field.options.bits = BitField::parse("4-7");
        let read = |point: &PointSpec, raw: Variant| decode(point, &DataValue::value_only(raw), NOW, None).outcome;
        assert_eq!(read(&field, Variant::UInt16(0x0a5f)), Ok(Value::Integer(5)));
        assert_eq!(read(&field, Variant::UInt16(0x00f0)), Ok(Value::Integer(15)));
        assert_eq!(read(&field, Variant::Int16(0x00f0)), Ok(Value::Integer(-1)));
        assert_eq!(read(&field, Variant::Double(0.5)), Err(NoValue::Nonsense));
        field.options.bits = BitField::parse("0-63");
        assert_eq!(read(&field, Variant::UInt64(u64::MAX)), Ok(Value::Unsigned(u64::MAX)));
        let mut state = point("p", "i=1", Encoding::Auto);
        state.options.labels = Some(std::sync::Arc::new([(3, "running".to_owned())].into()));
        assert_eq!(read(&state, Variant::Int32(3)), Ok(Value::Text("running".into())));
        assert_eq!(read(&state, Variant::Int32(4)), Err(NoValue::OutOfRange));
    }

    #[test]
    fn parts_of_arrays_by_pointer() {
        let array = Array::new(VariantScalarTypeId::Int32, vec![Variant::Int32(10), Variant::Int32(20)]).unwrap();
        let data = DataValue::value_only(Variant::Array(Box::new(array)));
        assert_eq!(decode(&point("p", "i=1#/1", Encoding::F64), &data, NOW, None).outcome, Ok(Value::Float(20.0)));
        assert_eq!(decode(&point("p", "i=1#/2", Encoding::Auto), &data, NOW, None).outcome, Err(NoValue::Nonsense));
    }

    #[test]
    fn scale_offset_and_range() {
        let mut scaled = point("p", "i=1", Encoding::I16);
        (scaled.scale, scaled.offset, scaled.range) = (0.1, -5.0, Some((0.0, 100.0)));
        let read = |raw: i16| decode(&scaled, &DataValue::value_only(raw), NOW, None).outcome;
        assert_eq!(read(250), Ok(Value::Float(20.0)));
        assert_eq!(read(10), Err(NoValue::OutOfRange));
        assert_eq!(read(2_000), Err(NoValue::OutOfRange));
    }

    #[test]
    fn status_becomes_quality_and_reason() {
        let read = |status: StatusCode| {
            let data = DataValue { value: Some(1_i32.into()), status: Some(status), ..DataValue::null() };
            let sample = decode(&point("p", "i=1", Encoding::Auto), &data, NOW, None);
            (sample.quality, sample.outcome)
        };
        assert_eq!(read(StatusCode::Good), (Quality::Good, Ok(Value::Integer(1))));
        assert_eq!(read(StatusCode::UncertainSensorNotAccurate), (Quality::Uncertain, Ok(Value::Integer(1))));
        assert_eq!(read(StatusCode::BadNodeIdUnknown), (Quality::Bad, Err(NoValue::NoSuchAddress)));
        assert_eq!(read(StatusCode::BadTimeout), (Quality::Bad, Err(NoValue::Timeout)));
        assert_eq!(read(StatusCode::BadSensorFailure), (Quality::Bad, Err(NoValue::Refused)));
        // Reserved severity 11 is bad; info bits do not hide the code.
        assert_eq!(read(StatusCode::from(0xC000_0000)), (Quality::Bad, Err(NoValue::Refused)));
        assert_eq!(read(StatusCode::from(0x8034_0400)), (Quality::Bad, Err(NoValue::NoSuchAddress)));
        // Info type 01 (data value) with the overflow bit: the value is right, but others were lost before it.
        assert_eq!(read(StatusCode::from(0x0000_0480)), (Quality::Uncertain, Ok(Value::Integer(1))));
        assert_eq!(read(StatusCode::from(0x0000_0080)), (Quality::Uncertain, Ok(Value::Integer(1))));
    }

    #[test]
    fn the_devices_own_time_comes_first() {
        let at = |source, server| {
            let data = DataValue { source_timestamp: source, server_timestamp: server, ..DataValue::value_only(1) };
            decode(&point("p", "i=1", Encoding::Auto), &data, NOW, None).source_time
        };
        let (early, late) = (DateTime::ymd(2026, 1, 1), DateTime::ymd(2026, 1, 2));
        let early_time = Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let late_time = Timestamp::parse_rfc3339("2026-01-02T00:00:00Z").unwrap();
        assert_eq!(at(Some(early), Some(late)), early_time);
        assert_eq!(at(None, Some(late)), late_time);
        assert_eq!(at(Some(DateTime::null()), Some(late)), late_time);
        assert_eq!(at(None, None), NOW);
    }

    fn encodings() -> impl Strategy<Value = Encoding> {
        use Encoding::{Auto, Bool, F32, F64, I16, I32, I64, Text, U16, U32, U64};
        proptest::sample::select(vec![Bool, U16, I16, U32, I32, U64, I64, F32, F64, Text, Auto])
    }

    proptest! {
        /// Whatever bytes a server sends as a data value: no panic, and bad quality exactly when there is no value.
        #[test]
        fn any_bytes_make_a_consistent_sample(bytes: Vec<u8>, encoding in encodings(), scale in -3.0..3.0_f64) {
            let context = ContextOwned::default();
            if let Ok(data) = DataValue::decode(&mut bytes.as_slice(), &context.context()) {
                let mut point = point("p", "i=1", encoding);
                point.scale = scale;
                let sample = decode(&point, &data, NOW, None);
                prop_assert_eq!(sample.quality == Quality::Bad, sample.outcome.is_err());
                describe(data.value.as_ref());
            }
        }

        /// The same with a well-formed head, so that more of the cases get as far as a value.
        #[test]
        fn any_scalar_makes_a_consistent_sample(kind in 0..26_u8, body: [u8; 16], status: u32, encoding in encodings()) {
            // Encoding mask: value and status present (Part 6 §5.2.2.17).
            let bytes = [&[0x03, kind][..], &body, &status.to_le_bytes()].concat();
            let context = ContextOwned::default();
            if let Ok(data) = DataValue::decode(&mut bytes.as_slice(), &context.context()) {
                let sample = decode(&point("p", "i=1", encoding), &data, NOW, None);
                prop_assert_eq!(sample.quality == Quality::Bad, sample.outcome.is_err());
            }
        }
    }
}
