//! What SCADA should have now: the latest reading of every point, and of which points the broker does not have it.
//!
//! Live values are QoS 0, so the connection may lose them, and a broker that was restarted knows none. A PLC that is polled soon has
//! new ones; a value that a device tells when it changes, or that a point has none because its link is down, is told once and
//! would be missing at the broker until it changes again.

use crate::vault::Kept;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use tally_model::{DeviceId, DeviceSpec, PointId, Reading};

/// Of all devices.
#[derive(Default)]
pub(super) struct Latest(BTreeMap<DeviceId, Known>);

/// What became of a reading on its way to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// On its way.
    Sent,
    /// Held back by the point's deadband: what the broker has is as good.
    Held,
    /// Not sent.
    Lost,
}

/// Of one device.
#[derive(Default)]
struct Known {
    /// Copies: the batch of a point that changes rarely would keep all that came with it in memory.
    readings: Vec<Reading>,
    /// Where the reading of each point is.
    places: HashMap<PointId, usize>,
    /// Places of those that the broker lacks.
    owed: BTreeSet<usize>,
}

impl Latest {
    /// Takes in the readings of a batch, with the fate of each.
    pub fn take(&mut self, batch: &Kept, fates: impl IntoIterator<Item = Fate>) {
        let known = self.0.entry(batch.device.clone()).or_default();
        let mut guess = 0;
        for (kept, fate) in batch.readings.iter().zip(fates) {
            let place = known.put(&kept.reading, guess);
            match fate {
                Fate::Sent => drop(known.owed.remove(&place)),
                Fate::Held => {}
                Fate::Lost => drop(known.owed.insert(place)),
            }
            guess = place + 1;
        }
    }

    /// The broker may have lost everything.
    pub fn owe_all(&mut self) {
        self.0.values_mut().for_each(|known| known.owed = (0..known.readings.len()).collect());
    }

    /// Whether the broker has everything.
    pub fn is_settled(&self) -> bool {
        self.0.values().all(|known| known.owed.is_empty())
    }

    /// A reading that the broker lacks.
    pub fn first_owed(&self) -> Option<&Reading> {
        self.0.values().find_map(|known| known.readings.get(*known.owed.first()?))
    }

    /// The latest reading of a point; without a point, of all points of the device.
    pub fn of(&self, device: &DeviceId, point: Option<&PointId>) -> impl Iterator<Item = &Reading> {
        let readings = self.0.get(device).and_then(|known| known.readings.get(known.places_of(point)));
        readings.into_iter().flatten()
    }

    /// The broker was sent these.
    pub fn settle(&mut self, device: &DeviceId, point: Option<&PointId>) {
        let Some(known) = self.0.get_mut(device) else { return };
        for place in known.places_of(point) {
            known.owed.remove(&place);
        }
    }

    /// Forgets what the mapping does not have any more.
    pub fn keep_only(&mut self, devices: &[DeviceSpec]) {
        let points: HashMap<_, HashSet<_>> =
            devices.iter().map(|device| (&device.id, device.points.iter().map(|point| &point.id).collect())).collect();
        self.0.retain(|device, known| {
            let points = points.get(device);
            known.keep_only(|point| points.is_some_and(|points| points.contains(point)));
            !known.readings.is_empty()
        });
    }
}

impl Known {
    /// Most devices bring their points in the same order each time, so that `guess` is right; gives where it was put.
    fn put(&mut self, reading: &Reading, guess: usize) -> usize {
        let point = &reading.sample.point;
        let is_there = self.readings.get(guess).is_some_and(|latest| latest.sample.point == *point);
        let found = if is_there { Some(guess) } else { self.places.get(point).copied() };
        let place = found.unwrap_or(self.readings.len());
        match self.readings.get_mut(place) {
            Some(latest) => latest.clone_from(reading),
            None => {
                self.places.insert(point.clone(), place);
                self.readings.push(reading.clone());
            }
        }
        place
    }

    fn places_of(&self, point: Option<&PointId>) -> Range<usize> {
        let one = |point| self.places.get(point).map_or(0..0, |place| *place..place + 1);
        point.map_or(0..self.readings.len(), one)
    }

    fn keep_only(&mut self, is_known: impl Fn(&PointId) -> bool) {
        let owed = std::mem::take(&mut self.owed);
        let before = std::mem::take(&mut self.readings).into_iter().enumerate();
        self.places.clear();
        for (place, reading) in before.filter(|(_, reading)| is_known(&reading.sample.point)) {
            let new = self.put(&reading, self.readings.len());
            if owed.contains(&place) {
                self.owed.insert(new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::KeptReading;
    use tally_model::{Endpoint, Sample, Timestamp, Unit, Value};

    fn device(id: &str) -> DeviceId {
        DeviceId::try_new(id).unwrap()
    }

    fn point(id: &str) -> PointId {
        PointId::try_new(id).unwrap()
    }

    fn batch(of: &str, first: u64, points: &[&str]) -> Kept {
        let readings = points.iter().zip(first..).map(|(id, number)| {
            let sample = Sample::at(point(id), Ok(Value::Float(number as f64)), Unit::one(), Timestamp::default());
            let reading = Reading { device: device(of), number, sample };
            KeptReading { reading, point_number: number, leaf: Default::default(), head: Default::default() }
        });
        Kept { device: device(of), first_place: first, place: first, readings: readings.collect() }
    }

    /// Sends all that is owed, as numbers of readings.
    fn pay(latest: &mut Latest) -> Vec<u64> {
        let mut sent = Vec::new();
        while !latest.is_settled() {
            let owed = latest.first_owed().unwrap().clone();
            sent.push(owed.number);
            latest.settle(&owed.device, Some(&owed.sample.point));
        }
        sent
    }

    #[test]
    fn a_new_connection_is_owed_the_latest_of_every_point_once() {
        let mut latest = Latest::default();
        latest.take(&batch("a", 1, &["p", "q", "r"]), [Fate::Sent; 3]);
        // Another order, one of them twice, one not at all.
        latest.take(&batch("a", 4, &["r", "p", "p"]), [Fate::Sent; 3]);
        latest.take(&batch("b", 1, &["p"]), [Fate::Sent]);
        assert!(latest.is_settled());
        latest.owe_all();
        assert_eq!(pay(&mut latest), [6, 2, 4, 1]);
        assert!(latest.is_settled());
    }

    #[test]
    fn what_was_dropped_is_owed_until_something_newer_was_sent() {
        let mut latest = Latest::default();
        latest.take(&batch("a", 1, &["p", "q"]), [Fate::Lost, Fate::Sent]);
        // Held back because of one that never arrived.
        latest.take(&batch("a", 3, &["p", "q"]), [Fate::Held, Fate::Held]);
        assert_eq!(pay(&mut latest), [3]);
        latest.take(&batch("a", 5, &["p", "q"]), [Fate::Lost, Fate::Lost]);
        latest.take(&batch("a", 7, &["p"]), [Fate::Sent]);
        assert_eq!(pay(&mut latest), [6]);
        latest.take(&batch("a", 8, &["p", "q"]), [Fate::Lost, Fate::Lost]);
        latest.settle(&device("a"), None);
        assert!(latest.is_settled());
    }

    #[test]
    fn what_the_mapping_does_not_have_any_more_is_forgotten() {
        let mut latest = Latest::default();
        latest.take(&batch("a", 1, &["p", "q"]), [Fate::Lost; 2]);
        latest.take(&batch("b", 1, &["p"]), [Fate::Lost]);
        let file = Endpoint::Replay { file: "unused".into() };
        let q = tally_model::PointSpec::new(
            point("q"),
            tally_model::Address::parse_column("column:q").unwrap(),
            tally_model::Encoding::Auto,
            Unit::one(),
        );
        latest.keep_only(&[DeviceSpec { points: vec![q], ..DeviceSpec::new(device("a"), file) }]);
        assert_eq!(pay(&mut latest), [2]);
        latest.take(&batch("a", 3, &["q"]), [Fate::Lost]);
        assert_eq!(pay(&mut latest), [3]);
    }
}
