//! Live values and states of links.

use super::topics::Topics;
use crate::config::PublishMode;
use crate::status::Status;
use crate::vault::{Kept, KeptReading};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{LinkState, LinkStatus};
use tally_connector_mqtt::{PublishError, Publisher};
use tally_model::{DeviceId, DeviceSpec, NoValue, PointId, Sample};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How often states of links are looked at.
const STATES_EVERY: Duration = Duration::from_millis(250);

/// Publishes what changed by more than its deadband. The vault keeps every reading; this is a view of it.
pub(super) struct Live<P> {
    mode: PublishMode,
    /// Points with a deadband.
    deadbands: HashMap<(DeviceId, PointId), Band>,
    topics: Topics,
    publisher: P,
    broker: Connects,
    status: Arc<Status>,
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

    fn is_new(&mut self) -> bool {
        let connects = self.listener.borrow().connects;
        std::mem::replace(&mut self.seen, connects) != connects
    }
}

struct Band {
    width: f64,
    /// What was published last.
    last: Option<Result<f64, NoValue>>,
}

impl<P: Publisher> Live<P> {
    pub fn new(
        mode: PublishMode,
        devices: &[DeviceSpec],
        topics: Topics,
        publisher: P,
        broker: Connects,
        status: Arc<Status>,
    ) -> Self {
        let points = devices.iter().flat_map(|device| device.points.iter().map(|point| (device.id.clone(), point)));
        let deadbands = points.filter_map(|(device, point)| {
            Some(((device, point.id.clone()), Band { width: point.deadband?, last: None }))
        });
        Self { mode, deadbands: deadbands.collect(), topics, publisher, broker, status, dropped: 0 }
    }

    pub async fn run(mut self, mut batches: mpsc::Receiver<Arc<Kept>>, quit: CancellationToken) {
        while let Some(Some(kept)) = quit.run_until_cancelled(batches.recv()).await {
            self.publish(&kept);
        }
    }

    fn publish(&mut self, kept: &Kept) {
        let is_connected = self.publisher.is_connected();
        if !is_connected || self.broker.is_new() {
            // What a deadband holds back would be missing at the broker: the next value goes out in any case.
            self.deadbands.values_mut().for_each(|band| band.last = None);
        }
        if !is_connected {
            self.status.count.live_dropped.add(kept.readings.len() as u64);
            return;
        }
        let changed: Vec<_> = kept.readings.iter().filter(|kept| self.is_news(kept)).collect();
        match self.mode {
            PublishMode::Point => {
                for kept in changed {
                    self.publisher.try_publish_lossy(self.topics.point(kept));
                }
            }
            PublishMode::Device if changed.is_empty() => {}
            PublishMode::Device => {
                self.publisher.try_publish_lossy(self.topics.device(&kept.device, changed.into_iter()));
            }
        }
        let dropped = self.publisher.dropped();
        self.status.count.live_dropped.add(dropped - std::mem::replace(&mut self.dropped, dropped));
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
    fn leaves(&mut self, sample: &Sample) -> bool {
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

/// Tells the state of each device's link whenever it changes.
pub(super) async fn tell_states<P: Publisher>(
    status: Arc<Status>,
    devices: Vec<DeviceId>,
    topics: Topics,
    publisher: P,
    mut broker: Connects,
    quit: CancellationToken,
) {
    let mut told: HashMap<DeviceId, LinkState> = HashMap::new();
    let mut every = tokio::time::interval(STATES_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while quit.run_until_cancelled(every.tick()).await.is_some() {
        if broker.is_new() {
            told.clear();
        }
        for device in &devices {
            let Some(state) = status.link_state(device) else { continue };
            if told.get(device).is_some_and(|told| is_same(told, &state)) {
                continue;
            }
            let message = topics.device_state(device, &state);
            match quit.run_until_cancelled(publisher.publish(message)).await {
                Some(Ok(())) => {
                    told.insert(device.clone(), state);
                }
                Some(Err(PublishError::Stopped)) | None => return,
                Some(Err(fault)) => tracing::warn!(%device, %fault, "the state of a link cannot be published"),
            }
        }
    }
}

/// A link that fails again for the same reason is no news, although its next attempt is at another time.
fn is_same(a: &LinkState, b: &LinkState) -> bool {
    match (a, b) {
        (LinkState::Down { fault: a, .. }, LinkState::Down { fault: b, .. }) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{Quality, Timestamp, Unit, Value};

    fn sample(outcome: Result<f64, NoValue>) -> Sample {
        Sample {
            point: PointId::try_new("p").unwrap(),
            quality: if outcome.is_ok() { Quality::Good } else { Quality::Bad },
            outcome: outcome.map(Value::Float),
            unit: Unit::one(),
            source_time: Timestamp::default(),
            received: Timestamp::default(),
        }
    }

    #[test]
    fn a_deadband_holds_back_small_changes_and_no_drift() {
        let mut band = Band { width: 0.5, last: None };
        let news = [Ok(1.0), Ok(1.4), Ok(1.5), Ok(1.2), Err(NoValue::Timeout), Err(NoValue::Timeout), Ok(1.2), Ok(0.7)];
        let told: Vec<_> = news.into_iter().map(|outcome| band.leaves(&sample(outcome))).collect();
        assert_eq!(told, [true, false, true, false, true, false, true, true]);
    }
}
