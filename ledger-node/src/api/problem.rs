//! Errors as problem documents (RFC 9457): `type`, `title`, `status`, `detail`, and our `code` and `hint`.

use crate::admit::{NotNow, OnItsWay, Refused};
use crate::engine::{ReadError, SubmitError};
use crate::store::{CommitError, IndexFault, Pruned};
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tally_contracts::PrivateField;
use tally_contracts::sight::Withheld;
use tally_evidence::StatementId;

/// An error answer.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {text}")]
pub struct Problem {
    status: StatusCode,
    /// Stable, for programs; the last part of `type`.
    code: &'static str,
    /// What was asked, what was found.
    text: String,
    /// What to do.
    hint: &'static str,
    /// Seconds, for those who shall come again.
    retry_after: Option<u64>,
    /// How far the statement asked for is, when it has no receipt yet.
    state: Option<OnItsWay>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, text: impl Into<String>, hint: &'static str) -> Self {
        Self { status, code, text: text.into(), hint, retry_after: None, state: None }
    }

    pub fn bad_request(code: &'static str, text: impl Into<String>, hint: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, text, hint)
    }

    pub fn not_found(code: &'static str, text: impl Into<String>, hint: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, text, hint)
    }

    pub fn not_now(code: &'static str, text: impl Into<String>, retry_after: u64) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, text, "send the same request again later");
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// 401, with the way to log in (RFC 9110 §11.6.1).
    pub fn unauthorized(code: &'static str, text: impl Into<String>, hint: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, text, hint)
    }

    /// 429 (RFC 6585 §4).
    pub fn too_many(code: &'static str, text: impl Into<String>, retry_after: u64) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, ..Self::not_now(code, text, retry_after) }
    }

    /// 202: no entry yet, but on its way.
    pub fn on_its_way(id: &StatementId, state: OnItsWay) -> Self {
        let text = match state {
            OnItsWay::Accepted => format!("{id} is checked and waits for its block; a crash would lose it"),
            OnItsWay::Durable => format!("{id} is in a synced block; its receipt comes next"),
        };
        let hint = "keep the bytes and ask again, or send them again: the answer will be the same";
        let problem = Self::new(StatusCode::ACCEPTED, "on-its-way", text, hint);
        Self { retry_after: Some(1), state: Some(state), ..problem }
    }

    /// In the ledger, executed and synced, but not yet seen by as many witnesses as the policy asks for. No error: who asked has
    /// to come again for the receipt.
    pub fn not_final(have: usize, need: usize) -> Self {
        let text = format!("durable, waiting for {} of {need} witnesses", need.saturating_sub(have));
        let hint = "keep the statement and send it again, or ask GET /entries/{id}, until the receipt comes";
        let problem = Self::new(StatusCode::ACCEPTED, "not-final", text, hint);
        Self { retry_after: Some(1), state: Some(OnItsWay::Durable), ..problem }
    }

    pub fn method() -> Self {
        let hint = "docs/formats/api.md says which method each path takes";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path does not take this method", hint)
    }

    pub fn media_type(found: &str) -> Self {
        let text = format!("the body is `{found}`");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", text, "send it as `application/cose`")
    }

    /// A JSON body that could not be taken: 413 when it is too large, else 400 with the code of who asked for it.
    pub fn json(code: &'static str, rejection: &JsonRejection, hint: &'static str) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(rejection.status(), "too-large", "the body has more bytes than this path takes", hint)
            }
            _ => Self::bad_request(code, rejection.body_text(), hint),
        }
    }

    pub fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body", "the body did not arrive", "send it again")
    }

    /// Forgotten, as the operator's retention says (RFC 9110 §15.5.11).
    pub fn pruned(pruned: &Pruned) -> Self {
        let hint = "the receipt is still given; ask whoever keeps the archive for the segment";
        Self::new(StatusCode::GONE, "pruned", pruned.to_string(), hint)
    }

    /// Sealed by the ledger's key when it is asked for (RFC 9110 §15.5.20: another node can).
    pub fn follower() -> Self {
        let hint =
            "ask the node that orders; here are checkpoints, blocks, statements, outcomes and proofs of the state";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "follower", ReadError::NoKey.to_string(), hint)
    }

    /// Erased, by a call that is in the ledger.
    pub fn purged(field: &PrivateField) -> Self {
        let (by, entry, why) = field.purged.as_ref().map_or(("", 0, ""), |how| (&how.by, how.entry, &how.reason));
        let text = format!("`{}` of entry {} was purged by `{by}` (entry {entry}): {why}", field.field, field.entry);
        Self::new(StatusCode::GONE, "purged", text, "nobody can bring it back; the commitment stays in the sealed call")
    }

    /// Hidden from this caller by whoever decides about it; `what` says what was asked.
    pub fn withheld(what: &str, withheld: &Withheld) -> Self {
        let hint = "receipts, proofs and outcomes are given all the same; whoever made the policy can name your party or role in it";
        Self::new(StatusCode::FORBIDDEN, "withheld", format!("{what}: {withheld}"), hint)
    }

    /// Events that are asked for were forgotten: nothing is skipped in silence.
    pub fn events_pruned(kept_below: u64) -> Self {
        let text = format!("events of blocks below {kept_below} were pruned, as the node's retention says");
        Self::new(StatusCode::GONE, "pruned", text, "begin with ?from= that height, without Last-Event-ID")
    }

    /// The node's own fault. The cause goes into its log and to the caller, who may be the operator.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(%cause, "a question could not be answered");
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "internal",
            format!("the node could not answer: {cause}"),
            "see the node's log",
        );
        Self { retry_after: Some(10), ..problem }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::UnknownSigner { .. } | Refused::UnknownKey { .. } | Refused::Revoked { .. } => {
                StatusCode::FORBIDDEN
            }
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, refused.code(), refused.to_string(), refused.hint())
    }
}

impl From<NotNow> for Problem {
    fn from(not_now: NotNow) -> Self {
        let problem = Self::not_now(not_now.code(), not_now.to_string(), not_now.retry_after_seconds());
        match not_now {
            NotNow::Rate { .. } => Self { status: StatusCode::TOO_MANY_REQUESTS, ..problem },
            NotNow::Follower => {
                Self { hint: "`follow` in its node.yaml names that node; nothing was decided here", ..problem }
            }
            _ => problem,
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refused) => refused.into(),
            SubmitError::NotNow(not_now) => not_now.into(),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(CommitError::Pruned(pruned)) => Self::pruned(&pruned),
            ReadError::NoKey => Self::follower(),
            error => Self::internal(&error),
        }
    }
}

impl From<IndexFault> for Problem {
    fn from(fault: IndexFault) -> Self {
        Self::internal(&fault)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({
            "type": format!("urn:tallystick:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.text,
            "code": self.code,
            "hint": self.hint,
        });
        if let Some(state) = self.state {
            body["state"] = state.word().into();
        }
        let headers = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, headers, body.to_string()).into_response();
        if let Some(state) = self.state {
            response.headers_mut().insert("tally-state", HeaderValue::from_static(state.word()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let way = HeaderValue::from_static("Bearer realm=\"tallystick\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, way);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
