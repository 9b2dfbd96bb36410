//! `GET /events`: what happens on the ledger, as Server-Sent Events whose data are CloudEvents 1.0 (JSON format).
//!
//! One stream event per contract event, and one `entry.refused` per refused entry. The id is `height.index`; a reader that
//! comes back with `Last-Event-ID` goes on behind it, with `?from=HEIGHT` at that block. Nothing is queued for slow readers:
//! each stream reads committed blocks at its own pace, so none can be lost and none costs memory.
//!
//! **Limits.** 64 streams at once; a comment every 15 s keeps proxies and clients from giving up.

use super::problem::Problem;
use super::sight::{Caller, Sight};
use super::views::to_json;
use super::{Api, on_disk};
use crate::engine::Engine;
use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::Refusal;
use tally_evidence::{OutcomeRecord, Place, StatementName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Streams at once.
const STREAMS_MAX: usize = 64;
/// Time between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Permits for streams.
#[derive(Clone)]
pub struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

/// Where to begin.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct From {
    from: Option<u64>,
}

/// The handler.
pub async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    from: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Problem>>>, Problem> {
    let hint = "begin with ?from=HEIGHT, or with the header Last-Event-ID: HEIGHT.INDEX";
    let Query(from) = from.map_err(|rejection| Problem::bad_request("from", rejection.body_text(), hint))?;
    let begin = match headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default()) {
        Some(id) => behind(id).ok_or_else(|| Problem::bad_request("last-event-id", format!("`{id}`"), hint))?,
        None => (from.from.unwrap_or_else(|| next_height(&api.engine)), 0),
    };
    let kept_below = api.engine.store().kept_below();
    if begin.0 < kept_below {
        return Err(Problem::events_pruned(kept_below));
    }
    let permit = api.streams.0.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::not_now("streams", "too many event streams at once", 10))?;
    let reader = Reader {
        head: api.engine.store().watch_head(),
        engine: api.engine,
        stop: api.stop,
        caller,
        next: begin,
        ready: VecDeque::new(),
        _permit: permit,
    };
    let stream = futures_util::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|event| (event, reader)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The place behind `height.index`.
fn behind(id: &str) -> Option<(u64, usize)> {
    let (height, index) = id.split_once('.')?;
    Some((height.parse().ok()?, index.parse::<usize>().ok()?.checked_add(1)?))
}

fn next_height(engine: &Engine) -> u64 {
    engine.store().head().map_or(0, |head| head.checkpoint.height + 1)
}

/// One stream.
struct Reader {
    engine: Engine,
    head: watch::Receiver<Option<Arc<crate::store::Head>>>,
    stop: CancellationToken,
    caller: Caller,
    /// Block to read next, and how many of its events to skip.
    next: (u64, usize),
    ready: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Event>, Problem> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let (height, skip) = self.next;
            let is_there = |head: &Option<Arc<crate::store::Head>>| {
                head.as_ref().is_some_and(|head| head.checkpoint.height >= height)
            };
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                waited = self.head.wait_for(is_there) => if waited.is_err() { return Ok(None) },
            }
            // Anew for each block: what was open may be hidden by now.
            let caller = self.caller.clone();
            let read = move |engine: &Engine| block_events(engine, &caller.sight(engine)?, height);
            let events = on_disk(&self.engine, read).await?;
            self.ready = events.into_iter().skip(skip).collect();
            self.next = (height + 1, 0);
        }
    }
}

fn block_events(engine: &Engine, sight: &Sight, height: u64) -> Result<Vec<Event>, Problem> {
    let Some(row) = engine.store().block(height)? else { return Ok(Vec::new()) };
    let mut events = Vec::new();
    let outcomes = engine.store().outcomes(height)?;
    for outcome in outcomes.ok_or_else(|| Problem::events_pruned(engine.store().kept_below()))? {
        let outcome = OutcomeRecord::decode(&outcome).map_err(|fault| Problem::internal(&fault))?;
        for (kind, subject, mut data) in happenings(&outcome) {
            sight.take_out(&kind, &subject, &mut data)?;
            let id = format!("{height}.{}", events.len());
            let cloud_event = json!({
                "specversion": "1.0",
                "id": id,
                "source": format!("/ledgers/{}", engine.ledger()),
                "type": format!("tallystick.{kind}"),
                "subject": subject,
                "time": row.time.to_string(),
                "datacontenttype": "application/json",
                "data": data,
            });
            events.push(Event::default().id(id).data(cloud_event.to_string()));
        }
    }
    Ok(events)
}

/// Kind, subject and data of what an outcome tells.
fn happenings(outcome: &OutcomeRecord) -> Vec<(String, String, Map<String, Value>)> {
    let mut place = Map::new();
    place.insert("height".to_owned(), outcome.height.into());
    match &outcome.place {
        Place::Entry { index, statement } => {
            place.insert("entry".to_owned(), (*index).into());
            place.insert("statement".to_owned(), statement.to_string().into());
        }
        Place::Item { index, statement, item } => {
            place.insert("entry".to_owned(), (*index).into());
            place.insert("statement".to_owned(), statement.to_string().into());
            place.insert("item".to_owned(), (*item).into());
        }
        Place::Term { agreement, due } => {
            place.insert("term".to_owned(), json!({"agreement": agreement, "due": due}));
        }
    }
    if !outcome.is_done() {
        let subject = match &outcome.place {
            Place::Entry { statement, .. } => statement.to_string(),
            Place::Item { statement, item, .. } => {
                StatementName { statement: *statement, item: Some(*item) }.to_string()
            }
            Place::Term { agreement, .. } => agreement.clone(),
        };
        place.insert("refusal".to_owned(), outcome.refusal.into());
        place.insert("text".to_owned(), Refusal::describe(outcome.refusal).into());
        return vec![("entry.refused".to_owned(), subject, place)];
    }
    let happened = outcome.events.iter().map(|event| {
        // What the contract says stands beside where it happened; a contract's own `height` or `entry` would be the same.
        let mut data: Map<_, _> = event.data.iter().map(|(name, value)| (name.clone(), to_json(value))).collect();
        data.extend(place.clone());
        (event.kind.clone(), event.subject.clone(), data)
    });
    happened.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_the_next_place() {
        assert_eq!(behind("7.0"), Some((7, 1)));
        for id in ["", "7", "7.", ".1", "a.b", "7.-1", "7.18446744073709551615"] {
            assert_eq!(behind(id), None, "{id}");
        }
    }
}
