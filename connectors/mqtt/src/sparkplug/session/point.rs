//! What is known of a point and what the host was told of it: the latest value, and whether a new one is news.

use super::millis;
use crate::sparkplug::payload::{Metric, PropertyContent};
use crate::sparkplug::value::{DataType, REASON, UNIT, encode, quality_code, with_quality};
use std::collections::HashMap;
use tally_model::{DeviceId, NoValue, Outcome, PointId, Quality, Sample, Timestamp};

pub(super) struct Device {
    pub id: DeviceId,
    pub points: Vec<Point>,
    pub by_id: HashMap<PointId, usize>,
    pub is_born: bool,
}

pub(super) struct Point {
    pub name: String,
    pub alias: u64,
    pub unit: String,
    pub deadband: Option<f64>,
    /// `None` as long as only the device knows.
    pub kind: Option<DataType>,
    /// The latest.
    pub last: Option<Known>,
    /// What the host knows.
    pub told: Option<Known>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub outcome: Outcome,
    pub quality: Quality,
    pub at: Timestamp,
}

impl Device {
    pub fn lives(&self) -> bool {
        let is_up = |known: &Known| known.outcome != Err(NoValue::LinkDown);
        self.points.iter().any(|point| point.last.as_ref().is_some_and(is_up))
    }

    /// `true` when the device must be born again, because the type of a point changed.
    pub fn take(&mut self, sample: &Sample) -> bool {
        let Some(&place) = self.by_id.get(&sample.point) else { return false };
        let point = &mut self.points[place];
        point.last = Some(Known { outcome: sample.outcome.clone(), quality: sample.quality, at: sample.source_time });
        let Ok(value) = &sample.outcome else { return false };
        let kind = point.kind.map_or_else(|| DataType::of_value(value), |kind| kind.widened(value));
        point.kind.replace(kind) != Some(kind)
    }
}

impl Point {
    /// Name, alias, type, unit, quality and the latest value.
    pub fn birth(&mut self, now: Timestamp) -> Metric {
        self.told = self.last.clone();
        let unread = Known { outcome: Err(NoValue::Timeout), quality: Quality::Bad, at: now };
        let known = self.last.as_ref().unwrap_or(&unread);
        let mut properties = with_quality(known.quality);
        properties.push(UNIT, DataType::String, PropertyContent::String(self.unit.clone()));
        if let (Some(_), Err(reason)) = (&self.last, &known.outcome) {
            properties.push(REASON, DataType::String, PropertyContent::String(reason.to_string()));
        }
        let kind = self.kind.unwrap_or(DataType::String);
        let value = known.outcome.as_ref().ok().and_then(|value| encode(value, kind));
        Metric {
            name: Some(self.name.clone()),
            alias: Some(self.alias),
            timestamp: Some(millis(known.at)),
            datatype: Some(kind.code()),
            is_null: value.is_none().then_some(true),
            properties: Some(properties),
            value,
            ..Metric::default()
        }
    }

    /// The metric of a data message; `None` when there is no news in it.
    pub fn tell(&mut self, known: Known) -> Option<Metric> {
        if self.told.as_ref().is_some_and(|told| is_same(told, &known, self.deadband)) {
            return None;
        }
        let metric = self.data(&known);
        self.told = Some(known);
        metric
    }

    /// Alias and value, and the quality where it is not good or has just become good.
    pub fn data(&self, known: &Known) -> Option<Metric> {
        let value = match &known.outcome {
            Ok(value) => Some(encode(value, self.kind?)?),
            Err(_) => None,
        };
        let was_good = self.told.as_ref().is_some_and(|told| told.quality == Quality::Good);
        let mut properties = None;
        if known.quality != Quality::Good || !was_good {
            let mut with = with_quality(known.quality);
            if let Err(reason) = &known.outcome {
                with.push(REASON, DataType::String, PropertyContent::String(reason.to_string()));
            }
            properties = Some(with);
        }
        Some(Metric {
            alias: Some(self.alias),
            timestamp: Some(millis(known.at)),
            is_null: value.is_none().then_some(true),
            properties,
            value,
            ..Metric::default()
        })
    }
}

fn is_same(told: &Known, known: &Known, deadband: Option<f64>) -> bool {
    if quality_code(told.quality) != quality_code(known.quality) {
        return false;
    }
    match (&told.outcome, &known.outcome, deadband) {
        (Ok(told), Ok(known), Some(width)) => match (told.as_f64(), known.as_f64()) {
            (Some(told), Some(known)) => (known - told).abs() < width,
            _ => told == known,
        },
        (told, known, _) => told == known,
    }
}
