//! Having an edge node write a metric (*Sparkplug 3.0*, 6.4.20 NCMD, 6.4.21 DCMD): what a host application does. The metric is named,
//! and its value goes in the type that its birth gave it, which the message repeats: it need not, but there are edge nodes that look
//! for it there.

use super::NodeWatch;
use super::metric::millis;
use crate::encode::raw;
use crate::sparkplug::names::MessageType;
use crate::sparkplug::payload::{Metric, MetricValue, Payload};
use crate::sparkplug::value::{DataType, encode};
use tally_model::{DeviceId, PointId, Timestamp, Value};

/// Why a metric cannot be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsaid {
    /// Nothing is known of it: there was no birth yet.
    Unborn(String),
    /// Its type does not hold the value.
    Type(String),
}

impl NodeWatch {
    /// Topic and payload of the command that wants the metric of this point to be `value`; `None` when the point is none of ours.
    pub(crate) fn command(
        &self,
        device: &DeviceId,
        point: &PointId,
        value: &Value,
        at: Timestamp,
    ) -> Option<Result<(String, Vec<u8>), Unsaid>> {
        let wanted = self.wanted.iter().find(|wanted| wanted.device == *device && wanted.point.id == *point)?;
        let key = (wanted.of.clone(), wanted.metric.clone());
        let is_alive = |of: &String| self.born.as_ref().is_some_and(|born| born.devices.contains(of));
        let kind = self.born.as_ref().and_then(|born| born.types.get(&key)).copied();
        let Some(kind) = kind.filter(|_| wanted.of.as_ref().is_none_or(is_alive)) else {
            let text = format!("edge node `{}` has not said a birth with the metric `{}`", self.edge_node, key.1);
            return Some(Err(Unsaid::Unborn(text)));
        };
        let raw = match raw(&wanted.point, value) {
            Ok(raw) => raw,
            Err(fault) => return Some(Err(Unsaid::Type(fault.to_string()))),
        };
        let Some(said) = in_type(&raw, kind) else {
            return Some(Err(Unsaid::Type(format!("the metric `{}` is of type {kind:?}, and `{raw}` is none", key.1))));
        };
        let metric = Metric {
            name: Some(key.1),
            datatype: Some(kind.code()),
            timestamp: Some(millis(at)),
            value: Some(said),
            ..Metric::default()
        };
        let command = Payload { timestamp: Some(millis(at)), metrics: vec![metric], ..Payload::default() };
        let kind = if wanted.of.is_some() { MessageType::DeviceCommand } else { MessageType::NodeCommand };
        Some(Ok((self.topic(kind, wanted.of.as_deref()), command.to_bytes())))
    }
}

/// The value as a metric of this type, which its own kind must fit: a number is no text here. A decimal number goes into a single as
/// the nearest one.
#[allow(clippy::cast_possible_truncation)] // rounding and narrowing of what was checked is the purpose
fn in_type(value: &Value, kind: DataType) -> Option<MetricValue> {
    match (kind, value) {
        (DataType::String | DataType::Text | DataType::Uuid, Value::Text(_)) => encode(value, kind),
        (DataType::String | DataType::Text | DataType::Uuid, _) => None,
        (DataType::Float, Value::Float(_) | Value::Integer(_) | Value::Unsigned(_)) => {
            let single = value.as_f64()? as f32;
            single.is_finite().then_some(MetricValue::Float(single))
        }
        (DataType::Double, _) => encode(value, kind),
        (_, Value::Float(number)) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
            encode(&Value::Integer(*number as i64), kind)
        }
        _ => encode(value, kind),
    }
}
