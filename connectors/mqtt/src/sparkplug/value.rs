//! Between our values and Sparkplug's: data types (Sparkplug 3.0, chapter 6 "Datatypes"), values, qualities.

use super::payload::{MetricValue, PropertyContent, PropertySet};
use tally_model::{Encoding, PointSpec, Quality, Value};

/// Name of the property that carries a quality (chapter 6, "Quality Codes").
pub(crate) const QUALITY: &str = "Quality";

/// Name of the property that carries the unit as UCUM code. Not part of the specification; the usual name.
pub(crate) const UNIT: &str = "engUnit";

/// Name of the property that says why there is no value. Ours.
pub(crate) const REASON: &str = "Reason";

/// The scalar data types of metrics (chapter 6, "Datatypes"). Tables, structures, files and arrays are no values of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// 8 bits, signed.
    Int8 = 1,
    /// 16 bits, signed.
    Int16 = 2,
    /// 32 bits, signed.
    Int32 = 3,
    /// 64 bits, signed.
    Int64 = 4,
    /// 8 bits, unsigned.
    UInt8 = 5,
    /// 16 bits, unsigned.
    UInt16 = 6,
    /// 32 bits, unsigned.
    UInt32 = 7,
    /// 64 bits, unsigned.
    UInt64 = 8,
    /// 32-bit float.
    Float = 9,
    /// 64-bit float.
    Double = 10,
    /// Flag.
    Boolean = 11,
    /// Text.
    String = 12,
    /// Milliseconds since 1970 (UTC).
    DateTime = 13,
    /// Text.
    Text = 14,
    /// Text that is a UUID.
    Uuid = 15,
}

impl DataType {
    const ALL: [Self; 15] = [
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::UInt8,
        Self::UInt16,
        Self::UInt32,
        Self::UInt64,
        Self::Float,
        Self::Double,
        Self::Boolean,
        Self::String,
        Self::DateTime,
        Self::Text,
        Self::Uuid,
    ];

    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The data type with this number, if it is one of ours.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }

    /// What a point's values are; `None` when only its first value says so.
    pub(crate) fn of_point(spec: &PointSpec) -> Option<Self> {
        match spec.encoding {
            Encoding::Auto => None,
            Encoding::Bool => Some(Self::Boolean),
            Encoding::Text => Some(Self::String),
            Encoding::F32 if !spec.is_scaled() => Some(Self::Float),
            Encoding::F64 => Some(Self::Double),
            _ if spec.is_scaled() => Some(Self::Double),
            Encoding::U16 => Some(Self::UInt16),
            // Not Int16: of negative numbers some libraries want 16 bits (pysparkplug), others 32 (sparkplug-payload).
            Encoding::I16 => Some(Self::Int32),
            // Not UInt32: the specification carries it in the 32-bit field, Tahu and its kin read the 64-bit one.
            Encoding::U32 => Some(Self::UInt64),
            Encoding::I32 => Some(Self::Int32),
            Encoding::U64 => Some(Self::UInt64),
            Encoding::I64 => Some(Self::Int64),
            // What other encodings give shows in the first value.
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// The data type a value has by itself.
    pub(crate) fn of_value(value: &Value) -> Self {
        match value {
            Value::Bool(_) => Self::Boolean,
            Value::Integer(_) => Self::Int64,
            Value::Unsigned(_) => Self::UInt64,
            Value::Float(_) => Self::Double,
            Value::Text(_) => Self::String,
        }
    }

    /// The narrowest data type that holds both what was told so far and `value`: numbers end as doubles, mixtures as
    /// texts. A point changes its type twice at most.
    pub(crate) fn widened(self, value: &Value) -> Self {
        if encode(value, self).is_some() {
            return self;
        }
        match (self, value) {
            (Self::Boolean | Self::String | Self::Text | Self::Uuid | Self::DateTime, _)
            | (_, Value::Bool(_) | Value::Text(_)) => Self::String,
            (Self::Float | Self::Double, _) | (_, Value::Float(_)) => Self::Double,
            (Self::UInt8 | Self::UInt16 | Self::UInt32, Value::Unsigned(_)) => Self::UInt64,
            (Self::Int8 | Self::Int16 | Self::Int32 | Self::UInt8 | Self::UInt16 | Self::UInt32, _) => Self::Int64,
            (Self::Int64 | Self::UInt64, _) => Self::Double,
        }
    }
}

/// `value` as a metric value of type `kind`; `None` when it does not fit without loss.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // two's complement, after the range was checked
pub(crate) fn encode(value: &Value, kind: DataType) -> Option<MetricValue> {
    let small = |lowest: i64, highest: i64| match value {
        Value::Integer(number) if (lowest..=highest).contains(number) => Some(MetricValue::Int(*number as i32 as u32)),
        _ => None,
    };
    match kind {
        DataType::Int8 => small(i64::from(i8::MIN), i64::from(i8::MAX)),
        DataType::Int16 => small(i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int32 => small(i64::from(i32::MIN), i64::from(i32::MAX)),
        DataType::UInt8 => small(0, i64::from(u8::MAX)),
        DataType::UInt16 => small(0, i64::from(u16::MAX)),
        DataType::UInt32 => match value {
            Value::Integer(number) => u32::try_from(*number).ok().map(MetricValue::Int),
            _ => None,
        },
        DataType::Int64 => match value {
            Value::Integer(number) => Some(MetricValue::Long(*number as u64)),
            _ => None,
        },
        DataType::UInt64 => match value {
            Value::Integer(number) => u64::try_from(*number).ok().map(MetricValue::Long),
            Value::Unsigned(number) => Some(MetricValue::Long(*number)),
            _ => None,
        },
        DataType::Float => match value {
            #[allow(clippy::float_cmp)] // "without loss" is meant exactly
            Value::Float(number) if f64::from(*number as f32) == *number => Some(MetricValue::Float(*number as f32)),
            _ => None,
        },
        // Whole numbers above 2^53 lose digits here, and only here: the type had to hold floats, too.
        DataType::Double => match value {
            Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => value.as_f64().map(MetricValue::Double),
            _ => None,
        },
        DataType::Boolean => match value {
            Value::Bool(flag) => Some(MetricValue::Boolean(*flag)),
            _ => None,
        },
        DataType::String | DataType::Text | DataType::Uuid => Some(MetricValue::String(value.to_string())),
        DataType::DateTime => None,
    }
}

/// What a metric says in our words; `None` when the value does not fit its type, or is none of ours. A 32-bit type may
/// come in the 64-bit field, as some writers do.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // two's complement is meant
pub(crate) fn decode(value: &MetricValue, kind: DataType) -> Option<Value> {
    let bits = match value {
        MetricValue::Int(bits) => Some(u64::from(*bits)),
        MetricValue::Long(bits) => Some(*bits),
        _ => None,
    };
    let signed = |number: i64| Some(Value::Integer(number));
    match (kind, value) {
        (DataType::Int8, _) => signed(i64::from(bits? as u8 as i8)),
        (DataType::Int16, _) => signed(i64::from(bits? as u16 as i16)),
        (DataType::Int32, _) => signed(i64::from(bits? as u32 as i32)),
        (DataType::Int64, _) => signed(bits? as i64),
        (DataType::UInt8, _) => u8::try_from(bits?).ok().map(|number| Value::Integer(i64::from(number))),
        (DataType::UInt16, _) => u16::try_from(bits?).ok().map(|number| Value::Integer(i64::from(number))),
        (DataType::UInt32, _) => u32::try_from(bits?).ok().map(|number| Value::Integer(i64::from(number))),
        (DataType::UInt64 | DataType::DateTime, _) => bits.map(Value::from_u64),
        (DataType::Float | DataType::Double, MetricValue::Float(number)) => Value::from_f64(f64::from(*number)).ok(),
        (DataType::Float | DataType::Double, MetricValue::Double(number)) => Value::from_f64(*number).ok(),
        (DataType::Boolean, MetricValue::Boolean(flag)) => Some(Value::Bool(*flag)),
        (DataType::String | DataType::Text | DataType::Uuid, MetricValue::String(text)) => {
            Some(Value::Text(text.clone()))
        }
        _ => None,
    }
}

/// The quality codes of chapter 6: 192 is good, 500 stale, 0 bad. Our "uncertain" is a value that somebody doubts: stale
/// is the only code between good and bad.
pub(crate) const fn quality_code(quality: Quality) -> u32 {
    match quality {
        Quality::Good => 192,
        Quality::Uncertain => 500,
        Quality::Bad => 0,
    }
}

/// What a quality code means; a metric without one is good. Codes beyond the three of the specification are those of OPC,
/// where 192 to 255 is good and 64 to 127 uncertain.
pub(crate) fn quality_of(properties: Option<&PropertySet>) -> Quality {
    let code = match properties.and_then(|properties| properties.get(QUALITY)) {
        Some(PropertyContent::Int(code)) => u64::from(*code),
        Some(PropertyContent::Long(code)) => *code,
        _ => return Quality::Good,
    };
    match code {
        192..=255 => Quality::Good,
        64..=127 | 500 => Quality::Uncertain,
        _ => Quality::Bad,
    }
}

/// The quality as a property set.
pub(crate) fn with_quality(quality: Quality) -> PropertySet {
    let mut properties = PropertySet::default();
    // Type 3 (Int32) is prescribed (tck-id-payloads-propertyset-quality-value-type).
    properties.push(QUALITY, DataType::Int32, PropertyContent::Int(quality_code(quality)));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            any::<u64>().prop_map(Value::from_u64),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Float),
            "\\PC{0,20}".prop_map(Value::Text),
        ]
    }

    proptest! {
        #[test]
        fn a_value_of_its_own_type_comes_back(value in any_value()) {
            let kind = DataType::of_value(&value);
            let wire = encode(&value, kind).unwrap();
            prop_assert_eq!(decode(&wire, kind), Some(value));
        }

        #[test]
        fn a_type_widened_holds_the_value_and_stops_soon(values in prop::collection::vec(any_value(), 1..20)) {
            let (mut kind, mut changes) = (DataType::of_value(&values[0]), 0);
            for value in &values {
                let wider = kind.widened(value);
                changes += u32::from(wider != kind);
                kind = wider;
                prop_assert!(encode(value, kind).is_some());
            }
            prop_assert!(changes <= 2, "{} changes", changes);
        }

        #[test]
        fn any_metric_value_is_a_value_or_none(code in 0..40_u32, number in any::<u64>(), small in any::<u32>(), text in ".{0,9}") {
            let Some(kind) = DataType::from_code(code) else { return Ok(()) };
            for wire in [MetricValue::Int(small), MetricValue::Long(number), MetricValue::String(text),
                MetricValue::Double(f64::from_bits(number)), MetricValue::DataSet(vec![1]), MetricValue::Boolean(true)] {
                let _ = decode(&wire, kind);
            }
        }
    }

    #[test]
    fn narrow_types_keep_their_sign() {
        for (kind, number) in [(DataType::Int8, -7), (DataType::Int16, -30_000), (DataType::Int32, -2_000_000_000)] {
            let wire = encode(&Value::Integer(number), kind).unwrap();
            assert_eq!(decode(&wire, kind), Some(Value::Integer(number)));
        }
        assert_eq!(encode(&Value::Integer(70_000), DataType::UInt16), None);
        // Some writers cut negative numbers to their width, others extend them to 32 bits: both are read.
        assert_eq!(decode(&MetricValue::Int(0xFFFF), DataType::Int16), Some(Value::Integer(-1)));
        assert_eq!(decode(&MetricValue::Int(0xFFFF_FFFF), DataType::Int16), Some(Value::Integer(-1)));
    }
}
