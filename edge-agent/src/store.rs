//! The journals of the agent, and how they are found again after a crash: `docs/decisions/008-edge-agent.md`.
//!
//! Each stands behind a std mutex of its own: held for some microseconds, and while a sync runs. Whoever needs two takes
//! them in the order vault, outbox, unsealed, receipts, anchors.

use crate::anchor::Anchors;
use crate::error::StoreError;
use crate::outbox::{self, Outbox};
use crate::receipts::{self, Receipts};
use crate::seal::{BatchLimits, SealError, Sealed, Sealer};
use crate::unsealed::{self, Unsealed};
use crate::vault::{self, Vault, VaultOpening, load_secret};
use crate::watch::{Decided, Verdict, Watches};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tally_evidence::SealFault;
use tally_journal::{DirStorage, Journal, Options, Storage};
use tally_model::{ClockState, EvidenceQuality};
use zeroize::Zeroizing;

/// The open stores.
pub struct Stores<S: Storage> {
    vault: Mutex<Vault<S>>,
    outbox: Mutex<Outbox<S>>,
    unsealed: Mutex<Unsealed<S>>,
    receipts: Mutex<Receipts<S>>,
    /// `None` when anchors are off.
    anchors: Mutex<Option<Anchors<S>>>,
}

/// The opened journals with the vault's secret, before anything is read from them.
pub struct Journals<S: Storage> {
    /// Readings.
    pub vault: Journal<S>,
    /// Sealed triggers.
    pub outbox: Journal<S>,
    /// Triggers that wait for the key.
    pub unsealed: Journal<S>,
    /// Receipts.
    pub receipts: Journal<S>,
    /// Dead letters.
    pub dead: Journal<S>,
    /// Salts the readings.
    pub secret: Zeroizing<[u8; 32]>,
}

/// Sizes of the journals.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Bytes of the vault.
    pub vault_bytes_max: u64,
    /// Bytes of triggers without an answer.
    pub outbox_bytes_max: u64,
}

impl Journals<DirStorage> {
    /// Opens (or creates) everything below `data`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(data: &Path, sizes: Sizes) -> Result<Self, StoreError> {
        let open = |store, folder: &str, options| {
            let storage = DirStorage::open(data.join(folder)).map_err(|source| StoreError::Open { store, source })?;
            open_journal(store, storage, options)
        };
        let vault = open("vault", "vault", vault::journal_options(sizes.vault_bytes_max))?;
        let secret = load_secret(&data.join("vault.secret"), vault.next_number() == 0)?;
        Ok(Self {
            vault,
            secret,
            outbox: open("outbox", "outbox", outbox::journal_options(sizes.outbox_bytes_max))?,
            unsealed: open("unsealed triggers", "unsealed", unsealed::journal_options())?,
            receipts: open("receipts", "receipts", receipts::journal_options())?,
            dead: open("dead letters", "dead-letters", receipts::journal_options())?,
        })
    }
}

/// Opens (or creates) the journal of anchors below `data`.
///
/// # Errors
/// [`StoreError::Open`].
pub fn open_anchors(data: &Path) -> Result<Journal<DirStorage>, StoreError> {
    let store = "anchors";
    let storage = DirStorage::open(data.join(store)).map_err(|source| StoreError::Open { store, source })?;
    open_journal(store, storage, crate::anchor::book::journal_options())
}

impl<S: Storage> Stores<S> {
    /// Finds the state again: of the chains, of every rule, of what is to be submitted. What was decided but not sealed
    /// when the agent died is sealed now; the number of these is the second answer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn recover(
        journals: Journals<S>,
        sizes: Sizes,
        watches: &mut Watches,
        sealer: &Sealer,
    ) -> Result<(Self, u64), StoreError> {
        let Journals { vault, outbox, unsealed, receipts, dead, secret } = journals;
        let opening = VaultOpening::begin(vault, secret, watches.devices())?;
        let from = |device: &_| opening.replays_from(device);
        let (receipts, mut answered) = Receipts::begin(receipts, dead, outbox.first_number(), from)?;
        let numbers = std::mem::take(&mut answered.numbers);
        let mut outbox = Outbox::begin(outbox, sizes.outbox_bytes_max, &numbers, |sealed: &Sealed| {
            let from = opening.replays_from(&sealed.device);
            answered.note(&sealed.device, &sealed.trigger, sealed.last, sealed.transition, from);
        })?;
        let mut unsealed = Unsealed::begin(unsealed, outbox.next_number(), |kept: &Sealed| {
            let from = opening.replays_from(&kept.device);
            answered.note(&kept.device, &kept.trigger, kept.last, kept.transition, from);
        })?;
        watches.restore(&answered.before, from);
        // How good the clock was then, nobody knows any more. A statement that was lost before its sync may have said more: nobody was
        // told of it.
        let mut missed = Sealing::new(None, ClockState::Unknown, &unsealed);
        let mut seal = |decided: Decided| missed.seal(decided, &outbox, sealer);
        let vault = opening.replay(|vault, kept, place, is_open| {
            watches.observe(vault, kept, place, &answered.before, is_open, &mut seal)
        })?;
        for ((device, _), sealed) in &answered.before {
            let (next, claimed) = (vault.next_number(device), sealed.last().map_or(0, |(last, _)| *last));
            if claimed >= next {
                return Err(StoreError::VaultTooOld { device: device.clone(), next, claimed });
            }
        }
        // The readings behind these are on disk: opening a journal makes durable what it finds.
        outbox.put_all(missed.sealed())?;
        outbox.sync()?;
        unsealed.keep(missed.prepared())?;
        let count = (missed.sealed().len() + missed.prepared().len()) as u64;
        let (vault, outbox, receipts) = (Mutex::new(vault), Mutex::new(outbox), Mutex::new(receipts));
        let stores = Self { vault, outbox, unsealed: Mutex::new(unsealed), receipts, anchors: Mutex::new(None) };
        watches.release(&mut stores.vault());
        Ok((stores, count))
    }

    /// The vault.
    pub fn vault(&self) -> MutexGuard<'_, Vault<S>> {
        lock(&self.vault)
    }

    /// The outbox.
    pub fn outbox(&self) -> MutexGuard<'_, Outbox<S>> {
        lock(&self.outbox)
    }

    /// From now on what the vault keeps is anchored every so often; what is not covered yet is found in the vault.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn anchor(&self, journal: Journal<S>, sealer: &Sealer, every: Duration) -> Result<(), StoreError> {
        let anchors = Anchors::recover(journal, &self.vault(), sealer, every)?;
        *self.anchors() = Some(anchors);
        Ok(())
    }

    /// The anchors; `None` when they are off.
    pub fn anchors(&self) -> MutexGuard<'_, Option<Anchors<S>>> {
        lock(&self.anchors)
    }

    /// The triggers that wait for the key.
    pub fn unsealed(&self) -> MutexGuard<'_, Unsealed<S>> {
        lock(&self.unsealed)
    }

    /// The receipts.
    pub fn receipts(&self) -> MutexGuard<'_, Receipts<S>> {
        lock(&self.receipts)
    }
}

/// Triggers decided together, on their way into the outbox; or, while the key is away, among those that wait for it.
pub struct Sealing {
    /// Those that are sealed first, then those that are only prepared.
    made: Vec<Sealed>,
    batch: Option<BatchLimits>,
    /// What they will take in the outbox, with what waits for the key in front of them.
    bytes: u64,
    /// How many wait for the key in front of them.
    ahead: u64,
    /// Why the key cannot be used, since one of these was to be sealed.
    away: Option<SealFault>,
    /// How good the agent's clock is.
    clock: ClockState,
    /// How many of them the checks found something about: contradicted, doubtful.
    weak: (u64, u64),
}

impl Sealing {
    /// Triggers that are sealed together, when there are limits; else each for itself. Each says how good the clock is. They come
    /// behind what is `unsealed`, and while anything is, they wait like it.
    #[must_use]
    pub fn new<S: Storage>(batch: Option<BatchLimits>, clock: ClockState, unsealed: &Unsealed<S>) -> Self {
        let (bytes, ahead) = (unsealed.bytes(), unsealed.count());
        Self { made: Vec::new(), batch, bytes, ahead, away: None, clock, weak: (0, 0) }
    }

    /// Seals a decided firing under the next number, when there is room for it; prepares it, when it is sealed together with
    /// others or the key is away.
    pub fn seal<S: Storage>(&mut self, decided: Decided, outbox: &Outbox<S>, sealer: &Sealer) -> Verdict {
        let (trigger, priority) = (decided.rule.source().id.clone(), decided.rule.source().priority);
        let number = outbox.next_number() + self.ahead + self.made.len() as u64;
        let quality = decided.quality.as_deref().map(EvidenceQuality::of);
        let mut made = Sealer::prepare(number, decided, self.clock);
        if self.batch.is_none() && !self.waits() {
            match sealer.seal_alone(&mut made) {
                Ok(()) => {}
                Err(SealError::Key(fault)) => self.away = Some(fault),
                Err(fault) => {
                    tracing::error!(%trigger, %fault, "a trigger is lost");
                    return Verdict::NoRoom;
                }
            }
        }
        let bytes = made.kept_bytes();
        if !outbox.has_room(priority, bytes, self.bytes) {
            return Verdict::NoRoom;
        }
        self.bytes += bytes as u64;
        self.weak.0 += u64::from(quality == Some(EvidenceQuality::Contradicted));
        self.weak.1 += u64::from(quality == Some(EvidenceQuality::Doubtful));
        self.made.push(made);
        Verdict::Sealed
    }

    const fn waits(&self) -> bool {
        self.ahead > 0 || self.away.is_some()
    }

    /// Puts the seals under what was prepared; what it cannot stays prepared.
    ///
    /// # Errors
    /// [`StoreError::Seal`].
    pub fn finish(&mut self, sealer: &Sealer) -> Result<(), StoreError> {
        if self.batch.is_none() || self.waits() {
            return Ok(());
        }
        match sealer.seal_all(&mut self.made, self.batch) {
            Err(SealError::Key(fault)) => self.away = Some(fault),
            other => other.map_err(StoreError::Seal)?,
        }
        Ok(())
    }

    /// Why the key could not be used.
    #[must_use]
    pub const fn away(&self) -> Option<&SealFault> {
        self.away.as_ref()
    }

    /// How many of them the checks found something about: contradicted, doubtful.
    #[must_use]
    pub const fn weak(&self) -> (u64, u64) {
        self.weak
    }

    /// Whether nothing was decided.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// What is sealed, in number order.
    #[must_use]
    pub fn sealed(&self) -> &[Sealed] {
        &self.made[..sealed_count(&self.made)]
    }

    /// What waits for the key, behind it.
    #[must_use]
    pub fn prepared(&self) -> &[Sealed] {
        &self.made[sealed_count(&self.made)..]
    }
}

/// How many, from the first on, are sealed.
pub(crate) fn sealed_count(made: &[Sealed]) -> usize {
    made.iter().take_while(|made| made.is_sealed()).count()
}

/// A thread that died while it held the lock left a store that is poisoned by itself, or whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a journal, and says what a power cut left half-written.
///
/// # Errors
/// [`StoreError::Open`].
pub fn open_journal<S: Storage>(store: &'static str, storage: S, options: Options) -> Result<Journal<S>, StoreError> {
    let journal = Journal::open_on(storage, options).map_err(|source| StoreError::Open { store, source })?;
    if let Some(repair) = journal.repaired() {
        tracing::warn!(
            store,
            file = %repair.file,
            bytes = repair.bytes,
            "cut off what a power cut left half-written; nothing that was promised is among it"
        );
    }
    Ok(journal)
}
