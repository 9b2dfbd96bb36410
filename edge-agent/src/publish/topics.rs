//! Topics and payloads; written down in `docs/formats/topics.md`.

use crate::seal::Sealed;
use crate::spool::Gap;
use crate::vault::KeptReading;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tally_connector_api::LinkState;
use tally_connector_mqtt::{Message, QoS};
use tally_model::{DeviceId, PartyId, Quality, Reading, Sample};

/// Makes messages under `{prefix}/{plant}`.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    root: Arc<str>,
}

impl Topics {
    pub fn new(prefix: &str, plant: &str) -> Self {
        Self { root: format!("{prefix}/{}", segment(plant)).into() }
    }

    /// `{prefix}/{plant}/{device}/{point}`
    pub fn point(&self, kept: &KeptReading) -> Message {
        let reading = &kept.reading;
        let mut payload = value(&reading.sample);
        payload.insert("t".to_owned(), json!(reading.sample.source_time.to_string()));
        payload.insert("n".to_owned(), json!(reading.number));
        live(format!("{}/{}/{}", self.root, reading.device, reading.sample.point), Value::Object(payload))
    }

    /// `{prefix}/{plant}/{device}`: one cycle.
    pub fn device<'a>(&self, device: &DeviceId, readings: impl Iterator<Item = &'a KeptReading>) -> Message {
        let mut points = Map::new();
        let (mut received, mut number) = (None, None);
        for kept in readings {
            let sample = &kept.reading.sample;
            let mut payload = value(sample);
            payload.insert("t".to_owned(), json!(sample.source_time.to_string()));
            points.insert(sample.point.to_string(), Value::Object(payload));
            (received, number) = (Some(sample.received), Some(kept.reading.number));
        }
        let payload = json!({"t": received.map(|at| at.to_string()), "n": number, "points": points});
        live(format!("{}/{device}", self.root), payload)
    }

    /// A reading inside a message of history.
    pub fn late(reading: &Reading) -> String {
        let mut payload = Map::from_iter([("p".to_owned(), json!(reading.sample.point))]);
        payload.append(&mut value(&reading.sample));
        payload.insert("t".to_owned(), json!(reading.sample.source_time.to_string()));
        payload.insert("n".to_owned(), json!(reading.number));
        Value::Object(payload).to_string()
    }

    /// `{prefix}/{plant}/{device}/history`: readings as [`Topics::late`] makes them.
    pub fn history(&self, device: &DeviceId, late: &[String]) -> Message {
        let payload = format!("{{\"history\":[{}]}}", late.join(",")).into_bytes();
        let topic = format!("{}/{device}/history", self.root);
        Message { topic, payload, qos: QoS::AtLeastOnce, retain: false }
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
    pub fn trigger(&self, sealed: &Sealed, call: Option<Value>) -> Message {
        let payload = json!({
            "device": sealed.device, "trigger": sealed.trigger, "transition": sealed.transition.word(),
            "priority": sealed.priority, "at": sealed.at.to_string(), "number": sealed.number,
            "readings": {"first": sealed.first, "last": sealed.last}, "statement": sealed.id.to_string(), "call": call,
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
}

/// A name as one topic segment: what would split or widen a topic becomes `_` (MQTT 3.1.1 §4.7.1).
fn segment(name: &str) -> String {
    let safe = |c| if matches!(c, '/' | '+' | '#' | '\0') { '_' } else { c };
    if name.is_empty() { "_".to_owned() } else { name.chars().map(safe).collect() }
}

/// `v`, `u`, `q`, or `e` instead of `v`.
fn value(sample: &Sample) -> Map<String, Value> {
    let mut payload = Map::new();
    match &sample.outcome {
        Ok(value) => payload.insert("v".to_owned(), json!(value)),
        Err(reason) => payload.insert("e".to_owned(), json!(reason)),
    };
    payload.insert("u".to_owned(), json!(sample.unit));
    let quality = match sample.quality {
        Quality::Good => "good",
        Quality::Uncertain => "uncertain",
        Quality::Bad => "bad",
    };
    payload.insert("q".to_owned(), json!(quality));
    payload
}

fn live(topic: String, payload: Value) -> Message {
    Message { topic, payload: payload.to_string().into_bytes(), qos: QoS::AtMostOnce, retain: true }
}

fn sure(topic: String, payload: &Value, retain: bool) -> Message {
    Message { topic, payload: payload.to_string().into_bytes(), qos: QoS::AtLeastOnce, retain }
}
