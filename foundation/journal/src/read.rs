//! Reading by number and in order. Every payload handed out has passed its checksum again.

use std::iter::FusedIterator;

use crate::error::{Damage, Fault, JournalError};
use crate::format::{self, FRAME_BYTES, MARK_BYTES, MARK_LENGTH};
use crate::index::Block;
use crate::journal::{Journal, Segment};
use crate::storage::Storage;

/// Bytes an iterator reads ahead. Reading in order then costs one call for each, not one for each record.
const AHEAD_BYTES: u64 = 256 << 10;

impl<S: Storage> Journal<S> {
    /// The payload of a record, synced or not; `None` when it was discarded or does not exist yet.
    ///
    /// # Errors
    /// [`JournalError::Read`], [`JournalError::Damaged`], [`JournalError::Poisoned`].
    pub fn read(&self, number: u64) -> Result<Option<Vec<u8>>, JournalError> {
        self.alive()?;
        let Some(mut frames) = self.frames_at(number, 0)? else { return Ok(None) };
        let payload = frames.seek(number).map_err(|(at, fault)| self.damage(number, at, fault))?;
        Ok(Some(payload.to_vec()))
    }

    /// All records from `number` on, or from the first still kept if that is later; unsynced ones included.
    ///
    /// # Errors
    /// [`JournalError::Poisoned`]. Failures to read come as items and end the iteration.
    pub fn iter_from(&self, number: u64) -> Result<Iter<'_, S>, JournalError> {
        self.alive()?;
        Ok(Iter { journal: self, next: number.max(self.first_number()), frames: None })
    }

    /// The block that holds `number`, with the blocks behind it up to about `ahead` bytes.
    fn frames_at(&self, number: u64, ahead: u64) -> Result<Option<Frames>, JournalError> {
        if number >= self.next_number() {
            return Ok(None);
        }
        let Some(segment) = self.segment_of(number) else { return Ok(None) };
        let Some(block) = segment.index.block(number, segment.bytes, ahead) else { return Ok(None) };
        let bytes = self.read_block(segment, block)?;
        Ok(Some(Frames { bytes, at: 0, offset: block.start, number: block.first }))
    }

    fn segment_of(&self, number: u64) -> Option<&Segment> {
        let behind = self.segments.partition_point(|segment| segment.name.0 <= number);
        self.segments.get(behind.checked_sub(1)?)
    }

    /// From the storage, and what it does not have yet from memory.
    fn read_block(&self, segment: &Segment, block: Block) -> Result<Vec<u8>, JournalError> {
        let is_last = self.segments.back().is_some_and(|last| last.name == segment.name);
        let pending: &[u8] = if is_last { &self.pending } else { &[] };
        let written = segment.bytes - pending.len() as u64;
        let mut bytes = Vec::with_capacity(format::in_memory(block.end - block.start));
        bytes.resize(format::in_memory(block.end.min(written).saturating_sub(block.start)), 0);
        if !bytes.is_empty() {
            self.storage
                .read_at(segment.name, block.start, &mut bytes)
                .map_err(|source| JournalError::Read { file: self.describe(segment.name), source })?;
        }
        if block.end > written {
            let from = format::in_memory(block.start.max(written) - written);
            bytes.extend_from_slice(&pending[from..format::in_memory(block.end - written)]);
        }
        Ok(bytes)
    }

    fn damage(&self, number: u64, offset: u64, fault: Fault) -> JournalError {
        let file = self.segment_of(number).map_or_else(String::new, |segment| self.describe(segment.name));
        Damage { file, offset, fault }.into()
    }
}

/// The records of a journal in order, made by [`Journal::iter_from`]. Ends after the first error.
pub struct Iter<'a, S: Storage> {
    journal: &'a Journal<S>,
    /// Number of the next record to hand out.
    next: u64,
    /// Read ahead; `None` at the start and when used up.
    frames: Option<Frames>,
}

impl<S: Storage> Iter<'_, S> {
    fn step(&mut self) -> Result<Option<Vec<u8>>, JournalError> {
        if self.frames.as_ref().is_none_or(Frames::is_used_up) {
            self.frames = self.journal.frames_at(self.next, AHEAD_BYTES)?;
        }
        let Some(frames) = &mut self.frames else { return Ok(None) };
        match frames.seek(self.next) {
            Ok(payload) => Ok(Some(payload.to_vec())),
            Err((at, fault)) => Err(self.journal.damage(self.next, at, fault)),
        }
    }
}

impl<S: Storage> Iterator for Iter<'_, S> {
    type Item = Result<(u64, Vec<u8>), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.next;
        match self.step() {
            Ok(Some(payload)) => {
                self.next += 1;
                Some(Ok((number, payload)))
            }
            Ok(None) => None,
            Err(error) => {
                // No record has this number, so every further call finds the end.
                self.next = u64::MAX;
                self.frames = None;
                Some(Err(error))
            }
        }
    }
}

impl<S: Storage> FusedIterator for Iter<'_, S> {}

/// Bytes of whole frames, walked from front to back. The walk trusts lengths only as far as the bytes reach.
struct Frames {
    bytes: Vec<u8>,
    /// Where the next frame begins, in `bytes`.
    at: usize,
    /// Offset of `bytes` in its segment.
    offset: u64,
    /// Number of the next record.
    number: u64,
}

impl Frames {
    /// Walks to record `number` (not behind it) and past it. An error carries the offset in the segment.
    fn seek(&mut self, number: u64) -> Result<&[u8], (u64, Fault)> {
        loop {
            let at = self.at;
            let offset = self.offset + at as u64;
            let rest = self.bytes.get(at..).unwrap_or_default();
            let (length, crc) = format::frame_prefix(rest).ok_or((offset, Fault::CutShort))?;
            if length == MARK_LENGTH {
                self.at += MARK_BYTES;
                continue;
            }
            let end = at + FRAME_BYTES + format::in_memory(u64::from(length));
            self.at = end;
            self.number += 1;
            if self.number <= number {
                continue;
            }
            let payload = self.bytes.get(at + FRAME_BYTES..end).ok_or((offset, Fault::CutShort))?;
            if crc32c::crc32c_append(format::record_crc_start(number, length), payload) != crc {
                return Err((offset, Fault::Checksum));
            }
            return Ok(payload);
        }
    }

    /// Nothing but marks, if anything, is left.
    fn is_used_up(&self) -> bool {
        let mut at = self.at;
        while let Some((MARK_LENGTH, _)) = self.bytes.get(at..).and_then(format::frame_prefix) {
            at += MARK_BYTES;
        }
        at >= self.bytes.len()
    }
}
