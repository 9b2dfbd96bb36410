//! What was written goes to the disk a little at a time.
//!
//! Nothing rests on it: who makes something durable syncs it then. But what waits until then goes at once, in a ledger of 10 million entries
//! some hundred megabytes, and the log's sync, for which answers wait, waits behind that on the same disk.
//!
//! - *Pages of the state tree* are only added: synced whenever some megabytes are, nothing is written twice.
//! - *The index* is written over and over: synced now and then, a page that changes all the time is written as often. So not more often than
//!   ten times a second, and not for a few entries.

use super::IndexFault;
use super::disk::TreeFile;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of pages of the state tree that are worth a sync: some hundredths of a second of a slow disk.
const PAGE_BYTES: u64 = 4 << 20;
/// Entries that are worth a sync of the index.
const ENTRIES: u64 = 100;
/// From one sync of the index to the next, at least.
const INTERVAL: Duration = Duration::from_millis(100);

/// The files, and what is not synced.
pub struct Trickle {
    pages: Arc<TreeFile>,
    index: TreeFile,
    /// In the index since it was synced.
    entries: u64,
    synced: Instant,
}

impl Trickle {
    /// Nothing is written yet.
    pub fn new(pages: Arc<TreeFile>, index: TreeFile) -> Self {
        Self { pages, index, entries: 0, synced: Instant::now() }
    }

    /// So many entries more are in the index; `is_durable` when it was synced with them.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn written(&mut self, entries: u64, is_durable: bool) -> Result<(), IndexFault> {
        if self.pages.unsynced() >= PAGE_BYTES {
            self.pages.sync()?;
        }
        self.entries += entries;
        let is_due = self.entries >= ENTRIES && self.synced.elapsed() >= INTERVAL;
        if is_due && !is_durable {
            self.index.sync()?;
        }
        if is_due || is_durable {
            (self.entries, self.synced) = (0, Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::IndexDisk;
    use super::*;

    #[test]
    fn it_syncs_when_there_is_enough_and_not_too_often() {
        let folder = tempfile::tempdir().unwrap();
        let (path, few) = (folder.path().join("state.redb"), vec![7; 1 << 20]);
        std::fs::write(&path, b"").unwrap();
        let pages = Arc::new(IndexDisk::File(path.clone()).tree_file("state.pages").unwrap());
        let mut trickle = Trickle::new(Arc::clone(&pages), TreeFile::index(&path).unwrap());
        for (count, left) in [(1, 1), (2, 2), (3, 3), (4, 0), (5, 1)] {
            pages.write(count << 20, &few).unwrap();
            trickle.written(1, false).unwrap();
            assert_eq!(pages.unsynced(), left << 20, "behind write {count}");
        }
        let long_ago = Instant::now().checked_sub(INTERVAL).unwrap();
        for (synced, entries, is_durable, left) in [
            (Instant::now(), ENTRIES, false, ENTRIES),
            (long_ago, ENTRIES - 1, false, ENTRIES - 1),
            (long_ago, ENTRIES, false, 0),
            (Instant::now(), 1, true, 0),
        ] {
            (trickle.entries, trickle.synced) = (0, synced);
            trickle.written(entries, is_durable).unwrap();
            assert_eq!(trickle.entries, left);
            assert!(left > 0 || trickle.synced.elapsed() < INTERVAL);
        }
    }
}
