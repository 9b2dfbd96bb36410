//! A folder that followed becomes one that orders, at an operator's word.
//!
//! Nothing here can know that the other node will never order again: a node that does not answer may only be out of reach. So a person
//! says it, the program asks once more and refuses when somebody answers, and the witnesses, where there are some, see it when both do.

use super::mark;
use super::source::{Source, SourceFault};
use crate::config::{ConfigError, NodeConfig};
use crate::engine::{Engine, EngineConfig};
use crate::order::OpenLedgerError;
use std::io;
use std::path::PathBuf;
use tally_evidence::Checkpoint;
use tally_ledger_client::RequestError;

/// Why the folder was not promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The configuration, or the key.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It follows nobody.
    #[error("{} follows nobody: it orders already, or holds no ledger", .0.display())]
    NoFollower(PathBuf),
    /// The other node answers, but not to us.
    #[error("{address} answers ({text}): two nodes must never order one ledger. Stop it for ever first")]
    Closed {
        /// Where.
        address: String,
        /// What it says.
        text: String,
    },
    /// The other node answers.
    #[error(
        "{address} answers and is at block {height}: two nodes must never order one ledger. Stop it for ever first"
    )]
    Alive {
        /// Where.
        address: String,
        /// Its last block.
        height: u64,
    },
    /// The folder does not open.
    #[error("the folder does not open: {0}")]
    Open(Box<OpenLedgerError>),
    /// There is nothing in it.
    #[error("{} holds no block", .0.display())]
    Empty(PathBuf),
    /// The mark cannot be removed.
    #[error("{}: {source}", file.display())]
    File {
        /// The mark.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Takes the mark from the data folder of `config`, which names the ledger's private key, after the folder was opened with its public
/// half; `old` is the node that ordered until now and must not answer. Gives the last block: what the old node acknowledged behind it
/// is lost here.
///
/// # Errors
/// [`PromoteError`]; the folder follows as before then.
pub async fn promote(config: &NodeConfig, old: &Source) -> Result<Checkpoint, PromoteError> {
    let key = config.load_key()?.public().clone();
    if !mark::is_marked(&config.data) {
        return Err(PromoteError::NoFollower(config.data.clone()));
    }
    match old.clone().impatient().checkpoint(&key).await {
        Ok(there) => return Err(PromoteError::Alive { address: old.address(), height: there.height }),
        // It does not let us in, but it is there.
        Err(SourceFault::Request(RequestError::Refused { status: 401 | 403, text, .. })) => {
            return Err(PromoteError::Closed { address: old.address(), text });
        }
        Err(_) => {}
    }
    let engine = Engine::open(EngineConfig::new(&config.ledger, &config.data, key));
    let engine = engine.map_err(|error| PromoteError::Open(Box::new(error)))?;
    let head = engine.store().head();
    engine.close();
    drop(engine);
    let head = head.ok_or_else(|| PromoteError::Empty(config.data.clone()))?;
    let file = config.data.join(mark::FILE);
    mark::take(&config.data).map_err(|source| PromoteError::File { file, source })?;
    tracing::warn!(
        height = head.checkpoint.height,
        "this folder follows nobody any more: it may be opened with the ledger's key"
    );
    Ok(head.checkpoint.clone())
}
