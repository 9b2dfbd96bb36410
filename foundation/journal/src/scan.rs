//! Walks a segment from its header to the first byte that does not fit, through a window of fixed size.

use std::io;

use crate::error::Fault;
use crate::format::{self, ChainHash, FRAME_BYTES, HEADER_BYTES, Header, Link, MARK_BYTES, MARK_LENGTH};
use crate::index::Index;
use crate::storage::{SegmentName, Storage};

/// Bytes read at once. Large enough that the call costs nothing, small enough for any machine; no length found on disk
/// ever makes it larger.
pub(crate) const WINDOW_BYTES: usize = 256 << 10;

/// How far a segment is good.
pub(crate) struct Scan {
    /// Offset behind the last good frame.
    pub end: u64,
    /// Offset of the last sync mark.
    pub mark: Option<u64>,
    /// Number after the last good record, and the chain hash there.
    pub next: u64,
    pub head: ChainHash,
    pub index: Index,
    /// What is wrong at `end`; `None` when that is the end of the segment.
    pub fault: Option<Fault>,
}

/// Checks every frame behind the header.
pub(crate) fn scan<S: Storage>(window: &mut Window<'_, S>, header: &Header) -> io::Result<Scan> {
    let mut scan = Scan {
        end: HEADER_BYTES as u64,
        mark: None,
        next: header.first,
        head: header.chain,
        index: Index::default(),
        fault: None,
    };
    while scan.fault.is_none() && scan.end < window.length {
        scan.fault = scan.frame(window)?;
    }
    Ok(scan)
}

impl Scan {
    fn frame<S: Storage>(&mut self, window: &mut Window<'_, S>) -> io::Result<Option<Fault>> {
        let start = window.get(self.end, MARK_BYTES)?;
        match format::frame_prefix(start) {
            None => Ok(Some(Fault::CutShort)),
            Some((MARK_LENGTH, _)) => Ok(self.mark(format::mark_number(start, self.end))),
            Some((length, crc)) => self.record(window, length, crc),
        }
    }

    fn mark(&mut self, number: Option<u64>) -> Option<Fault> {
        if number != Some(self.next) {
            return Some(Fault::Mark);
        }
        self.mark = Some(self.end);
        self.end += MARK_BYTES as u64;
        None
    }

    fn record<S: Storage>(&mut self, window: &mut Window<'_, S>, length: u32, crc: u32) -> io::Result<Option<Fault>> {
        let frame_bytes = FRAME_BYTES as u64 + u64::from(length);
        if window.length - self.end < frame_bytes {
            return Ok(Some(Fault::CutShort));
        }
        let mut crc_found = format::record_crc_start(self.next, length);
        let mut link = Link::new(&self.head, self.next);
        let (mut at, frame_end) = (self.end + FRAME_BYTES as u64, self.end + frame_bytes);
        while at < frame_end {
            let piece = window.get(at, format::in_memory(frame_end - at).min(WINDOW_BYTES))?;
            crc_found = crc32c::crc32c_append(crc_found, piece);
            link.update(piece);
            at += piece.len() as u64;
        }
        if crc_found != crc {
            return Ok(Some(Fault::Checksum));
        }
        self.index.note(self.next, self.end, frame_bytes);
        self.head = link.finish();
        self.next += 1;
        self.end = frame_end;
        Ok(None)
    }

    /// Is the last frame a sync mark?
    pub fn ends_in_mark(&self) -> bool {
        self.mark.is_some_and(|mark| mark + MARK_BYTES as u64 == self.end)
    }

    /// Is there a sync mark behind the bad frame, at any byte? Then that frame had been synced.
    pub fn mark_behind<S: Storage>(&self, window: &mut Window<'_, S>) -> io::Result<bool> {
        let mut at = self.end;
        while window.length - at >= MARK_BYTES as u64 {
            let piece = window.get(at, WINDOW_BYTES)?;
            for (start, bytes) in (at..).zip(piece.windows(MARK_BYTES)) {
                // The first comparison is for speed. A mark of an older file at the same offset names an older number.
                if bytes[0] == 0xFF && format::mark_number(bytes, start).is_some_and(|number| number >= self.next) {
                    return Ok(true);
                }
            }
            at += (piece.len() - MARK_BYTES + 1) as u64;
        }
        Ok(false)
    }
}

/// Part of a segment in memory.
pub(crate) struct Window<'s, S> {
    storage: &'s S,
    segment: SegmentName,
    /// Length of the segment in bytes.
    pub length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'s, S: Storage> Window<'s, S> {
    pub fn new(storage: &'s S, segment: SegmentName) -> io::Result<Self> {
        Ok(Window { storage, segment, length: storage.len(segment)?, start: 0, bytes: Vec::new() })
    }

    /// Bytes from `offset` (not behind the end): `wanted` of them (at most [`WINDOW_BYTES`]), fewer at the end.
    pub fn get(&mut self, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted = wanted.min(format::in_memory(self.length - offset));
        let have = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + wanted as u64 > have {
            let fill = format::in_memory(self.length - offset).min(WINDOW_BYTES);
            self.bytes.resize(fill, 0);
            self.start = offset;
            self.storage.read_at(self.segment, offset, &mut self.bytes)?;
        }
        let from = format::in_memory(offset - self.start);
        Ok(&self.bytes[from..from + wanted])
    }
}
