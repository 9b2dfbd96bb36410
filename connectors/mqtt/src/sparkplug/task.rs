//! The task that owns the edge node's connection.
//!
//! ```text
//! Connecting ─ CONNACK ─► Subscribing ─ SUBACK ─► Waiting for the primary host ─ online ─► Born ─► …
//!     ▲                        │                              │ offline, or 30 s            │ fails │ offline
//!     └── next server; back off after each round ◄────────────┴─────────────────────────────┴───────┘
//! ```
//! Leaving a session on purpose: NDEATH with QoS 1, its PUBACK (half a second at most), DISCONNECT. Leaving before the birth:
//! the socket is closed without DISCONNECT, so that the server says the NDEATH it holds for us. A birth certificate must be
//! the first message an edge node publishes (tck-id-principles-birth-certificates-order), and a death must be heard
//! (tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath): this is how both hold.

mod hear;

use super::bdseq::BdSeq;
use super::connection::{Connection, HANDED_MAX, Phase, disconnect};
use super::host::HostWatch;
use super::session::{Out, Session};
use super::{Counts, EdgeNodeConfig, Progress, Update};
use crate::wire::{self, Broken, Client, Event, EventLoop, QoS, Setup, Will};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tally_connector_api::{Backoff, Clock, LinkFault, StatusReporter, SystemClock};
use tally_model::DeviceSpec;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// A server that does not answer our subscriptions within this time is no use.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a server that knows nothing of the primary host is waited at before the next one is tried.
const HOST_TIME_MAX: Duration = Duration::from_secs(30);

/// Time for the PUBACK of an NDEATH; the agent gives us a second in all.
const FAREWELL_TIME_MAX: Duration = Duration::from_millis(500);

/// A session that lasted this long was a good one: the next outage starts with a short back-off again.
const GOOD_SESSION_MIN: Duration = Duration::from_secs(10);

/// How often the rate of historical values is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Largest packets. A birth has all metrics of a device in one message.
const PACKET_BYTES_MAX: usize = 16 << 20;

/// What the task is connected to.
pub(super) struct Inputs {
    pub live: mpsc::Receiver<Update>,
    pub history: mpsc::Receiver<Update>,
    pub described: mpsc::Receiver<Vec<DeviceSpec>>,
    pub told: watch::Sender<Progress>,
    pub stop: CancellationToken,
    pub status: StatusReporter,
    pub counts: Arc<Counts>,
}

pub(super) struct Task {
    config: EdgeNodeConfig,
    session: Session,
    bd_seq: BdSeq,
    inputs: Inputs,
    /// One for each server: hosts count their sessions per server.
    hosts: Vec<Option<HostWatch>>,
    /// Where we are, or go next.
    server: usize,
    backoff: Backoff,
    clock: SystemClock,
    tick: Interval,
    /// Historical values that may be said before the next tick.
    history_budget: u32,
    /// The last update taken in.
    seen: u64,
}

enum End {
    Stopped,
    /// The primary host is not at this server.
    HostAway,
    Failed(LinkFault),
}

impl Task {
    pub(super) fn new(config: EdgeNodeConfig, session: Session, bd_seq: BdSeq, inputs: Inputs) -> Self {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hosts = config.servers.iter().map(|_| config.primary_host.as_ref().map(HostWatch::new)).collect();
        let (backoff, clock) = (Backoff::for_links(), SystemClock::default());
        Self { config, session, bd_seq, inputs, hosts, server: 0, backoff, clock, tick, history_budget: 0, seen: 0 }
    }

    pub(super) async fn run(mut self) {
        loop {
            let end = self.connection().await;
            self.session.over();
            self.inputs.told.send_modify(|progress| progress.is_born = false);
            let fault = match end {
                End::Stopped => break,
                End::HostAway => LinkFault::Refused(self.host_text("is not online there")),
                End::Failed(fault) => fault,
            };
            self.server = (self.server + 1) % self.config.servers.len();
            // Within a round the next server is tried at once.
            let delay = if self.server == 0 { self.backoff.next_delay() } else { Duration::ZERO };
            self.inputs.status.down(fault, delay);
            if !self.wait(delay).await {
                break;
            }
        }
        self.inputs.status.stopped();
    }

    fn host_text(&self, what: &str) -> String {
        let (host, port) =
            self.config.servers.get(self.server).map_or(("", 0), |server| (server.host.as_str(), server.port));
        let name = self.config.primary_host.as_ref().map_or("", super::Name::as_str);
        format!("{host}:{port}: the primary host `{name}` {what}")
    }

    /// Waits out a back-off; what comes meanwhile is for the next birth. `false` when stopped.
    async fn wait(&mut self, delay: Duration) -> bool {
        let mut waiting = pin!(tokio::time::sleep(delay));
        loop {
            tokio::select! {
                () = &mut waiting => return true,
                Some(update) = self.inputs.live.recv() => {
                    self.take(&update);
                }
                Some(devices) = self.inputs.described.recv() => {
                    self.describe(&devices);
                }
                () = self.inputs.stop.cancelled() => return false,
            }
        }
    }

    /// `false` when the description cannot be used.
    fn describe(&mut self, devices: &[DeviceSpec]) -> bool {
        let described = self.session.describe(devices);
        if let Err(fault) = &described {
            tracing::error!(%fault, "the edge node goes on with the devices it had");
        }
        described.is_ok()
    }

    fn take(&mut self, update: &Update) -> Vec<Out> {
        self.seen = update.place;
        self.session.take(&update.device, &update.samples, self.clock.now())
    }

    /// Connects and tells until the connection ends or we are stopped.
    async fn connection(&mut self) -> End {
        let (client, mut event_loop) = match self.event_loop() {
            Ok(made) => made,
            Err(fault) => return End::Failed(fault),
        };
        let mut connection = Connection::new(client);
        let end = self.live_through(&mut event_loop, &mut connection).await;
        if connection.born_at.is_some_and(|since| since.elapsed() >= GOOD_SESSION_MIN) {
            self.backoff.reset();
        }
        end
    }

    /// A new bdSeq, a new will, a new event loop.
    fn event_loop(&mut self) -> Result<(Client, EventLoop), LinkFault> {
        let bd_seq = self.bd_seq.advance().map_err(|fault| {
            let file = self.config.bd_seq_file.display();
            LinkFault::Line(format!("bdSeq cannot be kept in {file} ({fault}), and without it nobody may connect"))
        })?;
        let will = self.session.connect(bd_seq, self.clock.now());
        let will = Will { topic: will.topic, payload: will.payload, qos: QoS::AtLeastOnce, retain: false };
        // tck-id-principles-persistence-clean-session-311, …-50
        let (login, clean) = (self.config.login(self.server), true);
        let setup = Setup { login, clean, will: Some(will), incoming_bytes_max: PACKET_BYTES_MAX };
        Ok(wire::open(setup, usize::from(HANDED_MAX) + 8))
    }

    async fn live_through(&mut self, event_loop: &mut EventLoop, connection: &mut Connection) -> End {
        loop {
            match self.next_event(event_loop, connection).await {
                Ok(Some(event)) => match self.on_event(event, connection) {
                    Ok(None) => {}
                    Ok(Some(end)) => return end,
                    Err(fault) => return End::Failed(fault),
                },
                Ok(None) => {
                    if matches!(connection.phase, Phase::Leaving { .. }) {
                        disconnect(&connection.client, event_loop).await;
                    }
                    return if self.inputs.stop.is_cancelled() { End::Stopped } else { End::HostAway };
                }
                Err(fault) => return End::Failed(fault),
            }
        }
    }

    /// Waits for the next event of the connection, telling meanwhile; `None` when it is time to leave.
    async fn next_event(
        &mut self,
        event_loop: &mut EventLoop,
        connection: &mut Connection,
    ) -> Result<Option<Event>, LinkFault> {
        let mut polling = pin!(event_loop.poll());
        loop {
            connection.hand_over()?;
            self.raise_barrier(connection)?;
            let is_born = connection.phase == Phase::Born;
            let is_leaving = matches!(connection.phase, Phase::Leaving { .. });
            let has_room = connection.waiting.is_empty();
            tokio::select! {
                biased;
                () = self.inputs.stop.cancelled(), if !is_leaving => {
                    if !self.leave(connection)? {
                        return Ok(None);
                    }
                }
                event = &mut polling => return event.map(Some).map_err(|Broken { fault, .. }| fault),
                Some(devices) = self.inputs.described.recv() => {
                    if self.describe(&devices) && is_born {
                        connection.take(self.session.birth(self.clock.now()));
                        self.inputs.told.send_modify(|progress| progress.births += 1);
                    }
                }
                Some(update) = self.inputs.live.recv(), if !is_born || has_room => {
                    let messages = self.take(&update);
                    self.count(&update, false);
                    connection.take(messages);
                    connection.live.note(connection.taken, update.place);
                }
                Some(update) = self.inputs.history.recv(), if is_born && has_room && self.history_budget > 0 => {
                    let messages = self.session.history(&update.device, update.samples.iter(), self.clock.now());
                    self.count(&update, true);
                    connection.take(messages);
                    connection.history = Some(update.place);
                }
                _ = self.tick.tick() => {
                    if !self.on_tick(connection)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn count(&mut self, update: &Update, is_history: bool) {
        let samples = u32::try_from(update.samples.len()).unwrap_or(u32::MAX);
        if is_history {
            self.history_budget = self.history_budget.saturating_sub(samples);
        }
        let counter = if is_history { &self.inputs.counts.historical } else { &self.inputs.counts.metrics };
        counter.fetch_add(u64::from(samples), Ordering::Relaxed);
    }

    /// `false` when it is time to leave.
    fn on_tick(&mut self, connection: &mut Connection) -> Result<bool, LinkFault> {
        let per_tick = self.config.history_values_per_second / 10;
        self.history_budget = self.history_budget.saturating_add(per_tick.max(1)).min(per_tick.max(1) * 2);
        match connection.phase {
            Phase::Subscribing { since } if since.elapsed() > SUBSCRIBE_TIME_MAX => {
                let text = format!("the server did not answer our subscriptions within {SUBSCRIBE_TIME_MAX:?}");
                Err(LinkFault::Line(text))
            }
            Phase::WaitingForHost { since } if since.elapsed() > HOST_TIME_MAX && self.config.servers.len() > 1 => {
                Ok(false)
            }
            Phase::Leaving { until } => Ok(Instant::now() < until),
            _ => Ok(true),
        }
    }

    /// NDEATH, when there was a birth. `false` when there is nothing to wait for.
    fn leave(&mut self, connection: &mut Connection) -> Result<bool, LinkFault> {
        if !self.session.is_born() {
            return Ok(false);
        }
        let death = self.session.death(self.clock.now());
        self.session.over();
        connection.waiting.clear();
        connection.phase = Phase::Leaving { until: Instant::now() + FAREWELL_TIME_MAX };
        connection.publish(death, QoS::AtLeastOnce)?;
        Ok(true)
    }

    /// Pings come every few seconds; who tells history waits for each part to arrive. An UNSUBSCRIBE from what nobody
    /// subscribed changes nothing, and its UNSUBACK comes after the server took everything sent before
    /// (MQTT 3.1.1 §3.10.4, §4.6), so it serves as a ping on demand. One at a time.
    fn raise_barrier(&self, connection: &mut Connection) -> Result<(), LinkFault> {
        if connection.barrier.is_some() || connection.phase != Phase::Born || !connection.waiting.is_empty() {
            return Ok(());
        }
        let Some(place) = connection.history.take() else { return Ok(()) };
        connection.barrier = Some(place);
        let sent = connection.client.unsubscribe(format!("{}/nobody", self.session.command_topic()));
        sent.map_err(|fault| LinkFault::Line(fault.to_string()))
    }
}
