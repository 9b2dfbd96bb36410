//! What a metric says, as a point of ours wants it.

use crate::decode::{DecodeFault, settled};
use crate::sparkplug::payload::{Metric, MetricValue};
use crate::sparkplug::value::{DataType, decode, quality_of};
use tally_model::{NoValue, Outcome, PointSpec, Quality, Timestamp, Value};

/// Value and quality of a metric of type `kind`.
pub(super) fn outcome(point: &PointSpec, metric: &Metric, kind: Option<DataType>) -> (Outcome, Quality) {
    let quality = quality_of(metric.properties.as_ref());
    match value(point, metric, kind) {
        // The value that a bad quality stands beside is nobody's word any more.
        Ok(_) if quality == Quality::Bad => (Err(NoValue::Refused), Quality::Bad),
        Ok(value) => (Ok(value), quality),
        Err(fault) => {
            tracing::debug!(point = %point.id, %fault, "no value");
            (Err(fault.reason()), Quality::Bad)
        }
    }
}

fn value(point: &PointSpec, metric: &Metric, kind: Option<DataType>) -> Result<Value, DecodeFault> {
    let wrong = |found: &str| DecodeFault::WrongType { expected: "a scalar metric", found: found.to_owned() };
    let carried = match &metric.value {
        Some(carried) if metric.is_null != Some(true) => carried,
        _ => return Err(DecodeFault::NotANumber("null".into())),
    };
    if let MetricValue::Float(_) | MetricValue::Double(_) = carried
        && !is_finite(carried)
    {
        return Err(DecodeFault::NotANumber("NaN or an infinity".into()));
    }
    let kind = kind.ok_or_else(|| wrong("a metric whose type no birth gave, or a type that is no scalar"))?;
    settled(point, decode(carried, kind).ok_or_else(|| wrong(&format!("{carried:?} as {kind:?}")))?)
}

fn is_finite(carried: &MetricValue) -> bool {
    match carried {
        MetricValue::Float(number) => number.is_finite(),
        MetricValue::Double(number) => number.is_finite(),
        _ => true,
    }
}

/// A whole number, in whichever field it came.
pub(super) fn number(metric: &Metric) -> Option<u64> {
    match metric.value {
        Some(MetricValue::Long(number)) => Some(number),
        Some(MetricValue::Int(number)) => Some(u64::from(number)),
        _ => None,
    }
}

pub(super) fn instant(millis: u64) -> Option<Timestamp> {
    i64::try_from(millis).ok()?.checked_mul(1_000).map(Timestamp::from_micros)
}

pub(super) fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros() / 1_000).unwrap_or(0)
}
