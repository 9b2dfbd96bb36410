//! The state behind blocks that are executed but not yet in the index.

use crate::store::{IndexFault, StateView, Store};
use std::collections::VecDeque;
use std::sync::Arc;
use tally_contracts::{Changes, Layer, StateRead};

/// What blocks changed that were not in the index when last looked, oldest first: the next block need not wait for it.
#[derive(Default)]
pub struct Behind {
    layers: VecDeque<(u64, Arc<Changes>)>,
}

impl Behind {
    /// The next block, `height`, was executed.
    pub fn push(&mut self, height: u64, changes: Arc<Changes>) {
        self.layers.push_back((height, changes));
    }

    /// Reads the state behind the last executed block with `read`.
    ///
    /// # Errors
    /// [`IndexFault`]; what `read` gave is then thrown away.
    pub fn read<T>(&mut self, store: &Store, read: impl FnOnce(&dyn StateRead) -> T) -> Result<T, IndexFault> {
        // In this order: the view may already have a block that stays among the layers, but must not lack one that left them.
        let applied = store.head().map(|head| head.checkpoint.height);
        self.layers.retain(|(height, _)| applied.is_none_or(|applied| *height > applied));
        let view = store.state()?;
        let given = read(&Above { view: &view, layers: self.layers.make_contiguous() });
        view.check()?;
        Ok(given)
    }
}

/// The index with some layers above it.
#[derive(Clone, Copy)]
struct Above<'a> {
    view: &'a StateView,
    layers: &'a [(u64, Arc<Changes>)],
}

impl StateRead for Above<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let written = self.layers.iter().rev().find_map(|(_, changes)| changes.get(key));
        written.map_or_else(|| self.view.get(key), Clone::clone)
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        match self.layers {
            [] => self.view.scan(prefix, limit),
            [below @ .., (_, changes)] => Layer::new(&Self { layers: below, ..*self }, changes).scan(prefix, limit),
        }
    }
}
