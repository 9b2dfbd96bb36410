//! The pages of the state tree in a file, never written over while a durable top knows them.
//!
//! **Bytes.** The file is a row of pieces of [`UNIT_BYTES`]. A page takes as many in a row as it needs:
//! ```text
//! page number u32 │ bytes u32 │ CRC32C of number, bytes and page u32 │ page (see `StatePage`) │ unused up to the next piece
//! ```
//! All integers are little-endian. Which pieces are whose stands in the top ([`super::commit`]); all others are free.
//!
//! **Places.** A page that changes goes behind the one before into the open segment ([`segments`](super::segments)), which is in memory and
//! is written at once when it is full, or when a top is made: the pages that change are anywhere, and written one by one each would
//! cost the system a piece of two of its pages. What is left in segments of which much has changed is moved together, a little with each page
//! that is written: such a segment has mostly not been read for long, and the system has to read it from the disk.
//!
//! **Two streams.** Pages of even and of odd number fill segments of their own. The parity is the first bit of a page's keys, which in the
//! grouped scheme tells keys of no group from those of groups. The former change at random for ever, the latter hardly once their agreements
//! are opened. Together in a segment, the latter would be moved again and again for the sake of the room between them.
//!
//! **Who writes.** The keeping thread. A segment is written again when no page is in it and no top that could be read after a crash knows it.

use super::chunks::Chunks;
use super::segments::{SEGMENT_UNITS, STREAMS, Segments};
use crate::store::IndexFault;
use crate::store::disk::TreeFile;
use std::ops::Range;
use std::sync::Arc;
use tally_evidence::StatePage;

/// Bytes of a piece: half of it is lost in each page on average. With 32 bits for its number the file ends at 1 TiB.
pub const UNIT_BYTES: usize = 256;
const HEAD_BYTES: usize = 12;
const SEGMENT_BYTES: usize = SEGMENT_UNITS as usize * UNIT_BYTES;
/// Pieces of sparse segments looked through for each that was written, at most: bounds how long a block waits.
const EMPTIED_MAX: u32 = 4;
/// Pieces looked through in a step: 64 KiB. In tests a page is a large part of a segment.
const STEP_UNITS: u32 = if cfg!(test) { SEGMENT_UNITS / 4 } else { SEGMENT_UNITS / 16 };
/// Steps for a page that was written, at most: some ten times as much as is due for one.
const STEPS_MAX: u32 = if cfg!(test) { 8 } else { 2 };
/// So far behind, a segment that has to be read from the disk is waited for.
const BEHIND_MAX: u32 = 2 * SEGMENT_UNITS;

/// Pieces of a page: the first one, and how many. None where a page has no leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    pub at: u32,
    pub units: u32,
}

/// Whether a page is waited for that the system has to read from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It is.
    Disk,
    /// It is not: only begun to be read.
    AtHand,
}

/// The file, and whose its pieces are.
#[derive(Debug)]
pub struct Pages {
    file: Arc<TreeFile>,
    /// Of each page.
    extents: Chunks<Extent>,
    segments: Segments,
    /// Of each stream.
    open: [Option<Open>; STREAMS],
    /// Memory for the next open segment of each stream.
    spare: [Vec<u8>; STREAMS],
    emptying: Emptying,
}

/// A sparse segment whose pages are being moved, a little whenever a page is written.
#[derive(Debug, Default)]
struct Emptying {
    /// The next piece to look at, and the one behind the segment's last.
    pieces: Range<u32>,
    /// Pieces that may be looked through by now.
    due: u32,
    /// Memory for a [step](STEP_UNITS).
    bytes: Vec<u8>,
}

/// The segment that is being filled.
#[derive(Debug)]
struct Open {
    number: u32,
    bytes: Vec<u8>,
}

impl Open {
    /// The pieces of a page, if they are here.
    fn get(&self, Extent { at, units }: Extent) -> Option<&[u8]> {
        let from = at.checked_sub(self.number * SEGMENT_UNITS)? as usize * UNIT_BYTES;
        self.bytes.get(from..)?.get(..units as usize * UNIT_BYTES)
    }
}

impl Pages {
    /// The pages of a file as a top has them; `None` when it names pieces twice, or the file has not all of them.
    pub fn open(file: Arc<TreeFile>, extents: &[Extent]) -> Result<Option<Self>, IndexFault> {
        let mut taken: Vec<Extent> = extents.iter().filter(|extent| extent.units > 0).copied().collect();
        taken.sort_unstable_by_key(|extent| extent.at);
        let mut end = 0;
        for extent in taken {
            let behind = extent.at.checked_add(extent.units).filter(|_| extent.at >= end);
            let Some(behind) = behind else { return Ok(None) };
            end = behind;
        }
        if file.len()? < offset(end) {
            return Ok(None);
        }
        let segments = Segments::of(extents);
        Ok(Some(Self { extents: extents.into(), segments, ..Self::empty(file) }))
    }

    /// No pages yet.
    pub fn empty(file: Arc<TreeFile>) -> Self {
        Self {
            file,
            extents: Chunks::from(&[][..]),
            segments: Segments::default(),
            open: Default::default(),
            spare: Default::default(),
            emptying: Emptying::default(),
        }
    }

    pub const fn extents(&self) -> &Chunks<Extent> {
        &self.extents
    }

    /// Bytes of the file that are or were used.
    #[cfg(test)]
    pub const fn bytes(&self) -> usize {
        self.segments.len() * SEGMENT_BYTES
    }

    pub fn file(&self) -> &Arc<TreeFile> {
        &self.file
    }

    /// A page more, without leaves.
    pub fn push(&mut self) {
        self.extents.push(Extent::default());
    }

    /// Reads a page into the memory of `content`, through that of `bytes`. Of what is not [`AtHand`](Wait::AtHand) it gives `false`.
    pub fn read(
        &self,
        page: u32,
        content: &mut StatePage,
        bytes: &mut Vec<u8>,
        wait: Wait,
    ) -> Result<bool, IndexFault> {
        let extent = self.extents[page as usize];
        if extent.units == 0 {
            content.clear();
            return Ok(true);
        }
        if let Some(found) = self.open[stream(page)].as_ref().and_then(|open| open.get(extent)) {
            return self.decode(page, content, found).map(|()| true);
        }
        bytes.resize(extent.units as usize * UNIT_BYTES, 0);
        let is_read = self.read_at(extent.at, bytes, wait)?;
        if is_read {
            self.decode(page, content, bytes)?;
        }
        Ok(is_read)
    }

    fn decode(&self, page: u32, content: &mut StatePage, bytes: &[u8]) -> Result<(), IndexFault> {
        let damaged = || self.file.damaged(&format!("page {page} is not what was written"));
        let (head, rest) = bytes.split_at(HEAD_BYTES);
        let (_, length, crc) = read_head(head).filter(|head| head.0 == page).ok_or_else(damaged)?;
        let body = rest.get(..length as usize).ok_or_else(damaged)?;
        if checksum(&head[..8], body) == crc && content.decode_from(body) { Ok(()) } else { Err(damaged()) }
    }

    /// Writes a page through the memory of `bytes`. What is left of segments by it is for [`tidy`](Self::tidy).
    pub fn write(&mut self, page: u32, content: &StatePage, bytes: &mut Vec<u8>) -> Result<(), IndexFault> {
        bytes.clear();
        bytes.resize(HEAD_BYTES, 0);
        content.encode(bytes);
        let length = u32::try_from(bytes.len() - HEAD_BYTES).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&page.to_le_bytes());
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(&bytes[..8], &bytes[HEAD_BYTES..]);
        bytes[8..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        let units = if length == 0 { 0 } else { bytes.len().div_ceil(UNIT_BYTES) };
        bytes.resize(units * UNIT_BYTES, 0);
        self.emptying.due = pieces(bytes).saturating_mul(EMPTIED_MAX).saturating_add(self.emptying.due).min(BEHIND_MAX);
        self.append(page, bytes)
    }

    /// Puts the pieces of a page behind the last one.
    fn append(&mut self, page: u32, bytes: &[u8]) -> Result<(), IndexFault> {
        let (units, stream) = (pieces(bytes), stream(page));
        let is_over = |open: &Open| open.bytes.len() + bytes.len() > SEGMENT_BYTES;
        if self.open[stream].as_ref().is_some_and(is_over) {
            self.close(stream)?;
        }
        let extent = match units {
            0 => Extent::default(),
            1..=SEGMENT_UNITS => {
                let open = self.opened(stream)?;
                let at = open.number * SEGMENT_UNITS + pieces(&open.bytes);
                open.bytes.extend_from_slice(bytes);
                Extent { at, units }
            }
            _ => {
                let at = self.segments.row(units).ok_or_else(|| self.no_room())?;
                self.file.write(offset(at), bytes)?;
                Extent { at, units }
            }
        };
        // In this order: a segment that only the old place kept is not filled again meanwhile.
        self.segments.enter(extent);
        let old = std::mem::replace(&mut self.extents[page as usize], extent);
        self.segments.leave(old);
        Ok(())
    }

    fn opened(&mut self, stream: usize) -> Result<&mut Open, IndexFault> {
        let open = match self.open[stream].take() {
            Some(open) => open,
            None => {
                let number = self.segments.begin(stream).ok_or_else(|| self.no_room())?;
                let mut bytes = std::mem::take(&mut self.spare[stream]);
                bytes.clear();
                bytes.reserve_exact(SEGMENT_BYTES);
                Open { number, bytes }
            }
        };
        Ok(self.open[stream].insert(open))
    }

    /// Writes the open segment of a stream, as far as it is filled.
    fn close(&mut self, stream: usize) -> Result<(), IndexFault> {
        let Some(Open { number, bytes }) = self.open[stream].take() else { return Ok(()) };
        self.file.write(offset(number * SEGMENT_UNITS), &bytes)?;
        self.segments.end(stream);
        self.spare[stream] = bytes;
        Ok(())
    }

    /// Moves pages of sparse segments together, as far as that is due by what was written, but little at a time.
    pub fn tidy(&mut self) -> Result<(), IndexFault> {
        for _ in 0..STEPS_MAX {
            if self.emptying.due < STEP_UNITS {
                return Ok(());
            }
            if self.emptying.pieces.is_empty() && !self.begin_emptying()? {
                self.emptying.due = 0;
                return Ok(());
            }
            let wait = if self.emptying.due < BEHIND_MAX { Wait::AtHand } else { Wait::Disk };
            if !self.empty_step(wait)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The sparsest segment is next; the system begins to bring it into memory.
    fn begin_emptying(&mut self) -> Result<bool, IndexFault> {
        let Some(number) = self.segments.begin_emptying() else { return Ok(false) };
        let first = number * SEGMENT_UNITS;
        // The file ends where its last page does.
        let end = u32::try_from(self.file.len()? / UNIT_BYTES as u64).unwrap_or(u32::MAX);
        self.emptying.pieces = first..end.clamp(first, first + SEGMENT_UNITS);
        self.file.advise(offset(first), SEGMENT_BYTES as u64);
        Ok(true)
    }

    /// Moves the pages that begin in the next pieces of the segment behind the last one. They are not looked into: what is damaged stays
    /// so, and is found when it is read. Of what is not [`AtHand`](Wait::AtHand) it gives `false`.
    fn empty_step(&mut self, wait: Wait) -> Result<bool, IndexFault> {
        let Range { start, end } = self.emptying.pieces;
        let behind = end.min(start + STEP_UNITS);
        let mut bytes = std::mem::take(&mut self.emptying.bytes);
        bytes.resize((behind - start) as usize * UNIT_BYTES, 0);
        let is_read = self.read_at(start, &mut bytes, wait)?;
        if is_read {
            self.move_pages(start, &bytes)?;
            self.emptying.pieces.start = behind;
            self.emptying.due = self.emptying.due.saturating_sub(STEP_UNITS);
            if behind == end {
                self.segments.emptied();
            }
        }
        self.emptying.bytes = bytes;
        Ok(is_read)
    }

    /// Moves the pages that begin in these pieces.
    fn move_pages(&mut self, first: u32, bytes: &[u8]) -> Result<(), IndexFault> {
        for (at, head) in (first..).zip(bytes.chunks_exact(UNIT_BYTES)) {
            let page = head.first_chunk().map_or(u32::MAX, |page| u32::from_le_bytes(*page));
            let extent = self.extents.get(page as usize).filter(|extent| extent.at == at && extent.units > 0);
            let Some(extent) = extent.copied() else { continue };
            let inside = (at - first) as usize * UNIT_BYTES;
            let length = extent.units as usize * UNIT_BYTES;
            if let Some(piece) = bytes.get(inside..inside + length) {
                self.append(page, piece)?;
                continue;
            }
            // It goes on behind them.
            let mut piece = vec![0; length];
            self.file.read(offset(at), &mut piece)?;
            self.append(page, &piece)?;
        }
        Ok(())
    }

    fn read_at(&self, piece: u32, into: &mut [u8], wait: Wait) -> Result<bool, IndexFault> {
        match wait {
            Wait::Disk => self.file.read(offset(piece), into).map(|()| true),
            Wait::AtHand => self.file.read_at_hand(offset(piece), into),
        }
    }

    /// A top is made of the pages as they are now; what was not written yet is. Gives what may be [`free`](Self::free)d when that top is
    /// durable.
    pub fn seal(&mut self) -> Result<Vec<u32>, IndexFault> {
        (0..STREAMS).try_for_each(|stream| self.close(stream))?;
        Ok(self.segments.seal())
    }

    /// These segments are known to no top any more.
    pub fn free(&mut self, segments: Vec<u32>) {
        self.segments.free(segments);
    }

    fn no_room(&self) -> IndexFault {
        self.file.damaged("it has no room for more")
    }
}

/// Which segments a page goes to.
const fn stream(page: u32) -> usize {
    page as usize % STREAMS
}

/// How many pieces these bytes are.
fn pieces(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len() / UNIT_BYTES).unwrap_or(u32::MAX)
}

/// Where a piece lies in the file.
const fn offset(piece: u32) -> u64 {
    piece as u64 * UNIT_BYTES as u64
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), body)
}

fn read_head(head: &[u8]) -> Option<(u32, u32, u32)> {
    let ([page, bytes, crc], []) = head.as_chunks::<4>() else { return None };
    Some((u32::from_le_bytes(*page), u32::from_le_bytes(*bytes), u32::from_le_bytes(*crc)))
}
