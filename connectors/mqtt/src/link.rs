//! The task that owns one broker connection of the reading side.
//!
//! ```text
//!              CONNACK             all SUBACKs
//! Connecting ──────────► Subscribing ─────────► Up ── message ──► decode ──► backlog ──► sink, then PUBACK
//!     ▲  │ fails             │ fails              │ fails
//!     │  ▼                   ▼                    ▼
//!     └─ Down: LinkDown once per outage, back off (200 ms … 10 s)
//! ```
//!
//! Each connection gets a new event loop (`wire`), so nothing of a broken connection (packet ids, late
//! acknowledgements) can reach the next one. What must survive is ours: the backlog and what was told.
//!
//! A full sink stops the hand-over; a full backlog ([`backlog::MESSAGES_MAX`]) stops reading from the socket, so the
//! data piles up in the broker, which keeps QoS 1 messages for our session. A broker that hears nothing for 4.5 s cuts
//! the connection; what was not acknowledged comes again.

mod backlog;
mod hand;
mod hear;
mod routes;
mod subscriptions;

pub use hand::{Hand, HandFault};

use crate::PlanFault;
use crate::config::{LinkConfig, PACKET_BYTES_MAX};
use crate::wire::{self, Broken, Client, Event, EventLoop, Publish, QoS, Setup};
use async_trait::async_trait;
use backlog::{Backlog, Item};
use routes::Routes;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use subscriptions::Subscriptions;
use tally_connector_api::{Backoff, Batch, HistoricalBatch, Link, LinkContext, LinkFault, OpenSeal, down_batch};
use tally_model::{DeviceId, DeviceSpec, NoValue, Origin};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Room for our requests. MQTT has 65,535 packet ids, so a broker cannot wait for more acknowledgements
/// than that; the rest is for subscriptions.
const REQUESTS_MAX: usize = 65_535 + 4_096;

/// How often silence is looked for: a silent sensor is told at most this much too late.
const SILENCE_CHECK_EVERY: Duration = Duration::from_secs(1);

/// A broker that does not answer our subscriptions within this time is no use.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection that lasted this long was a good one: the next outage starts with a short back-off again.
const GOOD_CONNECTION_MIN: Duration = Duration::from_secs(10);

/// A topic that still comes so long after it was unsubscribed was subscribed in another way.
const UNSUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(10);

/// Topics nobody asked for that are remembered.
const STRANGERS_MAX: usize = 1_000;

/// For the last acknowledgements on the way out. The agent gives us a second.
const FAREWELL_TIME_MAX: Duration = Duration::from_millis(300);

/// A link for devices that publish to one broker under one login. Nothing connects before it runs.
///
/// `client_id` names our session in the broker, which keeps messages for us while we are away: it must be unique on the
/// broker and the same after every restart.
///
/// # Errors
/// [`PlanFault`] when the devices cannot be read as described, or do not belong together.
pub fn link(devices: Vec<DeviceSpec>, client_id: &str) -> Result<Box<dyn Link>, PlanFault> {
    link_with_seals(devices, client_id, None)
}

/// The same for devices some of which seal their payloads themselves; without `seals` these have no values.
///
/// # Errors
/// As [`link`].
pub fn link_with_seals(
    devices: Vec<DeviceSpec>,
    client_id: &str,
    seals: Option<Arc<dyn OpenSeal>>,
) -> Result<Box<dyn Link>, PlanFault> {
    Ok(Box::new(MqttLink { config: LinkConfig::try_new(devices, client_id)?, seals }))
}

struct MqttLink {
    config: LinkConfig,
    seals: Option<Arc<dyn OpenSeal>>,
}

#[async_trait]
impl Link for MqttLink {
    fn name(&self) -> String {
        self.config.broker.to_string()
    }

    fn devices(&self) -> Vec<DeviceId> {
        self.config.devices.iter().map(|(device, _)| device.id.clone()).collect()
    }

    async fn run(self: Box<Self>, context: LinkContext) {
        let status = context.status.clone();
        Reader::new(self.config, self.seals, context).read_until_stopped().await;
        status.stopped();
    }
}

/// Everything the task knows.
struct Reader {
    config: LinkConfig,
    context: LinkContext,
    routes: Routes,
    backlog: Backlog,
    backoff: Backoff,
    silence_check: Interval,
    /// Whether this outage was told to the agent already.
    told_down: bool,
    /// Packet ids of messages with QoS 2 that were taken and that the broker has not released yet (§4.3.3, method A).
    taken_once: HashSet<u16>,
    /// Over which connection values come.
    origin: Option<Arc<Origin>>,
    /// Topics nobody asked for, since when.
    strangers: HashMap<String, Instant>,
    /// The broker holds a message for us that cannot be received: its session must go.
    discard_session: bool,
}

/// One connection, from connect to end.
struct Connection {
    client: Client,
    subscriptions: Subscriptions,
    /// The broker forgets our session when we come.
    is_clean: bool,
    /// Set at CONNACK.
    since: Option<Instant>,
    is_up: bool,
}

/// Why the reader woke up.
enum Wake {
    Event(Result<Event, Broken>),
    Failed(LinkFault),
    Stop,
}

/// How a connection ended.
enum End {
    Stopped,
    /// The broker forgot our session because we asked for it; connect again at once.
    SessionDiscarded,
    Failed(LinkFault),
}

impl Reader {
    fn new(config: LinkConfig, seals: Option<Arc<dyn OpenSeal>>, context: LinkContext) -> Self {
        let mut silence_check = tokio::time::interval(SILENCE_CHECK_EVERY);
        silence_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            routes: Routes::new(&config.devices, seals, Instant::now()),
            backlog: Backlog::new(context.sink.clone()),
            backoff: Backoff::for_links(),
            silence_check,
            told_down: false,
            taken_once: HashSet::new(),
            origin: None,
            strangers: HashMap::new(),
            discard_session: false,
            config,
            context,
        }
    }

    async fn read_until_stopped(mut self) {
        loop {
            match self.connection().await {
                End::Stopped => return,
                End::SessionDiscarded => {}
                End::Failed(fault) => {
                    let delay = self.backoff.next_delay();
                    self.context.status.down(fault, delay);
                    self.tell_link_down();
                    if !self.wait(delay).await {
                        return;
                    }
                }
            }
        }
    }

    /// Connects and reads until the connection ends or we are stopped.
    async fn connection(&mut self) -> End {
        let (client, mut event_loop) = self.event_loop();
        let subscriptions = Subscriptions::default();
        let is_clean = self.discard_session;
        let mut connection = Connection { client, subscriptions, is_clean, since: None, is_up: false };
        loop {
            let failure = match self.wake(&mut event_loop, &connection).await {
                Wake::Event(Ok(event)) => {
                    self.on_event(event, &mut connection);
                    None
                }
                Wake::Event(Err(Broken { fault, is_too_large })) => {
                    self.discard_session |= is_too_large;
                    Some(fault)
                }
                Wake::Failed(fault) => Some(fault),
                Wake::Stop => {
                    self.backlog.hand_over_what_fits();
                    farewell(&connection.client, &mut event_loop).await;
                    return End::Stopped;
                }
            };
            if let Some(fault) = failure {
                if connection.since.is_some_and(|since| since.elapsed() >= GOOD_CONNECTION_MIN) {
                    self.backoff.reset();
                }
                return End::Failed(fault);
            }
            if self.discard_session && connection.since.is_some() {
                // First a connection that has the broker forget, then one that it remembers again.
                self.discard_session = !is_clean;
                farewell(&connection.client, &mut event_loop).await;
                return End::SessionDiscarded;
            }
        }
    }

    fn event_loop(&self) -> (Client, EventLoop) {
        // The broker keeps our session and repeats what we did not acknowledge (§4.4).
        let (login, clean) = (self.config.login.clone(), self.discard_session);
        wire::open(Setup { login, clean, will: None, incoming_bytes_max: PACKET_BYTES_MAX }, REQUESTS_MAX)
    }

    /// Waits for the next event of the connection, handing over meanwhile.
    async fn wake(&mut self, event_loop: &mut EventLoop, connection: &Connection) -> Wake {
        let mut polling = pin!(event_loop.poll());
        loop {
            tokio::select! {
                event = &mut polling, if self.backlog.has_room() => return Wake::Event(event),
                () = self.backlog.hand_over(), if !self.backlog.is_empty() => {}
                _ = self.silence_check.tick() => {
                    if let Err(fault) = self.on_silence_check(connection) {
                        return Wake::Failed(fault);
                    }
                }
                () = self.context.stop.cancelled() => return Wake::Stop,
            }
        }
    }

    /// Waits out a back-off, handing over meanwhile. `false` when stopped.
    async fn wait(&mut self, delay: Duration) -> bool {
        let mut waiting = pin!(tokio::time::sleep(delay));
        loop {
            tokio::select! {
                () = &mut waiting => return true,
                () = self.backlog.hand_over(), if !self.backlog.is_empty() => {}
                () = self.context.stop.cancelled() => {
                    self.backlog.hand_over_what_fits();
                    return false;
                }
            }
        }
    }

    /// Values of the past have a way of their own; without one they are of no use here.
    fn tell_history(&self, batch: HistoricalBatch) {
        let Some(history) = &self.context.history else { return };
        if let Err(TrySendError::Full(batch)) = history.try_send(batch) {
            let values = batch.samples.len();
            tracing::warn!(device = %batch.device, values, "historical values came faster than they could be kept, these are lost");
        }
    }

    fn on_silence_check(&mut self, connection: &Connection) -> Result<(), LinkFault> {
        if connection.is_up {
            let (now, at) = (Instant::now(), self.context.clock.now());
            let silent = self.routes.fall_silent(now, at);
            self.push(silent, None);
            self.routes.ask_again(now, at).into_iter().for_each(|command| say(Some(command), connection));
        } else if connection.since.is_some_and(|since| since.elapsed() > SUBSCRIBE_TIME_MAX) {
            let text = format!("the broker did not answer our subscriptions within {SUBSCRIBE_TIME_MAX:?}");
            return Err(LinkFault::Line(text));
        }
        Ok(())
    }

    /// Once per outage, so that an outage of a day does not fill the vault.
    fn tell_link_down(&mut self) {
        if self.told_down {
            return;
        }
        self.told_down = true;
        let now = self.context.clock.now();
        let down = self.config.devices.iter().map(|(device, _)| down_batch(device, NoValue::LinkDown, now));
        let down = down.filter(|batch| !batch.samples.is_empty()).chain(self.routes.made_are_down(now));
        self.backlog.push(Item::new(down.collect(), None));
    }

    fn push(&mut self, mut batches: Vec<Batch>, message: Option<(&Client, &Publish)>) {
        batches.iter_mut().for_each(|batch| batch.origin.clone_from(&self.origin));
        self.backlog.push(Item::new(batches, message));
    }
}

/// A request to an edge node. It may get lost (QoS 0, tck-id-payloads-ncmd-qos): it is asked again when it speaks.
fn say(command: Option<(String, Vec<u8>)>, connection: &Connection) {
    if let Some((topic, payload)) = command
        && connection.client.publish(&topic, QoS::AtMostOnce, false, payload).is_err()
    {
        tracing::debug!(topic, "not said");
    }
}

/// Sends what is waiting (acknowledgements) and DISCONNECT, so that the broker keeps our session and repeats nothing
/// that the agent took.
async fn farewell(client: &Client, event_loop: &mut EventLoop) {
    if !event_loop.say_goodbye(client, FAREWELL_TIME_MAX).await {
        tracing::debug!("no time to say goodbye to the broker; it repeats what was not acknowledged");
    }
}
