//! A run on its way to the disk, row by row, with little of it in memory.

use super::Id;
use super::filter::Filter;
use super::run::{
    LABEL_BYTES, Label, Layout, PAGE_BYTES, PAGE_ROWS, ROW_BYTES, Run, entry_of, fence_of, id_of, page_name,
};
use crate::store::IndexFault;
use crate::store::disk::{IndexDisk, TreeFile};
use std::ops::Range;

/// Bytes written at once.
const PIECE_BYTES: usize = 256 * PAGE_BYTES;
/// Bytes after which a large run is synced in between: one sync of all of it would keep that of the log waiting.
const SYNC_BYTES: u64 = 4 << 20;

/// A run that is being written. Nobody knows its file before [`finish`](Self::finish).
#[derive(Debug)]
pub struct Writer {
    number: u64,
    entries: Range<u64>,
    file: TreeFile,
    /// Pages not written yet; the last one may be unfinished.
    pages: Vec<u8>,
    /// Rows of the last page.
    rows: usize,
    /// Bytes in the file, and how many of them are synced.
    written: u64,
    synced: u64,
    fences: Vec<u64>,
    filter: Filter,
    pages_crc: u32,
    count: u64,
    last: (Id, u64),
}

impl Writer {
    /// A run of these entries, which are not none.
    ///
    /// # Errors
    /// [`IndexFault`] when the disk fails, here and below.
    pub fn new(disk: &IndexDisk, number: u64, entries: Range<u64>) -> Result<Self, IndexFault> {
        let file = disk.run_file(number)?;
        // Left by somebody who died before the index listed it.
        file.set_len(0)?;
        let rows = entries.end - entries.start;
        let pages = usize::try_from(Layout::of(rows).pages).unwrap_or(0);
        Ok(Self {
            number,
            entries,
            file,
            pages: Vec::with_capacity(PIECE_BYTES.min(pages * PAGE_BYTES)),
            rows: PAGE_ROWS,
            written: 0,
            synced: 0,
            fences: Vec::with_capacity(pages),
            filter: Filter::of(rows),
            pages_crc: 0,
            count: 0,
            last: ([0; 32], 0),
        })
    }

    /// The next row; they come sorted.
    pub fn push(&mut self, id: &Id, entry: u64) -> Result<(), IndexFault> {
        if (id, entry) < (&self.last.0, self.last.1) {
            return Err(self.file.damaged("the order of what should go into it"));
        }
        if self.rows == PAGE_ROWS {
            self.next_page()?;
            self.fences.push(fence_of(id));
        }
        self.pages.extend_from_slice(id);
        self.pages.extend_from_slice(&entry.to_le_bytes());
        self.filter.insert(id);
        self.last = (*id, entry);
        (self.rows, self.count) = (self.rows + 1, self.count + 1);
        Ok(())
    }

    /// The same, from a row of another run.
    pub fn push_row(&mut self, row: &[u8; ROW_BYTES]) -> Result<(), IndexFault> {
        self.push(id_of(row), entry_of(row))
    }

    /// The run, synced with its name. It counts once the index lists its label.
    pub fn finish(mut self) -> Result<Run, IndexFault> {
        if self.count != self.entries.end - self.entries.start {
            return Err(self.file.damaged("the number of its rows"));
        }
        self.next_page()?;
        self.write()?;
        let mut tables: Vec<u8> = self.fences.iter().flat_map(|fence| fence.to_le_bytes()).collect();
        tables.append(&mut self.filter.encode());
        let (entries, pages_crc, tables_crc) = (self.entries, self.pages_crc, crc32c::crc32c(&tables));
        let label = Label { entries, pages_crc, tables_crc };
        let layout = Layout::of(label.rows());
        debug_assert_eq!((self.written, layout.end - layout.label), (layout.fences, LABEL_BYTES as u64));
        tables.extend_from_slice(&label.encode());
        self.file.write(layout.fences, &tables)?;
        self.file.sync()?;
        Ok(Run { number: self.number, label, file: self.file, fences: self.fences, filter: self.filter })
    }

    /// Ends the page that was begun, if there is one.
    fn next_page(&mut self) -> Result<(), IndexFault> {
        let begun = self.fences.len() as u64;
        if begun > 0 {
            let name = page_name(begun - 1, self.entries.start);
            self.pages.resize(self.pages.len().next_multiple_of(PAGE_BYTES) - name.len() - 4, 0);
            self.pages.extend_from_slice(&name);
            let from = self.pages.len() + 4 - PAGE_BYTES;
            let crc = crc32c::crc32c(self.pages.get(from..).unwrap_or(&[]));
            self.pages.extend_from_slice(&crc.to_le_bytes());
            self.pages_crc = crc32c::crc32c_append(self.pages_crc, &crc.to_le_bytes());
        }
        self.rows = 0;
        if self.pages.len() < PIECE_BYTES { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), IndexFault> {
        self.file.write(self.written, &self.pages)?;
        self.written += self.pages.len() as u64;
        self.pages.clear();
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }
}
