//! Who may touch what now, as JSON.

use super::Api;
use super::problem::Problem;
use super::views::read;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use tally_contracts::{OpenPermit, PolicyView, QuarantineView, StateRead};
use tally_evidence::{Allowed, Who};

/// Most rows of an answer.
const ROWS_MAX: usize = 1_000;

/// `GET /access/permits`: open ones, oldest first.
pub async fn permits(State(api): State<Api>) -> Result<Json<Vec<OpenPermit>>, Problem> {
    read(&api, |state: &dyn StateRead| tally_contracts::permits(state, ROWS_MAX)).await.map(Json)
}

/// `GET /access/policies`, by owner and name.
pub async fn policies(State(api): State<Api>) -> Result<Json<Vec<Value>>, Problem> {
    let list = |state: &dyn StateRead| tally_contracts::policies(state, ROWS_MAX).iter().map(policy).collect();
    read(&api, list).await.map(Json)
}

/// `GET /access/quarantines`.
pub async fn quarantines(State(api): State<Api>) -> Result<Json<Vec<QuarantineView>>, Problem> {
    read(&api, |state: &dyn StateRead| tally_contracts::quarantines(state, ROWS_MAX)).await.map(Json)
}

fn policy(view: &PolicyView) -> Value {
    let policy = &view.policy;
    let points = policy.points.iter().map(|(point, allowed)| (point.to_string(), on_point(allowed)));
    json!({
        "owner": view.owner, "policy": policy.id, "entry": view.entry, "devices": policy.devices,
        "who": policy.who.iter().map(who).collect::<Vec<_>>(), "points": points.collect::<serde_json::Map<_, _>>(),
        "rate": policy.rate.map(|(count, period)| json!({"count": count, "period_us": micros(period)})),
        "hours_utc": policy.hours, "days": policy.days, "lasts_us": micros(policy.lasts),
        "from": policy.from.map(|from| from.as_micros()), "until": policy.until.map(|until| until.as_micros()),
    })
}

fn who(who: &Who) -> Value {
    json!({"party": who.party, "firm": who.firm, "skill": who.skill, "sender": who.sender})
}

fn on_point(allowed: &Allowed) -> Value {
    let rights = allowed.rights.iter().map(|right| right.word()).collect::<Vec<_>>();
    json!({"at": allowed.address, "may": rights, "range": allowed.range})
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
