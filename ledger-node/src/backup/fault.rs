//! Why there is no copy, or no ledger made from it.

use crate::config::ConfigError;
use crate::order::OpenLedgerError;
use crate::retain::FileFault;
use crate::store::StoreOpenError;
use std::io;
use std::path::PathBuf;

/// Why there is no copy, or no ledger made from it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to copy.
    #[error("{} holds no ledger: there is no `log` in it", .0.display())]
    NoLedger(PathBuf),
    /// The folder for the copy is in use.
    #[error("{} is not empty; a copy needs a folder of its own (one without MANIFEST.json is no whole copy: remove it)", .0.display())]
    NotEmpty(PathBuf),
    /// A ledger is there already.
    #[error("there is a ledger in {} already; restore into an empty data folder, or move `log` and `state.redb` away", .0.display())]
    Occupied(PathBuf),
    /// Not a copy, or not a whole one.
    #[error("{} is no whole copy of a ledger: {why}", dir.display())]
    NotWhole {
        /// The folder.
        dir: PathBuf,
        /// Why.
        why: String,
    },
    /// A copy of something else.
    #[error("the copy is of the {what} `{found}`, node.yaml says `{asked}`")]
    Other {
        /// What differs.
        what: &'static str,
        /// In the copy.
        found: String,
        /// In the configuration.
        asked: String,
    },
    /// The copy does not hold.
    #[error("the copy does not hold: {0}")]
    Log(#[from] StoreOpenError),
    /// The copy does not give the ledger it claims to be.
    #[error("the copy does not hold: {0}")]
    Replay(Box<OpenLedgerError>),
    /// A file of those that stay when the log is pruned.
    #[error(transparent)]
    Retained(#[from] FileFault),
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}
