//! `GET /entries/{id}/private` and `…/private/{field}`: which private fields a call has, and one of them in clear, with everything
//! needed to check that it is what was sealed.

use super::entries::named;
use super::evidence::{Blocks, with_registrations};
use super::problem::Problem;
use super::sight::{Caller, Sight};
use super::{Api, on_disk};
use crate::engine::Engine;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tally_contracts::{Origin, PrivateField};
use tally_evidence::FieldFile;

/// The fields and what became of them; never what they say.
pub async fn list(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let answer = on_disk(&api.engine, move |engine| {
        let committed = named(engine, &id)?;
        let fields = engine.private_fields(committed.entry)?.into_iter().map(|field| {
            let state = match &field.purged {
                Some(_) => "purged",
                None if engine.opening(&field)?.is_some() => "kept",
                None => "absent",
            };
            Ok(json!({
                "field": field.field, "submitter": field.submitter, "commitment": field.commitment.to_string(),
                "state": state, "purged": field.purged,
            }))
        });
        let fields = fields.collect::<Result<Vec<_>, Problem>>()?;
        let follows = engine.following().is_some();
        Ok(json!({
            "entry": committed.entry, "statement": committed.id.to_string(), "fields": fields, "follows": follows,
        }))
    });
    Ok(axum::Json(answer.await?).into_response())
}

/// One field, as a field file.
pub async fn field(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((id, field)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let file = on_disk(&api.engine, move |engine| {
        let committed = named(engine, &id)?;
        let found = engine.private_fields(committed.entry)?.into_iter().find(|found| found.field == field);
        let text = format!("entry {} has no private field `{field}`", committed.entry);
        collect(
            engine,
            &caller.sight(engine)?,
            &found.ok_or_else(|| {
                Problem::not_found("field", text, "GET /entries/{id}/private (`tally disclose ENTRY`) lists them")
            })?,
        )
    });
    let headers = [
        (header::CONTENT_TYPE, "application/cbor"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"private.field\""),
        // Whoever may have read it, no cache on the way keeps it (RFC 9111 §5.2.2.5).
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, file.await?.encode()).into_response())
}

fn collect(engine: &Engine, sight: &Sight, field: &PrivateField) -> Result<FieldFile, Problem> {
    if field.purged.is_some() {
        return Err(Problem::purged(field));
    }
    let opening = engine.opening(field)?.ok_or_else(|| {
        let text = format!("what `{}` of entry {} says is not kept here", field.field, field.entry);
        let hint = if engine.following().is_some() {
            "this node follows another one, and openings are never handed to such a node: ask for a field file (`tally disclose`) at the node that orders, or ask who submitted it"
        } else {
            "it was never sent along, went with its statement, or this folder was made by `tally ledger join`: ask who submitted it"
        };
        Problem::not_found("opening", text, hint)
    })?;
    let state = engine.store().state()?;
    let statements = with_registrations(engine, sight, &state, &[Origin::from(field.entry)])?;
    state.check()?;
    let mut blocks = Blocks::new(engine);
    let entries = statements.into_iter().map(|(origin, (subject, bytes))| blocks.entry(origin, subject, &bytes));
    Ok(FieldFile {
        ledger: engine.ledger().to_owned(),
        key: engine.key().clone(),
        entries: entries.collect::<Result<_, _>>()?,
        openings: vec![opening],
    })
}
