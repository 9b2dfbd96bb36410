//! Step 6a: triggers that were decided while the key could not be reached, as when its token was pulled out. They are on disk, synced,
//! with their numbers, and are sealed in their order as soon as the key is back.
//!
//! One journal record for each: as in the outbox ([`Sealed::encode`]) with an empty statement, its body behind it. Which of them are
//! sealed by now says the outbox: their numbers are below its next one.
//!
//! **Who writes, who deletes.** The ingest thread alone.
//!
//! **At each step, if we die here:** decided and not kept: the restart decides the same again from the vault; kept: it waits here;
//! sealed and not synced in the outbox: it still waits here, and sealing it again gives the same statement, because ids do not hang on
//! signatures; synced there: its number says so.
//!
//! **Limits.** What waits here counts for `outbox_bytes_max`: it will lie in the outbox soon.

use crate::error::StoreError;
use crate::seal::Sealed;
use tally_journal::{Journal, JournalError, Options, Storage};

/// Sealed at a time: a few megabytes of memory at most.
pub const AT_ONCE: usize = 1_024;

/// The journal's limits: small segments, because what is sealed is of no use any more.
#[must_use]
pub fn journal_options() -> Options {
    Options { segment_bytes_max: 256 << 10, ..Options::default() }
}

/// What waits for the key.
pub struct Unsealed<S: Storage> {
    journal: Journal<S>,
    /// Record of the oldest that waits.
    first: u64,
    bytes: u64,
}

impl<S: Storage> Unsealed<S> {
    /// Finds what still waits: what the outbox, whose next number is `number`, does not have. `visit` sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(journal: Journal<S>, mut number: u64, mut visit: impl FnMut(&Sealed)) -> Result<Self, StoreError> {
        let (mut first, mut bytes) = (None, 0);
        for kept in journal.iter_from(0).map_err(fault)? {
            let (record, kept) = kept.map_err(fault)?;
            let kept = decode(record, &kept)?;
            if kept.number < number {
                continue;
            }
            if kept.number > number {
                return Err(foreign(record));
            }
            first.get_or_insert(record);
            bytes += kept.kept_bytes() as u64;
            number += 1;
            visit(&kept);
        }
        let first = first.unwrap_or_else(|| journal.next_number());
        Ok(Self { journal, first, bytes })
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.journal.next_number() - self.first
    }

    /// What they will take in the outbox, about.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps prepared triggers behind those that wait already; they are safe when this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep(&mut self, prepared: &[Sealed]) -> Result<(), StoreError> {
        for prepared in prepared {
            self.journal.append(&prepared.encode()).map_err(fault)?;
            self.bytes += prepared.kept_bytes() as u64;
        }
        self.journal.sync().map_err(fault)
    }

    /// The oldest that wait, at most [`AT_ONCE`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn oldest(&self) -> Result<Vec<Sealed>, StoreError> {
        let kept = self.journal.iter_from(self.first).map_err(fault)?.take(AT_ONCE);
        kept.map(|kept| kept.map_err(fault).and_then(|(record, kept)| decode(record, &kept))).collect()
    }

    /// These, the oldest, lie synced in the outbox.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sealed(&mut self, count: u64, bytes: u64) -> Result<(), StoreError> {
        self.first = (self.first + count).min(self.journal.next_number());
        self.bytes = if self.count() == 0 { 0 } else { self.bytes.saturating_sub(bytes) };
        self.journal.discard_before(self.first).map_err(fault)
    }

    /// The oldest vault record that one of them needs.
    #[must_use]
    pub fn oldest_place(&self) -> Option<u64> {
        let kept = self.journal.read(self.first).ok().flatten()?;
        decode(self.first, &kept).ok().map(|kept| kept.places.0)
    }
}

fn decode(record: u64, bytes: &[u8]) -> Result<Sealed, StoreError> {
    Sealed::decode(bytes).filter(|kept| !kept.is_sealed() && kept.batched.is_some()).ok_or_else(|| foreign(record))
}

fn foreign(record: u64) -> StoreError {
    StoreError::Foreign { store: "unsealed triggers", record }
}

fn fault(source: JournalError) -> StoreError {
    StoreError::Journal { store: "unsealed triggers", source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::batch;
    use crate::store::open_journal;
    use tally_journal::testing::MemStorage;

    fn open(disk: &MemStorage, number: u64) -> Result<(Unsealed<MemStorage>, Vec<u64>), StoreError> {
        let journal = open_journal("unsealed triggers", disk.clone(), journal_options())?;
        let mut seen = Vec::new();
        let opened = Unsealed::begin(journal, number, |kept| seen.push(kept.number))?;
        Ok((opened, seen))
    }

    fn prepared(first: u64, count: u32) -> Vec<Sealed> {
        batch(first, count).into_iter().map(|sealed| Sealed { statement: Vec::new(), ..sealed }).collect()
    }

    #[test]
    fn what_waits_survives_a_power_cut_and_what_the_outbox_has_does_not_wait() {
        let disk = MemStorage::new();
        let (mut unsealed, _) = open(&disk, 5).unwrap();
        assert_eq!((unsealed.count(), unsealed.oldest_place()), (0, None));
        unsealed.keep(&prepared(5, 3)).unwrap();
        unsealed.keep(&prepared(8, 2)).unwrap();
        drop(unsealed);
        let disk = disk.power_cut(3);
        let (mut unsealed, seen) = open(&disk, 6).unwrap();
        assert_eq!((seen, unsealed.count(), unsealed.oldest_place()), (vec![6, 7, 8, 9], 4, Some(12)));
        assert_eq!(unsealed.oldest().unwrap(), prepared_from(6));
        let bytes = unsealed.bytes() / 2;
        unsealed.sealed(2, bytes).unwrap();
        assert_eq!((unsealed.count(), unsealed.bytes()), (2, bytes));
        unsealed.sealed(2, bytes).unwrap();
        assert_eq!((unsealed.count(), unsealed.bytes()), (0, 0));
        drop(unsealed);
        assert!(matches!(open(&disk.restart(), 4), Err(StoreError::Foreign { .. })), "an outbox of an older backup");
    }

    /// Those of the first test from `number` on.
    fn prepared_from(number: u64) -> Vec<Sealed> {
        let all = [prepared(5, 3), prepared(8, 2)].concat();
        all.into_iter().filter(|kept| kept.number >= number).collect()
    }
}
