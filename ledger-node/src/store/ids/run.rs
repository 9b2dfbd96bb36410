//! One run: the ids of the statements of a range of entries, sorted, in a file that is never changed.
//!
//! ```text
//! pages    4096 bytes each: 102 rows of id [32] │ entry u64 (fewer in the last page, then zeros), by id, then entry
//!          │ page number u32 │ first entry of the run u64 │ CRC32C u32 of all before it
//! fences   u64 for each page: the first 8 bytes of its first id, as a big-endian number
//! filter   see `filter`
//! label    `TALLYIDS` │ version u32 │ first entry u64 │ entry behind the last u64
//!          │ CRC32C u32 of the pages' checksums │ CRC32C u32 of fences and filter │ CRC32C u32 of the label before it
//! ```
//! All integers are little-endian where nothing else is said. Each entry of the range has one row.
//!
//! **Trusted no further than its checksums.** A file counts only where the index lists its label. Label, fences and filter are checked when
//! it is opened, a page each time it is read. **Memory** fences and filter, together some 1.6 bytes an id.

use super::{Id, filter::Filter};
use crate::store::IndexFault;
use crate::store::disk::TreeFile;
use std::ops::Range;

const MAGIC: &[u8; 8] = b"TALLYIDS";
const VERSION: u32 = 1;
/// Bytes of a page: what a question reads.
pub const PAGE_BYTES: usize = 4_096;
pub const ROW_BYTES: usize = 40;
const ID_BYTES: usize = 32;
/// Rows of a page.
pub const PAGE_ROWS: usize = 102;
/// Bytes behind the rows of a page.
const PAGE_END: usize = 16;
/// Bytes of a label.
pub const LABEL_BYTES: usize = 40;
/// Pages read at once where a run is read through.
const PIECE_PAGES: u64 = 16;

const _: () = assert!(PAGE_ROWS * ROW_BYTES + PAGE_END == PAGE_BYTES);

/// What makes a run known: its file ends with it, and the index has the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its entries.
    pub entries: Range<u64>,
    /// CRC32C of the pages' checksums in order.
    pub pages_crc: u32,
    /// CRC32C of fences and filter.
    pub tables_crc: u32,
}

impl Label {
    pub fn encode(&self) -> [u8; LABEL_BYTES] {
        let mut bytes = Vec::with_capacity(LABEL_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.entries.start.to_le_bytes());
        bytes.extend_from_slice(&self.entries.end.to_le_bytes());
        bytes.extend_from_slice(&self.pages_crc.to_le_bytes());
        bytes.extend_from_slice(&self.tables_crc.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let mut label = [0; LABEL_BYTES];
        label.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        label
    }

    /// `None` for anything but the bytes of a label.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let long = |at: usize| Some(u64::from_le_bytes(content.get(at..at + 8)?.try_into().ok()?));
        let number = |at: usize| Some(u32::from_le_bytes(content.get(at..at + 4)?.try_into().ok()?));
        let is_one = bytes.len() == LABEL_BYTES && content.starts_with(MAGIC) && number(8)? == VERSION;
        if !is_one || crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return None;
        }
        let label = Self { entries: long(12)?..long(20)?, pages_crc: number(28)?, tables_crc: number(32)? };
        (label.entries.start < label.entries.end).then_some(label)
    }

    pub const fn rows(&self) -> u64 {
        self.entries.end - self.entries.start
    }
}

/// Where the parts of the file of a run with so many rows begin.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub pages: u64,
    pub fences: u64,
    pub filter: u64,
    pub label: u64,
    pub end: u64,
}

impl Layout {
    pub const fn of(rows: u64) -> Self {
        let pages = rows.div_ceil(PAGE_ROWS as u64);
        let fences = pages * PAGE_BYTES as u64;
        let filter = fences + pages * 8;
        let label = filter + Filter::bytes_for(rows);
        Self { pages, fences, filter, label, end: label + LABEL_BYTES as u64 }
    }
}

/// An open run.
#[derive(Debug)]
pub struct Run {
    /// The number in its file's name.
    pub number: u64,
    pub label: Label,
    pub(super) file: TreeFile,
    pub(super) fences: Vec<u64>,
    pub(super) filter: Filter,
}

impl Run {
    /// The run in a file.
    ///
    /// # Errors
    /// [`IndexFault`] when the file cannot be read or is not the one with this label.
    pub fn open(number: u64, label: Label, file: TreeFile) -> Result<Self, IndexFault> {
        let layout = Layout::of(label.rows());
        if file.len()? != layout.end {
            return Err(file.damaged("its length is not that of its run"));
        }
        let read = |from: u64, to: u64| {
            let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
            file.read(from, &mut bytes).map(|()| bytes)
        };
        let tables = read(layout.fences, layout.label)?;
        if read(layout.label, layout.end)? != label.encode() || crc32c::crc32c(&tables) != label.tables_crc {
            return Err(file.damaged("its end is not that of its run"));
        }
        let fences = tables.as_chunks().0.iter().take(usize::try_from(layout.pages).unwrap_or(0));
        let fences = fences.map(|fence| u64::from_le_bytes(*fence)).collect();
        let filter =
            Filter::decode(tables.get(usize::try_from(layout.filter - layout.fences).unwrap_or(0)..).unwrap_or(&[]));
        Ok(Self { number, label, file, fences, filter })
    }

    /// The entry of an id; the first one, should there be several.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk cannot be read or the page is not what was written; the next opening makes the run again then.
    pub fn find(&self, id: &Id) -> Result<Option<u64>, IndexFault> {
        if !self.filter.may_have(id) {
            return Ok(None);
        }
        let fence = fence_of(id);
        let (mut found, mut bytes) = (None, vec![0; PAGE_BYTES]);
        // The last page that may have it. Before a page that begins with the same 8 bytes there may be more of them.
        for page in (0..self.fences.partition_point(|first| *first <= fence)).rev() {
            self.read(page as u64, &mut bytes)?;
            let rows = &self.rows_of(page as u64, &bytes);
            let place = rows.partition_point(|row| row[..ID_BYTES] < id[..]);
            found = rows.get(place).filter(|row| row[..ID_BYTES] == id[..]).map(entry_of).or(found);
            if self.fences[page] < fence {
                break;
            }
        }
        Ok(found)
    }

    /// Reads and checks all pages.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk cannot be read or anything is not what was written.
    pub fn verify(&self) -> Result<(), IndexFault> {
        let mut rows = Rows::of(self)?;
        let (mut count, mut last) = (0, None);
        while let Some(row) = rows.key() {
            if last.is_some_and(|last| last > row) || !self.label.entries.contains(&row.1) {
                return Err(self.spoilt("the order of its rows"));
            }
            (count, last) = (count + 1, Some(row));
            rows.step()?;
        }
        let is_whole = (count, rows.pages_crc) == (self.label.rows(), self.label.pages_crc);
        if is_whole { Ok(()) } else { Err(self.spoilt("the sum of its pages")) }
    }

    /// Bytes of its file.
    pub const fn bytes(&self) -> u64 {
        Layout::of(self.label.rows()).end
    }

    /// Fills `into` with pages from `page` on, each checked.
    fn read(&self, page: u64, into: &mut [u8]) -> Result<(), IndexFault> {
        self.file.read(page * PAGE_BYTES as u64, into)?;
        for (number, bytes) in (page..).zip(into.as_chunks::<PAGE_BYTES>().0) {
            if page_crc(bytes) != crc32c::crc32c(&bytes[..PAGE_BYTES - 4])
                || bytes[PAGE_BYTES - PAGE_END..PAGE_BYTES - 4] != page_name(number, self.label.entries.start)
            {
                return Err(self.spoilt(&format!("page {number}")));
            }
        }
        Ok(())
    }

    fn rows_of<'a>(&self, page: u64, bytes: &'a [u8]) -> &'a [[u8; ROW_BYTES]] {
        let left = self.label.rows().saturating_sub(page * PAGE_ROWS as u64);
        let rows = bytes.as_chunks().0;
        &rows[..rows.len().min(PAGE_ROWS).min(usize::try_from(left).unwrap_or(usize::MAX))]
    }

    /// Something of it is not what was written: its file loses its label, so that the next opening makes it again.
    fn spoilt(&self, what: &str) -> IndexFault {
        let label = Layout::of(self.label.rows()).label;
        // Where this fails the next opening finds the damage when it comes to the page, as this one did.
        if let Err(fault) = self.file.set_len(label).and_then(|()| self.file.sync()) {
            tracing::error!(%fault, "a damaged run of statement ids cannot be put away");
        }
        self.file.damaged(&format!("{what} is not what was written"))
    }
}

/// What stands behind the rows of a page, but its checksum.
pub fn page_name(page: u64, first: u64) -> [u8; PAGE_END - 4] {
    let mut name = [0; PAGE_END - 4];
    // Truncated beyond 4 billion pages: the checksum of the label has them all.
    let page = page.to_le_bytes();
    name.iter_mut().zip(page[..4].iter().copied().chain(first.to_le_bytes())).for_each(|(to, byte)| *to = byte);
    name
}

pub fn page_crc(page: &[u8; PAGE_BYTES]) -> u32 {
    let [.., a, b, c, d] = *page;
    u32::from_le_bytes([a, b, c, d])
}

/// The first 8 bytes of an id.
pub fn fence_of(id: &Id) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

pub fn id_of(row: &[u8; ROW_BYTES]) -> &Id {
    row.first_chunk().unwrap_or(&[0; ID_BYTES])
}

pub fn entry_of(row: &[u8; ROW_BYTES]) -> u64 {
    u64::from_le_bytes(*row.last_chunk().unwrap_or(&[0; 8]))
}

/// The rows of a run in order, read a piece at a time.
#[derive(Debug)]
pub struct Rows<'a> {
    run: &'a Run,
    /// The next page to read.
    next: u64,
    pages: Vec<u8>,
    /// Place of the row in the pages.
    page: usize,
    place: usize,
    /// CRC32C of the checksums of the pages read so far.
    pub pages_crc: u32,
}

impl<'a> Rows<'a> {
    /// At the first row.
    ///
    /// # Errors
    /// [`IndexFault`], here and below.
    pub fn of(run: &'a Run) -> Result<Self, IndexFault> {
        let mut rows = Self { run, next: 0, pages: Vec::new(), page: 0, place: 0, pages_crc: 0 };
        rows.read()?;
        Ok(rows)
    }

    /// The row, `None` at the end.
    pub fn row(&self) -> Option<&[u8; ROW_BYTES]> {
        let bytes = self.pages.get(self.page * PAGE_BYTES..)?;
        let number = self.next - (self.pages.len() / PAGE_BYTES - self.page) as u64;
        self.run.rows_of(number, bytes.get(..PAGE_BYTES)?).get(self.place)
    }

    /// The row as it is sorted.
    pub fn key(&self) -> Option<(Id, u64)> {
        self.row().map(|row| (*id_of(row), entry_of(row)))
    }

    /// On to the next row.
    pub fn step(&mut self) -> Result<(), IndexFault> {
        self.place += 1;
        if self.place < PAGE_ROWS {
            return Ok(());
        }
        (self.place, self.page) = (0, self.page + 1);
        if self.page * PAGE_BYTES < self.pages.len() { Ok(()) } else { self.read() }
    }

    fn read(&mut self) -> Result<(), IndexFault> {
        let count = (self.run.fences.len() as u64 - self.next).min(PIECE_PAGES);
        self.pages.resize(usize::try_from(count).unwrap_or(0) * PAGE_BYTES, 0);
        self.run.read(self.next, &mut self.pages)?;
        for page in self.pages.as_chunks().0 {
            self.pages_crc = crc32c::crc32c_append(self.pages_crc, &page_crc(page).to_le_bytes());
        }
        (self.next, self.page) = (self.next + count, 0);
        Ok(())
    }
}
