//! The agent's own interface, for people, Prometheus and `tally evidence`: HTTP on a local socket, a port, or a port with TLS.
//!
//! `GET /status` JSON, `/live`, `/ready`, `/metrics`, `/statements/{id}`, `/receipts/{id}`, `/disclosures/{id}`, `/dead-letters`,
//! `/anchors`, `/readings/{device}/{number}`, `/permits` (what the gate did of late);
//! `POST /reload`, `POST /permits/use` (on a local socket only).
//! Problems are RFC 9457 documents with `code`, `detail` and `hint`, as the node's. There is no login: who
//! reaches a port may read (over TLS: whose certificate is taken), from elsewhere all but what shows a key that its owner hides
//! ([`sight`]); who may open the socket's file may also have the mapping read anew and bring permits. One disclosure is built at a time.

mod listen;
mod permits;
mod problem;
mod sight;

use crate::anchor::book::Summary;
use crate::anchor::{Answer, SealedAnchor};
use crate::disclose::{Found, disclose, find, show_reading};
use crate::error::StoreError;
use crate::gate::Gate;
use crate::reload;
use crate::status::Status;
use crate::store::Stores;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json, Router};
use problem::Problem;
use serde_json::json;
use std::sync::Arc;
use tally_connector_api::{Clock, SystemClock};
use tally_door::{Expiry, Listen, Peer, Place, Tallies};
use tally_evidence::StatementName;
use tally_journal::Storage;
use tally_ledger_client::Client;
use tally_model::{DeviceId, Timestamp};
use tokio::sync::{Semaphore, mpsc};

pub use listen::{ListenError, open};
pub use sight::Shows;

/// What the interface shows.
pub struct Api<S: Storage> {
    /// The stores.
    pub stores: Arc<Stores<S>>,
    /// How the agent is.
    pub status: Arc<Status>,
    /// Its name.
    pub agent: String,
    /// The plant it reads.
    pub plant: String,
    /// The ledger it seals for.
    pub ledger: String,
    /// Where a reload is asked for.
    pub reloads: mpsc::Sender<reload::Request>,
    /// Knows who may see what.
    pub node: Client,
    /// Uses permits.
    pub gate: Arc<Gate<S>>,
    /// Where it listens.
    pub places: Vec<Listen>,
    /// Connections that the door turned away.
    pub connections: Tallies,
    /// Certificates that end some day.
    pub expiry: Expiry,
    /// A disclosure may hold a day of readings in memory: one at a time.
    pub disclosures: Semaphore,
}

type Shared<S> = State<Arc<Api<S>>>;
type Caller = Extension<Arc<Peer>>;

/// Whoever reaches a port may read; only who may open the socket's file may change something.
fn changes_only_here(peer: &Peer, code: &'static str, hint: &'static str) -> Result<(), Problem> {
    match peer.place {
        Place::Unix => Ok(()),
        Place::Tcp(_) => Err(Problem::forbidden(code, "a port changes nothing".to_owned(), hint)),
    }
}

type Row<S> = (&'static str, &'static str, Shows, MethodRouter<Arc<Api<S>>>);

/// Every route: method, path, what it may show, and what answers. A route that is not here is not there.
fn table<S: Storage + Send + 'static>() -> [Row<S>; 13] {
    use Shows::{AgentSeals, DeviceSeals, Nothing};
    [
        ("GET", "/status", Nothing, get(status::<S>)),
        ("GET", "/live", Nothing, get(live::<S>)),
        ("GET", "/ready", Nothing, get(ready::<S>)),
        ("GET", "/metrics", Nothing, get(metrics::<S>)),
        ("GET", "/statements/{id}", AgentSeals, get(statement::<S>)),
        // The ledger's seal, whose key everybody may know.
        ("GET", "/receipts/{id}", Nothing, get(receipt::<S>)),
        ("GET", "/disclosures/{id}", DeviceSeals, get(disclosure::<S>)),
        ("GET", "/readings/{device}/{number}", DeviceSeals, get(reading::<S>)),
        ("GET", "/dead-letters", Nothing, get(dead_letters::<S>)),
        ("GET", "/anchors", Nothing, get(anchors::<S>)),
        ("GET", "/permits", Nothing, get(permits::list::<S>)),
        ("POST", "/permits/use", Nothing, post(permits::use_one::<S>)),
        ("POST", "/reload", Nothing, post(reload::<S>)),
    ]
}

/// Method, path and what it may show, of every route.
#[must_use]
pub fn shown_by_route() -> Vec<(&'static str, &'static str, Shows)> {
    table::<tally_journal::DirStorage>().into_iter().map(|(method, path, shows, _)| (method, path, shows)).collect()
}

/// All routes.
pub fn routes<S: Storage + Send + 'static>(api: Arc<Api<S>>) -> Router {
    let routes =
        table::<S>().into_iter().fold(Router::new(), |routes, (_, path, _, answer)| routes.route(path, answer));
    routes
        .fallback(async || Problem::not_found("path", "there is nothing here".to_owned(), "see docs/operator/agent.md"))
        .with_state(api)
}

async fn status<S: Storage + Send + 'static>(State(api): Shared<S>) -> Response {
    let mut status = api.status.as_json(&api.agent, &api.plant, &api.ledger);
    status["anchors"] = anchor_lines(&api).into();
    status["listen"] = api.places.iter().map(ToString::to_string).collect();
    status["permits"] = api.gate.known_of().await;
    Json(status).into_response()
}

async fn live<S: Storage>(State(api): Shared<S>) -> Result<&'static str, Problem> {
    if api.status.is_alive() {
        Ok("alive\n")
    } else {
        Err(Problem::not_now("hangs", "nothing is taken in any more".to_owned()))
    }
}

async fn ready<S: Storage>(State(api): Shared<S>) -> Result<&'static str, Problem> {
    let reasons = api.status.not_ready();
    if reasons.is_empty() { Ok("ready\n") } else { Err(Problem::not_now("not-ready", reasons.join("; "))) }
}

/// Prometheus text format 0.0.4.
async fn metrics<S: Storage>(State(api): Shared<S>) -> Result<Response, Problem> {
    let mut text = api.status.metrics(&summary(&api), now()).map_err(|fault| Problem::internal(&fault))?;
    text += &api.expiry.text("tally_agent", u64::try_from(now().as_seconds()).unwrap_or(0));
    text += &api.connections.text();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn statement<S: Storage + Send + 'static>(
    api: Shared<S>,
    Extension(peer): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    sight::needs(&api, &peer, &api.agent).await?;
    if let Some((anchor, _)) = find_anchor(&api, &id).await? {
        return Ok(cose(anchor.statement));
    }
    let found = find_by(api, &id).await?;
    Ok(cose(found.sealed().statement.clone()))
}

/// How the anchors of every device stand.
async fn anchors<S: Storage + Send + 'static>(State(api): Shared<S>) -> Response {
    let is_on = api.stores.anchors().is_some();
    Json(json!({"on": is_on, "devices": anchor_lines(&api)})).into_response()
}

/// Nothing when anchors are off.
fn summary<S: Storage>(api: &Api<S>) -> Vec<Summary> {
    api.stores.anchors().as_ref().map(|anchors| anchors.book().summary()).unwrap_or_default()
}

fn anchor_lines<S: Storage>(api: &Api<S>) -> Vec<serde_json::Value> {
    let (now, summary) = (now(), summary(api));
    let line = |device: &Summary| {
        let mut line = json!(device);
        line["behind_seconds"] = json!(device.behind(now));
        line
    };
    summary.iter().map(line).collect()
}

/// By this computer's clock, for people: how old something is.
fn now() -> Timestamp {
    SystemClock::default().now()
}

/// One reading, shown under the root of the anchor that covers it.
async fn reading<S: Storage + Send + 'static>(
    State(api): Shared<S>,
    Extension(peer): Caller,
    Path((device, number)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let device = DeviceId::try_new(device).map_err(|fault| Problem::bad_request("device-id", fault.to_string()))?;
    let number =
        number.parse().map_err(|_| Problem::bad_request("number", format!("`{number}` is no reading's number")))?;
    sight::needs(&api, &peer, device.as_str()).await?;
    let _permit = api.disclosures.acquire().await.map_err(|_| Problem::not_now("stopping", "stopping".to_owned()))?;
    let stores = api.stores.clone();
    let shown = tokio::task::spawn_blocking(move || show_reading(&stores, &device, number)).await;
    let (disclosure, anchor, answer) = shown.map_err(|fault| Problem::internal(&fault))??;
    let mut response = ([(header::CONTENT_TYPE, "application/cbor")], disclosure).into_response();
    let headers = response.headers_mut();
    headers.insert("tally-anchor", anchor.number.into());
    if let Some(answer) = answer.filter(|answer| answer.refusal == 0) {
        headers.insert("tally-entry", answer.entry.into());
    }
    Ok(response)
}

async fn receipt<S: Storage + Send + 'static>(api: Shared<S>, Path(id): Path<String>) -> Result<Response, Problem> {
    if let Some((_, Some(answer))) = find_anchor(&api, &id).await?
        && !answer.receipt.is_empty()
    {
        return Ok(with_place(answer.receipt, answer.entry, (answer.refusal > 0).then_some(answer.refusal)));
    }
    match find_by(api, &id).await? {
        Found::Receipted(found) => Ok(with_place(found.receipt, found.entry, found.refusal)),
        Found::Unanswered(_) => Err(Problem::not_found(
            "receipt",
            "the ledger has not answered this trigger".to_owned(),
            "it waits in the outbox or lies with the dead letters: see /status and /dead-letters",
        )),
    }
}

async fn disclosure<S: Storage + Send + 'static>(
    State(api): Shared<S>,
    Extension(peer): Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let found = find_by(State(api.clone()), &id).await?;
    sight::needs(&api, &peer, found.sealed().device.as_str()).await?;
    let _permit = api.disclosures.acquire().await.map_err(|_| Problem::not_now("stopping", "stopping".to_owned()))?;
    let stores = api.stores.clone();
    let disclosed = tokio::task::spawn_blocking(move || disclose(&stores, found.sealed())).await;
    let bytes = disclosed.map_err(|fault| Problem::internal(&fault))??;
    Ok(([(header::CONTENT_TYPE, "application/cbor")], bytes).into_response())
}

async fn dead_letters<S: Storage + Send + 'static>(State(api): Shared<S>) -> Result<Response, Problem> {
    let stores = api.stores.clone();
    let letters = tokio::task::spawn_blocking(move || stores.receipts().dead_letters()).await;
    let letters = letters.map_err(|fault| Problem::internal(&fault))??;
    let lines = letters.iter().map(|letter| {
        let sealed = &letter.sealed;
        json!({
            "number": sealed.number, "statement": sealed.name().to_string(), "device": sealed.device,
            "trigger": sealed.trigger, "transition": sealed.transition.word(), "at": sealed.at.to_string(),
            "code": letter.code, "reason": letter.reason,
        })
    });
    Ok(Json(lines.collect::<Vec<_>>()).into_response())
}

/// The mapping file anew; the answer says what changed, or every fault and that nothing did.
async fn reload<S: Storage>(State(api): Shared<S>, Extension(peer): Caller) -> Result<Response, Problem> {
    changes_only_here(&peer, "reload", "send SIGHUP to the agent, or have it listen on a socket too")?;
    match reload::ask(&api.reloads).await {
        None => Err(Problem::not_now("stopping", "the agent is stopping".to_owned())),
        Some(Ok(report)) => Ok(Json(report).into_response()),
        Some(Err(refused)) => Err(Problem::faults("mapping", refused)),
    }
}

fn parse(name: &str) -> Result<StatementName, Problem> {
    let text = || {
        format!("`{name}` is not 64 hexadecimal digits, nor such with the place of a trigger in its batch behind a `.`")
    };
    name.parse().map_err(|_| Problem::bad_request("statement-id", text()))
}

async fn find_by<S: Storage + Send + 'static>(State(api): Shared<S>, id: &str) -> Result<Found, Problem> {
    let id = parse(id)?;
    let stores = api.stores.clone();
    let found = tokio::task::spawn_blocking(move || find(&stores, id)).await;
    Ok(found.map_err(|fault| Problem::internal(&fault))??)
}

/// An anchor that the book still keeps, with its answer.
async fn find_anchor<S: Storage + Send + 'static>(
    State(api): &Shared<S>,
    id: &str,
) -> Result<Option<(SealedAnchor, Option<Answer>)>, Problem> {
    let (id, stores) = (parse(id)?, api.stores.clone());
    let find = move || stores.anchors().as_ref().map_or(Ok(None), |anchors| anchors.book().find(&id.statement));
    let found = tokio::task::spawn_blocking(find).await;
    Ok(found.map_err(|fault| Problem::internal(&fault))??)
}

/// A receipt, with where its entry stands.
fn with_place(receipt: Vec<u8>, entry: u64, refusal: Option<u16>) -> Response {
    let mut response = cose(receipt);
    response.headers_mut().insert("tally-entry", entry.into());
    if let Some(refusal) = refusal {
        response.headers_mut().insert("tally-refusal", refusal.into());
    }
    response
}

fn cose(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/cose")], bytes).into_response()
}

impl From<StoreError> for Problem {
    fn from(fault: StoreError) -> Self {
        match fault {
            StoreError::NotKept { .. } => Self::gone("not-kept", fault.to_string()),
            _ => Self::internal(&fault),
        }
    }
}
