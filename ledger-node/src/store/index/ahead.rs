//! What a durable transaction would keep everybody waiting for, done before it and aside.
//!
//! A transaction is durable when all pages of the file that were written since the one before are on the disk, and it lists the statement
//! ids that waited for it. On a busy ledger the former are tens of thousands in any place, the latter tens of thousands to be sorted, and
//! nobody gets an answer meanwhile. So when one is due, a thread of its own writes the run of the ids and syncs the file, while blocks go
//! on; the first block behind that is made durable, and finds what came since. No promise rests on it: a run counts when it is listed, and
//! the sync is done once more by the transaction that counts, with little left to do.
//!
//! **When the disk hangs** the next one is not due before this one is through; the log hangs with it then, which the watchdog sees.

use super::statements::NewRun;
use super::{Index, IndexFault};
use crate::store::disk::TreeFile;
use crate::store::ids::RunLimits;
use redb::ReadableDatabase;
use std::sync::Arc;

/// What a durable transaction goes on with.
pub struct Durable {
    pub(super) limits: RunLimits,
    /// Ids of the blocks up to some time ago.
    pub(super) run: Option<NewRun>,
}

impl From<RunLimits> for Durable {
    /// Nothing was done ahead.
    fn from(limits: RunLimits) -> Self {
        Self { limits, run: None }
    }
}

impl Index {
    /// What the next block is to be made durable with, when that is due, or was, and everything is done ahead of it. Where the disk is no
    /// file, nothing is.
    ///
    /// # Errors
    /// [`IndexFault`]: files cannot be written or synced, a row of a block is damaged.
    pub fn durable(&self, is_due: bool, limits: RunLimits) -> Result<Option<Durable>, IndexFault> {
        let Some(path) = self.disk.index_path() else { return Ok(is_due.then(|| limits.into())) };
        if let Some(run) = self.ahead.look()? {
            return Ok(Some(Durable { limits, run }));
        }
        if is_due && !self.ahead.is_begun() {
            let (begin, read) = (self.first_waiting(), self.db.begin_read()?);
            let (file, disk, next_run) = (TreeFile::index(path)?, self.disk.clone(), Arc::clone(&self.next_run));
            self.ahead.begin(move || {
                let run = NewRun::make(&read, &disk, &next_run, begin, limits)?;
                drop(read);
                file.sync()?;
                Ok(run)
            })?;
        }
        Ok(None)
    }

    /// What was begun ahead, when it is through; for who makes the index durable without being told to.
    pub(super) fn finish_ahead(&self, limits: RunLimits) -> Result<Durable, IndexFault> {
        Ok(Durable { limits, run: self.ahead.finish()?.flatten() })
    }
}
