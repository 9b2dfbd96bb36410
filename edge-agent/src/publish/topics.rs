//! Topics and payloads; written down in `docs/formats/topics.md`.

use super::json::{self, Late};
use crate::seal::Sealed;
use crate::spool::Gap;
use crate::status::Ending;
use serde_json::{Value, json};
use std::sync::Arc;
use tally_connector_api::LinkState;
use tally_connector_mqtt::{Message, QoS};
use tally_evidence::{TriggerBody, quality_json};
use tally_model::{ClockState, DeviceId, PartyId, Reading};
use tally_tls::Stage;

/// Makes messages under `{prefix}/{plant}`.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    root: Arc<str>,
}

impl Topics {
    pub fn new(prefix: &str, plant: &str) -> Self {
        Self { root: format!("{prefix}/{}", segment(plant)).into() }
    }

    /// `{prefix}/{plant}/{device}/{point}`
    pub fn point(&self, reading: &Reading) -> Message {
        live(format!("{}/{}/{}", self.root, reading.device, reading.sample.point), json::point(reading))
    }

    /// `{prefix}/{plant}/{device}`: one cycle; mostly one message.
    pub fn device(&self, device: &DeviceId, readings: &[&Reading]) -> impl Iterator<Item = Message> {
        let topic = format!("{}/{device}", self.root);
        json::cycle(readings).into_iter().map(move |payload| live(topic.clone(), payload))
    }

    /// `{prefix}/{plant}/{device}/history`: several readings.
    pub(super) fn history(&self, device: &DeviceId, late: Late) -> Message {
        let topic = format!("{}/{device}/history", self.root);
        Message { topic, payload: late.finish(), qos: QoS::AtLeastOnce, retain: false }
    }

    /// `{prefix}/{plant}/{device}/history/gap`
    pub fn gap(&self, gap: &Gap) -> Message {
        let payload = json!({
            "first": gap.first, "last": gap.last, "count": gap.count(),
            "after": gap.after.map(|at| at.to_string()), "before": gap.before.to_string(),
        });
        sure(format!("{}/{}/history/gap", self.root, gap.device), &payload, false)
    }

    /// `{prefix}/{plant}/{device}/triggers/{trigger}`
    pub fn trigger(&self, sealed: &Sealed, body: Option<&TriggerBody>) -> Message {
        let call = body.and_then(|body| body.call.as_ref());
        let call = call.map(|call| json!({"contract": call.contract, "action": call.action, "with": call.with}));
        let quality = body.and_then(|body| body.quality.as_deref()).map(quality_json);
        let payload = json!({
            "device": sealed.device, "trigger": sealed.trigger, "transition": sealed.transition.word(),
            "priority": sealed.priority, "at": sealed.at.to_string(), "number": sealed.number,
            "readings": {"first": sealed.first, "last": sealed.last}, "statement": sealed.name().to_string(), "call": call,
            "quality": quality, "clock": body.and_then(|body| body.clock).map(clock_json),
        });
        sure(format!("{}/{}/triggers/{}", self.root, sealed.device, sealed.trigger), &payload, false)
    }

    /// `{prefix}/{plant}/ledger/{kind}/{subject}`: the CloudEvent as it came.
    pub fn event(&self, event: &Value) -> Message {
        let text = |name: &str| event[name].as_str().unwrap_or("unknown").to_owned();
        let kind = text("type");
        let kind = segment(kind.strip_prefix("tallystick.").unwrap_or(&kind));
        sure(format!("{}/ledger/{kind}/{}", self.root, segment(&text("subject"))), event, false)
    }

    /// `{prefix}/{plant}/{device}/status`
    pub fn device_state(&self, device: &DeviceId, state: &LinkState) -> Message {
        let word = match state {
            LinkState::Up { .. } => "up",
            LinkState::Connecting => "connecting",
            LinkState::Down { .. } => "down",
            LinkState::Stopped => "stopped",
        };
        sure(format!("{}/{device}/status", self.root), &json!({"state": word, "text": state.to_string()}), true)
    }

    /// `{prefix}/{plant}/agent/{name}/status`
    pub fn agent(&self, agent: &PartyId, is_online: bool) -> Message {
        let payload = json!({"state": if is_online { "online" } else { "offline" }});
        sure(format!("{}/agent/{agent}/status", self.root), &payload, true)
    }

    /// `{prefix}/{plant}/agent/{name}/sealing`: whether the agent can seal, and why not
    pub fn sealing(&self, agent: &PartyId, away: Option<&str>, waiting: u64) -> Message {
        let state = if away.is_some() { "waits-for-key" } else { "seals" };
        let payload = json!({"state": state, "text": away, "waiting": waiting});
        sure(format!("{}/agent/{agent}/sealing", self.root), &payload, true)
    }

    /// `{prefix}/{plant}/agent/{name}/certificates`: those that end within 90 days
    pub fn certificates(&self, agent: &PartyId, ending: &[Ending]) -> Message {
        let state = match ending.iter().map(Ending::stage).max() {
            None => "fine",
            Some(Stage::Over) => "ended",
            Some(_) => "end-soon",
        };
        let certificates: Vec<_> = ending.iter().map(Ending::as_json).collect();
        let payload = json!({"state": state, "certificates": certificates});
        sure(format!("{}/agent/{agent}/certificates", self.root), &payload, true)
    }

    /// Where this agent hears commands: `{prefix}/{plant}/agent/{name}/command/{client}/{device}/{point}`
    pub fn commands(&self, agent: &PartyId) -> String {
        format!("{}/agent/{agent}/command/+/+/+", self.root)
    }

    /// Client, device and point of a command's topic.
    pub fn command(&self, agent: &str, topic: &str) -> Option<[String; 3]> {
        let rest = topic.strip_prefix(&*self.root)?.strip_prefix("/agent/")?.strip_prefix(agent)?;
        let mut parts = rest.strip_prefix("/command/")?.split('/').map(ToOwned::to_owned);
        let found = [parts.next()?, parts.next()?, parts.next()?];
        parts.next().is_none().then_some(found)
    }

    /// `{prefix}/{plant}/agent/{name}/answer/{client}/{device}/{point}`
    pub fn answer(&self, agent: &str, to: &[String; 3], payload: &Value) -> Message {
        let [client, device, point] = to.each_ref().map(|part| segment(part));
        sure(format!("{}/agent/{agent}/answer/{client}/{device}/{point}", self.root), payload, false)
    }
}

/// How good the clock is that a time is from.
pub(crate) fn clock_json(clock: ClockState) -> Value {
    json!({"state": clock.word(), "error_us": clock.error_us(), "text": clock.to_string()})
}

/// A name as one topic segment: what would split or widen a topic becomes `_` (MQTT 3.1.1 §4.7.1).
fn segment(name: &str) -> String {
    let safe = |c| if matches!(c, '/' | '+' | '#' | '\0') { '_' } else { c };
    if name.is_empty() { "_".to_owned() } else { name.chars().map(safe).collect() }
}

fn live(topic: String, payload: Vec<u8>) -> Message {
    Message { topic, payload, qos: QoS::AtMostOnce, retain: true }
}

fn sure(topic: String, payload: &Value, retain: bool) -> Message {
    Message { topic, payload: payload.to_string().into_bytes(), qos: QoS::AtLeastOnce, retain }
}
