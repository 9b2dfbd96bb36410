//! `GET /alarms`: what somebody has to look at. `POST /alarms/{id}`: he has.

use super::Api;
use super::problem::Problem;
use crate::alarms::{AlarmFault, AlarmKind, Alarms};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of a request.
pub(super) const BODY_BYTES_MAX: usize = 8 << 10;

const HINT: &str = "GET /alarms lists them; send {\"by\": \"NAME\", \"words\": \"what was found\"} as application/json";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Words {
    by: String,
    words: String,
}

/// The list, oldest first, and how many wait for somebody.
pub(super) async fn list(State(api): State<Api>) -> Json<Value> {
    let alarms = api.alarms.all();
    let open = alarms.iter().filter(|alarm| alarm.acknowledged.is_none()).count();
    Json(json!({"open": open, "alarms": alarms}))
}

pub(super) async fn acknowledge(
    State(api): State<Api>,
    Path(id): Path<String>,
    said: Result<Json<Words>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(Words { by, words }) = said.map_err(|rejection| Problem::json("alarm", &rejection, HINT))?;
    let id: u64 =
        id.parse().map_err(|_| Problem::bad_request("alarm", format!("`{id}` is no number of an alarm"), HINT))?;
    let alarms = Arc::clone(&api.alarms);
    let done = tokio::task::spawn_blocking(move || alarms.acknowledge(id, &by, &words)).await;
    let alarm = done.map_err(|error| Problem::internal(&error))?.map_err(problem)?;
    Ok(Json(json!(alarm)))
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn problem(fault: AlarmFault) -> Problem {
    match fault {
        AlarmFault::Unknown(_) => Problem::not_found("alarm", fault.to_string(), HINT),
        AlarmFault::Already(..) => Problem::new(StatusCode::CONFLICT, "acknowledged", fault.to_string(), HINT),
        AlarmFault::Words { .. } => Problem::bad_request("alarm", fault.to_string(), HINT),
        AlarmFault::Io { .. } | AlarmFault::File { .. } => Problem::internal(&fault),
    }
}

/// How many wait for somebody, for Prometheus: a line for each kind, also where there is none.
pub(super) fn metrics(alarms: &Alarms) -> String {
    let mut text = "# HELP tally_alarms alarms that nobody has acknowledged\n# TYPE tally_alarms gauge\n".to_owned();
    for kind in AlarmKind::ALL {
        text += &format!("tally_alarms{{kind=\"{}\"}} {}\n", kind.word(), alarms.open_of(kind));
    }
    text
}
