//! The full check of an open journal: what opening does not do for sealed segments with [`Check::LastSegment`](crate::Check).

use crate::error::{Damage, Fault, JournalError, OpenError};
use crate::journal::{Journal, Segment};
use crate::open::check_segment;
use crate::storage::Storage;

impl<S: Storage> Journal<S> {
    /// Reads every byte of every segment that the storage has, and checks each checksum and the whole hash chain. Changes nothing.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] with file and offset of the first bad frame, [`JournalError::Read`],
    /// [`JournalError::Poisoned`].
    pub fn check_everything(&self) -> Result<(), JournalError> {
        self.alive()?;
        let mut before: Option<&Segment> = None;
        for (place, segment) in self.segments.iter().enumerate() {
            let chain = before.map(|before| before.head);
            let found =
                check_segment(&self.storage, segment.name, chain, false).map_err(|error| self.fault(segment, error))?;
            let following = self.segments.get(place + 1);
            let end = following.map_or(self.next_number(), |following| following.name.0);
            // Records that the storage does not have yet are in memory, as they were appended.
            let is_written = following.is_some() || self.pending.is_empty();
            if is_written && found.scan.next != end {
                return Err(self.damage_in(following.unwrap_or(segment), Fault::Gap { expected: found.scan.next }));
            }
            if is_written && found.scan.head != segment.head {
                return Err(self.damage_in(following.unwrap_or(segment), Fault::Chain));
            }
            before = Some(segment);
        }
        Ok(())
    }

    fn damage_in(&self, segment: &Segment, fault: Fault) -> JournalError {
        Damage { file: self.describe(segment.name), offset: 0, fault }.into()
    }

    fn fault(&self, segment: &Segment, error: OpenError) -> JournalError {
        match error {
            OpenError::Damaged(damage) => damage.into(),
            OpenError::Read { file, source } => JournalError::Read { file, source },
            // Another magic or version than when it was opened.
            _ => self.damage_in(segment, Fault::Header),
        }
    }
}
