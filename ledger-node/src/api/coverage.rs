//! `GET /devices/{id}/coverage?from=&to=`: everything the ledger has to say about whether readings of a device are missing, in
//! one file that anyone can check.
//!
//! It holds the device's anchors that reach from before `from` to behind `to`, the registrations they rest on, and what the
//! state says today of the device and its agents. Whether that answers the question is for the reader to find out.

use super::evidence::{Blocks, Shown, with_registrations, witnessed};
use super::problem::Problem;
use super::sight::{Caller, Sight};
use super::{Api, on_disk, views as answers};
use crate::engine::{Engine, logged};
use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use tally_contracts::{Origin, views};
use tally_evidence::{CoverageFile, Question, StatementKind, device_state_key, revocation_state_key};
use tally_model::{DeviceId, Timestamp};

/// Anchors in one file: two weeks at one a minute, some 30 MB.
const ANCHORS_MAX: u64 = 20_000;

/// Which time.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Receive time in µs since the epoch, inclusive.
    from: i64,
    /// Likewise.
    to: i64,
}

/// The handler.
pub async fn coverage(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Asked { from, to }) = asked.map_err(|rejection| {
        Problem::bad_request("query", rejection.body_text(), "write from= and to= in microseconds since the epoch")
    })?;
    let device = DeviceId::try_new(&id)
        .map_err(|fault| Problem::bad_request("device-id", fault.to_string(), "GET /devices lists them"))?;
    if from > to {
        return Err(Problem::bad_request("query", format!("from={from} is behind to={to}"), "swap them"));
    }
    let question = Question { device, from: Timestamp::from_micros(from), to: Timestamp::from_micros(to) };
    let name = format!("attachment; filename=\"{}.coverage\"", question.device);
    let shown = api.cosigning.witnesses.as_ref().and_then(|witnesses| witnesses.shown());
    let file = on_disk(&api.engine, move |engine| collect(engine, &caller.sight(engine)?, question, shown)).await?;
    let headers = [(header::CONTENT_TYPE, "application/cbor".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, file.encode()).into_response())
}

fn collect(engine: &Engine, sight: &Sight, question: Question, shown: Option<Shown>) -> Result<CoverageFile, Problem> {
    let state = engine.store().state()?;
    let device = &question.device;
    if views::device(&state, device).is_none() {
        state.check()?;
        let text = format!("device `{device}` is not registered");
        return Err(Problem::not_found("device", text, "GET /devices lists them"));
    }
    let anchors = views::anchors(&state, device, (question.from, question.to), ANCHORS_MAX).ok_or_else(|| {
        let text = format!("more than {ANCHORS_MAX} anchors cover this time");
        Problem::bad_request("query", text, "ask for a shorter time, piece by piece")
    })?;
    let wanted: BTreeSet<_> = anchors.iter().flat_map(|anchor| [anchor.entry, anchor.registered]).collect();
    let wanted: Vec<_> = wanted.into_iter().map(Origin::from).collect();
    let statements = with_registrations(engine, sight, &state, &wanted)?;
    state.check()?;
    let mut keys = BTreeSet::from([device_state_key(device)]);
    for (origin, (_, bytes)) in &statements {
        let statement = logged(origin.entry, bytes)?;
        if statement.kind == StatementKind::Anchor {
            keys.insert(revocation_state_key(&statement.issuer));
        }
    }
    let witnessed = shown.and_then(|shown| witnessed(engine, &statements, shown));
    let mut blocks = Blocks::new(engine);
    let entries = statements.into_iter().map(|(origin, (subject, bytes))| blocks.entry(origin, subject, &bytes));
    let entries = entries.collect::<Result<_, _>>()?;
    let keys: Vec<_> = keys.into_iter().collect();
    let answers::ProvedState { claims, checkpoint } = answers::prove(engine, sight, &keys)?;
    Ok(CoverageFile {
        ledger: engine.ledger().to_owned(),
        key: engine.key().clone(),
        digest: question.digest(),
        question,
        entries,
        checkpoint,
        state: claims,
        witnessed,
    })
}
