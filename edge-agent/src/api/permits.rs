//! Permits that somebody brings.

use super::problem::Problem;
use super::{Caller, Shared, changes_only_here};
use crate::gate::Refusal;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use tally_journal::Storage;

/// Uses a permit; the body is its file. 403 when the gate says no, with why and what to do.
pub(super) async fn use_one<S: Storage + Send + 'static>(
    State(api): Shared<S>,
    Extension(peer): Caller,
    file: Bytes,
) -> Result<Response, Problem> {
    changes_only_here(&peer, "port", "have the agent listen on a socket too, and bring the permit there")?;
    // Whoever hangs up has no permit half used: the work goes on by itself.
    let gate = api.gate.clone();
    let done = tokio::spawn(async move { gate.use_permit(&file).await }).await;
    let report = done.map_err(|fault| Problem::internal(&fault))?.map_err(Problem::from)?;
    Ok(Json(report).into_response())
}

/// The latest uses, and how many reports wait for the ledger.
pub(super) async fn list<S: Storage + Send + 'static>(State(api): Shared<S>) -> Response {
    Json(json!({"used": api.gate.reports(), "waiting": api.gate.waiting()})).into_response()
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal.code {
            "busy" => Self::not_now(refusal.code, refusal.text),
            code => Self::forbidden(code, refusal.text, refusal.hint),
        }
    }
}
