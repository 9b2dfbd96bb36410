//! What a durable transaction of the index would keep everybody waiting for, done before it and aside.
//!
//! A transaction is durable when all pages of the file that were written since the one before are on the disk. On a busy ledger those are
//! tens of thousands in any place, and nobody gets an answer meanwhile. So when one is due the file is synced on a thread of its own,
//! while blocks go on; the first block behind that is made durable, and finds what came since. No promise rests on the sync ahead: all it
//! does is done once more by the one that counts, with little left to do.
//!
//! **When the disk hangs** the next one is not due before this one is through; the log hangs with it then, and stops the node.

use super::aside::Aside;
use super::disk::IndexDisk;
use super::index::IndexFault;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The sync ahead.
#[derive(Debug)]
pub struct Ahead {
    syncing: Aside<()>,
    /// Of the index; none where its disk is not a file. A transaction is durable as soon as it is due then.
    file: Option<PathBuf>,
}

impl Ahead {
    /// None under way.
    pub fn of(disk: &IndexDisk) -> Self {
        let file = disk.index_file().map(PathBuf::from);
        Self { syncing: Aside::new("tally-ahead", "the index"), file }
    }

    /// Whether this block is to be durable, when one `is_due`, or was.
    ///
    /// # Errors
    /// [`IndexFault`]: the file cannot be synced.
    pub fn is_through(&self, is_due: bool) -> Result<bool, IndexFault> {
        let Some(file) = &self.file else { return Ok(is_due) };
        if self.syncing.look()?.is_some() {
            return Ok(true);
        }
        if is_due && !self.syncing.is_begun() {
            let file = file.clone();
            self.syncing.begin(move || sync(&file))?;
        }
        Ok(false)
    }
}

fn sync(file: &Path) -> Result<(), IndexFault> {
    let synced = File::open(file).and_then(|file| file.sync_data());
    synced.map_err(|source| IndexFault::File { file: file.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(ahead: &Ahead) -> bool {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let is_through = ahead.is_through(false).unwrap();
            if is_through || std::time::Instant::now() > until {
                return is_through;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_block_is_durable_behind_the_sync_of_what_was_written_before() {
        let folder = tempfile::tempdir().unwrap();
        let disk = IndexDisk::File(folder.path().join("state.redb"));
        std::fs::write(folder.path().join("state.redb"), "pages").unwrap();
        let ahead = Ahead::of(&disk);
        assert!(!ahead.is_through(false).unwrap(), "nothing is due");
        for _ in 0..2 {
            assert!(!ahead.is_through(true).unwrap(), "not before it is synced");
            assert!(through(&ahead));
            assert!(!ahead.is_through(false).unwrap(), "once");
        }
    }

    #[test]
    fn a_file_that_cannot_be_synced_is_a_fault() {
        let ahead = Ahead::of(&IndexDisk::File(Path::new("/nowhere/state.redb").to_owned()));
        assert!(!ahead.is_through(true).unwrap());
        let fault = ahead.syncing.finish().unwrap_err().to_string();
        assert!(fault.contains("/nowhere/state.redb"), "{fault}");
    }
}
