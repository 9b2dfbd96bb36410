//! The log: the only truth. One journal record is one block.
//!
//! **Who writes, who deletes.** The keeping thread appends; a retention pass deletes whole segments, oldest first. API tasks read under the read lock, for the time of
//! one record. **Limits.** A record has at most 16 MiB ([`RECORD_BYTES_MAX`]); a block is cut well below it.

use std::path::Path;
use std::sync::{PoisonError, RwLock};
use tally_journal::{Check, DirStorage, Journal, JournalError, OpenError, Options, Repair, Storage};

/// Bytes of the largest block record.
pub const RECORD_BYTES_MAX: u32 = 16 << 20;

type AnyDisk = Box<dyn Storage + Send + Sync>;

/// The disk under the log: a folder in production, a disk that fails on demand in tests.
pub struct LogDisk {
    disk: AnyDisk,
    options: Options,
}

/// Bytes after which a segment is full.
pub const SEGMENT_BYTES: u64 = 64 << 20;

impl LogDisk {
    /// Any storage, all of which is read and checked when the log opens.
    pub fn new(storage: impl Storage + Send + Sync + 'static) -> Self {
        let options =
            Options { record_bytes_max: RECORD_BYTES_MAX, segment_bytes_max: SEGMENT_BYTES, check: Check::Everything };
        Self { disk: Box::new(storage), options }
    }

    /// The same, of which only the last segment is read when the log opens, where the storage keeps summaries of the others.
    #[must_use]
    pub fn reading_last_segment(mut self) -> Self {
        self.options.check = Check::LastSegment;
        self
    }

    /// The same with segments of so many bytes.
    #[must_use]
    pub fn with_segments(mut self, bytes: u64) -> Self {
        self.options.segment_bytes_max = bytes;
        self
    }

    /// The folder `dir`, made when missing, locked as long as this lives.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another node has it open.
    pub fn dir(dir: &Path) -> Result<Self, OpenError> {
        Ok(Self::new(DirStorage::open(dir)?))
    }

    /// The same, opened by its last segment: summaries of the others are in the folder `summaries`.
    ///
    /// # Errors
    /// As [`dir`](Self::dir).
    pub fn dir_with_summaries(dir: &Path, summaries: &Path) -> Result<Self, OpenError> {
        Ok(Self::new(DirStorage::open(dir)?.with_summaries(summaries)).reading_last_segment())
    }
}

/// The open log.
pub struct Log {
    /// Written by the keeping thread alone; the lock keeps readers out while it appends.
    journal: RwLock<Journal<AnyDisk>>,
}

impl Log {
    pub fn open(disk: LogDisk) -> Result<Self, OpenError> {
        Ok(Self { journal: RwLock::new(Journal::open_on(disk.disk, disk.options)?) })
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

    /// First block and bytes of each segment, oldest first.
    pub fn segments(&self) -> Vec<(u64, u64)> {
        self.read_lock().segments().collect()
    }

    /// The first block that is still here; the number of blocks when there is none.
    pub fn first(&self) -> u64 {
        self.read_lock().first_number()
    }

    /// Reads and checks every byte: each checksum and the whole hash chain.
    pub fn check_everything(&self) -> Result<(), JournalError> {
        self.read_lock().check_everything()
    }

    /// Deletes the segments that hold only blocks below `height`.
    pub fn discard_before(&self, height: u64) -> Result<(), JournalError> {
        self.journal.write().unwrap_or_else(PoisonError::into_inner).discard_before(height)
    }

    pub fn bytes(&self) -> u64 {
        self.read_lock().bytes_on_disk()
    }

    fn read_lock(&self) -> std::sync::RwLockReadGuard<'_, Journal<AnyDisk>> {
        // A poisoned lock: the keeping thread died while appending. The journal itself is poisoned then and says so.
        self.journal.read().unwrap_or_else(PoisonError::into_inner)
    }
}
