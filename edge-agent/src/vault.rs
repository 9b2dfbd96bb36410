//! The vault: every reading, numbered and hash-chained per device, on disk.
//!
//! **Purpose.** Gives each sample its number, its point number, a receive time that never falls, a salted leaf and its
//! place in the device's chain; keeps what evidence and rules need later; finds its state again after a crash.
//!
//! **Who writes, who deletes.** The ingest thread writes; it also calls [`Vault::retain`], which deletes whole segments by
//! age and size, but nothing that a running rule or an unsent trigger needs.
//!
//! **Limits.** One journal for all devices, so that a thousand devices cost one `fdatasync`. 10,000 readings a record.
//! Memory: some 100 bytes a point, 512 KiB of leaves a device with rules at most.
//!
//! # Bytes
//! Journal records (integers little-endian, `bytes` and `text` with a u32 length in front):
//! ```text
//! batch     1 u8, flags u8 (bit 0: what was decided before this record is sealed or given up), device text,
//!           number of the first reading u64, count u32, count × reading bytes (docs/formats/reading.cddl),
//!           receive time of the last one i64 µs, chain head after it [32]
//! snapshot  2 u8, count u32, count × (device text, next number u64, chain head [32], receive time i64 µs,
//!           needed? u8, needed number u64, needed record u64, count u32, count × (point text, next point number u64,
//!           latest number u64))
//! origin    4 u8, device text, a stretch bytes (docs/formats/trigger.cddl): from its reading on they come from there
//! snapshot  5 u8, as 2, and behind each chain: count u32, count × stretch bytes
//! late      3 u8, device text, count u32, count × reading bytes (reading.cddl; both numbers are 0, for it has none),
//!           receive time of the last one i64 µs
//! ```
//! A snapshot is written every 8 MiB, before anything is deleted, and on a clean stop: opening looks for the last one
//! from the end and reads on from there (or from the oldest record that a rule still needs).
//!
//! **What came late** is what a device had recorded while it could not be heard ([`Vault::keep_late`]). Rules run on
//! receive times that never fall and numbers without gaps, and what they said is sealed; so the past must not come in
//! between. It has records of its own, outside every chain: no number, no salt, no leaf. Rules, triggers, anchors and
//! disclosures never see it. It is kept for whoever is told of it later ([`crate::spool`]), holds nothing back from
//! deletion, and goes by age and size with the records around it. An agent older than these records refuses the vault.

mod chain;
mod late;
mod open;
mod read;
mod record;
mod retain;

use crate::error::StoreError;
use chain::Chain;
use record::BatchWriter;
use std::collections::{HashMap, HashSet};
use tally_connector_api::Batch;
use tally_evidence::Hash;
use tally_journal::{Journal, Options, Storage};
use tally_model::{DeviceId, Origin, Stretch, Timestamp};
use zeroize::Zeroizing;

pub use chain::KeptReading;
pub use open::{VaultOpening, load_secret};
pub(crate) use read::RECORDS_AT_ONCE;
pub use read::{Contents, RawBatch, Stored, Walked};
pub use retain::{Keeping, Retained};

/// Readings in one record; a larger batch becomes several.
const READINGS_PER_RECORD_MAX: usize = 10_000;

/// Bytes between two snapshots: opening reads at most this much more than rules need.
const SNAPSHOT_EVERY: u64 = 8 << 20;

/// The journal's limits: segments small enough that a vault of `bytes_max` can be trimmed in 16 steps.
#[must_use]
pub fn journal_options(bytes_max: u64) -> Options {
    Options { segment_bytes_max: (bytes_max / 16).clamp(1 << 20, 64 << 20), ..Options::default() }
}

/// An open vault.
pub struct Vault<S: Storage> {
    journal: Journal<S>,
    secret: Zeroizing<[u8; 32]>,
    watched: HashSet<DeviceId>,
    chains: HashMap<DeviceId, Chain>,
    /// Bytes appended since opening, and how many of them before the last snapshot.
    snapshot_at: u64,
    appended: u64,
    /// What was asked for last when deleting.
    discarded_before: u64,
    /// Reused for every reading and record.
    reading: Vec<u8>,
    record: Vec<u8>,
}

/// A batch after step 4: numbered and in the vault (not yet synced).
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Which device.
    pub device: DeviceId,
    /// The journal record that holds the first reading.
    pub first_place: u64,
    /// The journal record that holds the last reading.
    pub place: u64,
    /// In number order; none when these records hold what came late.
    pub readings: Vec<KeptReading>,
}

impl<S: Storage> Vault<S> {
    /// Keeps a batch. `settles`: everything decided from earlier batches is sealed and synced, or given up; after a
    /// crash rules run again only over what came since.
    ///
    /// # Errors
    /// [`StoreError`]; the vault must then be opened anew.
    pub fn keep(&mut self, batch: Batch, settles: bool) -> Result<Kept, StoreError> {
        let Batch { device, samples, origin } = batch;
        if let Some(origin) = origin.filter(|_| !samples.is_empty()) {
            self.keep_origin(&device, &origin)?;
        }
        let place = self.journal.next_number();
        let mut kept = Kept { first_place: place, place, readings: Vec::with_capacity(samples.len()), device };
        let mut samples = samples.into_iter().peekable();
        let mut settles = settles;
        while samples.peek().is_some() {
            let chain = chain_of(&mut self.chains, &kept.device, &self.secret, &self.watched);
            chain.anchor(self.journal.next_number());
            let record = std::mem::take(&mut self.record);
            let mut writer = BatchWriter::new(record, settles, &kept.device, chain.next);
            for sample in samples.by_ref().take(READINGS_PER_RECORD_MAX) {
                kept.readings.push(chain.keep(sample, &mut self.reading));
                writer.push(&self.reading);
            }
            self.record = writer.finish(chain.received, &chain.head.0);
            kept.place = self.journal.append(&self.record).map_err(StoreError::vault)?;
            self.appended += self.record.len() as u64;
            settles = false;
        }
        Ok(kept)
    }

    /// Says where the next readings of a device come from, when that is not where the ones before came from.
    fn keep_origin(&mut self, device: &DeviceId, origin: &Origin) -> Result<(), StoreError> {
        if !origin.is_consistent() {
            return Ok(());
        }
        let chain = chain_of(&mut self.chains, device, &self.secret, &self.watched);
        if let (Some(was), Some(is)) = (chain.identity(), origin.identity.as_deref())
            && was != is
        {
            tracing::warn!(%device, was, is, "the device calls itself something else than before: exchanged, or other firmware; if that is right: \
                `tally registry fingerprint {device} --of identity --text '{is}'`, else evidence from it stays contradicted where its identity is registered");
        }
        let Some(stretch) = chain.comes_from(origin) else { return Ok(()) };
        let record = record::encode_origin(device, &stretch);
        self.journal.append(&record).map_err(StoreError::vault)?;
        self.appended += record.len() as u64;
        Ok(())
    }

    /// Where readings `first..=last` of `device` come from; empty when nobody said.
    #[must_use]
    pub fn origins(&self, device: &DeviceId, first: u64, last: u64) -> Vec<Stretch> {
        self.chains.get(device).map(|chain| chain.origins(first, last)).unwrap_or_default()
    }

    /// Makes everything kept so far durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.journal.sync().map_err(StoreError::vault)
    }

    /// Writes a snapshot when enough was kept since the last one, or when `always`. Only between groups: a snapshot says
    /// that everything decided before it is settled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn snapshot(&mut self, always: bool) -> Result<(), StoreError> {
        if self.appended < self.snapshot_at + SNAPSHOT_EVERY && !(always && self.appended > self.snapshot_at) {
            return Ok(());
        }
        let saved: Vec<_> = self.chains.values().map(Chain::save).collect();
        self.journal.append(&record::encode_snapshot(saved.iter())).map_err(StoreError::vault)?;
        self.snapshot_at = self.appended;
        Ok(())
    }

    /// The record that the next batch gets.
    #[must_use]
    pub fn next_place(&self) -> u64 {
        self.journal.next_number()
    }

    /// The first record still kept.
    #[must_use]
    pub fn first_place(&self) -> u64 {
        self.journal.first_number()
    }

    /// Bytes from record `place` on.
    #[must_use]
    pub fn bytes_from(&self, place: u64) -> u64 {
        self.journal.bytes_from(place)
    }

    /// Device, next number and latest receive time of every chain, in no order.
    pub fn ends(&self) -> impl Iterator<Item = (&DeviceId, u64, Timestamp)> {
        self.chains.values().map(|chain| (&chain.device, chain.next, chain.received))
    }

    /// Rules need nothing of `device` before reading `number` any more.
    pub fn release(&mut self, device: &DeviceId, number: u64) {
        if let Some(chain) = self.chains.get_mut(device) {
            chain.release(number);
        }
    }

    /// From now on rules look at these devices. One that they did not look at begins with its next reading.
    pub fn watch(&mut self, watched: HashSet<DeviceId>) {
        for chain in self.chains.values_mut() {
            chain.watch(watched.contains(&chain.device));
        }
        self.watched = watched;
    }

    /// A journal record at or before the one that holds reading `number`, as long as a rule may need it.
    #[must_use]
    pub fn place_before(&self, device: &DeviceId, number: u64) -> Option<u64> {
        self.chains.get(device)?.place_before(number)
    }

    /// Number the next reading of `device` gets.
    #[must_use]
    pub fn next_number(&self, device: &DeviceId) -> u64 {
        self.chains.get(device).map_or(0, |chain| chain.next)
    }

    /// The latest receive time on disk: the clock must not start before it.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.chains.values().map(|chain| chain.received).max().unwrap_or_default()
    }

    /// Device, next number and chain head of every chain, for people; in no order.
    pub fn heads(&self) -> impl Iterator<Item = (&DeviceId, u64, Hash)> {
        self.chains.values().map(|chain| (&chain.device, chain.next, chain.head.0))
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.journal.bytes_on_disk()
    }
}

fn chain_of<'a>(
    chains: &'a mut HashMap<DeviceId, Chain>,
    device: &DeviceId,
    secret: &[u8; 32],
    watched: &HashSet<DeviceId>,
) -> &'a mut Chain {
    chains.entry(device.clone()).or_insert_with(|| Chain::start(device, secret, watched.contains(device)))
}
