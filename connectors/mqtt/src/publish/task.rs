//! The task that owns the publishing connection.
//!
//! ```text
//! Connecting ── CONNACK: birth, then everything unacknowledged again ──► Connected ──► …
//!     ▲  │ fails                                                            │ fails, or no PUBACK for 30 s
//!     └──┴────────── Down: live values dropped, back off 200 ms … 10 s ◄─────┘
//! Connected ── stop: will, half a second for PUBACKs, DISCONNECT ──► Stopped
//! ```

use super::table::Table;
use super::{Message, PAYLOAD_BYTES_MAX, PublisherConfig, QoS, Shared};
use crate::PublishError;
use crate::arrival::Arrival;
use crate::plan::TOPIC_BYTES_MAX;
use crate::wire::{self, Broken, Client, Event, EventLoop, Setup, Will};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tally_connector_api::{Backoff, Clock, LinkFault, StatusReporter, SystemClock};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// A broker that pings but does not acknowledge a message for this long is left and tried anew. Within a connection
/// MQTT forbids to send a message again.
const ACKNOWLEDGE_TIME_MAX: Duration = Duration::from_secs(30);

/// How often the oldest unacknowledged message is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Live values handed to the connection at a time: what is beyond waits in our queue, where it can be dropped.
const LIVE_HANDED_MAX: u8 = 64;

/// Time for the last PUBACKs after a stop; the agent gives us a second in all.
const FAREWELL_TIME_MAX: Duration = Duration::from_millis(500);

/// A connection that lasted this long was a good one: the next outage starts with a short back-off again.
const GOOD_CONNECTION_MIN: Duration = Duration::from_secs(10);

/// A QoS 1 message and who waits for it.
pub(super) struct Order {
    pub message: Message,
    pub done: oneshot::Sender<Result<(), PublishError>>,
}

/// What goes through the queue of live values.
pub(super) enum Live {
    Value(Message),
    /// See [`super::Publisher::try_note`].
    Place(u64),
}

pub(super) struct Task {
    config: PublisherConfig,
    in_flight_max: u16,
    orders: mpsc::Receiver<Order>,
    live: mpsc::Receiver<Live>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    status: StatusReporter,
    table: Table,
    backoff: Backoff,
    clock: SystemClock,
    check: Interval,
}

/// One connection, from connect to end.
struct Connection {
    client: Client,
    /// Set at CONNACK.
    since: Option<Instant>,
    /// QoS 0 messages handed over, and those on the wire.
    handed: u64,
    sent: u64,
    /// How far the broker has them.
    arrival: Arrival,
    /// Set by the stop: when to leave, acknowledged or not.
    leave_at: Option<Instant>,
}

enum End {
    Stopped,
    Failed(LinkFault),
}

impl Task {
    pub(super) fn new(
        config: PublisherConfig,
        in_flight_max: u16,
        orders: mpsc::Receiver<Order>,
        live: mpsc::Receiver<Live>,
        shared: Arc<Shared>,
        stop: CancellationToken,
        status: StatusReporter,
    ) -> Self {
        let mut check = tokio::time::interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (table, backoff, clock) = (Table::default(), Backoff::for_links(), SystemClock::default());
        Self { config, in_flight_max, orders, live, shared, stop, status, table, backoff, clock, check }
    }

    pub(super) async fn run(mut self) {
        let finished = self.shared.finished.clone();
        let status = self.status.clone();
        self.publish_until_stopped().await;
        // Whoever still waits gets `Stopped`: dropping the queues and the table drops their answers.
        drop(self);
        status.stopped();
        finished.cancel();
    }

    async fn publish_until_stopped(&mut self) {
        loop {
            let end = self.connection().await;
            self.shared.is_connected.store(false, Ordering::Release);
            self.table.connection_lost();
            self.drop_live_values();
            let End::Failed(fault) = end else { return };
            let delay = self.backoff.next_delay();
            self.status.down(fault, delay);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// What was live when the broker went away is not live any more when it is back.
    fn drop_live_values(&mut self) {
        while let Ok(live) = self.live.try_recv() {
            self.shared.drop_live(u64::from(matches!(live, Live::Value(_))));
        }
    }

    async fn connection(&mut self) -> End {
        let (client, mut event_loop) = self.event_loop();
        let mut connection = Connection::new(client);
        let end = loop {
            match self.next_event(&mut event_loop, &mut connection).await {
                Ok(Some(event)) => {
                    if let Err(fault) = self.on_event(event, &mut connection) {
                        break End::Failed(fault);
                    }
                }
                Ok(None) => {
                    disconnect(&connection.client, &mut event_loop).await;
                    break End::Stopped;
                }
                Err(fault) => break End::Failed(fault),
            }
        };
        self.shared.drop_live(connection.on_the_way());
        if connection.since.is_some_and(|since| since.elapsed() >= GOOD_CONNECTION_MIN) {
            self.backoff.reset();
        }
        // A connection that breaks during the farewell is not tried again.
        if self.stop.is_cancelled() { End::Stopped } else { end }
    }

    fn event_loop(&self) -> (Client, EventLoop) {
        let will = self.config.will.as_ref().map(|will| Will {
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            qos: wire(will.qos),
            retain: will.retain,
        });
        let incoming_bytes_max = PAYLOAD_BYTES_MAX + TOPIC_BYTES_MAX + 64;
        let setup = Setup { login: self.config.login(), clean: true, will, incoming_bytes_max };
        // Room for birth and will beside the messages.
        wire::open(setup, usize::from(self.in_flight_max) + 2 + usize::from(LIVE_HANDED_MAX) + 1)
    }

    /// Waits for the next event of the connection, taking orders meanwhile; `None` when it is time to leave.
    async fn next_event(
        &mut self,
        event_loop: &mut EventLoop,
        connection: &mut Connection,
    ) -> Result<Option<Event>, LinkFault> {
        let mut polling = pin!(event_loop.poll());
        loop {
            let is_open = connection.since.is_some() && connection.leave_at.is_none();
            if connection.leave_at.is_some() && self.table.is_empty() {
                return Ok(None);
            }
            tokio::select! {
                event = &mut polling => return event.map(Some).map_err(|Broken { fault, .. }| fault),
                Some(order) = self.orders.recv(), if is_open && self.has_room() => {
                    let place = self.table.admit(order.message, order.done);
                    self.hand(place, connection)?;
                }
                Some(live) = self.live.recv(), if is_open && connection.on_the_way() < u64::from(LIVE_HANDED_MAX) => match live {
                    Live::Value(message) => connection.hand_lossy(&message)?,
                    Live::Place(place) => connection.arrival.note(connection.handed, place),
                },
                _ = self.check.tick() => self.check_oldest()?,
                () = self.stop.cancelled(), if connection.leave_at.is_none() => {
                    if connection.since.is_none() {
                        return Ok(None);
                    }
                    connection.leave_at = Some(Instant::now() + FAREWELL_TIME_MAX);
                    self.say_now(self.config.will.clone(), connection)?;
                }
                () = sleep_until(connection.leave_at) => return Ok(None),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.table.len() < usize::from(self.in_flight_max)
    }

    fn on_event(&mut self, event: Event, connection: &mut Connection) -> Result<(), LinkFault> {
        match event {
            Event::Connected { .. } => self.on_connected(connection)?,
            // Packet id 0 is a QoS 0 message: it has none.
            Event::Publishing(0) => connection.sent += 1,
            Event::Pinging => connection.arrival.asked(connection.sent),
            Event::Pong => self.shared.arrived(connection.arrival.answered()),
            Event::Publishing(packet_id) => self.table.sent(packet_id),
            Event::Acknowledged { packet_id, refusal } => {
                self.table.acked(packet_id, refusal);
            }
            _ => {}
        }
        Ok(())
    }

    /// Connecting → Connected: birth first, then everything that has no PUBACK yet, oldest first.
    fn on_connected(&mut self, connection: &mut Connection) -> Result<(), LinkFault> {
        connection.since = Some(Instant::now());
        let unacknowledged = self.table.places();
        self.say_now(self.config.birth.clone(), connection)?;
        if !unacknowledged.is_empty() {
            tracing::debug!(messages = unacknowledged.len(), "sent again: the broker had not acknowledged them");
        }
        for place in unacknowledged {
            self.hand(place, connection)?;
        }
        // In this order: whoever finds us connected finds the connection counted.
        self.status.up(self.clock.now());
        self.shared.is_connected.store(true, Ordering::Release);
        Ok(())
    }

    /// Says a birth or a will.
    fn say_now(&mut self, message: Option<Message>, connection: &mut Connection) -> Result<(), LinkFault> {
        match message {
            None => Ok(()),
            Some(message) if message.qos == QoS::AtMostOnce => connection.hand_lossy(&message),
            Some(message) => {
                let place = self.table.admit_for_this_connection(message);
                self.hand(place, connection)
            }
        }
    }

    fn hand(&mut self, place: u64, connection: &Connection) -> Result<(), LinkFault> {
        if let Some(message) = self.table.message(place) {
            hand_to(&connection.client, message)?;
            self.table.handed(place, Instant::now());
        }
        Ok(())
    }

    fn check_oldest(&self) -> Result<(), LinkFault> {
        if self.table.oldest_wait(Instant::now()) > ACKNOWLEDGE_TIME_MAX {
            let text = format!("the broker did not acknowledge a message for {ACKNOWLEDGE_TIME_MAX:?}");
            return Err(LinkFault::Line(text));
        }
        Ok(())
    }
}

impl Connection {
    fn new(client: Client) -> Self {
        Self { client, since: None, handed: 0, sent: 0, arrival: Arrival::default(), leave_at: None }
    }

    /// QoS 0 messages that are not on the wire yet.
    const fn on_the_way(&self) -> u64 {
        self.handed.saturating_sub(self.sent)
    }

    fn hand_lossy(&mut self, message: &Message) -> Result<(), LinkFault> {
        hand_to(&self.client, message)?;
        self.handed += 1;
        Ok(())
    }
}

fn hand_to(client: &Client, message: &Message) -> Result<(), LinkFault> {
    let sent = client.publish(&message.topic, wire(message.qos), message.retain, message.payload.clone());
    // Cannot happen: the connection's queue has room for all we hand over.
    sent.map_err(|fault| LinkFault::Line(fault.to_string()))
}

const fn wire(qos: QoS) -> wire::QoS {
    match qos {
        QoS::AtMostOnce => wire::QoS::AtMostOnce,
        QoS::AtLeastOnce => wire::QoS::AtLeastOnce,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Leaves with DISCONNECT, so that the broker does not say the will a second time (`[MQTT-3.14.4-3]`).
async fn disconnect(client: &Client, event_loop: &mut EventLoop) {
    if !event_loop.say_goodbye(client, Duration::from_millis(200)).await {
        tracing::debug!("no time for DISCONNECT; the broker says the will itself");
    }
}
