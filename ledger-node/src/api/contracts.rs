//! The contracts that the ledger goes by, as they were deployed: what an order's numbers mean, and what an auditor reads.

use super::problem::Problem;
use super::{Api, on_disk};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tally_contracts::{StateRead, views};
use tally_model::ContractName;

/// Which version.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    version: Option<u64>,
}

/// `GET /contracts/{name}?version=`: its text; the version in force when none is named.
pub async fn contract(
    State(api): State<Api>,
    Path(name): Path<String>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(which) = which.map_err(|rejection| {
        Problem::bad_request("query", rejection.body_text(), "known is version, a number from 1")
    })?;
    let hint = "an agreement says its contract and version";
    let name =
        ContractName::try_new(&name).map_err(|fault| Problem::bad_request("contract", fault.to_string(), hint))?;
    let missing = Problem::not_found("contract", format!("there is no contract `{name}` of that version"), hint);
    let text = on_disk(&api.engine, move |engine| {
        let state = engine.store().state()?;
        let text = views::contract_text(&state as &dyn StateRead, &name, which.version);
        state.check()?;
        Ok(text)
    })
    .await?;
    let text = text.ok_or(missing)?;
    // RFC 9512.
    Ok(([(header::CONTENT_TYPE, "application/yaml")], text).into_response())
}
