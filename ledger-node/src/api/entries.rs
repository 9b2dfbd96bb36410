//! Statements in, receipts out.

mod name;
mod outcome;

pub(super) use name::named;
pub use outcome::{outcome, outcome_json};

use super::problem::Problem;
use super::sight::Caller;
use super::{Api, on_disk};
use crate::engine::{Committed, Engine};
use crate::witness::Standing;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use name::{EntryName, find};
use std::sync::Arc;
use std::time::Duration;
use tally_evidence::{BatchEnvelope, ShownTrigger};

pub(super) const COSE: &str = "application/cose";
const CBOR: &str = "application/cbor";
/// A signed statement with the triggers that it seals (`docs/formats/batch.cddl`).
const SEALED_BATCH: &str = "application/vnd.tallystick.sealed-batch+cbor";
/// Time for a statement's bytes, once its head is here: a megabyte takes a second on the slowest wire we know of. Whoever
/// dribbles loses his place before it is missed.
const BODY_TIME: Duration = Duration::from_secs(5);

/// `POST /entries`: 201 with the receipt when the statement is on the disk and as many witnesses saw it as the policy asks for;
/// 202 when they did not yet.
pub async fn submit(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    is_cose(request.headers())?;
    let body = receive(&api.engine, request).await?;
    let bytes = Arc::<[u8]>::from(body.as_ref());
    let committed = if BatchEnvelope::is_one(&bytes) {
        // Reading a thousand triggers takes milliseconds, in which others want to be answered.
        let ticket = on_disk(&api.engine, move |engine| Ok(engine.admit(bytes)?)).await?;
        api.engine.settled(ticket).await?
    } else {
        api.engine.submit(bytes).await?
    };
    if let Some(witnesses) = &api.cosigning.witnesses
        && let Standing::Durable { have, need } = witnesses.settle(committed.size).await
    {
        return Ok(not_final(&committed, have, need));
    }
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
        COSE | "application/scitt-statement+cose" | SEALED_BATCH => Ok(()),
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

/// Durable, but not final: no receipt yet (SCRAPI: 202, `Location`, `Retry-After`).
fn not_final(committed: &Committed, have: usize, need: usize) -> Response {
    let mut response = Problem::not_final(have, need).into_response();
    let missing = format!("waiting for {} of {need}", need.saturating_sub(have));
    for (name, value) in [("tally-witnesses", missing), ("location", format!("/entries/{}", committed.id))] {
        // Digits and letters always make a header.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    let place = place_headers(committed).into_iter().filter_map(|(name, value)| Some((name?, value)));
    // Its state is durable, whatever it will be.
    response.headers_mut().extend(place.filter(|(name, _)| name.as_str() != "tally-state"));
    response
}

/// Where the statement stands, for those who do not look into receipts.
fn place_headers(committed: &Committed) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("tally-entry", committed.entry.into());
    headers.insert("tally-height", committed.height.into());
    headers.insert("tally-state", HeaderValue::from_static(committed.state()));
    if committed.refusal != 0 {
        headers.insert("tally-refusal", committed.refusal.into());
    }
    if committed.refused != 0 {
        headers.insert("tally-refused-triggers", committed.refused.into());
    }
    headers
}

/// `GET /entries/{id}`: the receipt; of one trigger of a batch everything that shows it, without the others. 202 while it is not final.
pub async fn receipt(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (committed, media_type, shown) = on_disk(&api.engine, move |engine| {
        let name = EntryName::parse(&id)?;
        if name.item.is_none() {
            // Also when its statement was pruned.
            let committed = name.committed(engine)?;
            let receipt = engine.receipt(&committed)?;
            return Ok((committed, COSE, receipt));
        }
        let found = find(engine, &caller, &id)?;
        let receipt = engine.receipt(&found.committed)?;
        let statement = found.statement()?.to_vec();
        Ok(match found.batched {
            None => (found.committed, COSE, receipt),
            Some(batched) => (found.committed, CBOR, ShownTrigger { statement, receipt, batched }.encode()),
        })
    })
    .await?;
    if let Some(Standing::Durable { have, need }) =
        api.cosigning.witnesses.map(|witnesses| witnesses.standing(committed.size))
    {
        return Ok(not_final(&committed, have, need));
    }
    Ok(([(header::CONTENT_TYPE, media_type)], place_headers(&committed), shown).into_response())
}

/// `GET /entries/{id}/statement`: the signed statement, as it came; of a batch without its triggers.
pub async fn statement(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (committed, statement) = on_disk(&api.engine, move |engine| {
        let found = find(engine, &caller, &id)?;
        let statement = found.statement()?.to_vec();
        Ok((found.committed, statement))
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, COSE)], place_headers(&committed), statement).into_response())
}

/// `GET /entries/{id}/batch`: a batch with all its triggers, as it came.
pub async fn batch(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let found = on_disk(&api.engine, move |engine| find(engine, &caller, &id)).await?;
    if !BatchEnvelope::is_one(&found.bytes) {
        let hint = "its statement is at /entries/{id}/statement";
        return Err(Problem::not_found("batch", format!("entry {} is no batch", found.committed.entry), hint));
    }
    Ok(([(header::CONTENT_TYPE, SEALED_BATCH)], place_headers(&found.committed), found.bytes).into_response())
}

/// Whether the caller prefers this media type over our usual one.
pub(super) fn wants(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|part| part.split(';').next().unwrap_or_default().trim() == media_type)
}
