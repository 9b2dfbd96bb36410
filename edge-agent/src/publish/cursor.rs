//! A place in a stream, kept in a small file: whole or not at all, synced.

use crate::error::StoreError;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

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
        match std::fs::read_to_string(&file) {
            Ok(value) => Ok(Self { file, value: value.trim().chars().take(BYTES_MAX).collect() }),
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(Self { file, value: String::new() }),
            Err(fault) => Err(StoreError::file(file)(fault)),
        }
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// Keeps a new place. If we die in between, the old one counts and something is told twice.
    pub fn keep(&mut self, value: String) -> Result<(), StoreError> {
        if value == self.value {
            return Ok(());
        }
        let write = || {
            let temporary = self.file.with_extension("tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(value.as_bytes())?;
            file.sync_data()?;
            std::fs::rename(&temporary, &self.file)
        };
        write().map_err(StoreError::file(&self.file))?;
        self.value = value;
        Ok(())
    }
}
