//! What a signal says, as OPC UA carries it. Pure.

use super::types::Made;
use crate::{SignalConfig, SignalView};
use opcua::types::custom::{DataTypeTree, DynamicStructure};
use opcua::types::{Array, DataTypeId, DataValue, DateTime, ExtensionObject, StatusCode, Variant, VariantScalarTypeId};
use std::sync::Arc;
use tally_model::{Encoding, Quality, Value};

/// The data type of a single value.
pub(super) fn data_type(encoding: Encoding) -> DataTypeId {
    match encoding {
        Encoding::Bool => DataTypeId::Boolean,
        Encoding::U8 => DataTypeId::Byte,
        Encoding::I8 => DataTypeId::SByte,
        Encoding::U16 | Encoding::Bcd16 => DataTypeId::UInt16,
        Encoding::I16 => DataTypeId::Int16,
        Encoding::U32 | Encoding::Bcd32 => DataTypeId::UInt32,
        Encoding::I32 => DataTypeId::Int32,
        Encoding::U64 | Encoding::Bcd64 => DataTypeId::UInt64,
        Encoding::I64 => DataTypeId::Int64,
        Encoding::F16 | Encoding::F32 => DataTypeId::Float,
        Encoding::F64 => DataTypeId::Double,
        Encoding::Text | Encoding::TextLow | Encoding::TextHigh => DataTypeId::String,
        Encoding::Auto => DataTypeId::BaseDataType,
    }
}

/// A node's value with the worst quality of its parts; `None` while a signal says nothing.
pub(super) fn data_value(
    made: &Made,
    signals: &[SignalConfig],
    views: &[Option<SignalView>],
    tree: &Arc<DataTypeTree>,
    now: DateTime,
) -> Option<DataValue> {
    let value = variant(made, signals, views, tree)?;
    let status = match worst(made, views) {
        Quality::Good => StatusCode::Good,
        Quality::Uncertain => StatusCode::UncertainSensorNotAccurate,
        Quality::Bad => StatusCode::BadSensorFailure,
    };
    Some(DataValue {
        value: Some(value),
        status: Some(status),
        source_timestamp: Some(now),
        server_timestamp: Some(now),
        ..DataValue::default()
    })
}

fn variant(
    made: &Made,
    signals: &[SignalConfig],
    views: &[Option<SignalView>],
    tree: &Arc<DataTypeTree>,
) -> Option<Variant> {
    let parts =
        |parts: &[Made]| parts.iter().map(|part| variant(part, signals, views, tree)).collect::<Option<Vec<_>>>();
    Some(match made {
        Made::Signal(signal) => single(&signals[*signal], &views[*signal].as_ref()?.value),
        Made::Array { scalar, dimensions, elements } => {
            let array = Array { value_type: *scalar, values: parts(elements)?, dimensions: dimensions.clone() };
            Variant::Array(Box::new(array))
        }
        Made::Structure { data_type, fields } => {
            let info = Arc::clone(tree.get_struct_type(data_type)?);
            match DynamicStructure::new_struct(info, Arc::clone(tree), parts(fields)?) {
                Ok(structure) => Variant::from(ExtensionObject::new(structure)),
                Err(fault) => {
                    tracing::warn!(%data_type, %fault, "a structure cannot be made of what its signals say");
                    return None;
                }
            }
        }
    })
}

fn worst(made: &Made, views: &[Option<SignalView>]) -> Quality {
    let rank = |quality: Quality| match quality {
        Quality::Good => 0,
        Quality::Uncertain => 1,
        Quality::Bad => 2,
    };
    match made {
        Made::Signal(signal) => views[*signal].as_ref().map_or(Quality::Bad, |view| view.quality),
        Made::Array { elements: parts, .. } | Made::Structure { fields: parts, .. } => {
            parts.iter().map(|part| worst(part, views)).max_by_key(|quality| rank(*quality)).unwrap_or(Quality::Good)
        }
    }
}

/// The value in the signal's type; one that does not fit is sent as what it is.
pub(super) fn single(signal: &SignalConfig, value: &Value) -> Variant {
    if let Some(labels) = &signal.labels {
        // An enumeration is carried as its number (Part 6 §5.2.4).
        let number = match value {
            Value::Text(text) => labels.iter().find(|(_, label)| *label == text).map(|(number, _)| *number),
            Value::Integer(number) => Some(*number),
            _ => value.as_f64().map(whole),
        };
        return number.and_then(|number| i32::try_from(number).ok()).map_or(Variant::Empty, Variant::Int32);
    }
    let is_scaled = signal.scale.to_bits() != 1.0_f64.to_bits() || signal.offset != 0.0;
    match value.as_f64() {
        // Raw = (value − offset) ÷ scale, as a reader will undo it.
        Some(number) if is_scaled && !matches!(value, Value::Bool(_)) => {
            typed(signal.encoding, &Value::Float((number - signal.offset) / signal.scale))
        }
        _ => typed(signal.encoding, value),
    }
}

#[allow(clippy::cast_possible_truncation)] // `as` saturates, and no enumeration has such numbers
fn whole(number: f64) -> i64 {
    number.round() as i64
}

fn typed(encoding: Encoding, value: &Value) -> Variant {
    let natural = match value {
        Value::Bool(flag) => Variant::from(*flag),
        Value::Integer(number) => Variant::from(*number),
        Value::Unsigned(number) => Variant::from(*number),
        Value::Float(number) => Variant::from(*number),
        Value::Text(text) => Variant::from(text.as_str()),
    };
    let type_id = match encoding {
        Encoding::Auto => return natural,
        other => data_type(other),
    };
    let rounded = match (&natural, encoding) {
        (Variant::Double(number), Encoding::F32 | Encoding::F64) => Variant::from(*number),
        (Variant::Double(number), _) => Variant::from(number.round()),
        _ => natural.clone(),
    };
    match VariantScalarTypeId::try_from(type_id as u32).map(|type_id| rounded.cast(type_id)) {
        Ok(Variant::Empty) | Err(_) => natural,
        Ok(cast) => cast,
    }
}
