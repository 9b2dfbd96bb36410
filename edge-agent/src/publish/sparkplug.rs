//! Live values and what SCADA missed of them, as Sparkplug B (`docs/formats/topics.md`).

use super::Devices;
use super::history::JsonHistory;
use crate::spool::{Gap, Spool, Teller, Told};
use crate::status::Status;
use crate::vault::Kept;
use async_trait::async_trait;
use std::sync::Arc;
use tally_connector_mqtt::Publisher;
use tally_connector_mqtt::sparkplug::{EdgeNode, Progress, Update};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Feeds the edge node. It takes everything in, also while no host listens: a birth tells the latest values.
pub(super) struct Values {
    node: EdgeNode,
    devices: Devices,
    progress: watch::Receiver<Progress>,
    status: Arc<Status>,
    /// What no session was there for is told later.
    spool: Arc<Spool>,
    sessions: u64,
}

impl Values {
    pub fn new(node: EdgeNode, mut devices: Devices, status: Arc<Status>, spool: Arc<Spool>) -> Self {
        devices.mark_unchanged();
        Self { progress: node.progress(), node, devices, status, spool, sessions: 0 }
    }

    pub async fn run(mut self, mut batches: mpsc::Receiver<Arc<Kept>>, quit: CancellationToken) {
        while let Some(Some(kept)) = quit.run_until_cancelled(batches.recv()).await {
            if self.devices.has_changed().unwrap_or(false) {
                let devices = self.devices.borrow_and_update().to_vec();
                if !self.node.describe(devices).await {
                    return;
                }
            }
            if kept.readings.is_empty() {
                // What a device had recorded: no live value, told as history only.
                self.note(&kept);
                continue;
            }
            let samples = kept.readings.iter().map(|kept| kept.reading.sample.clone()).collect();
            let update = Update { device: kept.device.clone(), samples, place: kept.place };
            // Waits while the server takes no more; what ingest cannot hand us meanwhile, the spool finds by its place.
            if !self.node.tell(update).await {
                return;
            }
            self.note(&kept);
        }
    }

    fn note(&mut self, kept: &Kept) {
        let progress = *self.progress.borrow();
        if !progress.is_born || progress.sessions != self.sessions {
            self.sessions = progress.sessions;
            self.spool.lost();
        }
        if progress.live_arrived > 0 {
            self.spool.arrived(progress.live_arrived + 1);
        }
        // What came before the birth is in it only when it was the latest.
        if progress.is_born && kept.place > progress.born_after && !kept.readings.is_empty() {
            // Its place comes back by itself.
            self.spool.told(kept);
        } else {
            self.status.count.live_dropped.add(kept.readings.len() as u64);
            self.spool.missed(kept);
        }
    }
}

/// Tells history with `is_historical`. Gaps go out as JSON: Sparkplug has no word for them.
pub(super) struct SparkplugHistory<P> {
    node: EdgeNode,
    progress: watch::Receiver<Progress>,
    gaps: JsonHistory<P>,
    /// Counts updates, so that we hear which arrived.
    place: u64,
}

impl<P: Publisher> SparkplugHistory<P> {
    pub fn new(node: EdgeNode, gaps: JsonHistory<P>) -> Self {
        Self { progress: node.progress(), node, gaps, place: 0 }
    }

    /// `None` when we are being stopped, `Some(false)` when the session ended before everything had arrived.
    async fn tell_once(&mut self, history: &[Told]) -> Option<bool> {
        let session = self.progress.wait_for(|progress| progress.is_born).await.ok()?.sessions;
        for told in history {
            self.place += 1;
            let readings = told.readings.iter().map(|reading| reading.sample.clone());
            let samples = readings.chain(told.recorded.iter().cloned()).collect();
            let update = Update { device: told.device.clone(), samples, place: self.place };
            if !self.node.tell_history(update).await {
                return None;
            }
        }
        let place = self.place;
        let is_over = |progress: &Progress| !progress.is_born || progress.sessions != session;
        let end =
            self.progress.wait_for(|progress| progress.history_arrived >= place || is_over(progress)).await.ok()?;
        Some(end.history_arrived >= place)
    }
}

#[async_trait]
impl<P: Publisher> Teller for SparkplugHistory<P> {
    fn is_connected(&self) -> bool {
        self.progress.borrow().is_born
    }

    /// The edge node drops nothing: it makes us wait.
    fn dropped(&self) -> u64 {
        0
    }

    async fn tell(&mut self, history: Vec<Told>) -> bool {
        loop {
            match self.tell_once(&history).await {
                Some(true) => return true,
                Some(false) => {}
                None => return false,
            }
        }
    }

    async fn declare(&mut self, gap: Gap) -> bool {
        self.gaps.declare(gap).await
    }
}
