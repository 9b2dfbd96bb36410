//! `GET /retention`: what would be pruned now, and how the last pass ended. `POST /retention`: a pass now instead of soon; it does
//! only what `node.yaml` says, so whoever may reach the node may ask for it.

use super::problem::Problem;
use super::{Api, on_disk};
use crate::engine::Engine;
use crate::retain::RetainFault;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

pub async fn show(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    on_disk(&api.engine, |engine| {
        let mut shown = status(engine);
        let plan = engine.retention_plan().map_err(fault)?;
        shown["plan"] = serde_json::to_value(plan).map_err(|error| Problem::internal(&error))?;
        Ok(Json(shown))
    })
    .await
}

pub async fn run(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    on_disk(&api.engine, |engine| {
        let done = engine.retain().map_err(fault)?;
        Ok(Json(serde_json::to_value(done).map_err(|error| Problem::internal(&error))?))
    })
    .await
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn fault(fault: RetainFault) -> Problem {
    Problem::internal(&fault)
}

/// What the operator wants, and how the last pass ended.
pub fn status(engine: &Engine) -> Value {
    let retention = engine.retention();
    let mut status = json!({
        "payloads_seconds": retention.payloads.map(|time| time.as_secs()),
        "disk_bytes": retention.disk,
        "archive": retention.archive,
        "kept_below": engine.store().kept_below(),
    });
    if let Some(last) = engine.last_pass() {
        status["last"] = json!({"at": last.at.to_string()});
        match last.done {
            Ok(done) => status["last"]["done"] = json!(done),
            Err(words) => status["last"]["failed"] = words.into(),
        }
    }
    status
}
