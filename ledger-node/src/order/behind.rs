//! The state behind blocks that are logged but not yet in the index.

use crate::store::{Head, IndexFault, StateView, Store};
use std::collections::VecDeque;
use std::sync::Arc;
use tally_contracts::{Changes, Layer, StateRead};

/// The end of the log as the order thread knows it: it need not wait for the index to make the next block.
#[derive(Default)]
pub struct Behind {
    last: Option<Arc<Head>>,
    /// What blocks changed that were not in the index when last looked, oldest first.
    layers: VecDeque<(u64, Arc<Changes>)>,
}

impl Behind {
    /// Nothing but what the index has.
    pub fn at(head: Option<Arc<Head>>) -> Self {
        Self { last: head, layers: VecDeque::new() }
    }

    /// The last logged block.
    pub fn last(&self) -> Option<&Head> {
        self.last.as_deref()
    }

    /// A block was logged.
    pub fn push(&mut self, head: Arc<Head>, changes: Arc<Changes>) {
        self.layers.push_back((head.checkpoint.height, changes));
        self.last = Some(head);
    }

    /// Reads the state behind the last logged block with `read`.
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
