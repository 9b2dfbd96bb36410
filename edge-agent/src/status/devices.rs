//! What came of each device and of each group of its points: values, readings without one, and when the last value came.
//!
//! A group is the points of a device that are read at one rate (`every`). Written by the ingest thread once a batch, read by
//! `/metrics` and `/status`.

use crate::vault::Kept;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tally_model::{DeviceId, DeviceSpec, NoValue, PointId, Quality};

/// By reason, in the order of their codes; the words are those of the topics.
pub(super) const REASONS: [(NoValue, &str); 7] = [
    (NoValue::Timeout, "timeout"),
    (NoValue::Refused, "refused"),
    (NoValue::LinkDown, "link-down"),
    (NoValue::Nonsense, "nonsense"),
    (NoValue::NotANumber, "not-a-number"),
    (NoValue::OutOfRange, "out-of-range"),
    (NoValue::NoSuchAddress, "no-such-address"),
];

/// Points of a device that are read at one rate.
#[derive(Debug, Clone)]
pub(super) struct GroupCount {
    every: Duration,
    /// `every` as it is written in a mapping: `500ms`.
    pub label: String,
    /// Points in the mapping.
    pub points: u64,
    pub values: u64,
    /// Of the values, those that the device or the link doubts.
    pub uncertain: u64,
    /// Readings without a value.
    pub without: u64,
    pub last_value: Option<Instant>,
}

/// One device.
#[derive(Debug, Default, Clone)]
pub(super) struct DeviceCount {
    /// By rate, fastest first; at least one once something came.
    pub groups: Vec<GroupCount>,
    /// Place of a point's group; empty when there is one group only.
    places: HashMap<PointId, usize>,
    /// Readings without a value, in the order of [`REASONS`].
    pub without: [u64; REASONS.len()],
}

impl DeviceCount {
    pub fn values(&self) -> u64 {
        self.groups.iter().map(|group| group.values).sum()
    }

    pub fn last_value(&self) -> Option<Instant> {
        self.groups.iter().filter_map(|group| group.last_value).max()
    }

    /// The groups of a mapping; what was counted of a rate that stays is kept.
    fn expect(&mut self, device: &DeviceSpec) {
        let mut points: BTreeMap<Duration, u64> = BTreeMap::new();
        for point in &device.points {
            *points.entry(point.options.every.unwrap_or(device.every)).or_default() += 1;
        }
        let before = std::mem::take(&mut self.groups);
        for (every, points) in points {
            let known = before.iter().find(|group| group.every == every).cloned();
            self.groups.push(GroupCount { points, ..known.unwrap_or_else(|| GroupCount::new(every)) });
        }
        self.places.clear();
        if self.groups.len() > 1 {
            let place = |every| self.groups.iter().position(|group| group.every == every);
            let places = device
                .points
                .iter()
                .filter_map(|point| Some((point.id.clone(), place(point.options.every.unwrap_or(device.every))?)));
            self.places = places.collect();
        }
    }

    fn took(&mut self, kept: &Kept) {
        if self.groups.is_empty() {
            self.groups.push(GroupCount::new(Duration::ZERO));
        }
        let now = Instant::now();
        for kept in &kept.readings {
            let sample = &kept.reading.sample;
            let place = if self.places.is_empty() { 0 } else { self.places.get(&sample.point).copied().unwrap_or(0) };
            let Some(group) = self.groups.get_mut(place) else { continue };
            match sample.outcome {
                Ok(_) => {
                    group.values += 1;
                    group.uncertain += u64::from(sample.quality == Quality::Uncertain);
                    group.last_value = Some(now);
                }
                Err(reason) => {
                    group.without += 1;
                    if let Some(place) = REASONS.iter().position(|(known, _)| *known == reason) {
                        self.without[place] += 1;
                    }
                }
            }
        }
    }
}

impl GroupCount {
    fn new(every: Duration) -> Self {
        let label = if every.is_zero() { "unknown".to_owned() } else { format!("{every:?}") };
        Self { every, label, points: 0, values: 0, uncertain: 0, without: 0, last_value: None }
    }
}

/// All devices.
#[derive(Debug, Default)]
pub(super) struct Devices(BTreeMap<DeviceId, DeviceCount>);

impl Devices {
    pub fn expect(&mut self, devices: &[DeviceSpec]) {
        for device in devices {
            self.0.entry(device.id.clone()).or_default().expect(device);
        }
    }

    pub fn forget(&mut self, device: &DeviceId) {
        self.0.remove(device);
    }

    pub fn took(&mut self, kept: &Kept) {
        if !self.0.contains_key(&kept.device) {
            self.0.insert(kept.device.clone(), DeviceCount::default());
        }
        if let Some(count) = self.0.get_mut(&kept.device) {
            count.took(kept);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&DeviceId, &DeviceCount)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::KeptReading;
    use tally_model::{Endpoint, Outcome, PointSpec, Reading, Sample, Timestamp, Unit, Value};

    #[test]
    fn every_reason_has_the_word_that_the_topics_use() {
        for (reason, word) in REASONS {
            assert_eq!(serde_json::to_value(reason).unwrap(), word);
        }
        assert_eq!(REASONS.map(|(reason, _)| reason.code()), [1, 2, 3, 4, 5, 6, 7]);
    }

    fn device(points: &[(&str, Option<u64>)]) -> DeviceSpec {
        let point = |(id, every): &(&str, Option<u64>)| PointSpec {
            options: tally_model::PointOptions { every: every.map(Duration::from_millis), ..Default::default() },
            ..PointSpec::new(
                PointId::try_new(id).unwrap(),
                tally_model::Address::parse_modbus("holding:0").unwrap(),
                tally_model::Encoding::U16,
                Unit::one(),
            )
        };
        DeviceSpec {
            points: points.iter().map(point).collect(),
            ..DeviceSpec::new(
                DeviceId::try_new("press-01").unwrap(),
                Endpoint::parse("modbus+tcp://127.0.0.1").unwrap(),
            )
        }
    }

    fn kept(readings: &[(&str, Outcome, Quality)]) -> Kept {
        let device = DeviceId::try_new("press-01").unwrap();
        let reading = |(point, outcome, quality): &(&str, Outcome, Quality)| KeptReading {
            reading: Reading {
                device: device.clone(),
                number: 0,
                sample: Sample {
                    seal: None,
                    point: PointId::try_new(point).unwrap(),
                    outcome: outcome.clone(),
                    unit: Unit::one(),
                    quality: *quality,
                    source_time: Timestamp::default(),
                    received: Timestamp::default(),
                },
            },
            point_number: 0,
            leaf: [0; 32],
            head: [0; 32],
        };
        Kept { device: device.clone(), first_place: 0, place: 0, readings: readings.iter().map(reading).collect() }
    }

    #[test]
    fn points_are_counted_by_rate_also_across_a_changed_mapping() {
        let mut devices = Devices::default();
        devices.expect(&[device(&[("fast", Some(100)), ("slow", None), ("slower", None)])]);
        let one = || Ok(Value::Integer(1));
        devices.took(&kept(&[
            ("fast", one(), Quality::Good),
            ("slow", one(), Quality::Uncertain),
            ("slower", Err(NoValue::Timeout), Quality::Bad),
        ]));
        let count = |devices: &Devices| devices.0.values().next().cloned().unwrap();
        let found = count(&devices);
        let groups: Vec<_> =
            found.groups.iter().map(|g| (g.label.as_str(), g.points, g.values, g.uncertain, g.without)).collect();
        assert_eq!(groups, [("100ms", 1, 1, 0, 0), ("1s", 2, 1, 1, 1)]);
        assert_eq!((found.values(), found.without[0]), (2, 1));
        assert!(found.last_value().is_some());

        devices.expect(&[device(&[("slow", None), ("new", Some(5_000))])]);
        devices.took(&kept(&[("slow", one(), Quality::Good), ("new", one(), Quality::Good)]));
        let found = count(&devices);
        let groups: Vec<_> = found.groups.iter().map(|g| (g.label.as_str(), g.points, g.values)).collect();
        assert_eq!(groups, [("1s", 1, 2), ("5s", 1, 1)]);
    }
}
