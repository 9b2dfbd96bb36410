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
//! Each connection gets a new rumqttc event loop, so nothing of a broken connection (packet ids, late
//! acknowledgements) can reach the next one. What must survive is ours: the backlog and what was told.
//!
//! A full sink stops the hand-over; a full backlog ([`backlog::MESSAGES_MAX`]) stops reading from the socket, so the
//! data piles up in the broker, which keeps QoS 1 messages for our session. A broker that hears nothing for 4.5 s cuts
//! the connection; what was not acknowledged comes again.

mod backlog;
mod routes;
mod subscriptions;

use crate::PlanFault;
use crate::config::{LinkConfig, PACKET_BYTES_MAX};
use crate::error::{is_too_large, link_fault};
use async_trait::async_trait;
use backlog::{Backlog, Item};
use routes::Routes;
use rumqttc::{AsyncClient, ConnAck, ConnectionError, Event, EventLoop, Outgoing, Packet, Publish};
use std::pin::pin;
use std::time::Duration;
use subscriptions::Subscriptions;
use tally_connector_api::{Backoff, Batch, Link, LinkContext, LinkFault, down_batch};
use tally_model::{DeviceId, DeviceSpec, NoValue};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Room for our requests inside rumqttc. MQTT has 65,535 packet ids, so a broker cannot wait for more acknowledgements
/// than that; the rest is for subscriptions.
const REQUESTS_MAX: usize = 65_535 + 4_096;

/// How often silence is looked for: a silent sensor is told at most this much too late.
const SILENCE_CHECK_EVERY: Duration = Duration::from_secs(1);

/// A broker that does not answer our subscriptions within this time is no use.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection that lasted this long was a good one: the next outage starts with a short back-off again.
const GOOD_CONNECTION_MIN: Duration = Duration::from_secs(10);

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
    Ok(Box::new(MqttLink { config: LinkConfig::try_new(devices, client_id)? }))
}

struct MqttLink {
    config: LinkConfig,
}

#[async_trait]
impl Link for MqttLink {
    fn name(&self) -> String {
        format!("mqtt://{}:{}", self.config.login.host, self.config.login.port)
    }

    fn devices(&self) -> Vec<DeviceId> {
        self.config.devices.iter().map(|(device, _)| device.id.clone()).collect()
    }

    async fn run(self: Box<Self>, context: LinkContext) {
        let status = context.status.clone();
        Reader::new(self.config, context).read_until_stopped().await;
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
    /// The broker holds a message for us that cannot be received: its session must go.
    discard_session: bool,
}

/// One connection, from connect to end.
struct Connection {
    client: AsyncClient,
    subscriptions: Subscriptions,
    /// Set at CONNACK.
    since: Option<Instant>,
    is_up: bool,
}

/// Why the reader woke up.
enum Wake {
    Event(Result<Event, ConnectionError>),
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
    fn new(config: LinkConfig, context: LinkContext) -> Self {
        let mut silence_check = tokio::time::interval(SILENCE_CHECK_EVERY);
        silence_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            routes: Routes::new(&config.devices, Instant::now()),
            backlog: Backlog::new(context.sink.clone()),
            backoff: Backoff::for_links(),
            silence_check,
            told_down: false,
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
        let mut connection = Connection { client, subscriptions, since: None, is_up: false };
        loop {
            let failure = match self.wake(&mut event_loop, &connection).await {
                Wake::Event(Ok(event)) => {
                    self.on_event(event, &mut connection);
                    None
                }
                Wake::Event(Err(error)) => Some(self.on_error(&error, &mut event_loop, &mut connection)),
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
                self.discard_session = false;
                farewell(&connection.client, &mut event_loop).await;
                return End::SessionDiscarded;
            }
        }
    }

    fn event_loop(&self) -> (AsyncClient, EventLoop) {
        let mut options = self.config.login.options();
        // The broker keeps our session (`[MQTT-3.1.2-5]`) and repeats what we did not acknowledge (§4.4).
        options.set_clean_session(self.discard_session);
        options.set_manual_acks(true);
        options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        // We publish nothing here; rumqttc also numbers subscriptions within this limit.
        options.set_inflight(subscriptions::packet_ids_needed(self.routes.topics().count()));
        AsyncClient::new(options, REQUESTS_MAX)
    }

    /// Waits for the next event of the connection, handing over meanwhile.
    ///
    /// `poll` must not be dropped half-way (a packet that is just being written would be lost), so it is polled to its
    /// end across hand-overs and checks, and dropped only when the connection is given up.
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

    fn on_event(&mut self, event: Event, connection: &mut Connection) {
        match event {
            Event::Incoming(Packet::ConnAck(answer)) => self.on_connected(answer, connection),
            Event::Outgoing(Outgoing::Subscribe(packet_id)) => connection.subscriptions.sent(packet_id),
            Event::Incoming(Packet::SubAck(answer)) => {
                for topic in connection.subscriptions.refused_by(&answer) {
                    tracing::warn!(link = %self.config.login.host, %topic, "the broker refused the subscription");
                    let refused = self.routes.refuse(&topic, self.context.clock.now());
                    self.push(refused, None);
                }
                self.report_up_when_subscribed(connection);
            }
            Event::Incoming(Packet::Publish(publish)) => self.on_publish(&publish, connection),
            _ => {}
        }
    }

    /// Connecting → Subscribing. After every CONNACK, because a broker that lost our session lost our subscriptions.
    fn on_connected(&mut self, answer: ConnAck, connection: &mut Connection) {
        tracing::debug!(session_present = answer.session_present, "connected");
        connection.since = Some(Instant::now());
        connection.subscriptions.ask(&connection.client, self.routes.topics());
        self.report_up_when_subscribed(connection);
    }

    /// Subscribing → Up.
    fn report_up_when_subscribed(&mut self, connection: &mut Connection) {
        if !connection.is_up && connection.subscriptions.are_answered() {
            connection.is_up = true;
            self.told_down = false;
            self.routes.listen_from(Instant::now());
            self.context.status.up(self.context.clock.now());
        }
    }

    fn on_publish(&mut self, publish: &Publish, connection: &Connection) {
        let received = self.context.clock.now();
        let batches = self.routes.receive(publish, received, Instant::now());
        if batches.is_none() {
            // A topic that an earlier mapping subscribed: our session remembers, the mapping does not.
            tracing::info!(topic = %publish.topic, "message for a topic that is not in the mapping any more");
            connection.subscriptions.drop_topic(&connection.client, &publish.topic);
        }
        self.told_down = false;
        self.push(batches.unwrap_or_default(), Some((&connection.client, publish)));
    }

    /// What rumqttc had received before the connection broke is taken first.
    fn on_error(
        &mut self,
        error: &ConnectionError,
        event_loop: &mut EventLoop,
        connection: &mut Connection,
    ) -> LinkFault {
        while let Some(event) = event_loop.state.events.pop_front() {
            self.on_event(event, connection);
        }
        self.discard_session |= is_too_large(error);
        link_fault(error)
    }

    fn on_silence_check(&mut self, connection: &Connection) -> Result<(), LinkFault> {
        if connection.is_up {
            let silent = self.routes.fall_silent(Instant::now(), self.context.clock.now());
            self.push(silent, None);
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
        self.backlog.push(Item::new(down.collect(), None));
    }

    fn push(&mut self, batches: Vec<Batch>, message: Option<(&AsyncClient, &Publish)>) {
        self.backlog.push(Item::new(batches, message));
    }
}

/// Sends what is waiting (acknowledgements) and DISCONNECT, so that the broker keeps our session and repeats nothing
/// that the agent took.
async fn farewell(client: &AsyncClient, event_loop: &mut EventLoop) {
    if event_loop.network.is_none() || client.try_disconnect().is_err() {
        return;
    }
    let sent = async {
        while let Ok(event) = event_loop.poll().await {
            if event == Event::Outgoing(Outgoing::Disconnect) {
                return;
            }
        }
    };
    if tokio::time::timeout(FAREWELL_TIME_MAX, sent).await.is_err() {
        tracing::debug!("no time to say goodbye to the broker; it repeats what was not acknowledged");
    }
}
