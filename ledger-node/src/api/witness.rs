//! This node as a witness of other ledgers: `witness_for` of node.yaml. Rules and records are those of `tally witness`
//! ([`crate::witness`]); who asks shows who he is by the signature of the log's key, so these routes need no role.

use super::Api;
use super::problem::Problem;
use crate::witness::{self, Witness};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;

/// C2SP tlog-witness under the prefix `/witness`.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/witness/add-checkpoint", post(add_checkpoint))
        .route("/witness/{hash}/checkpoint", get(checkpoint))
}

/// `POST /witness/add-checkpoint`.
async fn add_checkpoint(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    witness::judged(witness_of(api)?, request).await
}

/// `GET /witness/{hash}/checkpoint`, `hash` being SHA-256 of the origin in hexadecimal.
async fn checkpoint(State(api): State<Api>, Path(hash): Path<String>) -> Result<Response, Problem> {
    witness::shown(&*witness_of(api)?, &hash)
}

fn witness_of(api: Api) -> Result<Arc<Witness>, Problem> {
    let hint = "`witness_for` in node.yaml makes it one: docs/operator/witness.md";
    api.cosigning
        .witness
        .ok_or_else(|| Problem::not_found("no-witness", "this node is no witness of other ledgers", hint))
}
