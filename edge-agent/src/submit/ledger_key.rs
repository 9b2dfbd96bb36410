//! The ledger's key: pinned in agent.yaml, or the first one seen, kept in `data/ledger.pem`. A change is refused.

use std::path::PathBuf;
use std::sync::Arc;
use tally_evidence::{KeyFault, KeyId, ReceiptFault, VerifyingKey};
use tally_journal::files;
use tally_ledger_client::{Client, RequestError};
use tokio::sync::Mutex;

/// Whose receipts count. Clones share what one of them learns.
#[derive(Clone)]
pub struct LedgerKey {
    /// Held while the node is asked: two must not keep two keys.
    known: Arc<Mutex<Option<VerifyingKey>>>,
    /// Where a learned key is kept, or the pinned one comes from.
    file: PathBuf,
}

/// Why a receipt does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The receipt is none, or not for this statement.
    #[error("the node's receipt does not hold: {0}")]
    Receipt(#[from] ReceiptFault),
    /// A receipt of another ledger.
    #[error("the receipt is of ledger `{found}` or about another device, expected was `{expected}`; is `node:` right?")]
    OtherLedger {
        /// Whose receipt.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Another key than before.
    #[error(
        "the ledger signs with key {found}, known is {known} ({}): receipts are not taken and triggers wait. If the ledger \
         was set up anew on purpose, replace that file; else somebody plays the ledger",
        .file.display()
    )]
    Changed {
        /// Key of the receipt.
        found: KeyId,
        /// Key we know.
        known: KeyId,
        /// Where we know it from.
        file: PathBuf,
    },
    /// The node does not tell its key.
    #[error("asking the node for the ledger's key: {0}")]
    Ask(#[from] RequestError),
    /// What it tells is no key.
    #[error("the node's key: {0}")]
    Key(#[from] KeyFault),
    /// The learned key cannot be kept.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl LedgerKey {
    /// The pinned key, or what was learned before, or nothing yet.
    ///
    /// # Errors
    /// [`KeyError`] when the file is there and holds no key.
    pub fn new(pinned: Option<VerifyingKey>, file: PathBuf) -> Result<Self, KeyError> {
        if pinned.is_some() {
            let known = Arc::new(Mutex::new(pinned));
            return Ok(Self { known, file: PathBuf::from("ledger_key in agent.yaml") });
        }
        let known = match std::fs::read_to_string(&file) {
            Ok(pem) => Some(VerifyingKey::from_pem(&pem)?),
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(KeyError::File { file, source }),
        };
        Ok(Self { known: Arc::new(Mutex::new(known)), file })
    }

    /// The key with which a receipt that names `wanted` must be checked.
    ///
    /// # Errors
    /// [`KeyError::Changed`] when it is not the one we know; others when none is known and the node does not tell.
    pub(crate) async fn get(&self, wanted: &KeyId, client: &Client) -> Result<VerifyingKey, KeyError> {
        let mut kept = self.known.lock().await;
        let known = match &*kept {
            Some(known) => known.clone(),
            None => kept.insert(self.learn(client).await?).clone(),
        };
        drop(kept);
        if known.id() == *wanted {
            return Ok(known);
        }
        Err(KeyError::Changed { found: *wanted, known: known.id(), file: self.file.clone() })
    }

    /// The ledger's key, asked for when none is known yet.
    ///
    /// # Errors
    /// [`KeyError`] when none is known and the node does not tell.
    pub(crate) async fn known(&self, client: &Client) -> Result<VerifyingKey, KeyError> {
        let mut kept = self.known.lock().await;
        match &*kept {
            Some(known) => Ok(known.clone()),
            None => Ok(kept.insert(self.learn(client).await?).clone()),
        }
    }

    /// The key, when one is known; nobody is asked.
    pub(crate) async fn in_memory(&self) -> Option<VerifyingKey> {
        self.known.lock().await.clone()
    }

    async fn learn(&self, client: &Client) -> Result<VerifyingKey, KeyError> {
        let pem = client.get_bytes("/key.pem").await?;
        let pem = String::from_utf8_lossy(&pem);
        let key = VerifyingKey::from_pem(&pem)?;
        files::replace(&self.file, pem.as_bytes())
            .map_err(|source| KeyError::File { file: self.file.clone(), source })?;
        tracing::info!(key = %key.id(), file = %self.file.display(), "first contact with the ledger, its key is kept; compare it with the one you were given");
        Ok(key)
    }
}
