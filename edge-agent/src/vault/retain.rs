//! What the vault gives up, by age and by size.

use super::Vault;
use super::record::{self, Record};
use crate::error::StoreError;
use tally_journal::Storage;
use tally_model::{DeviceId, Timestamp};

/// A vault that is too large is shortened in steps of this part of its records, each of which may free segments.
const PARTS: u64 = 64;

/// How much is to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// Readings received before this may go.
    pub since: Timestamp,
    /// Bytes on disk above which the oldest go.
    pub bytes_max: u64,
    /// The oldest record that an unsent trigger needs.
    pub unsent: Option<u64>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retained {
    /// The limits are kept.
    WithinLimits,
    /// More is kept than the limits say, because somebody still needs it: a rule of this device, or (without one) a
    /// trigger that the ledger does not have yet.
    HeldBack(Option<DeviceId>),
}

impl<S: Storage> Vault<S> {
    /// Deletes whole segments that are too old or too many, but nothing that is still needed. Between groups only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn retain(&mut self, keeping: Keeping) -> Result<Retained, StoreError> {
        let (limit, holder) = self.limit(keeping.unsent);
        let expired = self.first_since(keeping.since)?;
        let is_too_large = self.journal.bytes_on_disk() > keeping.bytes_max;
        let target = if is_too_large { limit } else { expired.min(limit) };
        // Asking for the same again would only pile up snapshots.
        if target > self.discarded_before.max(self.journal.first_number()) {
            // If we die between the two: the snapshot is there, the old segments too; the next call deletes them.
            self.appended += 1;
            self.snapshot(true)?;
            self.sync()?;
            self.journal.discard_before(expired.min(limit)).map_err(StoreError::vault)?;
            self.discarded_before = target;
        }
        let (first, next) = (self.journal.first_number(), self.journal.next_number());
        let mut until = first;
        while self.journal.bytes_on_disk() > keeping.bytes_max && until < limit {
            until = (until + ((next - first) / PARTS).max(1)).min(limit);
            self.journal.discard_before(until).map_err(StoreError::vault)?;
        }
        let is_held_back = self.journal.bytes_on_disk() > keeping.bytes_max && limit < next;
        Ok(if is_held_back || expired > limit { Retained::HeldBack(holder) } else { Retained::WithinLimits })
    }

    /// The oldest record somebody needs, and the device whose rule it is.
    fn limit(&self, unsent: Option<u64>) -> (u64, Option<DeviceId>) {
        let rules = self.chains.values().filter_map(|chain| Some((chain.needed()?.1, Some(chain.device.clone()))));
        let all = rules.chain(unsent.map(|place| (place, None)));
        all.min_by_key(|(place, _)| *place).unwrap_or((self.journal.next_number(), None))
    }

    /// The first record with a reading received at or after `since`; receive times of different devices differ by
    /// seconds at most, which does not matter for days.
    fn first_since(&self, since: Timestamp) -> Result<u64, StoreError> {
        let (mut low, mut high) = (self.journal.first_number(), self.journal.next_number());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.received_at(middle, high)? {
                Some(received) if received < since => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Receive time of the first batch in `place..end`.
    fn received_at(&self, place: u64, end: u64) -> Result<Option<Timestamp>, StoreError> {
        for place in place..end {
            let bytes = self.journal.read(place).map_err(StoreError::vault)?.unwrap_or_default();
            match record::decode(&bytes) {
                Some(Record::Batch(batch)) => return Ok(Some(batch.received)),
                Some(Record::Late(late)) => return Ok(Some(late.received)),
                _ => {}
            }
        }
        Ok(None)
    }
}
