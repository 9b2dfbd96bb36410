//! Who somebody was at a height, as JSON, with the proof: `GET /registry/parties/{id}` and `GET /registry/devices/{id}`; and who may see what
//! shows a key: `GET /registry/parties/{id}/sight`.

use super::problem::Problem;
use super::sight::{Caller, Sight};
use super::views::{ProvedState, prove, withhold};
use super::{Api, on_disk};
use crate::engine::{Engine, ReadError};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tally_contracts::resolve::{self, FingerprintView, Version};
use tally_contracts::sight::{Reader, Withheld};
use tally_evidence::{Checkpoint, DeviceRecord, PartyRecord};
use tally_model::{DeviceId, PartyId, Timestamp};

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
pub async fn party(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    at: Asked,
) -> Result<Json<Value>, Problem> {
    let at = height(at)?;
    let id = PartyId::try_new(&id).map_err(|fault| bad_id(&fault))?;
    on_disk(&api.engine, move |engine| {
        let state = engine.store().state()?;
        let versions = resolve::party_versions(&state, &id);
        let now = engine.store().head().map_or(Timestamp::from_micros(0), |head| head.checkpoint.time);
        let (size, then) = entries_at(engine, at)?;
        let sight = caller.sight(engine)?;
        let withheld = sight.party(&id)?;
        let show = |party: &PartyRecord| {
            let mut record = party_json(party);
            withhold(&mut record, withheld.clone(), &["name", "skills", "key"]);
            record
        };
        let of = (b'p', id.as_str());
        let proof = [resolve::grade_keys(&id), resolve::visibility_keys(&state, of, size)].concat();
        let more = json!({
            "visibility": resolve::visibility(&state, of, size),
            "revoked": resolve::revoked_by(&state, &id, size).is_some(),
            "recovery": resolve::recovery(&state, &id, now),
            "then": then.map(hex::encode),
        });
        state.check()?;
        answer(engine, &sight, of, &versions, at, show, (more, proof))
    })
    .await
    .map(Json)
}

/// `GET /registry/devices/{id}?at=HEIGHT`.
pub async fn device(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    at: Asked,
) -> Result<Json<Value>, Problem> {
    let at = height(at)?;
    let id = DeviceId::try_new(&id).map_err(|fault| bad_id(&fault))?;
    on_disk(&api.engine, move |engine| {
        let state = engine.store().state()?;
        let versions = resolve::device_versions(&state, &id);
        let prints = resolve::fingerprints(&state, &id, FINGERPRINTS_MAX);
        let (size, then) = entries_at(engine, at)?;
        let of = (b'd', id.as_str());
        let mut proof = PartyId::try_new(id.as_str()).map(|party| resolve::grade_keys(&party)).unwrap_or_default();
        proof.extend(resolve::visibility_keys(&state, of, size));
        let sight = caller.sight(engine)?;
        let withheld = sight.device(&id)?;
        let show = |device: &DeviceRecord| {
            let mut record = device_json(device);
            withhold(&mut record, withheld.clone(), &["site"]);
            record
        };
        let more = json!({
            "visibility": resolve::visibility(&state, of, size),
            "grade": resolve::grade(&state, &id, size).word(),
            "then": then.map(hex::encode),
            "fingerprints": prints.iter().map(fingerprint).collect::<Vec<_>>(),
        });
        state.check()?;
        answer(engine, &sight, of, &versions, at, show, (more, proof))
    })
    .await
    .map(Json)
}

/// Who reads somewhere else, such as at an agent's interface.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    reader: Option<PartyId>,
}

/// `GET /registry/parties/{id}/sight?reader=PARTY`: whether this reader, who has no role, may see what shows the party's key. For those who
/// hold what it sealed and are asked for it: they ask here, where the rules are.
pub async fn seen_by(
    State(api): State<Api>,
    Path(id): Path<String>,
    asked: Result<Query<Elsewhere>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let hint = "known is reader, the id of a party";
    let Query(Elsewhere { reader }) =
        asked.map_err(|rejection| Problem::bad_request("query", rejection.body_text(), hint))?;
    let id = PartyId::try_new(&id).map_err(|fault| bad_id(&fault))?;
    let caller = Caller::new(Reader { party: reader.clone(), role: None });
    on_disk(&api.engine, move |engine| {
        let withheld = caller.sight(engine)?.party(&id)?;
        Ok(json!({"of": id, "reader": reader, "withheld": withheld}))
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

/// How many entries there were at a height, and the checkpoint that says so; without a height, or with one that is still to come, all.
fn entries_at(engine: &Engine, at: Option<u64>) -> Result<(u64, Option<Vec<u8>>), Problem> {
    let Some(row) = at.map(|height| engine.store().block(height)).transpose()?.flatten() else {
        return Ok((u64::MAX, None));
    };
    let sealed = Checkpoint::open(&row.checkpoint, engine.key()).map_err(|fault| Problem::internal(&fault))?;
    Ok((sealed.size, Some(row.checkpoint)))
}

/// What is withheld is not proved either: its claims are left out.
fn answer<T>(
    engine: &Engine,
    sight: &Sight,
    (kind, name): (u8, &str),
    versions: &[Version<T>],
    at: Option<u64>,
    show: impl Fn(&T) -> Value,
    (more, proof): (Value, Vec<Vec<u8>>),
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
    let (version, from) = held.ok_or_else(|| not_registered(name, at))?;
    let mut keys = resolve::version_keys(kind, name, versions, version);
    for key in proof {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let (proof, withheld) = proof_of(engine, sight, keys)?;
    let mut answer = json!({
        "id": name, "at": at, "holds": line(version, from, show(&version.record)), "versions": shown,
        "withheld": withheld, "proof": proof,
    });
    if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
        answer.extend(more);
    }
    Ok(answer)
}

fn not_registered(name: &str, at: Option<u64>) -> Problem {
    let when = at.map_or_else(String::new, |at| format!(" at height {at}"));
    Problem::not_found(
        "not-registered",
        format!("`{name}` is not registered{when}"),
        "GET /parties and GET /devices list who is",
    )
}

/// The claims about those of the keys that may be shown, and why others may not.
fn proof_of(engine: &Engine, sight: &Sight, keys: Vec<Vec<u8>>) -> Result<(Value, Option<Withheld>), Problem> {
    let (mut shown, mut left_out) = (Vec::with_capacity(keys.len()), None);
    for key in keys {
        match sight.state_key(&key)? {
            Some(withheld) => left_out = Some(withheld),
            None => shown.push(key),
        }
    }
    let ProvedState { claims, checkpoint } = prove(engine, sight, &shown)?;
    let claims = claims.iter().map(|claim| {
        json!({"key": hex::encode(&claim.key), "value": claim.value.as_ref().map(hex::encode), "proof": hex::encode(&claim.proof)})
    });
    Ok((json!({"claims": claims.collect::<Vec<_>>(), "checkpoint": hex::encode(checkpoint)}), left_out))
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
