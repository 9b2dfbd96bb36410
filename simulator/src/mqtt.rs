//! MQTT sensors: every `every` they publish what their signals say, one message per topic.
//!
//! Signals with a JSON pointer (`hall/climate#/temperature`) that share a topic share a JSON object, which also carries
//! `timestamp` (milliseconds since 1970) unless a signal lives there; a signal without pointer is the whole payload as
//! text. A signal of bad quality says `null` (raw: `NaN`). A silenced device publishes nothing.
//!
//! QoS 1. A sensor keeps nothing: what it cannot send because the broker is away or slow is not sent later.
//! It reconnects by itself, 200 ms to 10 s apart.

use crate::{MqttSensorConfig, PlantState, SignalConfig, SignalView, SimError};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tally_connector_api::Backoff;
use tally_model::{Address, DeviceId, Encoding, Quality, Value};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Between two pings; the broker misses a dead sensor after one and a half times as long (MQTT 3.1.1 §3.1.2.10).
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Messages that may be on their way; more are not sent.
const IN_FLIGHT_MAX: u16 = 100;

/// Largest message in bytes: far above any sensor's, rumqttc's own limit is 10 KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Publishes the signals of one device until `stop` is cancelled.
///
/// # Errors
/// [`SimError::Mqtt`] when the signals cannot be put into messages.
pub async fn publish_mqtt(
    config: MqttSensorConfig,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    let messages =
        messages(&config.signals).map_err(|reason| SimError::Mqtt(format!("{}: {reason}", config.device)))?;
    let mut ticks = tokio::time::interval(config.every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let sensor = Sensor { config, state, messages, ticks, backoff: Backoff::for_links() };
    stop.run_until_cancelled(sensor.publish_for_ever()).await;
    Ok(())
}

struct Sensor {
    config: MqttSensorConfig,
    state: PlantState,
    messages: Vec<(String, Content)>,
    ticks: Interval,
    backoff: Backoff,
}

/// What one topic carries.
enum Content {
    Raw(SignalConfig),
    /// Each with its pointer, none inside another.
    Json(Vec<(String, SignalConfig)>),
}

impl Sensor {
    async fn publish_for_ever(mut self) {
        loop {
            let (client, mut event_loop) = AsyncClient::new(self.options(), usize::from(IN_FLIGHT_MAX));
            let fault = self.publish_while_connected(&client, &mut event_loop).await;
            let delay = self.backoff.next_delay();
            tracing::debug!(device = %self.config.device, %fault, "the sensor is not connected, next attempt in {delay:?}");
            tokio::time::sleep(delay).await;
        }
    }

    fn options(&self) -> MqttOptions {
        let name = format!("sim-{}", self.config.device);
        let host = if self.config.host.contains(':') && !self.config.host.starts_with('[') {
            format!("[{}]", self.config.host)
        } else {
            self.config.host.clone()
        };
        let mut options = MqttOptions::new(name, host, self.config.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
        options.set_inflight(IN_FLIGHT_MAX);
        options
    }

    async fn publish_while_connected(&mut self, client: &AsyncClient, event_loop: &mut EventLoop) -> String {
        let mut is_connected = false;
        loop {
            // A poll that is dropped half-way loses what it was writing, so it is taken to its end.
            let mut polling = pin!(event_loop.poll());
            let event = loop {
                tokio::select! {
                    event = &mut polling => break event,
                    _ = self.ticks.tick(), if is_connected => self.publish(client),
                }
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    is_connected = true;
                    self.backoff.reset();
                }
                Ok(_) => {}
                Err(fault) => return fault.to_string(),
            }
        }
    }

    fn publish(&self, client: &AsyncClient) {
        if self.state.is_silent(self.config.device.as_str()) {
            return;
        }
        for (topic, content) in &self.messages {
            let payload = content.payload(&self.config.device, &self.state);
            if client.try_publish(topic, QoS::AtLeastOnce, false, payload).is_err() {
                tracing::debug!(device = %self.config.device, topic, "not published: the broker is too slow");
            }
        }
    }
}

/// Sorts signals into messages by topic.
fn messages(signals: &[SignalConfig]) -> Result<Vec<(String, Content)>, String> {
    let mut messages: BTreeMap<String, Content> = BTreeMap::new();
    for signal in signals {
        let Address::Mqtt { topic, pointer } = &signal.address else {
            return Err(format!("`{}` is not an MQTT address", signal.address));
        };
        let taken = || Err(format!("`{}`: there is something at `{}` already", signal.id, signal.address));
        match (messages.get_mut(topic), pointer.as_deref().filter(|pointer| !pointer.is_empty())) {
            // The pointer "" is the whole document (RFC 6901 §5), so a raw JSON value.
            (None, None) => drop(messages.insert(topic.clone(), Content::Raw(signal.clone()))),
            (None, Some(pointer)) => {
                drop(messages.insert(topic.clone(), Content::Json(vec![(pointer.to_owned(), signal.clone())])));
            }
            (Some(Content::Json(members)), Some(pointer)) => {
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
    fn payload(&self, device: &DeviceId, state: &PlantState) -> Vec<u8> {
        let view = |signal: &SignalConfig| state.view(device.as_str(), signal.id.as_str());
        match self {
            Self::Raw(signal) => raw(signal, view(signal)).into_bytes(),
            Self::Json(members) => {
                let mut root = Map::new();
                for (pointer, signal) in members {
                    put(&mut root, pointer, json(signal, view(signal)));
                }
                root.entry("timestamp").or_insert_with(|| Json::from(now_millis()));
                Json::Object(root).to_string().into_bytes()
            }
        }
    }
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
fn sent(signal: &SignalConfig, view: Option<SignalView>) -> Option<Value> {
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

fn now_millis() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
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
    fn what_cannot_be_in_one_message_is_refused() {
        for (one, other) in [("x#/a", "x#/a/b"), ("x#/a/b", "x#/a"), ("x", "x#/a"), ("x#/a", "x"), ("x#/a", "x#/a")] {
            let lines = line("one", one, "") + &line("other", other, "");
            assert!(messages(&signals(&lines)).is_err(), "{one} and {other}");
        }
        assert!(messages(&signals(&(line("one", "x#/a", "") + &line("other", "x#/ab", "")))).is_ok());
    }
}
