//! What to measure, and why there is no result.

use crate::order::{BlockLimits, OpenLedgerError};
use crate::testing::PlantFault;
use crate::{ReadError, SubmitError};
use std::path::PathBuf;
use tally_journal::{JournalError, OpenError};

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Triggers submitted as fast as possible.
    pub triggers: usize,
    /// Agents that sealed them.
    pub agents: usize,
    /// Devices they are about.
    pub devices: usize,
    /// Seconds at each pace.
    pub paced_seconds: u32,
    /// Triggers of each kind when one account is compared with many; 0 leaves it out.
    pub contended: usize,
    /// How blocks are cut.
    pub block: BlockLimits,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            triggers: 200_000,
            agents: 8,
            devices: 64,
            paced_seconds: 3,
            contended: 40_000,
            block: BlockLimits::default(),
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
    /// A trigger was not taken, so the rest means nothing.
    #[error("a trigger was not taken: {0}")]
    Submit(#[from] SubmitError),
    /// A trigger was refused by the contract, so no order was opened.
    #[error("the contract refused a trigger: {0}")]
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
    #[error("stopped when {0} triggers were in")]
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
