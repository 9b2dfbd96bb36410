//! Slips of a careless programmer, to see that a test of power cuts would show them.

use super::MemStorage;
use crate::storage::{SegmentName, Storage};
use std::io;

/// What a careless journal does. With any of them a test of power cuts must fail; without, never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    /// No slip.
    None,
    /// `fsync` of a segment is forgotten (what sled does).
    NoFileSync,
    /// `fsync` of the folder is forgotten: created segments vanish, deletions come out of order.
    NoDirectorySync,
    /// The known first mistake: a segment is deleted because its *first* record may go, though later ones are alive. The
    /// disk cannot do that; whoever drives the journal must.
    DeletesLiveSegment,
    /// Opening trusts that bytes it can read are on the disk, and does not write them again after a failed sync.
    TrustsPageCache,
    /// Opening forgets to cut the torn tail off.
    NoTruncate,
}

/// A disk under a careless journal.
#[derive(Debug, Clone)]
pub struct Careless {
    disk: MemStorage,
    slip: Slip,
}

impl Careless {
    /// `disk` under a journal with `slip`.
    pub fn new(disk: MemStorage, slip: Slip) -> Self {
        Self { disk, slip }
    }
}

impl Storage for Careless {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        self.disk.create(segment)
    }
    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.slip == Slip::TrustsPageCache && offset < self.disk.len(segment)? {
            return Ok(());
        }
        self.disk.write_at(segment, offset, bytes)
    }
    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        if self.slip == Slip::NoFileSync { Ok(()) } else { self.disk.sync(segment) }
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        if self.slip == Slip::NoDirectorySync { Ok(()) } else { self.disk.sync_directory() }
    }
    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(segment, offset, into)
    }
    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        if self.slip == Slip::NoTruncate { Ok(()) } else { self.disk.truncate(segment, length) }
    }
    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        self.disk.delete(segment)
    }
    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        self.disk.len(segment)
    }
    fn put_summary(&mut self, segment: SegmentName, summary: &[u8]) -> io::Result<()> {
        self.disk.put_summary(segment, summary)
    }
    fn summary(&self, segment: SegmentName) -> io::Result<Option<Vec<u8>>> {
        self.disk.summary(segment)
    }
}
