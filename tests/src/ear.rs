//! What SCADA hears: a subscriber to everything the agent publishes.

use crate::PATIENCE;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// What.
    pub json: Value,
    /// Whether the broker had kept it from earlier.
    pub retained: bool,
}

/// Listens from its start until it is dropped; reconnects by itself when the broker was away.
pub struct Ear {
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    /// All messages in order of arrival; a test lasts seconds, so none is thrown away.
    messages: Mutex<Vec<Message>>,
    more: Notify,
    /// How often the broker confirmed our subscription: once, and once more after each time it was away.
    subscriptions: watch::Sender<u32>,
}

impl Heard {
    fn messages(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear {
    /// Subscribes to `tallystick/#` at the broker on `port`; returns when the broker has confirmed that.
    ///
    /// # Panics
    /// When the broker does not.
    pub async fn listen(port: u16) -> Self {
        let mut options = MqttOptions::new(format!("ear-{port}-{}", std::process::id()), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(1 << 20, 1 << 20);
        let (client, events) = AsyncClient::new(options, 16);
        let heard: Arc<Heard> = Arc::default();
        let task = tokio::spawn(hear(client, events, Arc::clone(&heard)));
        let ear = Self { heard, task };
        ear.subscribed(1).await;
        ear
    }

    /// How often the broker confirmed the subscription so far.
    #[must_use]
    pub fn subscriptions(&self) -> u32 {
        *self.heard.subscriptions.borrow()
    }

    /// Waits until the broker has confirmed the subscription so often. What is published before that reaches nobody: a
    /// broker that was killed has forgotten its subscribers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn subscribed(&self, often: u32) {
        let mut subscriptions = self.heard.subscriptions.subscribe();
        let confirmed = tokio::time::timeout(PATIENCE, subscriptions.wait_for(|count| *count >= often)).await;
        confirmed.expect("the broker takes subscriptions").unwrap();
    }

    /// How many messages were heard so far: a place to wait from.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.heard.messages().len()
    }

    /// All messages behind `mark`.
    #[must_use]
    pub fn since(&self, mark: usize) -> Vec<Message> {
        self.heard.messages()[mark..].to_vec()
    }

    /// Waits for a message on `topic` behind `mark` that `fits`.
    ///
    /// # Panics
    /// When none comes; says what came instead.
    pub async fn until(&self, mark: usize, topic: &str, fits: impl Fn(&Value) -> bool) -> Message {
        let deadline = Instant::now() + PATIENCE;
        let mut next = mark;
        loop {
            let more = self.heard.more.notified();
            let fresh = self.since(next);
            next += fresh.len();
            if let Some(found) = fresh.into_iter().find(|message| message.topic == topic && fits(&message.json)) {
                return found;
            }
            if timeout_at(deadline, more).await.is_err() {
                let since = self.since(mark);
                let same: Vec<_> =
                    since.iter().filter(|message| message.topic == topic).map(|m| m.json.to_string()).collect();
                let last = same.len().saturating_sub(5);
                let mut topics: Vec<_> = since.iter().map(|message| message.topic.as_str()).collect();
                topics.sort_unstable();
                topics.dedup();
                panic!("nothing that fits on {topic}; there came {:?}; topics heard: {topics:?}", &same[last..]);
            }
        }
    }

    /// Waits until the value of a point, published from now on, equals `value` in good quality.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn value(&self, mark: usize, topic: &str, value: &Value) -> Message {
        self.until(mark, topic, |json| equal(&json["v"], value) && json["q"] == "good").await
    }
}

/// JSON knows one kind of number: 7 and 7.0 are equal. Whole numbers are compared whole, the others bit for bit.
fn equal(found: &Value, wanted: &Value) -> bool {
    let is_float = |value: &Value| value.is_f64();
    match (found.as_f64(), wanted.as_f64()) {
        (Some(found_float), Some(wanted_float)) if is_float(found) || is_float(wanted) => {
            found_float.to_bits() == wanted_float.to_bits()
        }
        _ => found == wanted,
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hear(client: AsyncClient, mut events: EventLoop, heard: Arc<Heard>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => client.try_subscribe("tallystick/#", QoS::AtLeastOnce).unwrap(),
            Ok(Event::Incoming(Packet::SubAck(_))) => heard.subscriptions.send_modify(|count| *count += 1),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                // Not JSON is as good as nothing heard: whoever waits for it is told what came.
                let json = serde_json::from_slice(&publish.payload)
                    .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&publish.payload).into_owned()));
                let message = Message { topic: publish.topic, json, retained: publish.retain };
                heard.messages().push(message);
                heard.more.notify_waiters();
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mosquitto, publish};
    use serde_json::json;

    #[test]
    fn numbers_are_compared_as_json_means_them() {
        assert!(equal(&json!(7), &json!(7.0)) && equal(&json!("a"), &json!("a")));
        assert!(!equal(&json!(18_446_744_073_709_551_614_u64), &json!(18_446_744_073_709_551_615_u64)));
        assert!(!equal(&json!(0.1), &json!(0.100_000_000_000_000_02)) && !equal(&json!(null), &json!(0)));
    }

    #[tokio::test]
    async fn a_message_is_heard_also_after_the_broker_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut broker = Mosquitto::start(dir.path()).await;
        let ear = Ear::listen(broker.port).await;
        publish(broker.port, "tallystick/a", r#"{"v": 1.5, "q": "good"}"#).await;
        ear.value(0, "tallystick/a", &json!(1.5)).await;
        broker.kill().await;
        broker.restart().await;
        let mark = ear.mark();
        crate::eventually("the ear at the new broker", async || {
            publish(broker.port, "tallystick/a", r#"{"v": 2, "q": "good"}"#).await;
            (ear.mark() > mark).then_some(())
        })
        .await;
        ear.value(mark, "tallystick/a", &json!(2)).await;
    }
}
