//! The status in plain words, for `/status` and `tally status`.

use super::devices::{DeviceCount, REASONS};
use super::{Status, lock};
use crate::publish::clock_json;
use serde_json::{Value, json};
use std::time::Instant;
use tally_connector_api::{LinkFault, LinkStatus};
use tally_model::DeviceId;
use tally_rules::{Watch, WatchState};

/// Points that are not good shown for each link; the count is of all.
const POINTS_MAX: usize = 50;
/// Missing parts of a condition that are told.
const MISSING_MAX: usize = 4;

impl Status {
    /// Everything, in plain words.
    #[must_use]
    pub fn as_json(&self, name: &str, plant: &str, ledger: &str) -> Value {
        let reasons = self.not_ready();
        let state = lock(&self.state);
        let links = state.links.iter().map(|link| link_line(&link.name, &link.devices, &link.status.borrow()));
        let counters = self.count.all().into_iter().map(|counted| (counted.name.to_owned(), json!(counted.value)));
        let node = state.node.as_ref().map_or_else(
            || json!({"state": "nothing submitted yet"}),
            |word| json!({"state": word.text, "for_seconds": word.since.elapsed().as_secs()}),
        );
        json!({
            "agent": name, "plant": plant, "ledger": ledger,
            "up_for_seconds": self.started.elapsed().as_secs(),
            "ready": reasons.is_empty(), "not_ready_because": reasons,
            "alarms": state.alarms.values().collect::<Vec<_>>(),
            "links": links.collect::<Vec<_>>(),
            "devices": lock(&self.devices).iter().map(device_line).collect::<Vec<_>>(),
            "broker": state.broker.as_ref().map(|broker| broker.borrow().state.to_string()),
            "broker_last_fault": state.broker.as_ref().and_then(|broker| last_fault(&broker.borrow())),
            "node": node,
            "clock": clock_json(state.clock.unwrap_or_default()),
            "triggers": state.watches,
            "vault": state.vault,
            "counters": counters.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// `error_us` is there only with a clock that is kept right.
fn link_line(name: &str, devices: &[DeviceId], status: &LinkStatus) -> Value {
    let LinkStatus { state, last_fault: fault, faults, connects, overruns, words, remark } = status;
    let first = words.iter().take(POINTS_MAX);
    let points: serde_json::Map<_, _> =
        first.map(|((device, point), word)| (format!("{device}/{point}"), json!(word))).collect();
    json!({
        "link": name, "devices": devices, "is_up": state.is_up(), "state": state.to_string(),
        "last_fault": last_fault(status), "last_fault_class": fault.as_ref().map(LinkFault::class),
        "faults": faults, "connects": connects, "overruns": overruns,
        "points": points, "points_not_good": words.len(), "remark": remark,
    })
}

/// Why it was down, or is.
fn last_fault(status: &LinkStatus) -> Option<String> {
    status.last_fault.as_ref().map(ToString::to_string)
}

fn device_line((device, count): (&DeviceId, &DeviceCount)) -> Value {
    let without = REASONS.iter().zip(count.without).filter(|(_, count)| *count > 0);
    let without: serde_json::Map<_, _> =
        without.map(|((_, reason), count)| ((*reason).to_owned(), json!(count))).collect();
    let groups = count.groups.iter().map(|group| {
        json!({
            "every": group.label, "points": group.points, "values": group.values, "without": group.without,
            "state": age(group.last_value),
        })
    });
    let groups: Vec<_> = groups.collect();
    json!({
        "device": device, "state": age(count.last_value()), "values": count.values(), "without": without,
        "groups": groups,
    })
}

fn age(last_value: Option<Instant>) -> String {
    let ago = |at: Instant| format!("last value {:.1} s ago", at.elapsed().as_secs_f64());
    last_value.map_or_else(|| "no value yet".to_owned(), ago)
}

/// How a rule stands.
pub(super) fn watch_line(watch: &Watch) -> Value {
    let source = watch.rule().source();
    let state = match watch.state() {
        WatchState::Normal => "normal".to_owned(),
        WatchState::Pending { since } => format!("true since {since}, waiting for its on-delay"),
        WatchState::Raised { since } => format!("raised since {since}"),
        WatchState::TooThin { missing } => {
            let parts: Vec<_> = missing.iter().take(MISSING_MAX).map(ToString::to_string).collect();
            format!("cannot be judged: {}", parts.join("; "))
        }
    };
    json!({"device": source.device, "trigger": source.id, "raised": watch.is_raised(), "state": state})
}
