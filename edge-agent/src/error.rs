//! What can go wrong on disk. Two classes: passing ([`StoreError::is_passing`]), or stop and
//! reload: the agent ends with an exit code that makes systemd start it again.

use std::path::PathBuf;
use tally_journal::{JournalError, OpenError};
use tally_model::DeviceId;

/// A store of the agent cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A journal does not open.
    #[error("the {store} does not open: {source}{}", cause(.source))]
    Open {
        /// `vault`, `outbox`, `receipts`, `dead letters`.
        store: &'static str,
        /// Why.
        source: OpenError,
    },
    /// A journal failed while running; nothing more is sealed until it was opened anew.
    #[error("the {store} failed: {source}{}", cause(.source))]
    Journal {
        /// Which one.
        store: &'static str,
        /// Why.
        source: JournalError,
    },
    /// A record is not what this program writes.
    #[error("record {record} of the {store} is not what this program writes; was it written by a newer one?")]
    Foreign {
        /// Which store.
        store: &'static str,
        /// Journal record.
        record: u64,
    },
    /// Our own statement does not parse: a fault of this program.
    #[error(transparent)]
    Seal(crate::seal::SealError),
    /// The vault does not lead from its readings to its own chain heads.
    #[error(
        "reading {number} of `{device}` does not lead to the chain head the vault recorded: the file `vault.secret` is not \
         the one these readings were salted with, or the vault was altered; restore both from the same backup"
    )]
    Chain {
        /// Whose chain.
        device: DeviceId,
        /// First reading of the batch.
        number: u64,
    },
    /// Readings behind sealed triggers are missing.
    #[error(
        "the vault ends at reading {next} of `{device}`, but a sealed trigger speaks of reading {claimed}: the vault is \
         older than outbox and receipts; restore all of them from the same backup, or its numbers would be given twice"
    )]
    VaultTooOld {
        /// Whose chain.
        device: DeviceId,
        /// Next number of the vault.
        next: u64,
        /// Number a trigger claims.
        claimed: u64,
    },
    /// Readings are gone: beyond retention.
    #[error(
        "readings {first} to {last} of `{device}` are no longer in the vault; `limits` in agent.yaml say how long it keeps them"
    )]
    NotKept {
        /// Which device.
        device: DeviceId,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
    },
    /// A small file beside the journals cannot be read or written.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The vault has readings, but not the secret they were salted with.
    #[error(
        "{file} is missing or not 32 bytes, but the vault holds readings that were salted with it; restore it from backup, \
         without it no reading in this vault can ever be proved"
    )]
    SecretLost {
        /// Where it should be.
        file: PathBuf,
    },
    /// A thread that worked on a store died.
    #[error("a thread that worked on the disk died: {0}")]
    Thread(String),
    /// No randomness for a new secret.
    #[error("the operating system gave no randomness")]
    Randomness,
}

impl StoreError {
    pub(crate) fn vault(source: JournalError) -> Self {
        Self::Journal { store: "vault", source }
    }

    pub(crate) fn file(file: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.into();
        move |source| Self::File { file, source }
    }

    /// Whether the store goes on working after this.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotKept { .. } => true,
            Self::Journal { source, .. } => {
                matches!(source, JournalError::TooLarge { .. } | JournalError::Read { .. } | JournalError::Damaged(_))
            }
            _ => false,
        }
    }
}

/// What the system said, which the journal's own words leave to its `source`, and what to do where that is clear.
fn cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(std::io::ErrorKind::StorageFull) => {
                format!(": {cause}; free space or lower `limits` in agent.yaml")
            }
            _ => format!(": {cause}{}", self::cause(cause)),
        },
        None => String::new(),
    }
}
