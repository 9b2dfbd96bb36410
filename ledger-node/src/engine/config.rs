//! What the engine is opened with.

use crate::clock::{Clock, WallClock};
use crate::order::BlockLimits;
use crate::retain::Retention;
use crate::store::FlushLimits;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_contracts::Genesis;
use tally_evidence::{SigningKey, VerifyingKey};

/// What a node has of the ledger's key, and so what it may do: two nodes must never seal as one ledger.
#[derive(Clone)]
pub enum LedgerKey {
    /// All of it: it orders statements and seals blocks.
    Orders(SigningKey),
    /// The public half: it follows the node that orders, checks what that one sealed, and seals nothing.
    Follows(VerifyingKey),
}

impl LedgerKey {
    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &VerifyingKey {
        match self {
            Self::Orders(key) => key.public(),
            Self::Follows(key) => key,
        }
    }

    /// The private half, where the node orders.
    #[must_use]
    pub const fn secret(&self) -> Option<&SigningKey> {
        match self {
            Self::Orders(key) => Some(key),
            Self::Follows(_) => None,
        }
    }
}

impl From<SigningKey> for LedgerKey {
    fn from(key: SigningKey) -> Self {
        Self::Orders(key)
    }
}

impl From<VerifyingKey> for LedgerKey {
    fn from(key: VerifyingKey) -> Self {
        Self::Follows(key)
    }
}

/// What the node lets one signer, one statement and the queue have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest statement.
    pub body_bytes_max: usize,
    /// Statements between the door and the ledger; an eighth more for urgent ones.
    pub in_flight_max: usize,
    /// Statements a second of one signer.
    pub per_signer_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 1 << 20, in_flight_max: 512, per_signer_per_second: 5_000 }
    }
}

impl Limits {
    /// Room for urgent statements alone.
    #[must_use]
    pub const fn urgent_max(&self) -> usize {
        self.in_flight_max / 8 + 8
    }
}

/// How to open a ledger.
#[derive(Clone)]
pub struct EngineConfig {
    /// Its name; every statement's `aud`.
    pub ledger: String,
    /// The data folder.
    pub data: PathBuf,
    /// The ledger's key, or its public half.
    pub key: LedgerKey,
    /// What it begins with; looked at only when it is empty.
    pub genesis: Option<Genesis>,
    /// How blocks are cut.
    pub block: BlockLimits,
    /// What the node lets others have.
    pub limits: Limits,
    /// When the index is made durable.
    pub flush: FlushLimits,
    /// Where block time comes from.
    pub clock: Arc<dyn Clock>,
    /// What is kept of old blocks.
    pub retention: Retention,
    /// Bytes of a segment of the log, the unit in which it is forgotten; 64 MiB when not said.
    pub segment_bytes: Option<u64>,
}

impl EngineConfig {
    /// The usual limits and the computer's clock.
    #[must_use]
    pub fn new(ledger: impl Into<String>, data: impl AsRef<Path>, key: impl Into<LedgerKey>) -> Self {
        Self {
            ledger: ledger.into(),
            data: data.as_ref().to_path_buf(),
            key: key.into(),
            genesis: None,
            block: BlockLimits::default(),
            limits: Limits::default(),
            flush: FlushLimits::default(),
            clock: Arc::new(WallClock),
            retention: Retention::default(),
            segment_bytes: None,
        }
    }

    /// Begins the ledger with this when it is empty.
    #[must_use]
    pub fn with_genesis(mut self, genesis: Genesis) -> Self {
        self.genesis = Some(genesis);
        self
    }
}
