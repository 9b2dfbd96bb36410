//! Why a ledger does not open, or a block that was executed again is not what was sealed.

use crate::admit::Refused;
use crate::private::PrivateError;
use crate::store::{CommitError, StoreOpenError};

/// Why a ledger does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenLedgerError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// What was executed again cannot be kept.
    #[error("the ledger cannot be brought up to date")]
    Commit(#[from] CommitError),
    /// Executing a block again gave something else than what was sealed.
    #[error(
        "block {height} was executed again and {what} came out differently from what was sealed. \
         This program is not the one that wrote the log, or the log was altered; start the version that wrote it"
    )]
    Diverged {
        /// Which block.
        height: u64,
        /// In what.
        what: DivergedIn,
    },
    /// A logged statement is none.
    #[error("entry {place} of block {height} in the log is no statement: {source}")]
    Statement {
        /// Which block.
        height: u64,
        /// Its place in the block.
        place: usize,
        /// What is wrong.
        source: Refused,
    },
    /// An empty ledger, and nothing to begin it with.
    #[error("the ledger in the data folder is empty and no genesis was given; name one under `genesis` in node.yaml")]
    NoGenesis,
    /// A statement that took effect in a block was not sealed by who it names. Found only where seals are checked again: at a node
    /// that follows.
    #[error(
        "entry {place} of block {height} took effect and its seal does not hold: {source}. \
         Whoever orders this ledger accepted what `{signer}` never sealed"
    )]
    Seal {
        /// Which block.
        height: u64,
        /// Its place in the block.
        place: usize,
        /// Who is said to have sealed it.
        signer: String,
        /// What is wrong.
        source: Refused,
    },
    /// A block that another node gave is not the next one.
    #[error("block {found} came where block {expected} follows")]
    NotNext {
        /// The next one.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The folder follows another node.
    #[error("{0}")]
    Follows(String),
    /// The contracts refuse the genesis.
    #[error("the genesis is refused ({number}): {text}; nothing was written")]
    GenesisRefused {
        /// Number of the refusal.
        number: u16,
        /// What it means.
        text: String,
    },
    /// The genesis is not of the right form.
    #[error("the genesis: {0}")]
    Genesis(Refused),
    /// The system gives no thread.
    #[error("the order thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// What was purged cannot be erased, or what is kept not be read.
    #[error("private fields: {0}")]
    Private(#[from] PrivateError),
    /// The counters cannot be made.
    #[error("the metrics cannot be made")]
    Metrics(#[from] prometheus::Error),
    /// The name cannot be a party's.
    #[error("`{0}` cannot be the name of a ledger: letters, digits, `_`, `-`, `.` and `@`, at most 64")]
    Name(String),
}

/// Which part of a block came out differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DivergedIn {
    /// The entries or their order.
    #[error("the entries")]
    Entries,
    /// What the contracts answered.
    #[error("the outcomes")]
    Outcomes,
    /// What the contracts left behind.
    #[error("the state")]
    State,
    /// Ledger, height, time or predecessor.
    #[error("the place in the chain")]
    Chain,
}
