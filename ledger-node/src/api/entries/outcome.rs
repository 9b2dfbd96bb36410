//! What the contracts made of an entry: as the CBOR that the checkpoint binds, or for people without what the caller may not see.

use super::name::EntryName;
use super::{CBOR, wants};
use crate::api::problem::Problem;
use crate::api::sight::{Caller, Sight, shown};
use crate::api::views::to_json;
use crate::api::{Api, on_disk};
use crate::engine::{Engine, ReadError};
use crate::store::CommitError;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tally_contracts::Refusal;
use tally_evidence::{OutcomeRecord, Place};
use tally_model::Timestamp;

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
