//! SCADA's ear: subscribes to the broker and counts what comes, in a thread of its own.

use crate::answer::{Context, Fault};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tally_model::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What was heard since [`Ear::start_over`] or [`Ear::take`].
#[derive(Debug, Default)]
pub struct Heard {
    /// Messages.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Readings with a value.
    pub values: u64,
    /// Readings that say why they have none.
    pub without_value: u64,
    /// From the time in a message to its arrival; sorted by [`Ear::take`].
    pub latencies: Vec<Duration>,
    /// When the first and the last message came.
    pub span: Option<(Instant, Instant)>,
}

impl Heard {
    #[allow(clippy::cast_precision_loss)] // some gigabytes at most
    pub fn bytes_mean(&self) -> f64 {
        self.bytes as f64 / (self.messages.max(1)) as f64
    }

    fn take(&mut self, payload: &[u8], now: Timestamp) {
        let arrived = Instant::now();
        self.span = Some((self.span.map_or(arrived, |(first, _)| first), arrived));
        self.messages += 1;
        self.bytes += payload.len() as u64;
        self.values += count(payload, b"\"v\":");
        self.without_value += count(payload, b"\"e\":");
        if let Some(said) = first_time(payload) {
            self.latencies.push(now.since(said));
        }
    }
}

fn count(payload: &[u8], key: &[u8; 4]) -> u64 {
    payload.windows(4).filter(|four| four == key).count() as u64
}

/// The time of the first reading of a cycle (`docs/formats/topics.md`, `mode: device`).
fn first_time(payload: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(payload).ok()?;
    let points = text.split_once("\"points\"")?.1;
    let time = points.split_once("\"t\":\"")?.1;
    Timestamp::parse_rfc3339(time.split_once('"')?.0)
}

/// A running listener; ends when dropped.
pub struct Ear {
    heard: Arc<Mutex<Heard>>,
    first: watch::Receiver<Option<Instant>>,
    quit: CancellationToken,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.quit.cancel();
    }
}

impl Ear {
    /// Subscribes; when this returns, the broker has agreed.
    pub async fn listen(port: u16, filter: &str) -> Result<Self, Fault> {
        let (client, events) = client("ear", port);
        let (ready_sender, mut ready) = watch::channel(false);
        let (first_sender, first) = watch::channel(None);
        let ear = Self { heard: Arc::default(), first, quit: CancellationToken::new() };
        let (heard, quit, filter) = (ear.heard.clone(), ear.quit.clone(), filter.to_owned());
        let hear = async move { hear(client, events, &filter, &heard, &ready_sender, &first_sender).await };
        std::thread::Builder::new()
            .name("bench-ear".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map(|runtime| runtime.block_on(quit.run_until_cancelled(hear)))
            })
            .context("starting a listener")?;
        let agreed = tokio::time::timeout(Duration::from_secs(10), ready.wait_for(|ready| *ready)).await;
        match agreed {
            Ok(Ok(_)) => Ok(ear),
            _ => Err("the broker did not let a listener subscribe within 10 s".into()),
        }
    }

    /// When the first value came.
    pub async fn first_value(&self) -> Instant {
        let mut first = self.first.clone();
        match first.wait_for(Option::is_some).await.map(|at| *at) {
            Ok(Some(at)) => at,
            // The listener ended; whoever waits has a limit of his own.
            _ => std::future::pending().await,
        }
    }

    /// Forgets what was heard so far.
    pub fn start_over(&self) {
        *self.lock() = Heard::default();
    }

    /// Waits until a value was heard since [`Ear::start_over`].
    pub async fn value(&self) {
        while self.lock().values == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What was heard; from now on it is heard anew.
    pub fn take(&self) -> Heard {
        let mut heard = std::mem::take(&mut *self.lock());
        heard.latencies.sort_unstable();
        heard
    }

    /// When the last message came since [`Ear::take`] or [`Ear::start_over`].
    pub fn last(&self) -> Option<Instant> {
        self.lock().span.map(|(_, last)| last)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn hear(
    client: AsyncClient,
    mut events: EventLoop,
    filter: &str,
    heard: &Mutex<Heard>,
    ready: &watch::Sender<bool>,
    first: &watch::Sender<Option<Instant>>,
) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                if let Err(fault) = client.try_subscribe(filter, QoS::AtMostOnce) {
                    tracing::warn!(%fault, "cannot subscribe at the broker");
                }
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                ready.send_replace(true);
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                let now = now();
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.take(&message.payload, now);
                if heard.values > 0 {
                    first.send_if_modified(|first| first.is_none() && first.replace(Instant::now()).is_none());
                }
            }
            Ok(_) => {}
            Err(fault) => {
                // A bench that kills its broker knows; one that does not hears nothing, and says so.
                tracing::debug!(%fault, "the broker does not answer");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// A client that waits for nothing: with Nagle's algorithm (RFC 896) the end of a message would wait up to 40 ms for the other
/// side's delayed acknowledgement, and that is what would be measured.
pub fn client(name: &str, port: u16) -> (AsyncClient, EventLoop) {
    // Two clients of one name would throw each other out.
    static CLIENTS: AtomicU64 = AtomicU64::new(0);
    let number = CLIENTS.fetch_add(1, Ordering::Relaxed);
    let name = format!("tally-bench-{name}-{}-{number}", std::process::id());
    let mut options = MqttOptions::new(name, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, 64);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    (client, events)
}

/// The clock that readings are stamped by.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_counted_and_timed_by_its_first_reading() {
        let payload = br#"{"t":"2026-11-21T04:05:07.000000Z","n":1736,"points":{
            "p00000":{"v":7.25,"u":"1","q":"good","t":"2026-11-21T04:05:06.100000Z"},
            "p00001":{"e":"timeout","u":"1","q":"bad","t":"2026-11-21T04:05:06.900000Z"}}}"#;
        let mut heard = Heard::default();
        heard.take(payload, Timestamp::parse_rfc3339("2026-11-21T04:05:07.100000Z").unwrap());
        assert_eq!((heard.messages, heard.values, heard.without_value), (1, 1, 1));
        assert_eq!(heard.latencies, [Duration::from_secs(1)]);
        // A state of a link is no reading.
        heard.take(br#"{"state":"up","text":"up"}"#, now());
        assert_eq!((heard.messages, heard.values, heard.latencies.len()), (2, 1, 1));
    }
}
