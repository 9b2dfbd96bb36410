//! `/query/…`: questions to the projection. Every answer says of which block it is, and how many blocks the ledger has since.
//! Reference: `docs/formats/api.md`; manual: `docs/operator/query.md`.
//!
//! **Limits.** 1,000 rows a page, 100 with proofs; 2 statements of `POST /query/sql` at once, 5 s and 10,000 rows each.

mod proofs;
mod sql;

use super::Api;
use super::problem::Problem;
use super::sight::{Caller, Sight};
use crate::engine::Engine;
use crate::projection::Questions;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tally_model::Timestamp;
use tally_projection::ask::{self, Aggregate, Answer, Filter, Group, Page, Subject, Window};
use tally_projection::{Database, Fault, instant, reaching_back};

/// Longest wait for `min_height`.
const WAIT: Duration = Duration::from_secs(5);
/// Rows with proofs in one answer.
const PROOFS_MAX: usize = 100;
const ENTRY_KINDS_HINT: &str = "kind of entries is `trigger`, `call`, `anchor`, `batch`, `pruned` or `unknown`";
/// What counts as success when nobody says: the good end of the maintenance order.
const SUCCESS: &str = "confirmed";

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/query/entries", get(entries))
        .route("/query/agreements", get(agreements))
        .route("/query/agreements/{id}/history", get(agreement_history))
        .route("/query/devices/{id}/history", get(device_history))
        .route("/query/parties/{id}/history", get(party_history))
        .route("/query/aggregates/agreements", get(aggregate))
        .route("/query/sql", post(sql::sql).layer(DefaultBodyLimit::max(sql::BODY_BYTES_MAX)))
}

/// Everything that can be asked for; what a list does not know is refused by it.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    device: Option<String>,
    party: Option<String>,
    contract: Option<String>,
    state: Option<String>,
    agreement: Option<String>,
    kind: Option<String>,
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
    min_height: Option<u64>,
    proofs: Option<bool>,
    by: Option<String>,
    success: Option<String>,
    window: Option<String>,
}

type Asked = Result<Query<Wanted>, QueryRejection>;

async fn entries(State(api): State<Api>, caller: Extension<Caller>, asked: Asked) -> Result<Json<Value>, Problem> {
    let wanted = read(asked)?;
    if let Some(kind) = wanted.kind.as_deref().filter(|kind| !ask::ENTRY_KINDS.contains(kind)) {
        return Err(Problem::bad_request("query", format!("kind=`{}`", cut(kind)), ENTRY_KINDS_HINT));
    }
    list(api, caller.0, wanted, "entries", ask::entries, proofs::entries).await
}

async fn agreements(State(api): State<Api>, caller: Extension<Caller>, asked: Asked) -> Result<Json<Value>, Problem> {
    let wanted = read(asked)?;
    list(api, caller.0, wanted, "agreements", ask::agreements, proofs::agreements).await
}

async fn agreement_history(
    State(api): State<Api>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Json<Value>, Problem> {
    history((api, caller.0), Subject::Agreement(id), asked).await
}

async fn device_history(
    State(api): State<Api>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Json<Value>, Problem> {
    history((api, caller.0), Subject::Device(id), asked).await
}

async fn party_history(
    State(api): State<Api>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Json<Value>, Problem> {
    history((api, caller.0), Subject::Party(id), asked).await
}

async fn history((api, caller): (Api, Caller), of: Subject, asked: Asked) -> Result<Json<Value>, Problem> {
    let wanted = read(asked)?;
    let rows = move |database: &mut dyn Database, filter: &Filter, page: &Page| {
        let mut answer = ask::history(database, &of, filter, page)?;
        explain(&mut answer);
        Ok(answer)
    };
    list(api, caller, wanted, "events", rows, proofs::events).await
}

/// What the reader may not see of the events in the rows.
fn take_out(sight: &Sight, answer: &mut Answer) -> Result<(), Problem> {
    for row in &mut answer.rows {
        let word = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, subject) = (word("kind"), word("subject"));
        if let Some(Value::Object(data)) = row.get_mut("data") {
            sight.take_out(&kind, &subject, data)?;
        }
    }
    Ok(())
}

/// Refusals in words, as everywhere else in this interface.
fn explain(answer: &mut Answer) {
    for row in &mut answer.rows {
        let number =
            row.get("data").and_then(|data| data["refusal"].as_u64()).and_then(|number| u16::try_from(number).ok());
        if let (Some("entry.refused"), Some(number)) = (row.get("kind").and_then(Value::as_str), number) {
            row.insert("refusal_text".to_owned(), tally_contracts::Refusal::describe(number).into());
        }
    }
}

/// `GET /query/aggregates/agreements?by=maintainer,fault&last=2mo`.
async fn aggregate(State(api): State<Api>, asked: Asked) -> Result<Json<Value>, Problem> {
    let wanted = read(asked)?;
    refuse(&wanted, "aggregates", |wanted| wanted.cursor.is_some(), "cursor")?;
    let asked = Aggregate {
        by: words(wanted.by.as_deref()).map(Group::parse).collect::<Result<_, _>>().map_err(problem)?,
        filter: filter(&wanted)?,
        window: window(wanted.window.as_deref())?,
        success: words(wanted.success.as_deref().or(Some(SUCCESS))).map(str::to_owned).collect(),
    };
    let (page, proofs) = (page(&wanted)?, wanted.proofs == Some(true));
    on_projection(api, wanted.min_height, move |engine, questions| {
        let (answer, behind) = questions
            .ask(|database| {
                let answer = ask::aggregate(database, &asked)?;
                let behind = proofs.then(|| ask::behind(database, &asked, &page)).transpose()?;
                Ok((answer, behind))
            })
            .map_err(problem)?;
        let mut shown = show(engine, "groups", answer);
        shown["from"] = asked.filter.from.map(|from| Timestamp::from_micros(from).to_string()).into();
        shown["to"] = asked.filter.to.map(|to| Timestamp::from_micros(to).to_string()).into();
        shown["by"] = wanted.by.as_deref().map(|by| words(Some(by)).collect()).unwrap_or_default();
        shown["success"] = asked.success.clone().into();
        if let Some(mut behind) = behind {
            // The agreements that were counted, each with the proof of its state: whoever does not believe the sums adds them up.
            // They are of agreements, which nobody hides.
            let checkpoint = proofs::agreements(engine, &Sight::operator(), &mut behind)?;
            shown["behind"] = show(engine, "agreements", behind);
            shown["behind"]["state_checkpoint"] = checkpoint;
        }
        Ok(shown)
    })
    .await
}

fn refuse(wanted: &Wanted, of: &str, is_set: impl Fn(&Wanted) -> bool, name: &str) -> Result<(), Problem> {
    if !is_set(wanted) {
        return Ok(());
    }
    Err(Problem::bad_request(
        "query",
        format!("{of} know no `{name}`"),
        "docs/formats/api.md says what each path knows",
    ))
}

/// One page of a list, with proofs if asked for.
async fn list(
    api: Api,
    caller: Caller,
    wanted: Wanted,
    what: &'static str,
    rows: impl FnOnce(&mut dyn Database, &Filter, &Page) -> Result<Answer, Fault> + Send + 'static,
    prove: impl FnOnce(&Engine, &Sight, &mut Answer) -> Result<Value, Problem> + Send + 'static,
) -> Result<Json<Value>, Problem> {
    for (is_set, name) in
        [(wanted.by.is_some(), "by"), (wanted.success.is_some(), "success"), (wanted.window.is_some(), "window")]
    {
        refuse(&wanted, "lists", |_| is_set, name)?;
    }
    let (filter, page, proofs) = (filter(&wanted)?, page(&wanted)?, wanted.proofs == Some(true));
    on_projection(api, wanted.min_height, move |engine, questions| {
        let mut answer = questions.ask(|database| rows(database, &filter, &page)).map_err(problem)?;
        let sight = caller.sight(engine)?;
        take_out(&sight, &mut answer)?;
        let checkpoint = if proofs { prove(engine, &sight, &mut answer)? } else { Value::Null };
        let mut shown = show(engine, what, answer);
        if !checkpoint.is_null() {
            shown["state_checkpoint"] = checkpoint;
        }
        Ok(shown)
    })
    .await
}

/// The answer with its height, and how far the ledger is meanwhile.
fn show(engine: &Engine, what: &str, answer: Answer) -> Value {
    let Answer { at, rows, next } = answer;
    let head = engine.store().head().map_or(0, |head| head.checkpoint.height);
    let mut shown = json!({
        "ledger": at.ledger, "height": at.height, "checkpoint": at.checkpoint, "entries_in_ledger": at.entries,
        "time": at.time.map(|time| Timestamp::from_micros(time).to_string()),
        "head": head, "behind_blocks": (head + 1).saturating_sub(at.next()), "next": next,
    });
    if at.details != at.height {
        shown["details_height"] = at.details.into();
    }
    if at.complete_from > 0 {
        shown["complete_from"] = at.complete_from.into();
    }
    shown[what] = rows.into_iter().map(Value::Object).collect();
    shown
}

/// Waits for the height asked for, then asks where it may block.
async fn on_projection(
    api: Api,
    min_height: Option<u64>,
    ask: impl FnOnce(&Engine, &Questions) -> Result<Value, Problem> + Send + 'static,
) -> Result<Json<Value>, Problem> {
    let questions = kept(&api)?;
    if let Some(wanted) = min_height {
        wait_for(&questions, wanted).await?;
    }
    super::on_disk(&api.engine, move |engine| ask(engine, &questions)).await.map(Json)
}

fn kept(api: &Api) -> Result<Arc<Questions>, Problem> {
    let hint = "write `projection: sqlite` in node.yaml, or leave the key out";
    api.questions.clone().ok_or_else(|| Problem::not_found("projection", "this node keeps no projection to ask", hint))
}

async fn wait_for(questions: &Questions, wanted: u64) -> Result<(), Problem> {
    let mut status = questions.watch();
    let is_there = |status: &crate::projection::Status| status.height.is_some_and(|height| height >= wanted);
    let waited = tokio::time::timeout(WAIT, status.wait_for(is_there)).await;
    match waited {
        Ok(Ok(_)) => Ok(()),
        _ => {
            let found = questions.status();
            let height = found.height.map_or_else(|| "none".to_owned(), |height| height.to_string());
            let fault = found.fault.map(|fault| format!("; it stands still: {fault}")).unwrap_or_default();
            let text = format!("block {wanted} is not in the projection yet, its last one is {height}{fault}");
            Err(Problem::not_now("projection-behind", text, 1))
        }
    }
}

fn read(asked: Asked) -> Result<Wanted, Problem> {
    let hint = "docs/formats/api.md says what each path knows";
    asked.map(|Query(wanted)| wanted).map_err(|rejection| Problem::bad_request("query", rejection.body_text(), hint))
}

fn words(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn filter(wanted: &Wanted) -> Result<Filter, Problem> {
    const HINT: &str =
        "times are RFC 3339 (2026-11-21T14:00:00Z, `+` written as %2B) or microseconds; last is 2mo, 30d, 12h";
    let time = |name: &str, text: &Option<String>| {
        let wrong = |text: &String| Problem::bad_request("query", format!("{name}=`{}`", cut(text)), HINT);
        text.as_ref().map(|text| instant(text).ok_or_else(|| wrong(text))).transpose()
    };
    let (mut from, to) = (time("from", &wanted.from)?, time("to", &wanted.to)?);
    if let Some(last) = &wanted.last {
        if from.is_some() || to.is_some() {
            return Err(Problem::bad_request("query", "`last` together with `from` or `to`", HINT));
        }
        let begin = reaching_back(now(), last);
        let begin = begin.ok_or_else(|| Problem::bad_request("query", format!("last=`{}`", cut(last)), HINT))?;
        from = Some(begin.as_micros());
    }
    if let (Some(begin), Some(end)) = (from, to)
        && begin > end
    {
        let [begin, end] = [begin, end].map(Timestamp::from_micros);
        return Err(Problem::bad_request("query", format!("from={begin} is behind to={end}"), "swap them"));
    }
    let Wanted { device, party, contract, state, agreement, kind, .. } = wanted.clone();
    Ok(Filter { device, party, contract, state, agreement, kind, from, to })
}

fn now() -> Timestamp {
    use crate::clock::{Clock, WallClock};
    WallClock.now()
}

fn window(word: Option<&str>) -> Result<Window, Problem> {
    match word {
        None | Some("opened") => Ok(Window::Opened),
        Some("closed") => Ok(Window::Closed),
        Some(other) => {
            Err(Problem::bad_request("query", format!("window=`{}`", cut(other)), "window is `opened` or `closed`"))
        }
    }
}

fn page(wanted: &Wanted) -> Result<Page, Problem> {
    let proofs = wanted.proofs == Some(true);
    let limit = wanted.limit.unwrap_or(if proofs { PROOFS_MAX } else { ask::LIMIT });
    if proofs && limit > PROOFS_MAX {
        let hint = "with proofs a page has at most 100 rows; go on with `cursor`";
        return Err(Problem::bad_request("query", format!("limit={limit}"), hint));
    }
    Ok(Page { limit, cursor: wanted.cursor.clone() })
}

/// The beginning of what somebody wrote.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A question that cannot be answered is the caller's, everything else the database's.
fn problem(fault: Fault) -> Problem {
    match fault {
        Fault::Question { text, hint } => Problem::bad_request("query", text, hint),
        other => {
            tracing::warn!(error = %other, "the projection did not answer");
            Problem::not_now("projection", format!("the projection does not answer: {other}"), 5)
        }
    }
}
