//! The state at a height, as contracts read it.

use super::IndexFault;
use redb::ReadOnlyTable;
use std::cell::OnceCell;
use std::sync::Arc;
use tally_contracts::{Changes, Layer, StateRead};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The state at a height.
pub struct StateView {
    /// As the file has it.
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// What blocks behind that changed, oldest first.
    layers: Vec<Arc<Changes>>,
    height: Option<u64>,
    /// The first read that failed: contracts know no disk, so the caller asks afterwards.
    fault: OnceCell<IndexFault>,
}

impl StateView {
    /// As the file has it behind block `height`; `None` before the first.
    pub(super) const fn new(height: Option<u64>, table: ReadOnlyTable<&'static [u8], &'static [u8]>) -> Self {
        Self { table, layers: Vec::new(), height, fault: OnceCell::new() }
    }

    /// The block behind which it is; `None` before the first.
    #[must_use]
    pub const fn height(&self) -> Option<u64> {
        self.height
    }

    /// Behind a block more. Those it has are passed over, so that blocks may be given that came meanwhile.
    pub(crate) fn go_on(&mut self, height: u64, changes: &Arc<Changes>) {
        if self.height.is_none_or(|last| last < height) {
            self.layers.push(Arc::clone(changes));
            self.height = Some(height);
        }
    }

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

    fn get_in_file(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.or_fault(self.table.get(key))?.map(|value| value.value().to_vec())
    }

    fn scan_in_file(&self, prefix: &[u8], limit: usize) -> Pairs {
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

impl StateRead for StateView {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        Below { view: self, layers: &self.layers }.get(key)
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Pairs {
        Below { view: self, layers: &self.layers }.scan(prefix, limit)
    }
}

/// A view up to some of its layers.
#[derive(Clone, Copy)]
struct Below<'a> {
    view: &'a StateView,
    layers: &'a [Arc<Changes>],
}

impl StateRead for Below<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let written = self.layers.iter().rev().find_map(|changes| changes.get(key));
        written.map_or_else(|| self.view.get_in_file(key), Clone::clone)
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Pairs {
        match self.layers {
            [] => self.view.scan_in_file(prefix, limit),
            [below @ .., changes] => Layer::new(&Self { layers: below, ..*self }, changes).scan(prefix, limit),
        }
    }
}
