//! Anchors: at an interval the agent seals, for each device, one numbered, chained statement over *all* readings since the last
//! one, so that anybody can check later that none is missing. Formats: `docs/formats/anchor.cddl`; reasons:
//! `docs/decisions/013-anchors.md`.
//!
//! ```text
//! vault ──leaf, times──▶ grow ──every 60 s──▶ seal ──▶ book (disk, synced) ──▶ submit ──receipt──▶ book
//! ```
//! **Who writes, who deletes.** The ingest thread grows and seals; the anchors' own submit task keeps the answers. The book
//! deletes what is answered when it is above [`book::BYTES_MAX`].
//!
//! **At each step, if we die here:** readings not synced are lost and in no anchor, because an anchor is sealed behind the
//! sync; readings synced but not sealed are walked through again at the next start and come into the next anchor; an anchor
//! not synced was never submitted, and its number is given again; an answer not synced is asked for again.
//!
//! **When the node is away** anchors wait, at most [`book::PENDING_MAX`]; beyond that each covers more readings.

pub mod bench;
pub mod book;
mod grow;
mod record;
mod standing;
mod submit;

use crate::error::StoreError;
use crate::seal::{SealError, Sealer};
use crate::vault::{Kept, Vault};
use book::Book;
use grow::Growing;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tally_evidence::{AnchorBody, Gap, GapReason, SignedStatement, StatementKind, sign_with};
use tally_journal::{Journal, Storage};
use tally_model::{DeviceId, Timestamp};
use tokio::sync::watch;

pub use record::{Answer, SealedAnchor};
pub use submit::SubmitAnchors;

/// Readings of one anchor: beyond that it is sealed early. A sixteenth of what the format allows.
const READINGS_MAX: u64 = 1 << 20;
/// Gaps of one anchor; beyond that it is sealed early.
const GAPS_MAX: usize = 16;
/// After a refusal the next anchor waits twice as long, up to 64 times: the ledger need not be told every minute that a device
/// is not registered.
const PATIENCE_MAX: u32 = 6;

/// Everything about anchors: what grows, and the book of what is sealed.
pub struct Anchors<S: Storage> {
    every: Duration,
    devices: HashMap<DeviceId, Device>,
    /// A device came up that the book does not know yet.
    has_new: bool,
    book: Book<S>,
    /// Told after each sync that made an anchor durable: how many were sealed so far.
    sealed: watch::Sender<u64>,
}

struct Device {
    growing: Growing,
    due: Instant,
}

impl<S: Storage> Anchors<S> {
    /// Finds again what no anchor covers, out of vault and book. That the agent stopped is remembered, so that the next anchor
    /// says that nobody read in between.
    ///
    /// # Errors
    /// [`StoreError`], among them [`StoreError::VaultTooOld`] when an anchor covers readings that the vault has not.
    pub fn recover(
        journal: Journal<S>,
        vault: &Vault<S>,
        sealer: &Sealer,
        every: Duration,
    ) -> Result<Self, StoreError> {
        let book = Book::begin(journal)?;
        let sealed = watch::Sender::new(0);
        let mut anchors = Self { every, devices: HashMap::new(), has_new: false, book, sealed };
        let (mut place, known) = (vault.next_place(), anchors.book.vault_place());
        let ends: Vec<_> = vault.ends().map(|(device, next, _)| (device.clone(), next)).collect();
        let is_first_book = anchors.book.is_empty();
        for known in anchors.book.summary() {
            let next = vault.next_number(&known.device);
            if known.next > next {
                return Err(StoreError::VaultTooOld { device: known.device, next, claimed: known.next - 1 });
            }
        }
        for (id, next) in &ends {
            let state = anchors.book.standings.state_or_begin(id, if is_first_book { *next } else { 0 });
            if state.next < *next {
                place = place.min(state.place.unwrap_or(known));
            }
            let growing = Growing::behind(state.next, state.received, state.resumes.clone());
            anchors.devices.insert(id.clone(), Device { growing, due: Instant::now() + every });
        }
        anchors.walk(vault, sealer, place)?;
        for (id, next) in &ends {
            if let Some(device) = anchors.devices.get_mut(id) {
                device.growing.resumes_at(*next);
            }
            anchors.book.standings.resume(id, *next);
        }
        // Whatever happens next, the break before it is on record.
        anchors.book.save(vault.next_place())?;
        anchors.book.sync()?;
        Ok(anchors)
    }

    fn walk(&mut self, vault: &Vault<S>, sealer: &Sealer, mut place: u64) -> Result<(), StoreError> {
        while place < vault.next_place() {
            let (batches, next) = vault.walk(place)?;
            for batch in batches {
                let Some(device) = self.devices.get_mut(&batch.device) else { continue };
                for (reading, leaf) in &batch.readings {
                    device.growing.add(reading, *leaf, batch.place);
                }
                device.growing.head = batch.head;
                if device.growing.count() >= READINGS_MAX {
                    seal_one(&batch.device, device, &mut self.book, sealer, batch.place)?;
                }
            }
            place = next;
        }
        Ok(())
    }

    /// Takes in readings that the vault keeps, in their order.
    pub fn note(&mut self, kept: &Kept) {
        let (Some(first), Some(last)) = (kept.readings.first(), kept.readings.last()) else { return };
        if !self.devices.contains_key(&kept.device) {
            let growing = Growing::behind(first.reading.number, None, Vec::new());
            self.devices.insert(kept.device.clone(), Device { growing, due: Instant::now() + self.every });
            self.has_new = true;
        }
        let Some(device) = self.devices.get_mut(&kept.device) else { return };
        for reading in &kept.readings {
            device.growing.add(&reading.reading, reading.leaf, kept.first_place);
        }
        device.growing.head = last.head;
    }

    /// Seals what is due, or (`all`) whatever no anchor covers. Only behind a sync of the vault, whose next record is `place`: an
    /// anchor never speaks of a reading that a power cut can take. Synced when this returns; says how many were sealed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn seal(&mut self, sealer: &Sealer, place: u64, all: bool) -> Result<u64, StoreError> {
        let (mut count, now) = (0, Instant::now());
        if std::mem::take(&mut self.has_new) {
            for (id, device) in &self.devices {
                self.book.standings.begin_with(id, device.growing.first, device.growing.place);
            }
            self.book.save(place)?;
        }
        for (id, device) in &mut self.devices {
            let (readings, gaps) = (device.growing.count(), device.growing.gaps.len());
            let is_due = all || now >= device.due || readings >= READINGS_MAX || gaps >= GAPS_MAX;
            if readings > 0 && is_due && self.book.standings.may_seal(id, readings >= READINGS_MAX) {
                if !seal_one(id, device, &mut self.book, sealer, place)? {
                    continue;
                }
                count += 1;
                device.due = now + self.every * 2_u32.pow(self.book.standings.refusals(id).min(PATIENCE_MAX));
            }
        }
        self.book.sync()?;
        if count > 0 {
            self.sealed.send_modify(|sealed| *sealed += count);
        }
        Ok(count)
    }

    /// The oldest vault record with a reading that no anchor covers: it must not be deleted yet.
    #[must_use]
    pub fn oldest_place(&self) -> Option<u64> {
        let uncovered = self.devices.values().filter(|device| device.growing.count() > 0);
        uncovered.map(|device| device.growing.place).min()
    }

    /// What is sealed.
    #[must_use]
    pub const fn book(&self) -> &Book<S> {
        &self.book
    }

    /// What is sealed, to answer it.
    pub const fn book_mut(&mut self) -> &mut Book<S> {
        &mut self.book
    }

    /// Changes when anchors became durable.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.sealed.subscribe()
    }
}

/// Puts the next anchor of a device into the book.
fn seal_one<S: Storage>(
    id: &DeviceId,
    device: &mut Device,
    book: &mut Book<S>,
    sealer: &Sealer,
    place: u64,
) -> Result<bool, StoreError> {
    match sealed(&body(id, &device.growing, book), sealer, place) {
        Ok(sealed) => book.put(&sealed)?,
        // It grows on, and covers more when the key is back.
        Err(SealError::Key(_)) => return Ok(false),
        Err(fault) => {
            tracing::error!(device = %id, %fault, "our own anchor does not parse; this is a fault of the program");
            return Ok(false);
        }
    }
    device.growing = device.growing.followed();
    Ok(true)
}

/// The next anchor of a device.
fn body<S: Storage>(id: &DeviceId, growing: &Growing, book: &Book<S>) -> AnchorBody {
    let before = book.standings.before(id);
    let (received, source) = growing.times();
    let mut gaps = Vec::new();
    if before.number == 0 {
        gaps.push(Gap { reason: GapReason::NewVault, from: None, to: received.0, readings: None });
    }
    if before.next < growing.first {
        let reason = if before.is_refused { GapReason::Refused } else { GapReason::NotKept };
        let readings = Some((before.next, growing.first - 1));
        let from = before.received.map(|from| from.min(received.0));
        gaps.push(Gap { reason, from, to: received.0, readings });
    }
    gaps.extend(&growing.gaps);
    AnchorBody {
        device: id.clone(),
        number: before.number + 1,
        previous: before.digest,
        first: growing.first,
        last: growing.first + growing.count() - 1,
        root: growing.root(),
        head: growing.head,
        received,
        source,
        pause: growing.pause,
        gaps,
    }
}

/// Seals. The time of sealing is that of the last reading, so the same anchor gives the same bytes.
fn sealed(body: &AnchorBody, sealer: &Sealer, place: u64) -> Result<SealedAnchor, SealError> {
    let (kind, subject) = (StatementKind::Anchor, body.device.as_str());
    let issued_at = body.received.1.as_seconds();
    let statement = sign_with(kind, &sealer.key, &sealer.agent, subject, &sealer.ledger, issued_at, body.encode())?;
    let id = SignedStatement::parse(&statement)?.id;
    Ok(SealedAnchor {
        device: body.device.clone(),
        number: body.number,
        digest: body.digest(),
        first: body.first,
        last: body.last,
        place,
        received: body.received.1,
        id,
        statement,
    })
}

/// A time that says "never": before the first reading.
pub(crate) const NEVER: Timestamp = Timestamp::from_micros(i64::MIN);
