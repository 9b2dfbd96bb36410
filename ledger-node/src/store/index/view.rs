//! The state at a height, as contracts read it.

use super::IndexFault;
use redb::ReadOnlyTable;
use std::cell::OnceCell;
use tally_contracts::StateRead;

/// The state at a height.
pub struct StateView {
    pub(super) table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// The first read that failed: contracts know no disk, so the caller asks afterwards.
    pub(super) fault: OnceCell<IndexFault>,
}

impl StateView {
    /// Whether every read so far worked; what was computed from failed ones must be thrown away.
    ///
    /// # Errors
    /// The first failure.
    pub fn check(self) -> Result<(), IndexFault> {
        self.fault.into_inner().map_or(Ok(()), Err)
    }

    /// Whether everything so far could be read.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.fault.get().is_none()
    }

    fn or_fault<T>(&self, read: Result<T, redb::StorageError>) -> Option<T> {
        read.map_err(|error| self.fault.set(error.into())).ok()
    }
}

impl StateRead for StateView {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.or_fault(self.table.get(key))?.map(|value| value.value().to_vec())
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(range) = self.or_fault(self.table.range(prefix..)) else { return Vec::new() };
        let mut pairs = Vec::new();
        for item in range.take(limit) {
            let Some((key, value)) = self.or_fault(item) else { return Vec::new() };
            if !key.value().starts_with(prefix) {
                break;
            }
            pairs.push((key.value().to_vec(), value.value().to_vec()));
        }
        pairs
    }
}
