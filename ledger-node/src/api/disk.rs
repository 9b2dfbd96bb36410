//! `GET /disk`: where the bytes of the data folder are.

use super::problem::Problem;
use super::{Api, on_disk};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub async fn disk(State(api): State<Api>) -> Result<Response, Problem> {
    let usage = on_disk(&api.engine, |engine| engine.store().usage().map_err(|fault| Problem::internal(&fault)));
    let usage = usage.await?;
    let parts = usage.parts.iter().map(|part| json!({"place": part.place, "what": part.what, "bytes": part.bytes}));
    Ok(Json(json!({
        "bytes": usage.bytes,
        "disk_bytes": usage.disk_bytes,
        "parts": parts.collect::<Vec<_>>(),
    }))
    .into_response())
}
