//! Who somebody was at a height, as JSON, with the proof: `GET /registry/parties/{id}` and `GET /registry/devices/{id}`.

use super::problem::Problem;
use super::views::{ProvedState, prove};
use super::{Api, on_disk};
use crate::engine::{Engine, ReadError};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};
use tally_contracts::resolve::{self, FingerprintView, Version};
use tally_contracts::{StateRead, views};
use tally_evidence::{DeviceRecord, PartyKind, PartyRecord};
use tally_model::{DeviceId, Grade, PartyId, Timestamp};

/// Fingerprints shown of each kind, the newest first.
const FINGERPRINTS_MAX: u64 = 100;

/// At which height.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    at: Option<u64>,
}

type Asked = Result<Query<At>, QueryRejection>;

/// `GET /registry/parties/{id}?at=HEIGHT`.
pub async fn party(State(api): State<Api>, Path(id): Path<String>, at: Asked) -> Result<Json<Value>, Problem> {
    let at = height(at)?;
    let id = PartyId::try_new(&id).map_err(|fault| bad_id(&fault))?;
    on_disk(&api.engine, move |engine| {
        let state = engine.store().state()?;
        let versions = resolve::party_versions(&state, &id);
        let now = engine.store().head().map_or(Timestamp::from_micros(0), |head| head.checkpoint.time);
        let more = json!({
            "revoked": views::is_revoked(&state, &id),
            "recovery": resolve::recovery(&state, &id, now),
        });
        state.check()?;
        answer(engine, (b'p', id.as_str()), &versions, at, party_json, more)
    })
    .await
    .map(Json)
}

/// `GET /registry/devices/{id}?at=HEIGHT`.
pub async fn device(State(api): State<Api>, Path(id): Path<String>, at: Asked) -> Result<Json<Value>, Problem> {
    let at = height(at)?;
    let id = DeviceId::try_new(&id).map_err(|fault| bad_id(&fault))?;
    on_disk(&api.engine, move |engine| {
        let state = engine.store().state()?;
        let versions = resolve::device_versions(&state, &id);
        let prints = resolve::fingerprints(&state, &id, FINGERPRINTS_MAX);
        let more = json!({
            "grade": grade(&state, &id).word(),
            "fingerprints": prints.iter().map(fingerprint).collect::<Vec<_>>(),
        });
        state.check()?;
        answer(engine, (b'd', id.as_str()), &versions, at, device_json, more)
    })
    .await
    .map(Json)
}

fn height(at: Asked) -> Result<Option<u64>, Problem> {
    let known = "known is at, a height";
    at.map(|Query(at)| at.at).map_err(|rejection| Problem::bad_request("query", rejection.body_text(), known))
}

fn bad_id(fault: &tally_model::IdFault) -> Problem {
    Problem::bad_request("id", fault.to_string(), "GET /parties and GET /devices list them")
}

/// The most that its triggers can say: a device with a key of its own may seal for itself.
fn grade(state: &dyn StateRead, id: &DeviceId) -> Grade {
    let party = PartyId::try_new(id.as_str()).ok();
    let is_device = |(record, _): &(PartyRecord, u64)| record.kind == PartyKind::Device;
    let own = party.filter(|party| !views::is_revoked(state, party)).and_then(|party| views::party(state, &party));
    if own.as_ref().is_some_and(is_device) { Grade::Device } else { Grade::Agent }
}

fn answer<T>(
    engine: &Engine,
    (kind, name): (u8, &str),
    versions: &[Version<T>],
    at: Option<u64>,
    show: impl Fn(&T) -> Value,
    more: Value,
) -> Result<Value, Problem> {
    let begun = |version: &Version<T>| -> Result<u64, Problem> {
        let place = engine.store().place_of(version.entry)?;
        Ok(place.ok_or(ReadError::Entry(version.entry))?.height)
    };
    let mut held = None;
    let mut shown = Vec::with_capacity(versions.len());
    for version in versions {
        let from = begun(version)?;
        let is_at = at.is_none_or(|at| from <= at) && version.ended_at.is_none_or(|end| at.is_some_and(|at| at < end));
        if is_at {
            held = Some((version, from));
        }
        shown.push(line(version, from, show(&version.record)));
    }
    let Some((version, from)) = held else {
        let when = at.map_or_else(String::new, |at| format!(" at height {at}"));
        return Err(Problem::not_found(
            "not-registered",
            format!("`{name}` is not registered{when}"),
            "GET /parties and GET /devices list who is",
        ));
    };
    let keys = resolve::version_keys(kind, name, versions, version);
    let ProvedState { claims, checkpoint } = prove(engine, &keys)?;
    let claims = claims.iter().map(|claim| {
        json!({"key": hex::encode(&claim.key), "value": claim.value.as_ref().map(hex::encode), "proof": hex::encode(&claim.proof)})
    });
    let mut answer = json!({
        "id": name, "at": at, "holds": line(version, from, show(&version.record)), "versions": shown,
        "proof": {"claims": claims.collect::<Vec<_>>(), "checkpoint": hex::encode(checkpoint)},
    });
    if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
        answer.extend(more);
    }
    Ok(answer)
}

fn line<T>(version: &Version<T>, from: u64, record: Value) -> Value {
    json!({
        "version": version.number, "entry": version.entry, "from_height": from, "ended_by": version.ended_by,
        "ended_at": version.ended_at, "key_until": version.key_until, "record": record,
    })
}

fn party_json(party: &PartyRecord) -> Value {
    json!({
        "kind": party.kind.word(), "name": party.name, "firm": party.firm, "skills": party.skills,
        "key_id": party.key.id().to_string(), "key": hex::encode(party.key.sec1()),
    })
}

fn device_json(device: &DeviceRecord) -> Value {
    json!({"agent": device.agent, "owner": device.owner, "site": device.site})
}

fn fingerprint(print: &FingerprintView) -> Value {
    json!({
        "kind": print.kind, "number": print.number, "entry": print.entry, "digest": hex::encode(print.digest),
        "by": print.by, "at": print.at, "version": print.version, "expected": print.is_expected,
    })
}
