//! `POST /query/sql`: one `SELECT` on the projection, held back by `tally_projection::guarded`.

use super::{Api, Problem, kept, problem};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde_json::{Value, json};
use tally_model::Timestamp;
use tally_projection::{Place, SqlLimits, guarded};
use tokio::sync::Semaphore;

/// Bytes of a request.
pub(super) const BODY_BYTES_MAX: usize = 128 << 10;
/// Statements at once: each may keep a processor busy for its whole time.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    sql: String,
    limit: Option<usize>,
}

pub(super) async fn sql(
    State(api): State<Api>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let hint = "send {\"sql\": \"SELECT …\", \"limit\": 1000} as application/json";
    let Json(asked) = asked.map_err(|rejection| Problem::json("query", &rejection, hint))?;
    let questions = kept(&api)?;
    let Place::Sqlite(file) = questions.place().clone() else {
        let hint = "ask PostgreSQL itself, with a role of your own that may only read";
        return Err(Problem::not_found(
            "sql",
            "the projection is in PostgreSQL, and this node passes no SQL on to it",
            hint,
        ));
    };
    let _one = AT_ONCE
        .try_acquire()
        .map_err(|_| Problem::not_now("sql", "two SQL questions are being answered already", 1))?;
    let usual = SqlLimits::default();
    let limits = SqlLimits { rows: asked.limit.map_or(usual.rows, |limit| limit.min(usual.rows)), ..usual };
    let answer =
        super::super::on_disk(&api.engine, move |_| guarded(&file, &asked.sql, limits).map_err(problem)).await?;
    let rows = answer.rows.iter().map(|row| row.iter().map(tally_projection::Value::to_json).collect::<Vec<_>>());
    Ok(Json(json!({
        "ledger": answer.at.ledger, "height": answer.at.height, "checkpoint": answer.at.checkpoint,
        "time": answer.at.time.map(|time| Timestamp::from_micros(time).to_string()),
        "columns": answer.columns, "rows": rows.collect::<Vec<_>>(), "is_cut": answer.is_cut,
    })))
}
