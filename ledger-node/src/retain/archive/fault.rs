//! Why an archive is of no use.

use crate::config::ConfigError;
use crate::order::OpenLedgerError;
use crate::retain::FileFault;
use crate::store::StoreOpenError;
use std::path::PathBuf;
use tally_journal::OpenError;

/// Why an archive is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFault {
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileFault),
    /// Its blocks.
    #[error("{}: {source}", dir.display())]
    Blocks {
        /// The archive.
        dir: PathBuf,
        /// What is wrong.
        source: Box<StoreOpenError>,
    },
    /// The log that is brought back belongs to another ledger, or does not reach.
    #[error("{0}")]
    NotOurs(String),
    /// The log of the data folder.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// What was brought back does not give the ledger.
    #[error("what is in the archive does not give the ledger: {0}")]
    Replay(Box<OpenLedgerError>),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}
