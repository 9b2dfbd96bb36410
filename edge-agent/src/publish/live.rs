//! Live values: each as it comes, and on a new connection to the broker, or after one was dropped, the latest of each point.

use super::Devices;
use super::deadbands::Deadbands;
use super::latest::{Fate, Latest};
use super::topics::Topics;
use crate::config::PublishMode;
use crate::spool::Spool;
use crate::status::Status;
use crate::vault::Kept;
use std::sync::Arc;
use tally_connector_api::{LinkState, LinkStatus};
use tally_connector_mqtt::{PublishError, Publisher};
use tally_model::{DeviceId, PointId, Reading};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Publishes what changed by more than its deadband. The vault keeps every reading; this is a view of it.
pub(super) struct Live<P> {
    mode: PublishMode,
    devices: Devices,
    deadbands: Deadbands,
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
        let deadbands = Deadbands::of(&devices.borrow_and_update());
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
        for reading in self.latest.of(device, point) {
            self.deadbands.let_through(reading);
        }
        self.latest.settle(device, point);
    }

    fn lost(&mut self) {
        // What a deadband holds back would be missing at the broker.
        self.deadbands.forget();
        self.spool.lost();
    }

    fn publish(&mut self, kept: &Kept) {
        if self.devices.has_changed().unwrap_or(false) {
            let devices = self.devices.borrow_and_update();
            self.deadbands = Deadbands::of(&devices);
            self.latest.keep_only(&devices);
        }
        // In this order: an answer on a connection that is new to us says nothing of what was sent before.
        let arrived = self.publisher.arrived();
        self.look_at_connection();
        self.spool.arrived(arrived);
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
        } else if let Some(place) = self.spool.told(kept) {
            self.publisher.try_note(place);
        }
        self.latest.take(kept, fates);
        let dropped = self.publisher.dropped();
        self.status.count.live_dropped.add(dropped - std::mem::replace(&mut self.dropped, dropped));
    }

    /// Queues all that is news in it for the connection; gives what became of each reading.
    fn queue(&mut self, kept: &Kept) -> Vec<Fate> {
        let mut fates: Vec<_> = kept.readings.iter().map(|kept| self.fate(&kept.reading)).collect();
        match self.mode {
            PublishMode::Point => {
                for (kept, fate) in kept.readings.iter().zip(&mut fates).filter(|(_, fate)| **fate == Fate::Sent) {
                    if !self.publisher.try_publish_lossy(self.topics.point(&kept.reading)) {
                        *fate = Fate::Lost;
                    }
                }
            }
            PublishMode::Device => {
                let news = kept.readings.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Sent);
                let news: Vec<_> = news.map(|(kept, _)| &kept.reading).collect();
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
    fn fate(&mut self, reading: &Reading) -> Fate {
        if self.deadbands.let_through(reading) { Fate::Sent } else { Fate::Held }
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
    let owed = latest.first_owed()?;
    let (messages, point) = match mode {
        PublishMode::Point => (vec![topics.point(owed)], Some(owed.sample.point.clone())),
        PublishMode::Device => {
            let mut readings: Vec<_> = latest.of(&owed.device, None).collect();
            // The message's own time and number are those of its newest.
            readings.sort_unstable_by_key(|reading| reading.number);
            (topics.device(&owed.device, &readings).collect(), None)
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
    Some((owed.device.clone(), point))
}
