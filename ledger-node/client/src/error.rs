//! Why a request has no good answer. What decides is not the cause but what the caller should do: try again, or not.

use crate::NodeAddress;
use std::time::Duration;

/// Why reading from the node did not work.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody answered: no socket, connection refused or broken, time over.
    #[error("no answer from {address} to `{asked}`: {cause}; is it running, and is this its address?")]
    NoAnswer {
        /// Where.
        address: NodeAddress,
        /// Method and path.
        asked: String,
        /// What happened.
        cause: String,
    },
    /// The node is overloaded, starting, stopping or stopped for good.
    #[error("the node says \"not now\" to `{asked}`: {text}")]
    NotNow {
        /// Method and path.
        asked: String,
        /// Code of the problem.
        code: String,
        /// The node's words.
        text: String,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// What was asked for is not there yet: its statement waits for its block or its receipt.
    #[error("not yet, in answer to `{asked}`: {text}")]
    OnItsWay {
        /// Method and path.
        asked: String,
        /// `accepted` or `durable`, see `docs/formats/api.md`.
        state: String,
        /// The node's words, with its hint.
        text: String,
    },
    /// The node said no: no such entry, a malformed question.
    #[error("`{asked}` was refused ({code}): {text}")]
    Refused {
        /// Method and path.
        asked: String,
        /// HTTP status.
        status: u16,
        /// Code of the problem, see `docs/formats/api.md`.
        code: String,
        /// The node's words, with its hint.
        text: String,
    },
    /// Something answered, but not like a node.
    #[error("the answer to `{asked}` from {address} makes no sense: {reason}; is this the address of a node?")]
    Nonsense {
        /// Where.
        address: NodeAddress,
        /// Method and path.
        asked: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a statement is not in the ledger, or why we do not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Nothing is decided: keep the statement and submit the same bytes again later.
    #[error("not now: {cause}")]
    NotNow {
        /// How long the node wants to be left alone, if it says so.
        retry_after: Option<Duration>,
        /// Why, for people.
        cause: String,
    },
    /// It is in the ledger and synced, but not seen by as many witnesses as the ledger asks for: keep the statement and submit the
    /// same bytes again later for the receipt. What follows it may be submitted meanwhile.
    #[error("not final: {cause}")]
    NotFinal {
        /// What it waits for, for people.
        cause: String,
    },
    /// The node will never take these bytes.
    #[error("refused ({code}): {text}")]
    Refused {
        /// Stable code, see `docs/formats/api.md`.
        code: String,
        /// The node's words, with its hint.
        text: String,
    },
}

impl From<RequestError> for SubmitError {
    fn from(error: RequestError) -> Self {
        match error {
            // The door's "no" is about who we are, not about the statement: another token or certificate mends it.
            RequestError::Refused { status: 401, text, .. } => Self::NotNow { retry_after: None, cause: text },
            RequestError::Refused { ref code, text, .. } if matches!(code.as_str(), "role" | "no-row") => {
                Self::NotNow { retry_after: None, cause: text }
            }
            RequestError::Refused { code, text, .. } => Self::Refused { code, text },
            RequestError::NotNow { retry_after, ref text, .. } => Self::NotNow { retry_after, cause: text.clone() },
            RequestError::OnItsWay { state, text, .. } if state == "durable" => Self::NotFinal { cause: text },
            RequestError::OnItsWay { text, .. } => Self::NotNow { retry_after: None, cause: text },
            // An answer that is not a node's decides nothing: a statement must not be given up because of a wrong port.
            RequestError::NoAnswer { .. } | RequestError::Nonsense { .. } => {
                Self::NotNow { retry_after: None, cause: error.to_string() }
            }
        }
    }
}
