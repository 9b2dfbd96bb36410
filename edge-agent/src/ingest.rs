//! Steps 4 to 7 in one place: batches → vault → watches → sealed triggers → outbox.
//!
//! One thread of its own, because it waits for the disk. Batches come through one bounded channel
//! ([`tally_connector_api::SINK_BATCHES_MAX`]): when the disk is slow the channel fills and the connectors slow down. What
//! devices had recorded during an outage comes through another ([`LATE_BATCHES_MAX`]), and is kept apart.
//!
//! At each step, if we die here:
//! - what a device had recorded is synced before anybody hears of it;
//! - readings kept, not synced: they may be lost (at most the last second); no trigger speaks of them;
//! - the key is away: what was decided is on disk all the same, and sealed later (`unsealed.rs`);
//! - vault synced, outbox not: the restart decides the same firings again from the same readings and seals them;
//! - outbox synced: the triggers are safe; the restart finds them and decides nothing twice.

use crate::anchor::{Anchors, book};
use crate::error::StoreError;
use crate::seal::{BatchLimits, SealError, Sealed, Sealer};
use crate::status::{Alarm, Status};
use crate::store::{Sealing, Stores, sealed_count};
use crate::vault::{Keeping, Kept, Retained};
use crate::watch::{SealedBefore, Verdict, Watches};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_api::{Batch, Clock, HistoricalBatch};
use tally_evidence::{Hash, SealFault};
use tally_journal::Storage;
use tally_model::DeviceId;
use tally_rules::Rule;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

/// Batches of what devices had recorded during an outage that may wait; then connectors ask for no more of it. One may
/// have some ten thousand samples, so it is few.
pub const LATE_BATCHES_MAX: usize = 16;

/// Readings are synced at least this often; a power cut loses this much of them (never a trigger).
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Batches handled between two looks at the clock. What is decided in one group shares its syncs.
const GROUP_BATCHES_MAX: usize = 64;
/// Batches gathered for one seal: some ten thousand readings.
const GATHERED_BATCHES_MAX: usize = 1_024;
/// Between two looks at what may be deleted; ten seconds when the vault is above its size.
const RETAIN_EVERY: Duration = Duration::from_secs(600);
const RETAIN_EVERY_FULL: Duration = Duration::from_secs(10);

/// How much the vault keeps.
#[derive(Debug, Clone, Copy)]
pub struct VaultLimits {
    /// Days of readings and receipts.
    pub days: u16,
    /// Bytes of readings.
    pub bytes_max: u64,
}

/// Everything the ingest thread owns or uses.
pub struct Ingest<S: Storage> {
    /// Vault and outbox.
    pub stores: Arc<Stores<S>>,
    /// The rules.
    pub watches: Watches,
    /// Seals.
    pub sealer: Sealer,
    /// Where counters go.
    pub status: Arc<Status>,
    /// Told after each sync of the outbox: the number the next trigger gets.
    pub sealed: watch::Sender<u64>,
    /// Live values for SCADA; full means that SCADA misses some.
    pub live: Option<mpsc::Sender<Arc<Kept>>>,
    /// Retention runs on the same clock as the readings.
    pub clock: Arc<dyn Clock>,
    /// How much is kept.
    pub limits: VaultLimits,
    /// How triggers are sealed together; `None`: each for itself.
    pub batch: Option<BatchLimits>,
    /// Other rules, from a changed mapping.
    pub changes: mpsc::Receiver<NewRules>,
    /// What devices had recorded during an outage; bounded by [`LATE_BATCHES_MAX`].
    pub late: mpsc::Receiver<HistoricalBatch>,
}

/// What came first.
enum Came {
    /// So many batches; none when the channel is closed.
    Live(usize),
    Late,
}

/// The rules of a changed mapping.
#[derive(Debug)]
pub struct NewRules {
    /// All of them.
    pub rules: Vec<Arc<Rule>>,
    /// The fingerprint of each device's address map.
    pub mappings: HashMap<DeviceId, Hash>,
    /// Told when they are in force.
    pub done: oneshot::Sender<()>,
}

impl<S: Storage> Ingest<S> {
    /// Works until the channel is closed and empty, then syncs everything.
    ///
    /// # Errors
    /// [`StoreError`]: a store failed, nothing more may be sealed before it was opened anew.
    pub fn run(mut self, mut source: mpsc::Receiver<Batch>, runtime: &Handle) -> Result<(), StoreError> {
        let (mut group, mut recorded) = (Vec::with_capacity(GROUP_BATCHES_MAX), Vec::new());
        // Later on with each sync: a trigger says what was seen of the clock within the last second.
        self.status.clock(self.clock.health());
        let (mut sync_at, mut retain_at) = (Instant::now() + SYNC_EVERY, Instant::now() + RETAIN_EVERY_FULL);
        loop {
            let wait = sync_at.saturating_duration_since(Instant::now());
            let late = &mut self.late;
            let came = async {
                tokio::select! {
                    count = source.recv_many(&mut group, GROUP_BATCHES_MAX) => Came::Live(count),
                    1.. = late.recv_many(&mut recorded, LATE_BATCHES_MAX) => Came::Late,
                }
            };
            match runtime.block_on(async { tokio::time::timeout(wait, came).await }) {
                Ok(Came::Live(0)) => return self.close(),
                Ok(Came::Live(_)) => {
                    self.gather(&mut source, &mut group, runtime);
                    self.take(group.drain(..))?;
                }
                Ok(Came::Late) => self.take_late(recorded.drain(..))?,
                Err(_) => {}
            }
            if let Ok(new) = self.changes.try_recv() {
                self.change(new, &mut source)?;
            }
            if Instant::now() >= sync_at {
                self.sync()?;
                sync_at = Instant::now() + SYNC_EVERY;
            }
            if Instant::now() >= retain_at {
                retain_at = Instant::now() + self.retain()?;
            }
            self.status.beat();
        }
    }

    /// When triggers are sealed together: waits a moment for more readings, whose triggers then share a seal. Nothing is in
    /// between that a crash could lose: what is not taken yet is not numbered yet.
    fn gather(&self, source: &mut mpsc::Receiver<Batch>, group: &mut Vec<Batch>, runtime: &Handle) {
        let Some(limits) = self.batch else { return };
        let until = Instant::now() + limits.within;
        while group.len() < GATHERED_BATCHES_MAX {
            let wait = until.saturating_duration_since(Instant::now());
            let more = async { tokio::time::timeout(wait, source.recv_many(group, GROUP_BATCHES_MAX)).await };
            // Time is over, or the sources have stopped.
            if wait.is_zero() || !matches!(runtime.block_on(more), Ok(1..)) {
                break;
            }
        }
    }

    /// Takes a group of batches through steps 4 to 7. When this returns, every trigger they gave is safe.
    ///
    /// # Errors
    /// [`StoreError`]; nothing more may be sealed before the stores were opened anew.
    pub fn take(&mut self, group: impl IntoIterator<Item = Batch>) -> Result<(), StoreError> {
        let mut sealing = Sealing::new(self.batch, self.status.clock_state(), &self.stores.unsealed());
        self.keep_and_watch(group, &mut sealing)?;
        if sealing.is_empty() {
            return Ok(());
        }
        sealing.finish(&self.sealer)?;
        let (contradicted, doubtful) = sealing.weak();
        self.status.count.triggers_contradicted.add(contradicted);
        self.status.count.triggers_doubtful.add(doubtful);
        self.put_out(sealing.sealed())?;
        let prepared = sealing.prepared();
        if !prepared.is_empty() {
            self.stores.unsealed().keep(prepared)?;
            for prepared in prepared {
                tracing::warn!(number = prepared.number, trigger = %prepared.trigger, device = %prepared.device, transition = prepared.transition.word(), "decided and kept; it waits for the key");
            }
            self.tell_of_key(sealing.away());
        }
        Ok(())
    }

    /// Step 7: into the outbox, synced.
    fn put_out(&self, sealed: &[Sealed]) -> Result<(), StoreError> {
        if sealed.is_empty() {
            return Ok(());
        }
        let mut outbox = self.stores.outbox();
        outbox.put_all(sealed)?;
        outbox.sync()?;
        self.status.outbox(&outbox);
        let next = outbox.next_number();
        drop(outbox);
        self.status.count.triggers_sealed.add(sealed.len() as u64);
        for sealed in sealed {
            tracing::info!(number = sealed.number, trigger = %sealed.trigger, device = %sealed.device, transition = sealed.transition.word(), "sealed");
        }
        self.sealed.send_replace(next);
        Ok(())
    }

    /// Looks whether the key is there, and seals what waited for it.
    ///
    /// # Errors
    /// As [`Ingest::take`].
    pub fn catch_up(&mut self) -> Result<(), StoreError> {
        // A token that is pulled out shall show before the next trigger.
        self.tell_of_key(self.sealer.key.look().as_ref().err());
        while self.stores.unsealed().count() > 0 {
            let mut waiting = self.stores.unsealed().oldest()?;
            let bytes = waiting.iter().map(|waiting| waiting.kept_bytes() as u64).collect::<Vec<_>>();
            let away = match self.sealer.seal_all(&mut waiting, self.batch) {
                Err(SealError::Key(fault)) => Some(fault),
                other => other.map(|()| None).map_err(StoreError::Seal)?,
            };
            let done = sealed_count(&waiting);
            self.put_out(&waiting[..done])?;
            self.stores.unsealed().sealed(done as u64, bytes[..done].iter().sum())?;
            self.tell_of_key(away.as_ref());
            if away.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn tell_of_key(&self, away: Option<&SealFault>) {
        self.status.key(self.stores.unsealed().count(), away);
    }

    /// Keeps what devices had recorded during an outage, outside their chains: no rule sees it, and no live value changes.
    /// SCADA is told of it as history. Synced when this returns, unlike readings: nobody will ask the device again.
    ///
    /// # Errors
    /// As [`Ingest::take`].
    pub fn take_late(&mut self, group: impl IntoIterator<Item = HistoricalBatch>) -> Result<(), StoreError> {
        let mut vault = self.stores.vault();
        let (mut kept, mut count) = (Vec::new(), 0);
        for batch in group.into_iter().filter(|batch| !batch.samples.is_empty()) {
            kept.push(vault.keep_late(&batch)?);
            count += batch.samples.len() as u64;
        }
        vault.sync()?;
        drop(vault);
        self.status.count.readings_late.add(count);
        let Some(live) = &self.live else { return Ok(()) };
        for kept in kept {
            // When there is no room the spool finds it by its record, as soon as the next batch comes there.
            let _ = live.try_send(Arc::new(kept));
        }
        Ok(())
    }

    /// Steps 4, 5 and 6. When something was sealed, the readings behind it are synced before this returns.
    fn keep_and_watch(
        &mut self,
        group: impl IntoIterator<Item = Batch>,
        sealing: &mut Sealing,
    ) -> Result<(), StoreError> {
        let nothing = SealedBefore::new();
        let Self { stores, watches, sealer, status, .. } = self;
        let mut vault = stores.vault();
        let mut settles = true;
        for batch in group {
            if batch.samples.is_empty() {
                continue;
            }
            let kept = vault.keep(batch, settles)?;
            settles = false;
            status.count.readings.add(kept.readings.len() as u64);
            status.took(&kept);
            let mut seal = |decided| {
                let verdict = sealing.seal(decided, &stores.outbox(), sealer);
                if verdict == Verdict::NoRoom {
                    status.count.triggers_without_room.add(1);
                    status.raise(
                        Alarm::OutboxFull,
                        "the outbox is full: triggers are not sealed until the node takes some; readings go on",
                    );
                }
                verdict
            };
            for reading in &kept.readings {
                watches.observe(&vault, reading, kept.place, &nothing, true, &mut seal)?;
            }
            if let Some(anchors) = stores.anchors().as_mut() {
                anchors.note(&kept);
            }
            if let Some(live) = &self.live
                && live.try_send(Arc::new(kept)).is_err()
            {
                status.count.live_dropped.add(1);
            }
        }
        if sealing.is_empty() { Ok(()) } else { vault.sync() }
    }

    /// Makes readings durable, and lets the vault forget what no rule needs.
    ///
    /// # Errors
    /// As [`Ingest::take`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.catch_up()?;
        let mut vault = self.stores.vault();
        self.watches.release(&mut vault);
        vault.snapshot(false)?;
        vault.sync()?;
        self.status.vault(&vault, self.watches.unprovable());
        let place = vault.next_place();
        drop(vault);
        self.seal_anchors(place, false)?;
        self.status.watches(self.watches.iter());
        self.status.clock(self.clock.health());
        Ok(())
    }

    /// Seals what is due of what lies synced in the vault before record `place`.
    fn seal_anchors(&self, place: u64, all: bool) -> Result<(), StoreError> {
        if let Some(anchors) = self.stores.anchors().as_mut() {
            let count = anchors.seal(&self.sealer, place, all)?;
            if count > 0 {
                tracing::debug!(count, "anchors sealed");
            }
        }
        Ok(())
    }

    /// Other rules, over everything that comes behind what is in the channel now: those readings are of the old mapping.
    fn change(&mut self, new: NewRules, source: &mut mpsc::Receiver<Batch>) -> Result<(), StoreError> {
        for _ in 0..source.len() {
            let Ok(batch) = source.try_recv() else { break };
            self.take([batch])?;
        }
        self.watches.replace(&new.rules);
        self.watches.read_by(new.mappings);
        let mut vault = self.stores.vault();
        vault.watch(self.watches.devices());
        // If we die here: a restart reads the new mapping too, and replays what its rules need as far as it is kept.
        vault.snapshot(true)?;
        vault.sync()?;
        drop(vault);
        self.status.watches(self.watches.iter());
        // Who asked may have gone; the rules are in force all the same.
        let _ = new.done.send(());
        Ok(())
    }

    /// Lets go what is too old or too much. Says when to look again.
    ///
    /// # Errors
    /// As [`Ingest::take`].
    pub fn retain(&mut self) -> Result<Duration, StoreError> {
        let days = Duration::from_secs(u64::from(self.limits.days) * 86_400);
        // A clock that leaps by years must not empty the vault.
        let since = self.clock.for_ages().minus(days);
        let uncovered = self.stores.anchors().as_ref().and_then(Anchors::oldest_place);
        let unsealed = self.stores.unsealed().oldest_place();
        let unsent = self.stores.outbox().oldest_place().into_iter().chain(unsealed).chain(uncovered).min();
        let mut vault = self.stores.vault();
        let retained = vault.retain(Keeping { since, bytes_max: self.limits.bytes_max, unsent })?;
        drop(vault);
        self.stores.receipts().retain(since)?;
        if let Some(anchors) = self.stores.anchors().as_mut() {
            anchors.book_mut().shrink(book::BYTES_MAX)?;
        }
        self.status.held_back(&retained);
        let is_full =
            retained != Retained::WithinLimits || self.stores.vault().bytes_on_disk() > self.limits.bytes_max / 2;
        Ok(if is_full { RETAIN_EVERY_FULL } else { RETAIN_EVERY })
    }

    /// The sources have stopped and everything they said is kept.
    fn close(mut self) -> Result<(), StoreError> {
        let left: Vec<_> = std::iter::from_fn(|| self.late.try_recv().ok()).collect();
        self.take_late(left)?;
        self.sync()?;
        let mut vault = self.stores.vault();
        vault.snapshot(true)?;
        vault.sync()?;
        let place = vault.next_place();
        drop(vault);
        // A stop leaves nothing uncovered.
        self.seal_anchors(place, true)
    }
}
