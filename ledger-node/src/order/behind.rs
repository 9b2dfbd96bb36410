//! The state behind blocks that are executed but not yet in the index.

use crate::store::{IndexFault, Store};
use std::collections::VecDeque;
use std::sync::Arc;
use tally_contracts::{Changes, StateRead};

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
        let mut view = store.state()?;
        self.layers.iter().for_each(|(height, changes)| view.go_on(*height, changes));
        let given = read(&view);
        view.check()?;
        Ok(given)
    }
}
