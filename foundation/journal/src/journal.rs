//! Appending, syncing, discarding.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use crate::error::JournalError;
use crate::format::{self, ChainHash, FRAME_BYTES, HEADER_BYTES, Link, MARK_BYTES, MARK_LENGTH};
use crate::index::Index;
use crate::open::{Repair, create_segment};
use crate::storage::{DirStorage, SegmentName, Storage};
use crate::summary;
use crate::{Check, Options};

/// Frames are collected in memory up to this many bytes and then written in one call. Bounds memory for those who append
/// much and sync seldom; below it, everything between two syncs is one write.
const PENDING_BYTES_MAX: usize = 1 << 20;

/// An open journal. See the crate head for what it promises.
///
/// Dropping it writes a sync mark, so that the next opening knows where synced bytes end. Records appended but not synced
/// are given up: they were never promised.
pub struct Journal<S: Storage = DirStorage> {
    pub(crate) storage: S,
    options: Options,
    /// Oldest first, never empty. The last one takes appends; all others are complete and synced.
    pub(crate) segments: VecDeque<Segment>,
    /// Frames of the last segment that are not handed to the storage yet: its last `pending.len()` bytes.
    pub(crate) pending: Vec<u8>,
    next: u64,
    durable: u64,
    /// A sync succeeded since the last mark and nothing was appended since: the next frame must be preceded by a mark.
    mark_due: bool,
    poisoned: bool,
    repaired: Option<Repair>,
}

/// What memory knows of a segment.
pub(crate) struct Segment {
    pub name: SegmentName,
    /// Length in bytes; for the last one with what is still pending.
    pub bytes: u64,
    /// Chain hash after its last record.
    pub head: ChainHash,
    pub index: Index,
}

impl<S: Storage> Journal<S> {
    /// Appends one record and returns its number: from 0, without holes. Not durable before [`sync`](Self::sync).
    ///
    /// Usually only copies into memory. Writes when 1 MiB has piled up; writes and syncs when a segment is full.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`] (nothing happened), [`JournalError::Poisoned`], or the failure that poisoned it.
    pub fn append(&mut self, record: &[u8]) -> Result<u64, JournalError> {
        self.alive()?;
        let length = self.checked_length(record)?;
        if self.is_segment_full(record.len()) {
            self.or_poison(Self::roll)?;
        }
        let number = self.push(record, length);
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.or_poison(Self::write_pending)?;
        }
        Ok(number)
    }

    /// Appends several records under consecutive numbers. If one is too large, none is appended. A power cut before the
    /// next sync may still keep some and lose the rest.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_all(
        &mut self,
        records: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Range<u64>, JournalError> {
        self.alive()?;
        let records: Vec<_> = records.into_iter().collect();
        for record in &records {
            self.checked_length(record.as_ref())?;
        }
        let first = self.next;
        for record in &records {
            self.append(record.as_ref())?;
        }
        Ok(first..self.next)
    }

    /// Makes every record appended so far durable: one write and one `fdatasync`. Without new records it does nothing.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`], or the failure that poisoned it. Records not confirmed may or may not be found again
    /// when the journal is reopened.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.alive()?;
        if self.durable == self.next {
            return Ok(());
        }
        self.or_poison(|journal| {
            journal.write_pending()?;
            // If the power goes here: any part of the new frames survives, in any order. Opening keeps the whole ones up to
            // the first hole and cuts off the rest; no sync mark stands behind them yet.
            journal.sync_last()?;
            // If the power goes here: all survive. Nobody was told yet; the caller finds them when it reopens.
            journal.mark_due = true;
            Ok(())
        })
    }

    /// Deletes the segments that hold only records below `number`. Records below `number` that share a segment with later
    /// ones stay, and so does the last segment.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`], or the failure that poisoned it.
    pub fn discard_before(&mut self, number: u64) -> Result<(), JournalError> {
        self.alive()?;
        // A segment ends where the next one begins: only then is it certain that it holds nothing from `number` on.
        while self.segments.get(1).is_some_and(|next| next.name.0 <= number) {
            self.or_poison(Self::delete_oldest)?;
        }
        Ok(())
    }

    /// The number the next record will get.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// The first record still kept; equal to [`next_number`](Self::next_number) when there is none.
    pub fn first_number(&self) -> u64 {
        self.segments.front().map_or(self.next, |segment| segment.name.0)
    }

    /// Number of the first record and bytes of every segment, oldest first; never empty. The last one takes appends, all others
    /// are complete and never change.
    pub fn segments(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.segments.iter().map(|segment| (segment.name.0, segment.bytes))
    }

    /// Every record below this number is durable.
    pub fn durable_number(&self) -> u64 {
        self.durable
    }

    /// The hash chain over all records ever appended, discarded and unsynced ones included (rule in the crate head).
    pub fn head_hash(&self) -> [u8; 32] {
        self.segments.back().map_or(format::CHAIN_START, |segment| segment.head)
    }

    /// Bytes of all segments, with what the next sync will add.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Bytes on disk from record `number` on, exact to a block (about 4 KiB, or one larger record).
    pub fn bytes_from(&self, number: u64) -> u64 {
        if number >= self.next {
            return 0;
        }
        let behind = self.segments.partition_point(|segment| segment.name.0 <= number);
        let later: u64 = self.segments.iter().skip(behind).map(|segment| segment.bytes).sum();
        let own = behind.checked_sub(1).and_then(|place| self.segments.get(place)).map_or(0, |segment| {
            let block = segment.index.block(number, segment.bytes, 0);
            segment.bytes - block.map_or(0, |block| block.start)
        });
        own + later
    }

    /// Did a write or sync fail? Then everything is refused; drop the journal and open it again.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// What opening cut off, if anything.
    pub fn repaired(&self) -> Option<&Repair> {
        self.repaired.as_ref()
    }

    /// All of `segments` are checked and synced; `next` follows the last record.
    pub(crate) fn assemble(
        storage: S,
        options: Options,
        segments: VecDeque<Segment>,
        next: u64,
        mark_due: bool,
        repaired: Option<Repair>,
    ) -> Self {
        let pending = Vec::new();
        Journal { storage, options, segments, pending, next, durable: next, mark_due, poisoned: false, repaired }
    }

    pub(crate) fn alive(&self) -> Result<(), JournalError> {
        if self.poisoned { Err(JournalError::Poisoned) } else { Ok(()) }
    }

    /// Poisoned until proven otherwise: no way out of `step`, early return or unwinding, leaves a half-done journal usable.
    fn or_poison<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, JournalError>) -> Result<T, JournalError> {
        self.poisoned = true;
        let done = step(self)?;
        self.poisoned = false;
        Ok(done)
    }

    fn checked_length(&self, record: &[u8]) -> Result<u32, JournalError> {
        let bytes_max = self.options.record_bytes_max.min(MARK_LENGTH - 1);
        match u32::try_from(record.len()) {
            Ok(length) if length <= bytes_max => Ok(length),
            _ => Err(JournalError::TooLarge { bytes: record.len(), bytes_max }),
        }
    }

    /// Would a record of this size push the last segment over its limit? A segment without records takes any.
    fn is_segment_full(&self, record_bytes: usize) -> bool {
        let frames = (MARK_BYTES + FRAME_BYTES + record_bytes) as u64;
        self.segments
            .back()
            .is_some_and(|last| !last.index.is_empty() && last.bytes + frames > self.options.segment_bytes_max)
    }

    /// Into memory: mark if due, frame, index, chain.
    fn push(&mut self, record: &[u8], length: u32) -> u64 {
        let number = self.next;
        let Some(last) = self.segments.back_mut() else { return number };
        if self.mark_due {
            // What this says became true with the last sync, so it may go out together with what follows it.
            self.pending.extend_from_slice(&format::mark(last.bytes, number));
            last.bytes += MARK_BYTES as u64;
            self.mark_due = false;
        }
        let frame_bytes = (FRAME_BYTES + record.len()) as u64;
        format::push_record(&mut self.pending, number, length, record);
        last.index.note(number, last.bytes, frame_bytes);
        last.bytes += frame_bytes;
        let mut link = Link::new(&last.head, number);
        link.update(record);
        last.head = link.finish();
        self.next += 1;
        number
    }

    /// The last segment and how much of it the storage already has.
    fn last_written(&self) -> (SegmentName, u64) {
        let pending = self.pending.len() as u64;
        self.segments.back().map_or((SegmentName(0), 0), |last| (last.name, last.bytes - pending))
    }

    fn write_pending(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (name, written) = self.last_written();
        self.storage
            .write_at(name, written, &self.pending)
            .map_err(|source| JournalError::Write { file: self.describe(name), source })?;
        self.pending.clear();
        // One huge record must not hold its memory for ever.
        self.pending.shrink_to(2 * PENDING_BYTES_MAX);
        Ok(())
    }

    fn sync_last(&mut self) -> Result<(), JournalError> {
        let (name, _) = self.last_written();
        self.storage.sync(name).map_err(|source| JournalError::Sync { file: self.describe(name), source })?;
        self.durable = self.next;
        Ok(())
    }

    /// Completes the last segment and begins the next. The old one is synced first: opening relies on it when it calls
    /// every bad byte outside the last segment damage.
    fn roll(&mut self) -> Result<(), JournalError> {
        self.write_pending()?;
        // If the power goes here: as in `sync`, the old segment is still the last one.
        self.sync_last()?;
        let (name, head) = (SegmentName(self.next), self.head_hash());
        // If the power goes in here: opening removes the unfinished segment, see `create_segment`.
        create_segment(&mut self.storage, name, &head)
            .map_err(|source| JournalError::Create { file: self.describe(name), source })?;
        // If the power goes in here, or it cannot be written: the summary is torn or missing, and opening makes it anew. Nobody
        // relies on it, so a failure costs the next opening a segment's reading and nothing else.
        if let (Check::LastSegment, Some(sealed)) = (self.options.check, self.segments.back()) {
            summary::keep(&mut self.storage, sealed, name.0).ok();
        }
        self.segments.push_back(Segment { name, bytes: HEADER_BYTES as u64, head, index: Index::default() });
        self.mark_due = false;
        Ok(())
    }

    /// One directory sync for each: a power cut that kept the second deletion and lost the first would leave a hole.
    fn delete_oldest(&mut self) -> Result<(), JournalError> {
        let Some(oldest) = self.segments.front() else { return Ok(()) };
        let name = oldest.name;
        // If the power goes in here: the segment is there whole, or gone. The owner calls `discard_before` again some day.
        self.storage
            .delete(name)
            .and_then(|()| self.storage.sync_directory())
            .map_err(|source| JournalError::Delete { file: self.describe(name), source })?;
        self.segments.pop_front();
        Ok(())
    }

    pub(crate) fn describe(&self, name: SegmentName) -> String {
        self.storage.describe(&name.to_string())
    }
}

impl<S: Storage> Drop for Journal<S> {
    fn drop(&mut self) {
        if self.poisoned || !self.mark_due {
            return;
        }
        // Not synced: a lost mark costs nothing but the sharper eye of the next opening, and there is nobody to tell.
        let (name, written) = self.last_written();
        self.storage.write_at(name, written, &format::mark(written, self.next)).ok();
    }
}

impl<S: Storage> fmt::Debug for Journal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("first", &self.first_number())
            .field("durable", &self.durable)
            .field("next", &self.next)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}
