//! The first half of making a block: its place, its time, and what the contracts make of its statements.

use super::behind::Behind;
use crate::admit::CheckedStatement;
use crate::clock::Clock;
use crate::execute::{Executed, Memory, execute};
use crate::store::{CommitError, IndexFault, Store};
use std::sync::Arc;
use std::time::Instant;
use tally_contracts::{Block, Kernel, Refusal, StateRead};
use tally_evidence::Checkpoint;
use tally_model::Timestamp;

/// The one who executes. Knows the state behind the last block that was executed, which need not be in the log yet.
pub(crate) struct Executor {
    store: Arc<Store>,
    kernel: Kernel,
    memory: Memory,
    ledger: String,
    clock: Arc<dyn Clock>,
    behind: Behind,
    end: End,
}

/// Where the next block begins.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    height: u64,
    first_entry: u64,
    /// Of the last block.
    time: Option<Timestamp>,
}

/// A block that is executed, and not proven yet.
pub(crate) struct ExecutedBlock {
    pub height: u64,
    pub time: Timestamp,
    pub executed: Executed,
    /// When it was begun.
    pub began: Instant,
    /// How long executing took, in seconds.
    pub seconds: f64,
}

impl Executor {
    /// Goes on behind the last block of the index.
    pub fn new(store: Arc<Store>, ledger: String, clock: Arc<dyn Clock>) -> Self {
        let end = store.head().map_or_else(End::default, |head| End::behind(&head.checkpoint));
        let (kernel, memory, behind) = (Kernel::new(), Memory::default(), Behind::default());
        Self { store, kernel, memory, ledger, clock, behind, end }
    }

    /// The clock's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When the next term is due.
    pub fn next_due(&mut self) -> Result<Option<Timestamp>, CommitError> {
        Ok(self.behind.read(&self.store, |state| self.kernel.next_due(state))?)
    }

    /// Executes the next block of the node that orders: at the clock's time, which never falls. There is room for the writes of `room`
    /// statements; there may be more.
    ///
    /// # Errors
    /// [`CommitError::Broken`] when the contracts find the state broken, [`CommitError::Index`]. Nothing of the block is on the disk then.
    pub fn make(
        &mut self,
        room: usize,
        statements: impl Iterator<Item = CheckedStatement>,
    ) -> Result<ExecutedBlock, CommitError> {
        let now = self.now();
        let time = match self.end.time {
            Some(last) if now <= last => Timestamp::from_micros(last.as_micros().saturating_add(1)),
            _ => now,
        };
        let block = self.execute(time, room, statements)?;
        // Opening checks the whole state against the log, or rebuilds it.
        match block.executed.refusals.iter().find(|refusal| Refusal::is_broken_state(**refusal)) {
            Some(broken) => Err(CommitError::Broken { number: *broken, text: Refusal::describe(*broken) }),
            None => Ok(block),
        }
    }

    /// Executes the next block at this time.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn execute(
        &mut self,
        time: Timestamp,
        room: usize,
        statements: impl Iterator<Item = CheckedStatement>,
    ) -> Result<ExecutedBlock, IndexFault> {
        let began = Instant::now();
        let End { height, first_entry, .. } = self.end;
        let block = Block { ledger: self.ledger.clone(), height, time };
        let executed = self.behind.read(&self.store, |state| {
            execute(&self.kernel, state, &mut self.memory, &block, first_entry, room, statements)
        })?;
        self.behind.push(height, Arc::clone(&executed.changes));
        let first_entry = first_entry + executed.entries.len() as u64;
        self.end = End { height: height + 1, first_entry, time: Some(time) };
        let seconds = began.elapsed().as_secs_f64();
        Ok(ExecutedBlock { height, time, executed, began, seconds })
    }

    /// Reads the state behind the last executed block.
    ///
    /// # Errors
    /// [`IndexFault`]; what `read` gave is then thrown away.
    pub fn read<T>(&mut self, read: impl FnOnce(&dyn StateRead) -> T) -> Result<T, IndexFault> {
        self.behind.read(&self.store, read)
    }
}

impl End {
    const fn behind(last: &Checkpoint) -> Self {
        Self { height: last.height + 1, first_entry: last.size, time: Some(last.time) }
    }
}
