//! What the state says, as JSON.

use super::problem::Problem;
use super::sight::{Caller, Sight};
use super::{Api, on_disk};
use crate::engine::{Engine, ReadError};
use crate::store::StateView;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tally_contracts::sight::Withheld;
use tally_contracts::views::{self, AgreementFilter, AgreementView};
use tally_contracts::{StateRead, views::AccountView};
use tally_evidence::StateClaim;
use tally_evidence::cbor::{self, Cbor};
use tally_model::AgreementId;

/// Agreements shown when the caller does not say how many.
const AGREEMENTS_USUAL: usize = 100;
/// Agreements shown at most.
const AGREEMENTS_MAX: usize = 1_000;

/// What to list.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    state: Option<String>,
    device: Option<String>,
    contract: Option<String>,
    limit: Option<usize>,
}

/// `GET /agreements?state=&device=&contract=&limit=`, newest first.
pub async fn agreements(
    State(api): State<Api>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Vec<AgreementView>>, Problem> {
    let Query(filter) = filter.map_err(|rejection| {
        Problem::bad_request("query", rejection.body_text(), "known are state, device, contract and limit")
    })?;
    let limit = filter.limit.unwrap_or(AGREEMENTS_USUAL).min(AGREEMENTS_MAX);
    let filter = AgreementFilter { contract: filter.contract, state: filter.state, device: filter.device };
    read(&api, move |state| views::agreements(state, &filter, limit)).await.map(Json)
}

/// `GET /agreements/{id}`; of one that is retired, what the outcome of its retirement says.
pub async fn agreement(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<AgreementView>, Problem> {
    let id = agreement_id(&id)?;
    let missing = no_agreement(&id);
    let found = on_disk(&api.engine, move |engine| Ok(engine.store().agreement(&id).map_err(ReadError::from)?)).await?;
    found.map(Json).ok_or(missing)
}

/// The id in a path.
pub fn agreement_id(id: &str) -> Result<AgreementId, Problem> {
    AgreementId::try_new(id)
        .map_err(|fault| Problem::bad_request("agreement-id", fault.to_string(), "GET /agreements lists them"))
}

/// Nothing of that name.
pub fn no_agreement(id: &AgreementId) -> Problem {
    Problem::not_found("agreement", format!("there is no agreement `{id}`"), "GET /agreements lists them")
}

/// `GET /accounts`.
pub async fn accounts(State(api): State<Api>) -> Result<Json<Vec<AccountView>>, Problem> {
    read(&api, views::accounts).await.map(Json)
}

/// `GET /totals`: per currency the sum of all accounts, which is 0 or the ledger is broken.
pub async fn totals(State(api): State<Api>) -> Result<Response, Problem> {
    Ok(Json(read(&api, views::totals).await?).into_response())
}

/// `GET /parties`; without name and skills of those that are hidden from the caller.
pub async fn parties(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<Value>>, Problem> {
    registered(&api, caller, |state, sight| {
        let shown = views::parties(state).into_iter().map(|(party, entry)| {
            let mut line = json!({
                "id": party.id, "kind": party.kind.word(), "name": party.name, "firm": party.firm,
                "skills": party.skills, "key": party.key.id().to_string(), "entry": entry,
                "revoked": views::is_revoked(state, &party.id),
            });
            withhold(&mut line, sight.party(&party.id)?, &["name", "skills"]);
            Ok(line)
        });
        shown.collect()
    })
    .await
}

/// `GET /devices`; without the site of those that are hidden from the caller.
pub async fn devices(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<Value>>, Problem> {
    registered(&api, caller, |state, sight| {
        let shown = views::devices(state).into_iter().map(|(device, entry)| {
            let mut line = json!({
                "id": device.id, "agent": device.agent, "owner": device.owner, "site": device.site, "entry": entry,
            });
            withhold(&mut line, sight.device(&device.id)?, &["site"]);
            Ok(line)
        });
        shown.collect()
    })
    .await
}

async fn registered(
    api: &Api,
    caller: Caller,
    list: impl FnOnce(&dyn StateRead, &Sight) -> Result<Vec<Value>, Problem> + Send + 'static,
) -> Result<Json<Vec<Value>>, Problem> {
    let listed = on_disk(&api.engine, move |engine| {
        let (sight, state) = (caller.sight(engine)?, engine.store().state()?);
        let listed = list(&state, &sight)?;
        state.check()?;
        Ok(listed)
    });
    listed.await.map(Json)
}

/// These fields are empty, and `withheld` says why.
pub(super) fn withhold(line: &mut Value, withheld: Option<Withheld>, fields: &[&str]) {
    if let Some(withheld) = withheld {
        fields.iter().for_each(|field| line[*field] = Value::Null);
        line["withheld"] = json!(withheld);
    }
}

/// How often a proof is made that should fit the value read beside it.
const PROOF_TRIES: u32 = 50;
/// Pause between two tries: a quick block's time.
const PROOF_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// `GET /state/{key}` (hexadecimal): the value of a state key, or that it has none, with the proof and the checkpoint.
pub async fn state_proof(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
) -> Result<Response, Problem> {
    let key = hex::decode(&key)
        .map_err(|_| Problem::bad_request("state-key", format!("`{key}`"), "a state key is written in hexadecimal"))?;
    let proved = on_disk(&api.engine, move |engine| {
        let ProvedState { claims, checkpoint } = prove(engine, &caller.sight(engine)?, &[key])?;
        let mut fields = vec![("checkpoint", cbor::bytes(checkpoint))];
        for StateClaim { value, proof, .. } in claims {
            fields.push(("proof", cbor::bytes(proof)));
            fields.extend(value.map(|value| ("value", cbor::bytes(value))));
        }
        Ok(cbor::encode(&cbor::map(fields)))
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "application/cbor")], proved).into_response())
}

/// What some keys of the state are, or that they are not there.
pub(super) struct ProvedState {
    pub claims: Vec<StateClaim>,
    /// The sealed checkpoint for which all of it holds.
    pub checkpoint: Vec<u8>,
}

/// What these keys are, or that they are not there, all at one sealed checkpoint. Refused when one is hidden from the reader.
pub(super) fn prove(engine: &Engine, sight: &Sight, keys: &[Vec<u8>]) -> Result<ProvedState, Problem> {
    keys.iter().try_for_each(|key| sight.needs_state_key(key))?;
    // Proof and value are read one after the other, and the proof may be of a block that readers do not see yet: where they
    // differ, look again a moment later.
    for _ in 0..PROOF_TRIES {
        if let Some(proved) = prove_once(engine, keys)? {
            return Ok(proved);
        }
        std::thread::sleep(PROOF_PAUSE);
    }
    Err(Problem::not_now("busy", "the state changes faster than it can be proved", 1))
}

fn prove_once(engine: &Engine, keys: &[Vec<u8>]) -> Result<Option<ProvedState>, Problem> {
    let (mut claims, mut sealed) = (Vec::with_capacity(keys.len()), None);
    let state = engine.store().state()?;
    let values: Vec<_> = keys.iter().map(|key| state.get(key)).collect();
    state.check()?;
    for (key, value) in keys.iter().zip(values) {
        let Some((proof, head)) = engine.store().prove_state(key)? else { return Ok(None) };
        let is_other = sealed.as_ref().is_some_and(|before| *before != head.sealed);
        if is_other || proof.verify(&head.checkpoint.state, key, value.as_deref()).is_err() {
            return Ok(None);
        }
        sealed = Some(head.sealed.clone());
        claims.push(StateClaim { key: key.clone(), value, proof: proof.encode() });
    }
    Ok(sealed.map(|checkpoint| ProvedState { claims, checkpoint }))
}

pub(super) async fn read<T: Send + 'static>(
    api: &Api,
    view: impl FnOnce(&dyn StateRead) -> T + Send + 'static,
) -> Result<T, Problem> {
    on_disk(&api.engine, move |engine| {
        let state: StateView = engine.store().state()?;
        let shown = view(&state);
        state.check()?;
        Ok(shown)
    })
    .await
}

/// CBOR as JSON (RFC 8949 §6.1): byte strings as hexadecimal, numbers beyond 64 bits as texts.
pub fn to_json(value: &Cbor) -> Value {
    match value {
        Cbor::Bool(flag) => (*flag).into(),
        Cbor::Integer(number) => {
            let number = i128::from(*number);
            match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => number.to_string().into(),
            }
        }
        Cbor::Float(number) => (*number).into(),
        Cbor::Text(text) => text.as_str().into(),
        Cbor::Bytes(bytes) => hex::encode(bytes).into(),
        Cbor::Array(items) => items.iter().map(to_json).collect(),
        Cbor::Map(pairs) => {
            let name = |key: &Cbor| match to_json(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            pairs.iter().map(|(key, value)| (name(key), to_json(value))).collect::<serde_json::Map<_, _>>().into()
        }
        Cbor::Tag(_, inner) => to_json(inner),
        _ => Value::Null,
    }
}
