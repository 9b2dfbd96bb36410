//! What SCADA should have now: the latest reading of every point, and of which points the broker does not have it.
//!
//! Live values are QoS 0, so the connection may lose them, and a broker that was restarted knows none. A PLC that is polled soon has
//! new ones; a value that a device tells when it changes, or that a point has none because its link is down, is told once and
//! would be missing at the broker until it changes again.

use crate::vault::{Kept, KeptReading};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tally_model::{DeviceId, DeviceSpec, PointId};

/// Of all devices.
#[derive(Default)]
pub(super) struct Latest {
    devices: HashMap<DeviceId, Known>,
    /// Devices of which the broker lacks something.
    owed: BTreeSet<DeviceId>,
}

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

/// Of one device. Readings stay in the batches they came in.
#[derive(Default)]
struct Known {
    slots: Vec<Slot>,
    places: HashMap<PointId, usize>,
}

struct Slot {
    kept: Arc<Kept>,
    at: usize,
    is_owed: bool,
}

impl Slot {
    fn reading(&self) -> Option<&KeptReading> {
        self.kept.readings.get(self.at)
    }

    fn is_of(&self, point: &PointId) -> bool {
        self.reading().is_some_and(|kept| kept.reading.sample.point == *point)
    }
}

impl Latest {
    /// Takes in the readings of a batch, with the fate of each.
    pub fn take(&mut self, batch: &Arc<Kept>, fates: impl IntoIterator<Item = Fate>) {
        let known = self.devices.entry(batch.device.clone()).or_default();
        let mut guess = 0;
        for (at, (kept, fate)) in batch.readings.iter().zip(fates).enumerate() {
            let slot = Slot { kept: Arc::clone(batch), at, is_owed: fate == Fate::Lost };
            guess = known.put(&kept.reading.sample.point, slot, fate, guess) + 1;
        }
        if known.owes() {
            self.owed.insert(batch.device.clone());
        } else {
            self.owed.remove(&batch.device);
        }
    }

    /// The broker may have lost everything.
    pub fn owe_all(&mut self) {
        for (device, known) in &mut self.devices {
            known.slots.iter_mut().for_each(|slot| slot.is_owed = true);
            self.owed.insert(device.clone());
        }
    }

    /// Whether the broker has everything.
    pub fn is_settled(&self) -> bool {
        self.owed.is_empty()
    }

    /// A device of which the broker lacks something, all its latest readings, and of each whether it is lacking.
    pub fn first_owed(&self) -> Option<(&DeviceId, impl Iterator<Item = (&KeptReading, bool)>)> {
        let device = self.owed.first()?;
        let slots = self.devices.get(device)?.slots.iter();
        Some((device, slots.filter_map(|slot| Some((slot.reading()?, slot.is_owed)))))
    }

    /// The latest readings of a device.
    pub fn of(&self, device: &DeviceId) -> impl Iterator<Item = &KeptReading> {
        self.devices.get(device).into_iter().flat_map(|known| known.slots.iter().filter_map(Slot::reading))
    }

    /// The broker was sent the reading of a point; without a point, all of the device.
    pub fn settle(&mut self, device: &DeviceId, point: Option<&PointId>) {
        let Some(known) = self.devices.get_mut(device) else { return };
        for slot in known.slots.iter_mut().filter(|slot| point.is_none_or(|point| slot.is_of(point))) {
            slot.is_owed = false;
        }
        if !known.owes() {
            self.owed.remove(device);
        }
    }

    /// Forgets what the mapping does not have any more.
    pub fn keep_only(&mut self, devices: &[DeviceSpec]) {
        let points: HashMap<_, HashSet<_>> =
            devices.iter().map(|device| (&device.id, device.points.iter().map(|point| &point.id).collect())).collect();
        self.devices.retain(|device, known| {
            let points = points.get(device);
            known.keep_only(|point| points.is_some_and(|points| points.contains(point)));
            !known.slots.is_empty()
        });
        self.owed.retain(|device| self.devices.get(device).is_some_and(Known::owes));
    }
}

impl Known {
    /// Most devices bring their points in the same order each time, so that `guess` is right; gives where it was put.
    fn put(&mut self, point: &PointId, new: Slot, fate: Fate, guess: usize) -> usize {
        let found = if self.slots.get(guess).is_some_and(|slot| slot.is_of(point)) {
            Some(guess)
        } else {
            self.places.get(point).copied()
        };
        if let Some((place, slot)) = found.and_then(|place| Some((place, self.slots.get_mut(place)?))) {
            let is_owed = new.is_owed || (fate == Fate::Held && slot.is_owed);
            *slot = Slot { is_owed, ..new };
            return place;
        }
        self.places.insert(point.clone(), self.slots.len());
        self.slots.push(new);
        self.slots.len() - 1
    }

    fn owes(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_owed)
    }

    fn keep_only(&mut self, is_known: impl Fn(&PointId) -> bool) {
        self.slots.retain(|slot| slot.reading().is_some_and(|kept| is_known(&kept.reading.sample.point)));
        let places = self.slots.iter().enumerate();
        let places = places.filter_map(|(at, slot)| Some((slot.reading()?.reading.sample.point.clone(), at)));
        self.places = places.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{Endpoint, Reading, Sample, Timestamp, Unit, Value};

    fn device(id: &str) -> DeviceId {
        DeviceId::try_new(id).unwrap()
    }

    fn point(id: &str) -> PointId {
        PointId::try_new(id).unwrap()
    }

    fn batch(of: &str, first: u64, points: &[&str]) -> Arc<Kept> {
        let readings = points.iter().zip(first..).map(|(id, number)| {
            let sample = Sample::at(point(id), Ok(Value::Float(number as f64)), Unit::one(), Timestamp::default());
            let reading = Reading { device: device(of), number, sample };
            KeptReading { reading, point_number: number, leaf: Default::default(), head: Default::default() }
        });
        Arc::new(Kept { device: device(of), first_place: first, place: first, readings: readings.collect() })
    }

    /// Sends all that is owed, as numbers of readings.
    fn pay(latest: &mut Latest) -> Vec<u64> {
        let mut sent = Vec::new();
        while !latest.is_settled() {
            let (device, mut readings) = latest.first_owed().unwrap();
            let (kept, _) = readings.find(|(_, is_owed)| *is_owed).unwrap();
            sent.push(kept.reading.number);
            let (device, point) = (device.clone(), kept.reading.sample.point.clone());
            drop(readings);
            latest.settle(&device, Some(&point));
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
