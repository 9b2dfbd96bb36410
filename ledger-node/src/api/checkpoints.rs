//! Checkpoints, as they were sealed or for people.

use super::entries::{COSE, wants};
use super::problem::Problem;
use super::{Api, on_disk};
use crate::engine::Engine;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tally_evidence::Checkpoint;

/// `GET /checkpoint`: the last one.
pub async fn checkpoint(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Problem> {
    let head = api.engine.store().head().ok_or_else(|| Problem::not_now("starting", "no block yet", 1))?;
    show_checkpoint(&api.engine, &headers, head.sealed.clone())
}

/// `GET /checkpoints/{height}`.
pub async fn checkpoint_at(
    State(api): State<Api>,
    Path(height): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let hint = "heights are numbers from 0 to the one /status says";
    let number: u64 = height.parse().map_err(|_| Problem::bad_request("height", format!("`{height}`"), hint))?;
    let row = on_disk(&api.engine, move |engine| Ok(engine.store().block(number)?)).await?;
    let row = row.ok_or_else(|| Problem::not_found("height", format!("there is no block {number} yet"), hint))?;
    show_checkpoint(&api.engine, &headers, row.checkpoint)
}

fn show_checkpoint(engine: &Engine, headers: &HeaderMap, sealed: Vec<u8>) -> Result<Response, Problem> {
    if !wants(headers, "application/json") {
        return Ok(([(header::CONTENT_TYPE, COSE)], sealed).into_response());
    }
    let checkpoint = Checkpoint::open(&sealed, engine.key()).map_err(|fault| Problem::internal(&fault))?;
    Ok(axum::Json(json!({
        "ledger": checkpoint.ledger,
        "height": checkpoint.height,
        "size": checkpoint.size,
        "root": hex::encode(checkpoint.root),
        "state": hex::encode(checkpoint.state),
        "outcomes": hex::encode(checkpoint.outcomes),
        "outcome_count": checkpoint.outcome_count,
        "time": checkpoint.time.to_string(),
        "previous": hex::encode(checkpoint.previous),
    }))
    .into_response())
}
