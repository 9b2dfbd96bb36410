//! A witness's HTTP interface, and its answers for a node that has them under a prefix. Reference: `docs/formats/witness.md`.
//!
//! **Limits.** Connections and heads as the node's ([`crate::api`]); 16 requests at once, a body of 128 KiB within 5 s; beyond that 503 at
//! once. `/live`, `/ready`, `/metrics` and `/status` are never shed.

use super::judge::{Answer, Witness};
use super::wire::REQUEST_BYTES_MAX;
use crate::api::{Problem, guarded};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Requests judged at once: each ends in a sync, and logs are few.
const REQUESTS_MAX: usize = 16;
/// A whole request.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time for a request's body.
const BODY_TIME: Duration = Duration::from_secs(5);

/// All routes; `door` gives the door's own numbers for Prometheus.
pub fn router(witness: Arc<Witness>, door: impl Fn() -> String + Clone + Send + Sync + 'static) -> Router {
    let judged = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{hash}/checkpoint", get(checkpoint))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX));
    Router::new()
        .merge(guarded(judged, REQUESTS_MAX, REQUEST_TIME))
        .route("/live", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(move |State(witness): State<Arc<Witness>>| async move { metrics(&witness, door()) }))
        .route("/status", get(status))
        .fallback(|| async { Problem::not_found("path", "no such path", "docs/formats/witness.md lists every path") })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .with_state(witness)
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, request: Request) -> Result<Response, Problem> {
    judged(witness, request).await
}

/// The answer to a request for a cosignature.
pub(crate) async fn judged(witness: Arc<Witness>, request: Request) -> Result<Response, Problem> {
    let body = tokio::time::timeout(BODY_TIME, Bytes::from_request(request, &())).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let text = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
            return Err(Problem::new(rejection.status(), "too-large", text, HINT));
        }
        Ok(Err(_)) | Err(_) => return Err(Problem::body_timeout()),
    };
    let answer = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await;
    Ok(respond(answer.map_err(|error| Problem::internal(&error))?))
}

const HINT: &str = "docs/formats/witness.md says what a witness cosigns";

fn respond(answer: Answer) -> Response {
    let code = answer.code();
    let problem = |status, text: String| Problem::new(status, code, text, HINT).into_response();
    match answer {
        Answer::Cosigned(lines) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines).into_response(),
        Answer::Conflict(size) => {
            (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
        }
        Answer::Malformed(what) => problem(StatusCode::BAD_REQUEST, what),
        Answer::NotSigned(fault) => problem(StatusCode::FORBIDDEN, fault.to_string()),
        Answer::UnknownLog(origin) => problem(StatusCode::NOT_FOUND, format!("`{origin}` is not watched here")),
        Answer::Inconsistent(what) => problem(StatusCode::UNPROCESSABLE_ENTITY, what),
        Answer::Failed(what) => Problem::not_now("failed", what, 10).into_response(),
    }
}

async fn checkpoint(State(witness): State<Arc<Witness>>, Path(hash): Path<String>) -> Result<Response, Problem> {
    shown(&witness, &hash)
}

/// The note cosigned last of the log with this hash.
pub(crate) fn shown(witness: &Witness, hash: &str) -> Result<Response, Problem> {
    let none = || Problem::not_found("log", format!("nothing was cosigned of a log {hash}"), "SHA-256 of its origin");
    let note = witness.checkpoint(hash).ok_or_else(none)?;
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, note.to_string()).into_response())
}

async fn ready(State(witness): State<Arc<Witness>>) -> Result<&'static str, Problem> {
    if witness.has_failed() { Err(Problem::not_now("failed", "a write failed", 10)) } else { Ok("ready\n") }
}

fn metrics(witness: &Witness, door: String) -> Response {
    let mut text = witness.metrics().text();
    text.extend(door.into_bytes());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn status(State(witness): State<Arc<Witness>>) -> Response {
    let mut status = status_of(&witness);
    status["version"] = env!("CARGO_PKG_VERSION").into();
    Json(status).into_response()
}

/// How it and its logs stand.
pub(crate) fn status_of(witness: &Witness) -> Value {
    let logs = witness.status().into_iter().map(|log| {
        let last = log.last.as_ref();
        json!({
            "origin": log.origin,
            "size": last.map(|(tree, _)| tree.size),
            "root": last.map(|(tree, _)| hex::encode(tree.root)),
            "time": last.and_then(|(_, note)| witness.cosigner().ok()?.time_of(note).ok()),
            "alarm": log.alarm,
        })
    });
    json!({
        "witness": witness.cosigner().map(|cosigner| cosigner.name().to_owned()).unwrap_or_default(),
        "vkey": witness.cosigner().map(|cosigner| cosigner.to_string()).unwrap_or_default(),
        "state": if witness.has_failed() { "failed" } else { "running" },
        "logs": logs.collect::<Vec<_>>(),
    })
}
