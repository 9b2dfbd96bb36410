//! The door: bytes in, checked statements out. Only checked things go further.
//!
//! In this order: well-formed, meant for this ledger, from a registered key that is not revoked, sealed by it, within its
//! signer's rate, with a body of the right form. What does not pass is refused with a stable code ([`Refused`]) and leaves no
//! trace on the ledger: else anyone could fill its disk.
//!
//! A repeat is no fault: it gets the place of the first (`inflight`), also when its signer was revoked since.

mod inflight;
mod key_tables;
mod signers;
mod statement;

pub use inflight::OnItsWay;
pub(crate) use inflight::{InFlight, Reserved};
pub(crate) use key_tables::KeyTables;
pub(crate) use signers::Signers;
pub use statement::{Body, CheckedStatement};
pub(crate) use statement::{check_seal, parse, parse_any};

use tally_evidence::{BatchFault, BodyFault, PrivateFault, StatementFault};

/// Why a statement is never taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a statement in our form.
    #[error("{0}")]
    Malformed(StatementFault),
    /// Larger than the node takes.
    #[error("the statement has {bytes} bytes, this node takes at most {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit (`limits.body_bytes_max`).
        bytes_max: usize,
    },
    /// Sealed for another ledger.
    #[error("the statement is meant for the ledger `{found}`, this is `{here}`")]
    WrongLedger {
        /// Its `aud`.
        found: String,
        /// Our name.
        here: String,
    },
    /// Nobody of that name is registered.
    #[error("`{signer}` is not registered on this ledger")]
    UnknownSigner {
        /// Its `iss`.
        signer: String,
    },
    /// Registered, but with another key.
    #[error("`{signer}` is registered with another key than the one this statement names ({key})")]
    UnknownKey {
        /// Its `iss`.
        signer: String,
        /// Its `kid`.
        key: String,
    },
    /// The key was revoked.
    #[error("`{signer}` is revoked")]
    Revoked {
        /// Its `iss`.
        signer: String,
    },
    /// The seal does not hold.
    #[error("the seal does not hold: the statement was altered, or sealed with another key than `{signer}`'s")]
    Seal {
        /// Its `iss`.
        signer: String,
    },
    /// The body is not what its content type says.
    #[error("the body: {0}")]
    Body(BodyFault),
    /// A batch, or one of its triggers, is not what it should be.
    #[error("{0}")]
    Batch(BatchFault),
    /// What came beside the statement does not open its private fields.
    #[error("{0}")]
    Private(PrivateFault),
    /// `sub` is not what the body is about.
    #[error("the header says it is about `{header}`, the body is about `{body}`")]
    Subject {
        /// Its `sub`.
        header: String,
        /// What it should be.
        body: String,
    },
}

impl Refused {
    /// Stable code, for programs; also the metric label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge { .. } => "too-large",
            Self::WrongLedger { .. } => "wrong-ledger",
            Self::UnknownSigner { .. } => "unknown-signer",
            Self::UnknownKey { .. } => "unknown-key",
            Self::Revoked { .. } => "revoked",
            Self::Seal { .. } => "seal",
            Self::Body(_) => "body",
            Self::Batch(fault) => fault.code(),
            Self::Private(_) => "private",
            Self::Subject { .. } => "subject",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "send one COSE_Sign1 as in docs/formats/statement.cddl, in deterministic CBOR",
            Self::TooLarge { .. } => "disclose fewer readings, or raise limits.body_bytes_max in node.yaml",
            Self::WrongLedger { .. } => "seal it with this ledger's name as `aud`, or send it to the other node",
            Self::UnknownSigner { .. } => "an administrator registers parties with the call registry/register-party",
            Self::UnknownKey { .. } => "seal with the registered key, or have the new one registered",
            Self::Revoked { .. } => "nothing this party seals is taken any more; ask an administrator why",
            Self::Seal { .. } => "seal it again from the original body; never edit a sealed statement",
            Self::Body(_) => "the body must be as in docs/formats/trigger.cddl or call.cddl",
            Self::Batch(_) => {
                "a batch and its triggers are sealed and sent as in docs/formats/batch.cddl; none of them was taken"
            }
            Self::Private(_) => {
                "openings travel as in docs/formats/private.cddl, each of a field that the call commits to"
            }
            Self::Subject { .. } => {
                "`sub` is the device of a trigger, the agreement of a call, or else its contract; of a batch its `iss`"
            }
        }
    }
}

/// Why a statement is not taken now. The same bytes may be sent again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// The queue before the ledger is full.
    #[error("the queue before the ledger is full")]
    Busy,
    /// This signer sends faster than the node lets one signer.
    #[error("`{signer}` sends more than {per_second} statements a second")]
    Rate {
        /// Who.
        signer: String,
        /// The limit (`limits.per_signer_per_second`).
        per_second: u32,
        /// Milliseconds until the next one is taken.
        wait_ms: u64,
    },
    /// The node only follows the one that orders.
    #[error("this node follows the one that orders, and takes no statements: send them there")]
    Follower,
    /// The node is shutting down.
    #[error("the node is stopping")]
    Stopping,
    /// The node stopped at a failure and takes nothing until it is started again.
    #[error("the node stopped at a failure: {0}")]
    Failed(String),
}

impl NotNow {
    /// Stable code, for programs; also the metric label.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Rate { .. } => "rate",
            Self::Follower => "follower",
            Self::Stopping => "stopping",
            Self::Failed(_) => "failed",
        }
    }

    /// When to try again, in whole seconds as HTTP has them (RFC 9110 §10.2.3).
    #[must_use]
    pub const fn retry_after_seconds(&self) -> u64 {
        match self {
            Self::Busy => 1,
            Self::Rate { wait_ms, .. } => wait_ms.div_ceil(1_000),
            Self::Stopping => 2,
            Self::Failed(_) | Self::Follower => 10,
        }
    }
}
