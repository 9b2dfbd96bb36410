//! Statements in, receipts out; outcomes and checkpoints.

use super::problem::Problem;
use super::sight::{Caller, Sight, shown};
use super::views::to_json;
use super::{Api, on_disk};
use crate::engine::{Committed, Engine, ReadError};
use crate::store::CommitError;
use crate::witness::Standing;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::Refusal;
use tally_evidence::{BatchEnvelope, BatchedTrigger, Checkpoint, OutcomeRecord, Place, ShownTrigger, StatementId};
use tally_model::Timestamp;

const COSE: &str = "application/cose";
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

/// `GET /entries/{id}/outcome`: what the contracts made of it, as JSON or as the CBOR that the checkpoint binds.
pub async fn outcome(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_cbor = wants(&headers, CBOR);
    on_disk(&api.engine, move |engine| {
        let sight = caller.sight(engine)?;
        let (outcome, triggers) = outcomes_of(engine, &sight, &id)?;
        if is_cbor {
            whole_outcome(&sight, &outcome.0)?;
            return Ok(([(header::CONTENT_TYPE, CBOR)], outcome.0).into_response());
        }
        let json = |(outcome, detail): &Told| match OutcomeRecord::decode(outcome) {
            Ok(outcome) => outcome_json(&sight, &outcome, detail.as_deref()),
            Err(fault) => Err(Problem::internal(&fault)),
        };
        let mut answer = json(&outcome)?;
        if !triggers.is_empty() {
            answer["triggers"] = triggers.iter().map(json).collect::<Result<_, _>>()?;
        }
        Ok(axum::Json(answer).into_response())
    })
    .await
}

/// What the checkpoint binds cannot be shown in part.
fn whole_outcome(sight: &Sight, outcome: &[u8]) -> Result<(), Problem> {
    let outcome = OutcomeRecord::decode(outcome).map_err(|fault| Problem::internal(&fault))?;
    let what = || "the outcome as CBOR (as JSON it is shown without that)".to_owned();
    outcome.events.iter().try_for_each(|event| shown(sight.event(event)?, what))
}

/// An encoded outcome, and what the node has to say of it when it is a refusal.
type Told = (Vec<u8>, Option<String>);

/// The outcome of what is asked for; behind that of a batch those of its triggers.
fn outcomes_of(engine: &Engine, sight: &Sight, name: &str) -> Result<(Told, Vec<Told>), Problem> {
    let name = EntryName::parse(name)?;
    let entry = name.committed(engine)?.entry;
    let is_hidden = !sight.is_whole() && is_hidden(engine, sight, entry)?;
    let damaged = || Problem::from(ReadError::Entry(entry));
    let place = engine.store().place_of(entry)?.ok_or_else(damaged)?;
    let own = place.row.outcome_of(place.place) as u64;
    let triggers = u64::from(place.row.triggers_of(place.place).unwrap_or(0));
    let wanted = match name.item.map(u64::from) {
        Some(item) if item >= triggers => return Err(name.missing()),
        Some(item) => own + 1 + item..own + 2 + item,
        None => own..own + 1 + triggers,
    };
    let outcomes = engine.store().outcomes_left(&place, wanted.clone()).map_err(ReadError::from)?;
    // The words about a refusal repeat what the statement says.
    let detail = |index| if is_hidden { Ok(None) } else { engine.store().detail(place.height, index) };
    let tell = |(index, outcome)| Ok::<Told, Problem>((outcome, detail(index)?));
    let mut told = wanted.zip(outcomes).map(tell);
    let first = told.next().ok_or_else(damaged)??;
    Ok((first, told.collect::<Result<_, _>>()?))
}

/// Whether the statement of an entry is hidden; what is no longer kept might have been.
fn is_hidden(engine: &Engine, sight: &Sight, entry: u64) -> Result<bool, Problem> {
    match engine.entry(entry) {
        Ok(Some((_, bytes))) => Ok(sight.entry(entry, &bytes)?.is_some()),
        Ok(None) | Err(ReadError::Store(CommitError::Pruned(_))) => Ok(true),
        Err(error) => Err(error.into()),
    }
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

/// An entry, or one trigger of a batch.
struct Found {
    committed: Committed,
    /// As the log has them.
    bytes: Vec<u8>,
    /// The trigger, when one was asked for.
    batched: Option<BatchedTrigger>,
}

impl Found {
    fn statement(&self) -> Result<&[u8], ReadError> {
        BatchEnvelope::statement_in(&self.bytes).map_err(|_| ReadError::Entry(self.committed.entry))
    }
}

/// What an entry is called: by statement id or by index; `.N` behind it names trigger `N` of a batch.
struct EntryName<'a> {
    name: &'a str,
    entry: Result<StatementId, u64>,
    item: Option<u32>,
}

impl<'a> EntryName<'a> {
    fn parse(name: &'a str) -> Result<Self, Problem> {
        let malformed = || Problem::bad_request("entry-id", format!("`{name}` names no entry"), ID_HINT);
        let (id, item) = name.split_once('.').map_or((name, None), |(id, item)| (id, Some(item)));
        let item = item.map(|item| item.parse::<u32>().map_err(|_| malformed())).transpose()?;
        let entry = match (id.parse::<StatementId>(), id.parse::<u64>()) {
            (Ok(id), _) => Ok(id),
            (_, Ok(index)) => Err(index),
            _ => return Err(malformed()),
        };
        Ok(Self { name, entry, item })
    }

    fn missing(&self) -> Problem {
        Problem::not_found("entry", format!("there is no entry `{}`", self.name), ID_HINT)
    }

    /// The entry; also when its statement was pruned.
    fn committed(&self, engine: &Engine) -> Result<Committed, Problem> {
        let found = match self.entry {
            Ok(id) => Some(find_by_id(engine, &id)?),
            Err(index) => engine.committed(index)?,
        };
        found.ok_or_else(|| self.missing())
    }
}

/// The entry of this name; also when its statement was pruned.
pub(super) fn named(engine: &Engine, name: &str) -> Result<Committed, Problem> {
    EntryName::parse(name)?.committed(engine)
}

const ID_HINT: &str = "an entry is named by the 64 hexadecimal digits of its statement id, or by its index; \
     `.N` behind it names trigger N of a batch, from 0";

/// An entry that this caller may see.
fn find(engine: &Engine, caller: &Caller, name: &str) -> Result<Found, Problem> {
    let name = EntryName::parse(name)?;
    let entry = name.committed(engine)?.entry;
    let (committed, bytes) = engine.entry(entry)?.ok_or_else(|| name.missing())?;
    shown(caller.sight(engine)?.entry(entry, &bytes)?, || format!("the statement {} (entry {entry})", committed.id))?;
    let show =
        |item| BatchEnvelope::split(&bytes).ok().and_then(|batch| batch.show(item)).ok_or_else(|| name.missing());
    let batched = name.item.map(show).transpose()?;
    Ok(Found { committed, bytes, batched })
}

/// An entry, or how far its statement is.
fn find_by_id(engine: &Engine, id: &StatementId) -> Result<Committed, Problem> {
    if let Some(found) = engine.find_committed(id)? {
        return Ok(found);
    }
    if let Some(state) = engine.on_its_way(id) {
        return Err(Problem::on_its_way(id, state));
    }
    // It may have arrived between the two looks.
    let hint = "never seen here, or lost in a crash before it was durable: send the statement (again)";
    engine.find_committed(id)?.ok_or_else(|| Problem::not_found("entry", format!("there is no entry `{id}`"), hint))
}

/// An outcome for people, with what the node has to say of a refusal, without what this reader may not see.
pub fn outcome_json(
    sight: &Sight,
    outcome: &OutcomeRecord,
    detail: Option<&str>,
) -> Result<serde_json::Value, Problem> {
    let events = outcome.events.iter().map(|event| {
        let data = event.data.iter().map(|(name, value)| (name.clone(), to_json(value)));
        let mut data = data.collect::<serde_json::Map<_, _>>();
        sight.take_out(&event.kind, &event.subject, &mut data)?;
        Ok::<_, Problem>(json!({"kind": event.kind, "subject": event.subject, "data": data}))
    });
    let mut json = json!({
        "height": outcome.height,
        "refusal": outcome.refusal,
        "events": events.collect::<Result<Vec<_>, _>>()?,
    });
    if !outcome.is_done() {
        json["refusal_text"] = Refusal::describe(outcome.refusal).into();
        if let Some(detail) = detail {
            json["refusal_detail"] = detail.into();
        }
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
    Ok(json)
}

/// Whether the caller prefers this media type over our usual one.
fn wants(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|part| part.split(';').next().unwrap_or_default().trim() == media_type)
}
