//! What the gate does when it cannot ask the ledger.

use std::time::Duration;

/// What the gate does when it cannot ask the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateSetting {
    /// A permit whose proof is younger is believed while the node is away.
    pub proof_age: Duration,
    /// Whether an older one is believed, too.
    pub past_age: PastAge,
}

impl Default for GateSetting {
    fn default() -> Self {
        Self { proof_age: Duration::from_secs(60), past_age: PastAge::Refuse }
    }
}

/// What becomes of a permit whose proof is old while the node is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PastAge {
    /// Nothing is done: it may have been revoked.
    #[default]
    Refuse,
    /// A read is done all the same, because it moves nothing; a write or a call is not.
    AllowRead,
    /// It is done all the same: running on matters more.
    Allow,
}
