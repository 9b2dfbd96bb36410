//! The log: the only truth. One journal record is one block.
//!
//! **Who writes, who deletes.** The order thread appends; nobody deletes. API tasks read under the read lock, for the time of
//! one record. **Limits.** A record has at most 16 MiB ([`RECORD_BYTES_MAX`]); a block is cut well below it.

use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use tally_journal::{DirStorage, Journal, JournalError, OpenError, Options, Repair, SegmentName, Storage};

/// Bytes of the largest block record.
pub const RECORD_BYTES_MAX: u32 = 16 << 20;

/// The disk under the log: a folder in production, a disk that fails on demand in tests.
pub struct LogDisk(Box<dyn Storage + Send + Sync>);

impl LogDisk {
    /// Any storage.
    pub fn new(storage: impl Storage + Send + Sync + 'static) -> Self {
        Self(Box::new(storage))
    }

    /// The folder `dir`, made when missing, locked as long as this lives.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another node has it open.
    pub fn dir(dir: &Path) -> Result<Self, OpenError> {
        Ok(Self::new(DirStorage::open(dir)?))
    }
}

impl Storage for LogDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        self.0.create(segment)
    }
    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(segment, offset, bytes)
    }
    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        self.0.sync(segment)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.0.sync_directory()
    }
    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(segment, offset, into)
    }
    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        self.0.truncate(segment, length)
    }
    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        self.0.delete(segment)
    }
    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        self.0.len(segment)
    }
    fn describe(&self, file: &str) -> String {
        self.0.describe(file)
    }
}

/// The open log.
pub struct Log {
    /// Written by the order thread alone; the lock keeps readers out while it appends.
    journal: RwLock<Journal<LogDisk>>,
}

impl Log {
    pub fn open(disk: LogDisk) -> Result<Self, OpenError> {
        let options = Options { record_bytes_max: RECORD_BYTES_MAX, ..Options::default() };
        Ok(Self { journal: RwLock::new(Journal::open_on(disk, options)?) })
    }

    /// Appends block `height` and syncs. On `Ok` it is there for ever.
    pub fn append(&self, height: u64, record: &[u8]) -> Result<(), JournalError> {
        let mut journal = self.journal.write().unwrap_or_else(PoisonError::into_inner);
        debug_assert_eq!(journal.next_number(), height);
        journal.append(record)?;
        // If we die before the sync returns: the block may be found on opening or not; nobody was told that it is there.
        journal.sync()
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.read_lock().next_number()
    }

    pub fn read(&self, height: u64) -> Result<Option<Vec<u8>>, JournalError> {
        self.read_lock().read(height)
    }

    /// What opening cut off.
    pub fn repaired(&self) -> Option<Repair> {
        self.read_lock().repaired().cloned()
    }

    pub fn bytes(&self) -> u64 {
        self.read_lock().bytes_on_disk()
    }

    fn read_lock(&self) -> std::sync::RwLockReadGuard<'_, Journal<LogDisk>> {
        // A poisoned lock: the order thread died while appending. The journal itself is poisoned then and says so.
        self.journal.read().unwrap_or_else(PoisonError::into_inner)
    }
}
