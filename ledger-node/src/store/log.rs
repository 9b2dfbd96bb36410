//! The log: the only truth. One journal record is one block.
//!
//! **Who writes, who deletes.** The order thread appends; nobody deletes. API tasks read under the read lock, for the time of
//! one record. **Limits.** A record has at most 16 MiB ([`RECORD_BYTES_MAX`]); a block is cut well below it.

use std::path::Path;
use std::sync::{PoisonError, RwLock};
use tally_journal::{DirStorage, Journal, JournalError, OpenError, Options, Repair, Storage};

/// Bytes of the largest block record.
pub const RECORD_BYTES_MAX: u32 = 16 << 20;

type AnyDisk = Box<dyn Storage + Send + Sync>;

/// The disk under the log: a folder in production, a disk that fails on demand in tests.
pub struct LogDisk(AnyDisk);

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

/// The open log.
pub struct Log {
    /// Written by the order thread alone; the lock keeps readers out while it appends.
    journal: RwLock<Journal<AnyDisk>>,
}

impl Log {
    pub fn open(disk: LogDisk) -> Result<Self, OpenError> {
        let options = Options { record_bytes_max: RECORD_BYTES_MAX, ..Options::default() };
        Ok(Self { journal: RwLock::new(Journal::open_on(disk.0, options)?) })
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

    fn read_lock(&self) -> std::sync::RwLockReadGuard<'_, Journal<AnyDisk>> {
        // A poisoned lock: the order thread died while appending. The journal itself is poisoned then and says so.
        self.journal.read().unwrap_or_else(PoisonError::into_inner)
    }
}
