//! Commands as JSON: `…/agent/{agent}/command/{client}/{device}/{point}`.

use super::Read;
use crate::gate::{Command, Refusal};
use crate::publish::Topics;
use serde::Deserialize;
use serde_json::Value as Json;
use tally_connector_mqtt::Heard;
use tally_evidence::{Right, is_sender};
use tally_model::{Timestamp, Value};

/// Largest command, in bytes.
const PAYLOAD_BYTES_MAX: usize = 4 << 10;
/// Longest id of a command, in bytes.
const ID_BYTES_MAX: usize = 128;
/// Longest text that may be written, in bytes: what the contract takes.
const TEXT_BYTES_MAX: usize = 1_024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    at: Option<At>,
    write: Option<Json>,
    call: Option<Json>,
}

/// RFC 3339, or milliseconds since 1970.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum At {
    Text(String),
    Millis(i64),
}

impl At {
    fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Text(text) => Timestamp::parse_rfc3339(text),
            Self::Millis(millis) => millis.checked_mul(1_000).map(Timestamp::from_micros),
        }
    }
}

/// `None` for a topic that is none of ours: there is nobody to answer.
pub(super) fn read(heard: &Heard, topics: &Topics, agent: &str, broker: &str) -> Option<Read> {
    let [client, device, point] = topics.command(agent, &heard.topic)?;
    let sender = format!("mqtt:{client}");
    let parsed = parse(&heard.payload);
    let id = parsed.as_ref().ok().map(|(written, ..)| written.id.clone());
    let command = parsed.and_then(|(written, right, value)| {
        if !is_sender(&sender) {
            return Err(malformed(format!("`{client}` in the topic is no name of a client")));
        }
        let said = format!("{broker}, topic {}, id {}", heard.topic, written.id);
        let at = written.at.as_ref().map(|at| at.time().ok_or_else(|| malformed("`at` is no time".to_owned())));
        Ok(Command {
            sender: sender.clone(),
            device: device.clone(),
            point: point.clone(),
            right,
            value,
            at: at.transpose()?,
            id: written.id,
            is_retained: heard.is_retained,
            said,
        })
    });
    Some(Read { sender, answer: [client, device, point], id, command })
}

fn malformed(what: String) -> Refusal {
    Refusal::new("malformed", format!("this is no command: {what}"))
}

fn parse(payload: &[u8]) -> Result<(Written, Right, Option<Value>), Refusal> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(malformed(format!("{} bytes; at most {PAYLOAD_BYTES_MAX} are taken", payload.len())));
    }
    let written: Written = serde_json::from_slice(payload).map_err(|fault| malformed(fault.to_string()))?;
    if written.id.is_empty() || written.id.len() > ID_BYTES_MAX || written.id.chars().any(char::is_control) {
        return Err(malformed(format!("`id` must have 1 to {ID_BYTES_MAX} bytes and no control characters")));
    }
    let (right, value) = match (&written.write, &written.call) {
        (Some(write), None) => (Right::Write, Some(value(write)?)),
        (None, Some(call)) => (Right::Call, called(call)?),
        _ => return Err(malformed("it says either `write` or `call`".to_owned())),
    };
    if matches!(&value, Some(Value::Text(text)) if text.len() > TEXT_BYTES_MAX) {
        return Err(malformed(format!("a text of more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok((written, right, value))
}

fn value(json: &Json) -> Result<Value, Refusal> {
    value_of(json).ok_or_else(|| malformed("`write` is a number, true, false or a text".to_owned()))
}

/// Words for an alarm, or what a method is called with: nothing, one value, or a list, which goes on as its text.
fn called(json: &Json) -> Result<Option<Value>, Refusal> {
    match json {
        Json::String(words) if words.is_empty() => Ok(None),
        Json::Array(_) => Ok(Some(Value::Text(json.to_string()))),
        json => {
            let wrong = || malformed("`call` is a text, a number, true, false, or a list of these".to_owned());
            value_of(json).map(Some).ok_or_else(wrong)
        }
    }
}

/// A value as JSON writes it; `None` for what is none.
pub(crate) fn value_of(json: &Json) -> Option<Value> {
    match json {
        Json::Bool(flag) => Some(Value::Bool(*flag)),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Some(Value::Integer(number)),
            (_, Some(number), _) => Some(Value::Unsigned(number)),
            (.., Some(number)) if number.is_finite() => Some(Value::Float(number)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOPIC: &str = "tallystick/line/agent/agent-01/command/hmi-3/press-01/setpoint";

    fn heard(topic: &str, payload: &str) -> Option<Read> {
        let heard = Heard { topic: topic.into(), payload: payload.as_bytes().to_vec(), is_retained: false };
        read(&heard, &Topics::new("tallystick", "line"), "agent-01", "mqtt://broker:1883")
    }

    #[test]
    fn a_command_is_read() {
        let read = heard(TOPIC, r#"{"id": "7f3a", "at": "2026-11-21T04:05:06Z", "write": 41.5}"#).unwrap();
        let command = read.command.unwrap();
        assert_eq!((command.sender.as_str(), command.device.as_str()), ("mqtt:hmi-3", "press-01"));
        assert_eq!((command.right, command.value), (Right::Write, Some(Value::Float(41.5))));
        assert_eq!(command.at.unwrap().to_string(), "2026-11-21T04:05:06.000000Z");
        let millis = heard(TOPIC, r#"{"id": "8", "at": 1763697906000, "call": "seen"}"#).unwrap().command.unwrap();
        assert_eq!((millis.right, millis.at.unwrap().as_micros()), (Right::Call, 1_763_697_906_000_000));
        let listed = heard(TOPIC, r#"{"id": "9", "call": [6, true]}"#).unwrap().command.unwrap();
        assert_eq!(listed.value, Some(Value::Text("[6,true]".into())));
        let bare = heard(TOPIC, r#"{"id": "10", "call": ""}"#).unwrap().command.unwrap();
        assert_eq!((bare.right, bare.value), (Right::Call, None));
        assert!(command.said.contains("7f3a") && command.said.contains("mqtt://broker:1883"));
    }

    #[test]
    fn what_is_no_command_says_so_and_other_topics_are_not_ours() {
        for payload in [
            "",
            "7",
            "{}",
            r#"{"id": "", "write": 1}"#,
            r#"{"id": "a", "write": 1, "call": "x"}"#,
            r#"{"id": "a", "write": [1]}"#,
            r#"{"id": "a", "call": {}}"#,
            r#"{"id": "a", "write": 1, "at": "noon"}"#,
            r#"{"id": "a", "write": 1, "force": true}"#,
            &format!(r#"{{"id": "a", "write": "{}"}}"#, "x".repeat(5_000)),
        ] {
            assert_eq!(heard(TOPIC, payload).unwrap().command.unwrap_err().code, "malformed", "{payload}");
        }
        for topic in ["tallystick/line/agent/agent-02/command/h/p/s", "tallystick/line/agent/agent-01/command/h/p", "x"]
        {
            assert!(heard(topic, "{}").is_none(), "{topic}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..300), text in "\\{\"id\": ?\"a\", ?\"write\": ?\\PC{0,20}\\}") {
            let _ = parse(&payload);
            let _ = parse(text.as_bytes());
        }
    }
}
