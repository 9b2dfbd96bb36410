//! What to measure, and why there is no result.

use crate::order::{BlockLimits, OpenLedgerError};
use crate::testing::PlantFault;
use crate::{ReadError, SubmitError};
use std::path::PathBuf;
use tally_journal::{JournalError, OpenError};

/// What becomes of the orders that a growing ledger is filled with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Orders {
    /// Each is opened by a trigger, accepted and done by calls of its technician, and confirmed by a trigger, which pays for it: four
    /// entries. As in a plant, few are open at a time.
    #[default]
    Ended,
    /// Each is opened, and stays open for ever: no entry can make more state than that.
    Open,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Triggers submitted as fast as possible.
    pub triggers: usize,
    /// Agents that sealed them.
    pub agents: usize,
    /// Devices they are about.
    pub devices: usize,
    /// Seconds at the fastest pace; slower ones go on up to four times as long.
    pub paced_seconds: u32,
    /// Looks at each size that ledgers of several are compared at.
    pub turns: u32,
    /// Triggers of each kind when one account is compared with many; 0 leaves it out.
    pub contended: usize,
    /// How blocks are cut.
    pub block: BlockLimits,
    /// Of a ledger that grows; everywhere else each trigger opens one that stays open.
    pub orders: Orders,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            triggers: 200_000,
            agents: 8,
            devices: 64,
            paced_seconds: 3,
            turns: 5,
            contended: 40_000,
            block: BlockLimits::default(),
            orders: Orders::default(),
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The plant.
    #[error(transparent)]
    Plant(#[from] PlantFault),
    /// The ledger does not open.
    #[error(transparent)]
    Open(Box<OpenLedgerError>),
    /// A statement was not taken, so the rest means nothing.
    #[error("a statement was not taken: {0}")]
    Submit(#[from] SubmitError),
    /// A statement was refused by the contract, so its order is not what it should be.
    #[error("the contract refused a statement: {0}")]
    Refused(u16),
    /// Triggers of a batch were refused.
    #[error("the contract refused {0} triggers of a batch")]
    RefusedTriggers(u32),
    /// Devices that were registered are not found.
    #[error("{0} of the devices looked up are not registered")]
    NotRegistered(u64),
    /// The folder is in use.
    #[error("{} is not empty; the bench wants a folder of its own", .0.display())]
    NotEmpty(PathBuf),
    /// The disk, in the baseline.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk, in the baseline.
    #[error(transparent)]
    OpenJournal(#[from] OpenError),
    /// The folder.
    #[error("cannot use the folder")]
    Io(#[from] std::io::Error),
    /// A receipt cannot be made.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The evidence of an agreement cannot be put together.
    #[error("the evidence of {0} cannot be put together")]
    Evidence(String),
    /// The projection stands still.
    #[error("the projection stands still: {0}")]
    Projection(String),
    /// Somebody stopped it.
    #[error("stopped when {0} entries were in")]
    Stopped(u64),
    /// A thread died.
    #[error("a thread of the bench died")]
    Thread,
}

impl From<OpenLedgerError> for BenchError {
    fn from(error: OpenLedgerError) -> Self {
        Self::Open(Box::new(error))
    }
}
