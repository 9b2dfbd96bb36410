//! A place in a stream, kept in a small file: whole or not at all, synced.

use crate::error::StoreError;
use std::path::PathBuf;
use tally_journal::files;

/// Larger than any place.
const BYTES_MAX: usize = 256;

/// A kept place.
#[derive(Debug)]
pub(super) struct Cursor {
    file: PathBuf,
    value: String,
}

impl Cursor {
    /// Reads the place, empty when there is none yet.
    pub fn open(file: PathBuf) -> Result<Self, StoreError> {
        let value = files::read(&file).map_err(StoreError::file(&file))?.unwrap_or_default();
        Ok(Self { file, value: value.trim().chars().take(BYTES_MAX).collect() })
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// Keeps a new place. If we die in between, the old one counts and something is told twice.
    pub fn keep(&mut self, value: String) -> Result<(), StoreError> {
        if value == self.value {
            return Ok(());
        }
        files::replace(&self.file, value.as_bytes()).map_err(StoreError::file(&self.file))?;
        self.value = value;
        Ok(())
    }
}
