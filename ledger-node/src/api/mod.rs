//! The node's HTTP API: statements and receipts in the shape of SCRAPI (draft-ietf-scitt-scrapi-09), everything else plain
//! JSON. Reference: `docs/formats/api.md`.
//!
//! **Limits.** Statements: as many at once as the queue takes, urgent ones included; a body of `limits.body_bytes_max`,
//! 5 s for it; 10 s in all. Reading: 64 requests at once, 30 s. Event streams: 64 ([`events`]). Beyond that the answer is 503 at once (load shed), never
//! a queue. `/live`, `/ready`, `/metrics` and `/status` are never shed.

mod access;
mod alarms;
mod blocks;
mod checkpoints;
mod contracts;
mod copy;
mod coverage;
mod disk;
mod doorkeeper;
mod entries;
mod events;
mod evidence;
mod health;
mod private;
mod problem;
mod query;
mod registry;
mod retention;
mod roles;
mod scitt;
mod sight;
mod tlog;
mod views;
mod witness;

pub(crate) use copy::{Listed, Listing};
pub use doorkeeper::Access;
pub(crate) use doorkeeper::{Doorkeeper, unix_now};
pub(crate) use evidence::collect as evidence_of;
pub(crate) use problem::Problem;
pub use roles::{ROUTES, Role, Route, Shows};
pub(crate) use sight::Sight;

use crate::alarms::Alarms;
use crate::engine::{Engine, NodeState};
use crate::projection::Questions;
use crate::witness::{Finality, REQUEST_BYTES_MAX, REQUEST_TIME, Witness};
use axum::error_handling::HandleErrorLayer;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{BoxError, Router};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;

/// A statement's whole request, waiting for its block included.
const SUBMIT_TIME: Duration = Duration::from_secs(10);
/// A question's whole request; an evidence file of many entries is the longest.
const READ_TIME: Duration = Duration::from_secs(30);
/// Questions answered at once. They share two cores with the ledger.
const READS_MAX: usize = 64;
/// Requests of other ledgers for a cosignature at once: each ends in a sync on the disk that the ledger needs.
const WITNESS_MAX: usize = 4;

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub engine: Engine,
    pub stop: CancellationToken,
    pub streams: events::Streams,
    /// The projection; `None` when the node keeps none.
    pub questions: Option<Arc<Questions>>,
    /// Who cosigns for us, and for whom we do.
    pub cosigning: Cosigning,
    /// What somebody has to look at.
    pub alarms: Arc<Alarms>,
    /// Who may do what.
    pub doorkeeper: Arc<Doorkeeper>,
}

/// Cosignatures, both ways.
#[derive(Clone)]
pub(crate) struct Cosigning {
    /// Who else must have seen a checkpoint, if anybody.
    pub witnesses: Option<Arc<Finality>>,
    /// What this node is to other ledgers, if anything.
    pub witness: Option<Arc<Witness>>,
}

/// All routes.
pub(crate) fn router(
    engine: Engine,
    questions: Option<Arc<Questions>>,
    cosigning: Cosigning,
    alarms: Arc<Alarms>,
    doorkeeper: Arc<Doorkeeper>,
    stop: CancellationToken,
) -> Router {
    let limits = engine.limits().clone();
    let api = Api { engine, stop, streams: events::Streams::default(), questions, cosigning, alarms, doorkeeper };
    let submitting = limits.in_flight_max + limits.urgent_max();
    let submit =
        Router::new().route("/entries", post(entries::submit)).layer(DefaultBodyLimit::max(limits.body_bytes_max));
    let witness = witness::routes().layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX));
    Router::new()
        .merge(guarded(reading(), READS_MAX, READ_TIME))
        .layer(middleware::from_fn_with_state(api.clone(), refuse_when_failed))
        // A ledger that stopped at a failure shows its alarms all the same.
        .merge(guarded(alarms_routes(), READS_MAX, READ_TIME))
        .merge(guarded(submit, submitting, SUBMIT_TIME))
        // It lives by its own records: a ledger that stopped does not keep it from signing.
        .merge(guarded(witness, WITNESS_MAX, REQUEST_TIME))
        .merge(health::routes())
        .layer(middleware::from_fn_with_state(api.clone(), doorkeeper::admit))
        .fallback(|| async { Problem::not_found("path", "no such path", "docs/formats/api.md lists every path") })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .with_state(api)
}

fn alarms_routes() -> Router<Api> {
    Router::new()
        .route("/alarms", get(alarms::list))
        .route("/alarms/{id}", post(alarms::acknowledge))
        .layer(DefaultBodyLimit::max(alarms::BODY_BYTES_MAX))
}

fn reading() -> Router<Api> {
    Router::new()
        .route("/entries", get(blocks::entries))
        .route("/blocks/{height}", get(blocks::block))
        .route("/entries/{id}", get(entries::receipt))
        .route("/entries/{id}/statement", get(entries::statement))
        .route("/entries/{id}/batch", get(entries::batch))
        .route("/entries/{id}/outcome", get(entries::outcome))
        .route("/entries/{id}/private", get(private::list))
        .route("/entries/{id}/private/{field}", get(private::field))
        .route("/checkpoint", get(checkpoints::checkpoint))
        .route("/checkpoints/{height}", get(checkpoints::checkpoint_at))
        .route("/.well-known/scitt-configuration", get(scitt::configuration))
        .route("/.well-known/scitt-keys", get(scitt::keys))
        .route("/.well-known/scitt-keys/{kid}", get(scitt::one_key))
        .route("/key.pem", get(scitt::key_pem))
        .route("/agreements", get(views::agreements))
        .route("/agreements/{id}", get(views::agreement))
        .route("/agreements/{id}/evidence", get(evidence::evidence))
        .route("/accounts", get(views::accounts))
        .route("/totals", get(views::totals))
        .route("/parties", get(views::parties))
        .route("/devices", get(views::devices))
        .route("/devices/{id}/coverage", get(coverage::coverage))
        .route("/registry/parties/{id}", get(registry::party))
        .route("/registry/devices/{id}", get(registry::device))
        .route("/registry/parties/{id}/sight", get(registry::seen_by))
        .route("/access/permits", get(access::permits))
        .route("/access/policies", get(access::policies))
        .route("/access/quarantines", get(access::quarantines))
        .route("/disk", get(disk::disk))
        .route("/retention", get(retention::show).post(retention::run))
        .route("/copy", get(copy::list))
        .route("/copy/blocks", get(copy::blocks))
        .route("/copy/{folder}/{name}", get(copy::file))
        .route("/contracts/{name}", get(contracts::contract))
        .route("/state/{key}", get(views::state_proof))
        .route("/consistency/{old}", get(tlog::consistency))
        .route("/tlog/checkpoint", get(tlog::checkpoint))
        .route("/tlog/tile/{*path}", get(tlog::tile))
        .route("/events", get(events::events))
        .route("/openapi.json", get(openapi))
        .merge(query::routes())
}

/// `GET /openapi.json`: this interface for programs that make clients of it (OpenAPI 3.1). `tests/tests/openapi.rs` holds it against
/// the routes above and against real answers.
async fn openapi() -> impl IntoResponse {
    const DOCUMENT: &str = include_str!("../../../docs/formats/openapi.json");
    ([(axum::http::header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

/// So many at once, each so long; the rest is told "not now" without being looked at.
pub(crate) fn guarded<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    at_once: usize,
    time: Duration,
) -> Router<S> {
    routes.layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(overloaded))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(at_once))
            .layer(TimeoutLayer::new(time)),
    )
}

async fn overloaded(error: BoxError) -> Problem {
    if error.is::<tower::timeout::error::Elapsed>() {
        Problem::not_now("timeout", "the node did not finish in time", 1)
    } else {
        Problem::not_now("overloaded", "too many requests at once", 1)
    }
}

/// After a failure what is in memory may be ahead of what is on the disk: nothing of it is shown.
async fn refuse_when_failed(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.engine.state() {
        NodeState::Failed(reason) => {
            Problem::not_now("failed", format!("the node stopped at a failure: {reason}"), 10).into_response()
        }
        _ => next.run(request).await,
    }
}

/// Runs what reads the disk where it may block, and turns its failure into words.
async fn on_disk<T: Send + 'static>(
    engine: &Engine,
    read: impl FnOnce(&Engine) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let engine = engine.clone();
    let done = tokio::task::spawn_blocking(move || read(&engine)).await;
    done.unwrap_or_else(|error| Err(Problem::internal(&error)))
}
