//! Live values.

use super::Devices;
use super::topics::Topics;
use crate::config::PublishMode;
use crate::spool::Spool;
use crate::status::Status;
use crate::vault::{Kept, KeptReading};
use std::collections::HashMap;
use std::sync::Arc;
use tally_connector_api::LinkStatus;
use tally_connector_mqtt::Publisher;
use tally_model::{DeviceId, DeviceSpec, NoValue, PointId, Sample};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Publishes what changed by more than its deadband. The vault keeps every reading; this is a view of it.
pub(super) struct Live<P> {
    mode: PublishMode,
    devices: Devices,
    /// Points with a deadband.
    deadbands: Bands,
    topics: Topics,
    publisher: P,
    broker: Connects,
    status: Arc<Status>,
    /// What SCADA misses is told later.
    spool: Arc<Spool>,
    /// What the publisher had dropped by the last batch.
    dropped: u64,
}

/// Notices a new connection to the broker, which may have forgotten what it kept.
pub(super) struct Connects {
    listener: watch::Receiver<LinkStatus>,
    seen: u64,
}

impl Connects {
    pub fn new(listener: watch::Receiver<LinkStatus>) -> Self {
        Self { listener, seen: 0 }
    }

    pub fn is_new(&mut self) -> bool {
        let connects = self.listener.borrow().connects;
        std::mem::replace(&mut self.seen, connects) != connects
    }
}

/// By device and point.
pub(super) type Bands = HashMap<(DeviceId, PointId), Band>;

pub(super) struct Band {
    width: f64,
    /// What was published last.
    last: Option<Result<f64, NoValue>>,
}

/// The deadbands of all points that have one.
pub(super) fn bands(devices: &[DeviceSpec]) -> Bands {
    let points = devices.iter().flat_map(|device| device.points.iter().map(|point| (device.id.clone(), point)));
    let deadbands = points
        .filter_map(|(device, point)| Some(((device, point.id.clone()), Band { width: point.deadband?, last: None })));
    deadbands.collect()
}

impl<P: Publisher> Live<P> {
    pub fn new(
        mode: PublishMode,
        mut devices: Devices,
        topics: Topics,
        publisher: P,
        broker: Connects,
        status: Arc<Status>,
        spool: Arc<Spool>,
    ) -> Self {
        let deadbands = bands(&devices.borrow_and_update());
        Self { mode, devices, deadbands, topics, publisher, broker, status, spool, dropped: 0 }
    }

    pub async fn run(mut self, mut batches: mpsc::Receiver<Arc<Kept>>, quit: CancellationToken) {
        while let Some(Some(kept)) = quit.run_until_cancelled(batches.recv()).await {
            self.publish(&kept);
        }
    }

    fn publish(&mut self, kept: &Kept) {
        if self.devices.has_changed().unwrap_or(false) {
            self.deadbands = bands(&self.devices.borrow_and_update());
        }
        let is_connected = self.publisher.is_connected();
        if !is_connected || self.broker.is_new() {
            // What a deadband holds back would be missing at the broker: the next value goes out in any case.
            self.deadbands.values_mut().for_each(|band| band.last = None);
            self.spool.lost();
        }
        // What a device had recorded is no live value, so it is told as history only.
        if !is_connected || kept.readings.is_empty() {
            self.status.count.live_dropped.add(kept.readings.len() as u64);
            self.spool.missed(kept);
            return;
        }
        if self.queue(kept) {
            self.spool.told(kept);
        } else {
            self.spool.missed(kept);
        }
        let dropped = self.publisher.dropped();
        self.status.count.live_dropped.add(dropped - std::mem::replace(&mut self.dropped, dropped));
    }

    /// Whether all that is news in it was queued for the connection.
    fn queue(&mut self, kept: &Kept) -> bool {
        let changed: Vec<_> = kept.readings.iter().filter(|kept| self.is_news(kept)).collect();
        match self.mode {
            PublishMode::Point => {
                let mut all_queued = true;
                for kept in changed {
                    all_queued &= self.publisher.try_publish_lossy(self.topics.point(kept));
                }
                all_queued
            }
            PublishMode::Device => {
                let mut all_queued = true;
                for message in self.topics.device(&kept.device, &changed) {
                    all_queued &= self.publisher.try_publish_lossy(message);
                }
                all_queued
            }
        }
    }

    fn is_news(&mut self, kept: &KeptReading) -> bool {
        if self.deadbands.is_empty() {
            return true;
        }
        let key = (kept.reading.device.clone(), kept.reading.sample.point.clone());
        self.deadbands.get_mut(&key).is_none_or(|band| band.leaves(&kept.reading.sample))
    }
}

impl Band {
    /// Whether the sample is outside the band around what was published last; then it is the new middle.
    pub fn leaves(&mut self, sample: &Sample) -> bool {
        let new = match &sample.outcome {
            Err(reason) => Err(*reason),
            Ok(value) => match value.as_f64() {
                Some(number) => Ok(number),
                None => return true,
            },
        };
        let is_inside = match (&self.last, &new) {
            (Some(Ok(last)), Ok(new)) => (new - last).abs() < self.width,
            (Some(Err(last)), Err(new)) => last == new,
            _ => false,
        };
        if !is_inside {
            self.last = Some(new);
        }
        !is_inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{Timestamp, Unit, Value};

    fn sample(outcome: Result<f64, NoValue>) -> Sample {
        Sample::at(PointId::try_new("p").unwrap(), outcome.map(Value::Float), Unit::one(), Timestamp::default())
    }

    #[test]
    fn a_deadband_holds_back_small_changes_and_no_drift() {
        let mut band = Band { width: 0.5, last: None };
        let news = [Ok(1.0), Ok(1.4), Ok(1.5), Ok(1.2), Err(NoValue::Timeout), Err(NoValue::Timeout), Ok(1.2), Ok(0.7)];
        let told: Vec<_> = news.into_iter().map(|outcome| band.leaves(&sample(outcome))).collect();
        assert_eq!(told, [true, false, true, false, true, false, true, true]);
    }
}
