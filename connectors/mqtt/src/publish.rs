//! The agent's mouth to SCADA: QoS 1 messages that cannot get lost, QoS 0 values that may.
//!
//! A QoS 1 message lives in our own table ([`table`]) from the moment it is taken until its PUBACK. A connection that
//! ends takes nothing with it: everything still in the table is sent
//! again on the next one, oldest first, before anything newer. The broker may then see a message twice, never not at all.
//!
//! Sessions: we connect with CleanSession 1. A publisher without subscriptions has no session worth keeping, and a new
//! session is what makes sending under new packet ids correct (`[MQTT-3.1.2-6]`); a kept one would demand the old ids
//! and the DUP flag (`[MQTT-4.4.0-1]`, `[MQTT-3.3.1-1]`).
//!
//! Limits: [`PublisherConfig::in_flight_max`] messages on their way and as many waiting, then [`Publisher::publish`]
//! waits; [`LIVE_MESSAGES_MAX`] live values, then the newest is dropped and counted; 256 KiB a payload.
//!
//! What MQTT 3.1.1 cannot do: a broker that does not allow a topic acknowledges the message and drops it
//! (`[MQTT-3.3.5-2]`), or closes the connection. The second kind stops the queue; the status says so.

mod table;
mod task;

use crate::PublishError;
use crate::config::Login;
use crate::plan::check_topic;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tally_connector_api::StatusReporter;
use tally_model::{MqttBroker, Secret, Tls};
use task::{Live, Order, Task};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Largest payload we send; larger ones are refused at once and not by a broker that closes the connection.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 << 10;

/// Live values that may wait for the connection to take them: a second of 1,000 points. Older is not live.
pub(crate) const LIVE_MESSAGES_MAX: usize = 1_024;

/// How a publisher reaches its broker.
#[derive(Clone)]
pub struct PublisherConfig {
    /// Where it is.
    pub broker: MqttBroker,
    /// Certificates, when the connection is TLS.
    pub tls: Tls,
    /// Our name at the broker; unique there, or two publishers throw each other out (`[MQTT-3.1.4-2]`).
    pub client_id: String,
    /// User name; anonymous without one.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// QoS 1 messages that may wait for their PUBACK at a time. Cut to 1…32,765.
    pub in_flight_max: u16,
    /// What the broker says when it loses us; on an orderly stop we say it ourselves.
    pub will: Option<Message>,
    /// What we say first on every new connection; the opposite of `will`.
    pub birth: Option<Message>,
}

/// How hard a message is tried (MQTT 3.1.1 §4.3). QoS 2 is not offered: our messages carry their own ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QoS {
    /// QoS 0: may get lost.
    AtMostOnce,
    /// QoS 1: sent until acknowledged, may arrive twice.
    AtLeastOnce,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// A topic without wildcards.
    pub topic: String,
    /// At most 256 KiB.
    pub payload: Vec<u8>,
    /// How hard it is tried.
    pub qos: QoS,
    /// Whether the broker keeps it for those who subscribe later.
    pub retain: bool,
}

/// What the agent publishes through.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes. QoS 1: returns when the broker's PUBACK came, however long the broker is away. QoS 0: returns when
    /// the message is queued for the connection. Dropping the future does not take the message back.
    ///
    /// # Errors
    /// [`PublishError`] for a message that can never be sent, and when the publisher was stopped.
    async fn publish(&self, message: Message) -> Result<(), PublishError>;

    /// Publishes a live value with QoS 0, or drops and counts it: when the broker is away, when the queue is full, and
    /// when the message can never be sent. `true` when it was queued.
    fn try_publish_lossy(&self, message: Message) -> bool;

    /// Notes a place of the caller's, one that never falls, behind everything that was queued with
    /// [`Publisher::try_publish_lossy`] so far; comes back in [`Publisher::arrived`]. `false` when the queue is full: a later one
    /// stands for it.
    fn try_note(&self, place: u64) -> bool;

    /// The last noted place before which everything queued on the same connection has certainly arrived: the broker answered what was
    /// sent behind it. 0 before the first.
    fn arrived(&self) -> u64;

    /// Whether the broker is there.
    fn is_connected(&self) -> bool;

    /// QoS 0 messages dropped since start.
    fn dropped(&self) -> u64;
}

/// Publishes to one broker. Clones share the connection.
#[derive(Clone)]
pub struct MqttPublisher {
    orders: mpsc::Sender<Order>,
    live: mpsc::Sender<Live>,
    shared: Arc<Shared>,
}

/// What the task tells and the handles read.
#[derive(Default)]
struct Shared {
    is_connected: AtomicBool,
    dropped: AtomicU64,
    arrived: AtomicU64,
    finished: CancellationToken,
}

impl Shared {
    fn drop_live(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn arrived(&self, place: u64) {
        self.arrived.fetch_max(place, Ordering::AcqRel);
    }
}

impl MqttPublisher {
    /// Starts the task that owns the connection; it connects and reconnects until `stop` is cancelled. Then the `will`
    /// is said, messages on their way get half a second for their PUBACK, and the rest is answered with
    /// [`PublishError::Stopped`]. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(config: PublisherConfig, stop: CancellationToken, status: StatusReporter) -> Self {
        // Birth and will come on top.
        let in_flight_max = config.in_flight_max.clamp(1, 32_765);
        let (orders, orders_in) = mpsc::channel(usize::from(in_flight_max));
        let (live, live_in) = mpsc::channel(LIVE_MESSAGES_MAX);
        let shared = Arc::new(Shared::default());
        let task = Task::new(config, in_flight_max, orders_in, live_in, shared.clone(), stop, status);
        tokio::spawn(task.run());
        Self { orders, live, shared }
    }

    /// Waits until the task has ended after a stop: nothing is sent any more.
    pub async fn finished(&self) {
        self.shared.finished.cancelled().await;
    }
}

#[async_trait]
impl Publisher for MqttPublisher {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        check(&message)?;
        match message.qos {
            QoS::AtMostOnce => self.live.send(Live::Value(message)).await.map_err(|_| PublishError::Stopped),
            QoS::AtLeastOnce => {
                let (done, acknowledged) = oneshot::channel();
                self.orders.send(Order { message, done }).await.map_err(|_| PublishError::Stopped)?;
                acknowledged.await.map_err(|_| PublishError::Stopped)?
            }
        }
    }

    fn try_publish_lossy(&self, message: Message) -> bool {
        let message = Message { qos: QoS::AtMostOnce, ..message };
        let queued = self.is_connected() && check(&message).is_ok() && self.live.try_send(Live::Value(message)).is_ok();
        if !queued {
            self.shared.drop_live(1);
        }
        queued
    }

    fn try_note(&self, place: u64) -> bool {
        self.is_connected() && self.live.try_send(Live::Place(place)).is_ok()
    }

    fn arrived(&self) -> u64 {
        self.shared.arrived.load(Ordering::Acquire)
    }

    fn is_connected(&self) -> bool {
        self.shared.is_connected.load(Ordering::Acquire)
    }

    fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// What no broker would ever take.
fn check(message: &Message) -> Result<(), PublishError> {
    let topic = || message.topic.chars().take(80).collect();
    check_topic(&message.topic).map_err(|reason| PublishError::Topic { topic: topic(), reason })?;
    let bytes = message.payload.len();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(PublishError::TooLarge { topic: topic(), bytes, bytes_max: PAYLOAD_BYTES_MAX });
    }
    Ok(())
}

impl PublisherConfig {
    fn login(&self) -> Login {
        Login::new(&self.broker, &self.tls, &self.client_id, self.user.clone(), self.password.clone())
    }
}
