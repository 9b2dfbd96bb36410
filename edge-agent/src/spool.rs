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
//! (the vault's record numbers show it); the connection broke: then nobody knows what of the last [`DOUBT`] arrived, so
//! that is told again; the agent was killed: then from the last place that was written down.
//!
//! **Bounds.** At most `bytes_max` bytes of the vault and `age_max` of time are told later, and never more than the vault
//! keeps. What is given up is declared: a [`Gap`] says of which device, from which reading to which, how many. At most
//! [`HOLES_MAX`] holes; then the newest two become one, and what lay between is told twice.
//!
//! **Memory.** Some 60 bytes for each device and hole, and ten times that for the last seconds.
//!
//! **What devices had recorded** while they could not be heard lies in records of its own in the vault, outside the
//! chains. Such a record was never live, so it is missed from the beginning: a hole of its own, told, kept over restarts
//! and given up as every other. It has no numbers, so what is given up of it is counted and logged, not declared.
//!
//! **At least once.** Whoever listens sees repetitions by `n`, the reading's number; of what devices had recorded, by point
//! and source time.
//!
//! If we die: the file says where to begin, at most 2 s and [`DOUBT`] too early. The file is replaced whole. Without it
//! (or with one that does not parse) telling begins at the vault's present end.

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

/// Live values sent within this time before a connection broke may not have arrived: a silent broker is noticed within 6 s
/// (two pings of the MQTT connector), and one second lies between two marks.
pub const DOUBT: Duration = Duration::from_secs(8);
/// Between two marks.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Live values queued this long before an orderly stop have been sent.
const QUEUED_MAX: Duration = Duration::from_secs(1);
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
    /// `seen` of the last seconds, oldest first; the first one is certainly told.
    recent: VecDeque<(Instant, Mark)>,
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
        let recent = [(Instant::now(), seen.clone())].into();
        let state = Mutex::new(State { holes, seen, away, recent });
        let spool = Self { file: file.to_owned(), limits, state };
        if is_new && let Err(fault) = spool.keep() {
            tracing::warn!(%fault, "the place in the live values cannot be kept; it is tried again every 2 s");
        }
        Ok(Arc::new(spool))
    }

    /// A batch was queued for the broker, all of it (or what its deadbands let through).
    pub fn told(&self, kept: &Kept) {
        let mut state = self.state();
        if kept.first_place > state.seen.place {
            // Something between was never seen here (or it is a snapshot of the vault, which costs an empty hole).
            state.open_hole();
        }
        state.close_hole(kept.first_place);
        let now = Instant::now();
        // On a new connection the first mark is where telling began, not what is on its way now.
        state.mark(now);
        state.seen.advance(kept);
        state.mark(now);
    }

    /// A batch was not told, or not all of it.
    pub fn missed(&self, kept: &Kept) {
        let mut state = self.state();
        state.open_hole();
        state.seen.advance(kept);
    }

    /// The connection broke, or there is a new one: what was sent last may not have arrived.
    pub fn lost(&self) {
        let mut state = self.state();
        let certain = state.recent.front().map_or_else(|| state.seen.clone(), |(_, mark)| mark.clone());
        if state.away.as_ref().is_none_or(|away| certain.place < away.place) {
            state.away = Some(certain);
        }
        state.recent.clear();
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
        let saved = {
            let mut state = self.state();
            state.mark(Instant::now());
            state.saved()
        };
        self.write(&saved)
    }

    /// Writes down the place of an orderly stop: everything that had a second to leave has left.
    ///
    /// # Errors
    /// As [`Spool::keep`].
    pub fn close(&self) -> Result<(), StoreError> {
        let saved = {
            let mut state = self.state();
            while state.recent.get(1).is_some_and(|(at, _)| at.elapsed() >= QUEUED_MAX) {
                state.recent.pop_front();
            }
            state.saved()
        };
        self.write(&saved)
    }

    fn write(&self, saved: &Saved) -> Result<(), StoreError> {
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
        let is_crowded = self.holes.len() >= HOLES_MAX;
        match self.holes.back_mut() {
            Some(last) if is_crowded || last.to.place >= from.place => last.to = to,
            _ => self.holes.push_back(Hole { from, to }),
        }
    }

    /// Notes where we are; what is older than the doubt has certainly arrived.
    fn mark(&mut self, now: Instant) {
        if self.away.is_some() || self.recent.back().is_some_and(|(at, _)| now.duration_since(*at) < MARK_EVERY) {
            return;
        }
        self.recent.push_back((now, self.seen.clone()));
        while self.recent.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= DOUBT) {
            self.recent.pop_front();
        }
    }

    fn first_place(&self) -> Option<u64> {
        let open = self.away.as_ref().filter(|away| away.place < self.seen.place).map(|away| away.place);
        self.holes.front().map(|hole| hole.from.place).or(open)
    }

    fn saved(&self) -> Saved {
        let certain = || self.recent.front().map_or_else(|| self.seen.clone(), |(_, mark)| mark.clone());
        Saved { holes: self.holes.clone(), open: self.away.clone().unwrap_or_else(certain) }
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
