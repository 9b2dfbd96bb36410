//! Statements in, receipts out; outcomes and checkpoints.

use super::problem::Problem;
use super::views::to_json;
use super::{Api, on_disk};
use crate::engine::{Committed, Engine, ReadError};
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::Refusal;
use tally_evidence::{Checkpoint, OutcomeRecord, Place, StatementId};
use tally_model::Timestamp;

const COSE: &str = "application/cose";
const CBOR: &str = "application/cbor";
/// Time for a statement's bytes, once its head is here: a megabyte takes a second on the slowest wire we know of. Whoever
/// dribbles loses his place before it is missed.
const BODY_TIME: Duration = Duration::from_secs(5);

/// `POST /entries`: 201 when the statement is on the disk, with its receipt.
pub async fn submit(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    is_cose(request.headers())?;
    let body = receive(&api.engine, request).await?;
    let committed = api.engine.submit(Arc::<[u8]>::from(body.as_ref())).await?;
    let receipt = api.engine.receipt(&committed)?;
    let location = format!("/entries/{}", committed.id);
    let headers = [(header::CONTENT_TYPE, COSE.to_owned()), (header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, place_headers(&committed), receipt).into_response())
}

/// The body. What says itself that it is too large is refused before its first byte (RFC 9110 §15.5.14), what does not say is
/// refused at the limit, and what does not come is not waited for.
async fn receive(engine: &Engine, request: Request) -> Result<Bytes, Problem> {
    let said = said_bytes(request.headers());
    let bytes_max = engine.limits().body_bytes_max;
    if said.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large(engine, said));
    }
    match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large(engine, said)),
        Ok(Err(_)) | Err(_) => Err(Problem::body_timeout()),
    }
}

/// What the head says about the body; a number beyond `usize` is `usize::MAX`. Hyper has refused what is no number.
fn said_bytes(headers: &HeaderMap) -> Option<usize> {
    let said = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    said.bytes().all(|byte| byte.is_ascii_digit()).then(|| said.parse().unwrap_or(usize::MAX))
}

fn is_cose(headers: &HeaderMap) -> Result<(), Problem> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("(not said)");
    // Parameters such as `cose-type="cose-sign1"` (RFC 9052 §10.1) change nothing.
    let essence = found.split(';').next().unwrap_or_default().trim();
    match essence {
        COSE | "application/scitt-statement+cose" => Ok(()),
        _ => Err(Problem::media_type(found)),
    }
}

fn too_large(engine: &Engine, said: Option<usize>) -> Problem {
    let bytes_max = engine.limits().body_bytes_max;
    let refused = crate::admit::Refused::TooLarge { bytes: said.unwrap_or(bytes_max + 1), bytes_max };
    // It never comes to `Engine::submit`, where the others are counted.
    engine.metrics().refused(refused.code());
    refused.into()
}

/// Where the statement stands, for those who do not look into receipts.
fn place_headers(committed: &Committed) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("tally-entry", committed.entry.into());
    headers.insert("tally-height", committed.height.into());
    if committed.refusal != 0 {
        headers.insert("tally-refusal", committed.refusal.into());
    }
    headers
}

/// `GET /entries/{id}`: the receipt.
pub async fn receipt(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let (committed, receipt) = on_disk(&api.engine, move |engine| {
        let (committed, _) = find(engine, &id)?;
        let receipt = engine.receipt(&committed)?;
        Ok((committed, receipt))
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, COSE)], place_headers(&committed), receipt).into_response())
}

/// `GET /entries/{id}/statement`: the signed statement, as it came.
pub async fn statement(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let (committed, statement) = on_disk(&api.engine, move |engine| find(engine, &id)).await?;
    Ok(([(header::CONTENT_TYPE, COSE)], place_headers(&committed), statement).into_response())
}

/// `GET /entries/{id}/outcome`: what the contracts made of it, as JSON or as the CBOR that the checkpoint binds.
pub async fn outcome(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let outcome = on_disk(&api.engine, move |engine| {
        let (committed, _) = find(engine, &id)?;
        let damaged = || Problem::from(ReadError::Entry(committed.entry));
        let place = engine.store().place_of(committed.entry)?.ok_or_else(damaged)?;
        let outcomes = engine.store().outcomes(place.height)?.ok_or_else(damaged)?;
        outcomes.get(place.row.terms as usize + place.place).cloned().ok_or_else(damaged)
    })
    .await?;
    if wants(&headers, CBOR) {
        return Ok(([(header::CONTENT_TYPE, CBOR)], outcome).into_response());
    }
    let outcome = OutcomeRecord::decode(&outcome).map_err(|fault| Problem::internal(&fault))?;
    Ok(axum::Json(outcome_json(&outcome)).into_response())
}

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

/// By statement id or by index.
pub fn find(engine: &Engine, id: &str) -> Result<(Committed, Vec<u8>), Problem> {
    const HINT: &str = "an entry is named by the 64 hexadecimal digits of its statement id, or by its index";
    let found = match (id.parse::<StatementId>(), id.parse::<u64>()) {
        (Ok(id), _) => engine.find(&id)?,
        (_, Ok(index)) => engine.entry(index)?,
        _ => return Err(Problem::bad_request("entry-id", format!("`{id}` names no entry"), HINT)),
    };
    found.ok_or_else(|| Problem::not_found("entry", format!("there is no entry `{id}`"), HINT))
}

/// An outcome for people.
pub fn outcome_json(outcome: &OutcomeRecord) -> serde_json::Value {
    let events = outcome.events.iter().map(|event| {
        let data = event.data.iter().map(|(name, value)| (name.clone(), to_json(value)));
        json!({"kind": event.kind, "subject": event.subject, "data": data.collect::<serde_json::Map<_, _>>()})
    });
    let mut json = json!({
        "height": outcome.height,
        "refusal": outcome.refusal,
        "events": events.collect::<Vec<_>>(),
    });
    if !outcome.is_done() {
        json["refusal_text"] = Refusal::describe(outcome.refusal).into();
    }
    match &outcome.place {
        Place::Entry { index, statement } => {
            json["entry"] = (*index).into();
            json["statement"] = statement.to_string().into();
        }
        Place::Item { index, statement, item } => {
            json["entry"] = (*index).into();
            json["statement"] = statement.to_string().into();
            json["item"] = (*item).into();
        }
        Place::Term { agreement, due } => {
            json["agreement"] = agreement.as_str().into();
            json["due"] = Timestamp::from_micros(*due).to_string().into();
        }
    }
    json
}

/// Whether the caller prefers this media type over our usual one.
fn wants(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|part| part.split(';').next().unwrap_or_default().trim() == media_type)
}
