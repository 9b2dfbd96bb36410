//! Is it alive, is it ready, how is it.

use super::Api;
use super::problem::Problem;
use crate::alarms::AlarmKind;
use crate::engine::NodeState;
use crate::projection::{Questions, Status};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::time::Duration;
use tally_contracts::views;

/// Longest time ordering may not get on, being away on the disk, before the node calls itself not ready.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Routes that always answer.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/live", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
}

/// `GET /ready`: 200 when statements are taken, or blocks of the node that orders; 503 otherwise.
async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    match api.engine.state() {
        NodeState::Running if api.engine.silence() > SILENCE_MAX => {
            let text = format!("the disk has not answered for {:?}", api.engine.silence());
            Err(Problem::not_now("disk", text, 10))
        }
        NodeState::Running => Ok("ready\n"),
        NodeState::Following => Ok("following\n"),
        NodeState::Stopping => Err(Problem::not_now("stopping", "the node is stopping", 2)),
        NodeState::Failed(reason) => Err(Problem::not_now("failed", reason, 10)),
    }
}

/// `GET /metrics` in Prometheus' text format.
async fn metrics(State(api): State<Api>) -> Response {
    let metrics = api.engine.metrics();
    metrics.failed.set(i64::from(matches!(api.engine.state(), NodeState::Failed(_))));
    metrics.queue.set(i64::try_from(api.engine.queued()).unwrap_or(i64::MAX));
    metrics.log_bytes.set(i64::try_from(api.engine.store().log_bytes()).unwrap_or(i64::MAX));
    metrics.index_waiting.set(i64::try_from(api.engine.store().index_waiting()).unwrap_or(i64::MAX));
    if let Some(questions) = &api.questions {
        let height = questions.status().height.and_then(|height| i64::try_from(height).ok()).unwrap_or(-1);
        metrics.projection_height.set(height);
    }
    let kept_below = api.engine.store().kept_below();
    metrics.kept_below.set(i64::try_from(kept_below).unwrap_or(i64::MAX));
    if let Some(last) = api.engine.last_pass() {
        metrics.retention_failed.set(i64::from(last.done.is_err()));
        if let Ok(done) = last.done {
            metrics.data_bytes.set(i64::try_from(done.bytes).unwrap_or(i64::MAX));
            metrics.data_bytes_over.set(i64::try_from(done.over).unwrap_or(i64::MAX));
        }
    }
    if let Some(head) = api.engine.store().head() {
        metrics.height.set(i64::try_from(head.checkpoint.height).unwrap_or(i64::MAX));
    }
    if let Some(following) = api.engine.following() {
        let behind = following.behind(api.engine.store().head().map(|head| head.checkpoint.height));
        metrics.following_behind.set(behind.and_then(|behind| i64::try_from(behind).ok()).unwrap_or(i64::MAX));
        metrics.following_fault.set(i64::from(following.fault.is_some()));
    }
    let mut text = metrics.text();
    if let Some(witnesses) = &api.cosigning.witnesses {
        text.extend(witnesses.tallies().text(witnesses.lag()));
    }
    if let Some(witness) = &api.cosigning.witness {
        text.extend(witness.metrics().text());
    }
    text.extend(super::alarms::metrics(&api.alarms).into_bytes());
    text.extend(api.doorkeeper.text().into_bytes());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// `GET /status`.
async fn status(State(api): State<Api>) -> Response {
    let engine = &api.engine;
    let state = engine.state();
    let mut status = json!({
        "ledger": engine.ledger(),
        "key": engine.key().id().to_string(),
        "state": state.word(),
        "queue": engine.queued(),
        "uptime_seconds": engine.uptime().as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(head) = engine.store().head() {
        status["height"] = head.checkpoint.height.into();
        status["size"] = head.checkpoint.size.into();
        status["time"] = head.checkpoint.time.to_string().into();
    }
    if let Ok(state) = engine.store().state() {
        status["retire_after_seconds"] = views::retire_after(&state).map(|after| after.as_secs()).into();
    }
    if let Some(questions) = &api.questions {
        status["projection"] = projection(questions, status["height"].as_u64());
    }
    if engine.retention().is_on() {
        status["retention"] = super::retention::status(engine);
    }
    if let Some(witnesses) = &api.cosigning.witnesses {
        status["witnesses"] = witnesses.status(engine.store().head().map_or(0, |head| head.checkpoint.size));
    }
    if let Some(witness) = &api.cosigning.witness {
        status["witness_for"] = crate::witness::status_of(witness);
    }
    if let Some(following) = engine.following() {
        status["following"] = following.status(engine.store().head().map(|head| head.checkpoint.height));
    }
    let open = AlarmKind::ALL.into_iter().map(|kind| api.alarms.open_of(kind)).sum::<usize>();
    status["alarms"] = open.into();
    if let NodeState::Failed(reason) = state {
        status["failure"] = reason.into();
    }
    Json(status).into_response()
}

/// How far the tables for questions are.
fn projection(questions: &Questions, head: Option<u64>) -> serde_json::Value {
    let Status { height, fault } = questions.status();
    let behind = head.map_or(0, |head| head + 1).saturating_sub(height.map_or(0, |height| height + 1));
    json!({"place": questions.place().to_string(), "height": height, "behind_blocks": behind, "fault": fault})
}
