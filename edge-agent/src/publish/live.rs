//! Live values: each as it comes, and on a new connection to the broker, or after one was dropped, the latest of each point.

use super::Devices;
use super::latest::{Fate, Latest};
use super::topics::Topics;
use crate::config::PublishMode;
use crate::spool::Spool;
use crate::status::Status;
use crate::vault::{Kept, KeptReading};
use std::collections::HashMap;
use std::sync::Arc;
use tally_connector_api::{LinkState, LinkStatus};
use tally_connector_mqtt::{PublishError, Publisher};
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
    /// What SCADA should have now.
    latest: Latest,
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

    fn is_up(&self) -> bool {
        matches!(self.listener.borrow().state, LinkState::Up { .. })
    }

    async fn changed(&mut self) {
        if self.listener.changed().await.is_err() {
            // The publisher is gone; whoever waits is told to quit next.
            std::future::pending::<()>().await;
        }
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
        let latest = Latest::default();
        Self { mode, devices, deadbands, topics, publisher, broker, status, spool, latest, dropped: 0 }
    }

    pub async fn run(mut self, batches: mpsc::Receiver<Arc<Kept>>, quit: CancellationToken) {
        quit.run_until_cancelled(self.publish_all(batches)).await;
    }

    async fn publish_all(&mut self, mut batches: mpsc::Receiver<Arc<Kept>>) {
        loop {
            let is_owing = self.broker.is_up() && !self.latest.is_settled();
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(kept) => self.publish(&kept),
                    None => return,
                },
                () = self.broker.changed() => self.look_at_connection(),
                Some((device, point)) = send_owed(self.mode, &self.latest, &self.topics, &self.publisher), if is_owing => {
                    self.settle(&device, point.as_ref());
                }
            }
        }
    }

    /// A new connection: the broker may have forgotten what it kept, and what was sent last may not have arrived.
    fn look_at_connection(&mut self) {
        if self.broker.is_new() {
            self.latest.owe_all();
            self.lost();
        }
    }

    /// What was owed of a device, or of one point of it, was sent: deadbands count from there.
    fn settle(&mut self, device: &DeviceId, point: Option<&PointId>) {
        if !self.deadbands.is_empty() {
            for kept in self.latest.of(device) {
                let sample = &kept.reading.sample;
                let band = self.deadbands.get_mut(&(device.clone(), sample.point.clone()));
                if let Some(band) = band.filter(|_| point.is_none_or(|point| *point == sample.point)) {
                    band.leaves(sample);
                }
            }
        }
        self.latest.settle(device, point);
    }

    fn lost(&mut self) {
        // What a deadband holds back would be missing at the broker: the next value goes out in any case.
        self.deadbands.values_mut().for_each(|band| band.last = None);
        self.spool.lost();
    }

    fn publish(&mut self, kept: &Arc<Kept>) {
        if self.devices.has_changed().unwrap_or(false) {
            let devices = self.devices.borrow_and_update();
            self.deadbands = bands(&devices);
            self.latest.keep_only(&devices);
        }
        self.look_at_connection();
        let is_connected = self.publisher.is_connected();
        if !is_connected {
            self.lost();
        }
        // What a device had recorded is no live value, so it is told as history only.
        if !is_connected || kept.readings.is_empty() {
            self.status.count.live_dropped.add(kept.readings.len() as u64);
            self.spool.missed(kept);
            self.latest.take(kept, kept.readings.iter().map(|_| Fate::Lost));
            return;
        }
        let fates = self.queue(kept);
        if fates.contains(&Fate::Lost) {
            self.spool.missed(kept);
        } else {
            self.spool.told(kept);
        }
        self.latest.take(kept, fates);
        let dropped = self.publisher.dropped();
        self.status.count.live_dropped.add(dropped - std::mem::replace(&mut self.dropped, dropped));
    }

    /// Queues all that is news in it for the connection; gives what became of each reading.
    fn queue(&mut self, kept: &Kept) -> Vec<Fate> {
        let mut fates: Vec<_> = kept.readings.iter().map(|kept| self.fate(kept)).collect();
        match self.mode {
            PublishMode::Point => {
                for (kept, fate) in kept.readings.iter().zip(&mut fates).filter(|(_, fate)| **fate == Fate::Sent) {
                    if !self.publisher.try_publish_lossy(self.topics.point(kept)) {
                        *fate = Fate::Lost;
                    }
                }
            }
            PublishMode::Device => {
                let news = kept.readings.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Sent);
                let news: Vec<_> = news.map(|(kept, _)| kept).collect();
                let mut all_queued = true;
                for message in self.topics.device(&kept.device, &news) {
                    all_queued &= self.publisher.try_publish_lossy(message);
                }
                if !all_queued {
                    fates.iter_mut().filter(|fate| **fate == Fate::Sent).for_each(|fate| *fate = Fate::Lost);
                }
            }
        }
        fates
    }

    /// Held back by its deadband, or to be sent.
    fn fate(&mut self, kept: &KeptReading) -> Fate {
        if self.deadbands.is_empty() {
            return Fate::Sent;
        }
        let key = (kept.reading.device.clone(), kept.reading.sample.point.clone());
        let is_news = self.deadbands.get_mut(&key).is_none_or(|band| band.leaves(&kept.reading.sample));
        if is_news { Fate::Sent } else { Fate::Held }
    }
}

/// Sends the latest reading of a point (or all of a device, in that mode) that the broker lacks; gives what it has then. Waits while
/// the connection takes no more, and may be dropped at any time.
async fn send_owed<P: Publisher>(
    mode: PublishMode,
    latest: &Latest,
    topics: &Topics,
    publisher: &P,
) -> Option<(DeviceId, Option<PointId>)> {
    let (device, mut readings) = latest.first_owed()?;
    let (messages, point) = match mode {
        PublishMode::Point => {
            let (kept, _) = readings.find(|(_, is_owed)| *is_owed)?;
            (vec![topics.point(kept)], Some(kept.reading.sample.point.clone()))
        }
        PublishMode::Device => {
            let readings: Vec<_> = readings.map(|(kept, _)| kept).collect();
            (topics.device(device, &readings).collect(), None)
        }
    };
    for message in messages {
        let topic = message.topic.clone();
        if let Err(fault) = publisher.publish(message).await
            && !matches!(fault, PublishError::Stopped)
        {
            tracing::warn!(topic, %fault, "a live value cannot be published");
        }
    }
    Some((device.clone(), point))
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
