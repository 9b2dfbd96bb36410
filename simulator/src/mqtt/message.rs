//! What a topic of a sensor carries: one text, or an object in JSON or CBOR that several signals share.

use crate::{PlantState, SignalConfig, SignalView};
use ciborium::Value as Cbor;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use tally_model::{Address, DeviceId, Encoding, Quality, Value};

/// What one topic carries.
pub(super) enum Content {
    Raw(SignalConfig),
    /// One value as CBOR.
    RawCbor(SignalConfig),
    /// Each with its pointer, none inside another.
    Object(Format, Vec<(String, SignalConfig)>),
}

/// How an object is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Format {
    Json,
    Cbor,
}

/// Sorts signals into messages by topic.
pub(super) fn messages(signals: &[SignalConfig]) -> Result<Vec<(String, Content)>, String> {
    let mut messages: BTreeMap<String, Content> = BTreeMap::new();
    for signal in signals {
        let (topic, format, pointer) = match &signal.address {
            Address::Mqtt { topic, pointer } => (topic, Format::Json, pointer),
            Address::MqttCbor { topic, pointer } => (topic, Format::Cbor, pointer),
            other => return Err(format!("`{other}` is not the address of a topic")),
        };
        let taken = || Err(format!("`{}`: there is something at `{}` already", signal.id, signal.address));
        match (messages.get_mut(topic), pointer.as_deref().filter(|pointer| !pointer.is_empty())) {
            // The pointer "" is the whole document (RFC 6901 §5), so a raw value.
            (None, None) => {
                let raw = if format == Format::Cbor { Content::RawCbor } else { Content::Raw };
                messages.insert(topic.clone(), raw(signal.clone()));
            }
            (None, Some(pointer)) => {
                messages.insert(topic.clone(), Content::Object(format, vec![(pointer.to_owned(), signal.clone())]));
            }
            (Some(Content::Object(known, members)), Some(pointer)) if *known == format => {
                if members.iter().any(|(other, _)| are_in_one_another(other, pointer)) {
                    return taken();
                }
                members.push((pointer.to_owned(), signal.clone()));
            }
            (Some(_), _) => return taken(),
        }
    }
    Ok(messages.into_iter().collect())
}

fn are_in_one_another(one: &str, other: &str) -> bool {
    let inside = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    one == other || inside(one, other) || inside(other, one)
}

impl Content {
    pub(super) fn payload(&self, device: &DeviceId, state: &PlantState) -> Vec<u8> {
        let view = |signal: &SignalConfig| state.view(device.as_str(), signal.id.as_str());
        match self {
            Self::Raw(signal) => raw(signal, view(signal)).into_bytes(),
            Self::RawCbor(signal) => cbor_bytes(&cbor_value(sent(signal, view(signal)))),
            Self::Object(format, members) => {
                let mut root = Map::new();
                for (pointer, signal) in members {
                    put(&mut root, pointer, json(signal, view(signal)));
                }
                root.entry("timestamp").or_insert_with(|| Json::from(millis(state.now(device.as_str()))));
                match format {
                    Format::Json => Json::Object(root).to_string().into_bytes(),
                    Format::Cbor => cbor_bytes(&cbor(Json::Object(root))),
                }
            }
        }
    }
}

/// The same object as CBOR (RFC 8949 §6.2): numbers keep being whole or not.
fn cbor(json: Json) -> Cbor {
    match json {
        Json::Null => Cbor::Null,
        Json::Bool(flag) => Cbor::Bool(flag),
        Json::String(text) => Cbor::Text(text),
        Json::Array(items) => Cbor::Array(items.into_iter().map(cbor).collect()),
        Json::Object(map) => Cbor::Map(map.into_iter().map(|(key, value)| (Cbor::Text(key), cbor(value))).collect()),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(signed), _, _) => Cbor::Integer(signed.into()),
            (None, Some(unsigned), _) => Cbor::Integer(unsigned.into()),
            (None, None, float) => Cbor::Float(float.unwrap_or(f64::NAN)),
        },
    }
}

fn cbor_value(value: Option<Value>) -> Cbor {
    match value {
        None => Cbor::Null,
        Some(Value::Bool(flag)) => Cbor::Bool(flag),
        Some(Value::Integer(number)) => Cbor::Integer(number.into()),
        Some(Value::Unsigned(number)) => Cbor::Integer(number.into()),
        Some(Value::Float(number)) => Cbor::Float(number),
        Some(Value::Text(text)) => Cbor::Text(text),
    }
}

fn cbor_bytes(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(fault) = ciborium::into_writer(value, &mut bytes) {
        // Writing to memory cannot fail; an empty payload would be seen.
        tracing::error!(%fault, "CBOR was not written");
    }
    bytes
}

/// Puts `value` where a JSON pointer will find it (RFC 6901 §3: `~1` is `/`, `~0` is `~`). Numbers are keys like all
/// others: a reader's pointer finds both.
fn put(root: &mut Map<String, Json>, pointer: &str, value: Json) {
    let mut keys: Vec<_> = pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
    let last = keys.pop().unwrap_or_default();
    let mut place = root;
    for key in keys {
        let inner = place.entry(key).or_insert_with(|| Json::Object(Map::new()));
        // `are_in_one_another` keeps values and objects from meeting.
        let Json::Object(inner) = inner else { return };
        place = inner;
    }
    place.insert(last, value);
}

fn json(signal: &SignalConfig, view: Option<SignalView>) -> Json {
    match sent(signal, view) {
        None => Json::Null,
        Some(Value::Bool(flag)) => Json::from(flag),
        Some(Value::Integer(number)) => Json::from(number),
        Some(Value::Unsigned(number)) => Json::from(number),
        Some(Value::Float(number)) => Json::from(number),
        Some(Value::Text(text)) => Json::from(text),
    }
}

fn raw(signal: &SignalConfig, view: Option<SignalView>) -> String {
    sent(signal, view).map_or_else(|| "NaN".to_owned(), |value| value.to_string())
}

/// What the sensor says: raw = (value − offset) ÷ scale, whole where its type is.
#[allow(clippy::cast_possible_truncation)] // a float beyond 64 bits is cut to the largest, as a real converter does
pub(super) fn sent(signal: &SignalConfig, view: Option<SignalView>) -> Option<Value> {
    let value = view.filter(|view| view.quality != Quality::Bad)?.value;
    let is_scaled = (signal.scale, signal.offset) != (1.0, 0.0);
    let value = match value.as_f64() {
        Some(number) if is_scaled => Value::Float((number - signal.offset) / signal.scale),
        _ => value,
    };
    match (signal.encoding, value) {
        (Encoding::Auto | Encoding::F32 | Encoding::F64 | Encoding::Text | Encoding::Bool, value) => Some(value),
        (_, Value::Float(number)) => Some(Value::Integer(number.round() as i64)),
        (_, value) => Some(value),
    }
}

pub(super) fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimConfig;
    use std::path::Path;

    fn signals(signals: &str) -> Vec<SignalConfig> {
        let yaml = format!("devices:\n  - id: hall\n    serve: \"mqtt://127.0.0.1:1883\"\n    signals:\n{signals}");
        SimConfig::parse(&yaml, Path::new("test.yaml"), &|_| None).unwrap().devices.remove(0).signals
    }

    fn line(id: &str, at: &str, more: &str) -> String {
        format!("      - {{id: {id}, at: \"{at}\", from: {{constant: 0}}{more}}}\n")
    }

    #[test]
    fn signals_of_one_topic_are_one_object() {
        let plant = PlantState::default();
        let device = DeviceId::try_new("hall").unwrap();
        plant.set("hall", "t", Value::Float(21.5));
        plant.set("hall", "h", Value::Float(40.0));
        plant.set("hall", "odd", Value::Text("x".into()));
        plant.set("hall", "broken", Value::Float(1.0));
        plant.set_quality("hall", "broken", Quality::Bad);
        plant.set("hall", "door", Value::Bool(true));
        let lines = [
            line("t", "hall/climate#/air/t", ""),
            line("h", "hall/climate#/air/h", ", scale: 0.5, type: u16"),
            line("odd", "hall/climate#/a~1b/~0c", ""),
            line("broken", "hall/climate#/broken", ""),
            line("own", "hall/climate#/timestamp", ""),
            line("door", "hall/door", ""),
        ];
        let messages = messages(&signals(&lines.concat())).unwrap();
        assert_eq!(messages.len(), 2);
        let payload = |place: usize| String::from_utf8(messages[place].1.payload(&device, &plant)).unwrap();
        assert_eq!(
            payload(0),
            r#"{"a/b":{"~c":"x"},"air":{"h":80,"t":21.5},"broken":null,"timestamp":null}"#,
            "`own` is not set, so it is null, and nobody else writes there"
        );
        assert_eq!(payload(1), "true");
    }

    #[test]
    fn the_same_signals_as_cbor() {
        let plant = PlantState::default();
        let device = DeviceId::try_new("hall").unwrap();
        plant.set("hall", "t", Value::Float(1.5));
        plant.set("hall", "n", Value::Integer(-7));
        let lines = [line("t", "cbor:a#/timestamp", ""), line("n", "cbor:a#/x/n", ""), line("raw", "cbor:b", "")];
        let messages = messages(&signals(&lines.concat())).unwrap();
        // RFC 8949 by hand: {"timestamp": 1.5, "x": {"n": -7}} with half float, then null.
        let payload = |place: usize| messages[place].1.payload(&device, &plant);
        assert_eq!(payload(0), b"\xa2\x69timestamp\xf9\x3e\x00\x61x\xa1\x61n\x26");
        assert_eq!(payload(1), b"\xf6");
    }

    #[test]
    fn what_cannot_be_in_one_message_is_refused() {
        for (one, other) in [
            ("x#/a", "cbor:x#/b"),
            ("x#/a", "x#/a/b"),
            ("x#/a/b", "x#/a"),
            ("x", "x#/a"),
            ("x#/a", "x"),
            ("x#/a", "x#/a"),
        ] {
            let lines = line("one", one, "") + &line("other", other, "");
            assert!(messages(&signals(&lines)).is_err(), "{one} and {other}");
        }
        assert!(messages(&signals(&(line("one", "x#/a", "") + &line("other", "x#/ab", "")))).is_ok());
    }
}
