//! What SCADA has not heard yet: live values that its broker missed are told later, from the vault.
//!
//! **Purpose.** The vault has every reading on disk already, so nothing is written twice: this room remembers *which part of
//! the vault* SCADA missed (holes, from one record to another) and tells it later, in order, marked as history, beside
//! the live values and slower than they are.
//!
//! ```text
//!            told / missed (each batch)                  connected
//! Live ────────────────────────────────▶ holes ──────────────────▶ drain ──▶ Teller (JSON history, Sparkplug historical)
//!            lost (connection broke)       │ every 2 s, on stop
//!                                          ▼
//!                                    file `data/spool`
//! ```
//!
//! **What opens a hole.** The broker is away; a value was dropped because the connection is slow; a batch never came here
//! (the vault's record numbers show it); the connection broke: then what the broker has not shown to have taken
//! ([`Spool::arrived`]), however long ago that was sent; the agent ended: then from the last place that was written down.
//!
//! **Bounds.** At most `bytes_max` bytes of the vault and `age_max` of time are told later, and never more than the vault
//! keeps. What is given up is declared: a [`Gap`] says of which device, from which reading to which, how many. At most
//! [`HOLES_MAX`] holes; then the newest two become one, and what lay between is told twice.
//!
//! **Memory.** Some 60 bytes for each device and hole, and some five times that for what has no answer yet; [`MARKS_MAX`] times at most.
//!
//! **What devices had recorded** while they could not be heard lies in records of its own in the vault, outside the
//! chains. Such a record was never live, so it is missed from the beginning: a hole of its own, told, kept over restarts
//! and given up as every other. It has no numbers, so what is given up of it is counted and logged, not declared.
//!
//! **At least once.** Whoever listens sees repetitions by `n`, the reading's number; of what devices had recorded, by point
//! and source time.
//!
//! If we die: the file says where to begin: at most 2 s too early, and before what the broker had not answered. An orderly end is no
//! better: whether the broker was still there, nobody knows. The file is replaced whole. Without it (or with one that does not parse) telling begins at the vault's present end.

mod drain;
mod mark;

use crate::error::StoreError;
use crate::store::Stores;
use crate::vault::Kept;
pub use drain::{Drain, Gap, Teller, Told};
use mark::Saved;
pub use mark::{Hole, Mark, Seen};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tally_journal::{Storage, files};

/// Between two marks.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// More marks are thinned out: a broker answers within some seconds, or it is left.
const MARKS_MAX: usize = 64;
/// More holes become one.
const HOLES_MAX: usize = 64;

/// How much is told later, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of the vault, counted back from its end.
    pub bytes_max: u64,
    /// Older readings are given up; zero tells nothing later.
    pub age_max: Duration,
    /// Values a second while draining, so that live values keep their way free.
    pub values_per_second: u32,
}

impl Default for SpoolLimits {
    /// 1 GiB (some 25 million readings), 72 hours, 100,000 values a second.
    fn default() -> Self {
        let age_max = Duration::from_secs(72 * 3_600);
        Self { bytes_max: 1 << 30, age_max, values_per_second: 100_000 }
    }
}

impl SpoolLimits {
    /// Nothing is told later.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        self.age_max.is_zero() || self.values_per_second == 0
    }
}

/// The room. Shared by the live task, which says what it told, and [`Drain`].
pub struct Spool {
    file: PathBuf,
    limits: SpoolLimits,
    state: Mutex<State>,
}

struct State {
    /// To be told later, oldest first.
    holes: VecDeque<Hole>,
    /// Everything before it was seen by the live task.
    seen: Mark,
    /// Where telling begins again, while something is being missed.
    away: Option<Mark>,
    /// `seen` of now and then since the broker's last answer, oldest first; the first one has certainly arrived.
    recent: VecDeque<Mark>,
    marked_at: Option<Instant>,
    /// The broker has all live values of records before this one, or they are in a hole.
    arrived: u64,
}

impl Spool {
    /// Reads where it was. Called before the first reading is taken in: from the file's place to the vault's end
    /// SCADA has heard nothing.
    ///
    /// # Errors
    /// [`StoreError::File`] when the file cannot be read (one that does not parse is begun anew, with a warning).
    pub fn open<S: Storage>(file: &Path, limits: SpoolLimits, stores: &Stores<S>) -> Result<Arc<Self>, StoreError> {
        let vault = stores.vault();
        let mut seen = Mark { place: vault.next_place(), ..Mark::default() };
        for (device, next, at) in vault.ends() {
            seen.numbers.insert(device.clone(), Seen { next, at });
        }
        drop(vault);
        let saved = if limits.is_off() { None } else { read(file)? };
        // Also an agent that dies in its first seconds has something to go on from.
        let is_new = saved.is_none();
        let (holes, away) = saved.map_or_else(Default::default, |saved| (saved.holes, Some(saved.open)));
        // A vault restored from a backup, or a new one, ends before what was told: there is nothing to tell of it.
        let holes: VecDeque<_> = holes.into_iter().filter(|hole| hole.to.place <= seen.place).collect();
        let away = away.filter(|away| away.place < seen.place);
        let recent = [seen.clone()].into();
        let state = Mutex::new(State { holes, seen, away, recent, marked_at: None, arrived: 0 });
        let spool = Self { file: file.to_owned(), limits, state };
        if is_new && let Err(fault) = spool.keep() {
            tracing::warn!(%fault, "the place in the live values cannot be kept; it is tried again every 2 s");
        }
        Ok(Arc::new(spool))
    }

    /// A batch was queued for the broker, all of it (or what its deadbands let through). Now and then it gives a place: whoever queued the
    /// batch says [`Spool::arrived`] with it when the broker has answered something that was sent later.
    pub fn told(&self, kept: &Kept) -> Option<u64> {
        self.told_at(kept, Instant::now())
    }

    fn told_at(&self, kept: &Kept, now: Instant) -> Option<u64> {
        let mut state = self.state();
        if kept.first_place > state.seen.place {
            // Something between was never seen here (or it is a snapshot of the vault, which costs an empty hole).
            state.open_hole();
        }
        state.close_hole(kept.first_place);
        if state.recent.is_empty() {
            // On a new connection the first mark is where telling began, not what is on its way now.
            let seen = state.seen.clone();
            state.recent.push_back(seen);
        }
        state.seen.advance(kept);
        state.mark(now).then_some(state.seen.place)
    }

    /// The broker has all live values of records before `place` that were told on this connection. Said before [`Spool::lost`] it would
    /// be about another connection.
    pub fn arrived(&self, place: u64) {
        let mut state = self.state();
        state.arrived = state.arrived.max(place);
        state.settle();
    }

    /// A batch was not told, or not all of it.
    pub fn missed(&self, kept: &Kept) {
        let mut state = self.state();
        state.open_hole();
        state.seen.advance(kept);
    }

    /// The connection broke, or there is a new one: what was sent behind the broker's last answer may not have arrived.
    pub fn lost(&self) {
        let mut state = self.state();
        let certain = state.certain();
        if state.away.as_ref().is_none_or(|away| certain.place < away.place) {
            state.away = Some(certain);
        }
        state.recent.clear();
        state.marked_at = None;
    }

    /// Bytes of the vault that are still to be told.
    pub fn waiting_bytes<S: Storage>(&self, stores: &Stores<S>) -> u64 {
        let Some(place) = self.state().first_place() else { return 0 };
        stores.vault().bytes_from(place).min(self.limits.bytes_max)
    }

    /// Whether everything was told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state().first_place().is_none()
    }

    /// Writes down where telling begins again. Waits for the disk.
    ///
    /// # Errors
    /// [`StoreError::File`]; the old file then still counts.
    pub fn keep(&self) -> Result<(), StoreError> {
        let saved = self.state().saved();
        if self.limits.is_off() {
            return Ok(());
        }
        files::replace(&self.file, &saved.encode()).map_err(StoreError::file(&self.file))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves a state that tells too much at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open_hole(&mut self) {
        if self.away.is_none() {
            self.away = Some(self.seen.clone());
        }
    }

    /// The hole that is open ends before record `place`.
    fn close_hole(&mut self, place: u64) {
        let Some(from) = self.away.take() else { return };
        if from.place >= place {
            return;
        }
        let to = Mark { place, numbers: self.seen.numbers.clone() };
        // A value that was dropped made a hole of its own; what was sent before it has not arrived either.
        while self.holes.back().is_some_and(|last| last.from.place >= from.place) {
            self.holes.pop_back();
        }
        let is_crowded = self.holes.len() >= HOLES_MAX;
        match self.holes.back_mut() {
            Some(last) if is_crowded || last.to.place >= from.place => last.to = to,
            _ => self.holes.push_back(Hole { from, to }),
        }
    }

    /// Notes where we are, when it is time again.
    fn mark(&mut self, now: Instant) -> bool {
        if self.marked_at.is_some_and(|at| now.duration_since(at) < MARK_EVERY) {
            return false;
        }
        self.marked_at = Some(now);
        self.recent.push_back(self.seen.clone());
        if self.recent.len() > MARKS_MAX {
            // Not the first: it is where telling would begin again.
            self.recent.remove(1);
        }
        true
    }

    /// The first mark is the last one that has arrived.
    fn settle(&mut self) {
        while self.recent.get(1).is_some_and(|mark| mark.place <= self.arrived) {
            self.recent.pop_front();
        }
    }

    fn first_place(&self) -> Option<u64> {
        let open = self.away.as_ref().filter(|away| away.place < self.seen.place).map(|away| away.place);
        self.holes.front().map(|hole| hole.from.place).or(open)
    }

    fn certain(&self) -> Mark {
        self.recent.front().unwrap_or(&self.seen).clone()
    }

    fn saved(&self) -> Saved {
        // What was sent before the hole that is open has not arrived either.
        let certain = self.certain();
        let away = self.away.clone().filter(|away| away.place < certain.place);
        Saved { holes: self.holes.clone(), open: away.unwrap_or(certain) }
    }
}

fn read(file: &Path) -> Result<Option<Saved>, StoreError> {
    match std::fs::read(file) {
        Ok(bytes) => {
            let saved = Saved::decode(&bytes);
            if saved.is_none() {
                tracing::warn!(file = %file.display(), "is not what this program writes; what SCADA missed before is not told any more");
            }
            Ok(saved)
        }
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(StoreError::file(file)(fault)),
    }
}

#[cfg(test)]
mod tests;
