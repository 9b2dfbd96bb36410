//! The event loop of one connection.
//!
//! ```text
//! not connected ── TCP, TLS, CONNECT, CONNACK ──► open ── a write fails ──► dying: only reads, 500 ms at most
//!                                                  │ the other side closes,       │
//!                                                  │ talks nonsense, is silent    │
//!                                                  └──────────► Broken ◄──────────┘
//! ```
//!
//! Limits: [`OUTBOX_BYTES`] wait to be written before no more requests are taken; as many PUBLISH packets wait for their
//! PUBACK as the broker allows. An unanswered ping ends the connection after [`KEEP_ALIVE`] and a little.

use super::codec::{self, In, Out, Welcome};
use super::hello::hello;
use super::ids::PacketIds;
use super::socket::{Socket, io_fault};
use super::{Broken, Client, Event, QoS, Receipt, Request, Setup};
use crate::config::KEEP_ALIVE;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tally_connector_api::LinkFault;
use tally_model::MqttVersion;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// From the first attempt to CONNACK.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes that may wait for the socket before no more requests are taken.
const OUTBOX_BYTES: usize = 64 << 10;

/// Room for reading.
const READ_BYTES: usize = 16 << 10;

/// After a failed write: how long we go on reading. What the broker said before it went (PUBACKs, the reason in TLS
/// alerts) counts.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(500);

/// When a ping seems unanswered, what has come meanwhile is read first: we may have been busy.
const SECOND_LOOK: Duration = Duration::from_millis(250);

pub(crate) struct EventLoop {
    setup: Setup,
    requests: mpsc::Receiver<Request>,
    socket: Option<Socket>,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Written, but perhaps not flushed (TLS).
    is_unflushed: bool,
    events: VecDeque<Event>,
    ids: PacketIds,
    /// QoS 1 messages without PUBACK.
    in_flight: u16,
    welcome: Welcome,
    /// A message that waits until fewer are in flight.
    held: Option<Request>,
    ping: Ping,
    is_leaving: bool,
    /// Set by a failed write: why, and until when we read on.
    dying: Option<(LinkFault, Instant)>,
}

struct Ping {
    next: Instant,
    every: Duration,
    is_unanswered: bool,
    /// Whether anything came since it was sent.
    heard: bool,
    looked_again: bool,
}

/// Why the loop woke up.
enum Step {
    Read(io::Result<usize>),
    Written(io::Result<usize>),
    Flushed(io::Result<()>),
    Asked(Request),
    PingDue,
    LastWordsOver,
}

impl EventLoop {
    pub(super) fn new(setup: Setup, requests: mpsc::Receiver<Request>) -> Self {
        let ping =
            Ping { next: Instant::now(), every: KEEP_ALIVE, is_unanswered: false, heard: false, looked_again: false };
        Self {
            setup,
            requests,
            socket: None,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            is_unflushed: false,
            events: VecDeque::new(),
            ids: PacketIds::default(),
            in_flight: 0,
            welcome: Welcome::without_limits(false),
            held: None,
            ping,
            is_leaving: false,
            dying: None,
        }
    }

    /// Whether the broker has let us in.
    pub(crate) const fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Sends what is waiting and DISCONNECT. `false` when there was no time for it; `true` also when there is nobody to say
    /// it to.
    pub(crate) async fn say_goodbye(&mut self, client: &Client, time_max: Duration) -> bool {
        if !self.is_connected() || client.disconnect().is_err() {
            return true;
        }
        let said = async {
            while let Ok(event) = self.poll().await {
                if event == Event::Disconnected {
                    return;
                }
            }
        };
        timeout(time_max, said).await.is_ok()
    }

    /// Waits for the next event; connects first. After an error the connection is over.
    ///
    /// # Errors
    /// [`Broken`]: why.
    pub(crate) async fn poll(&mut self) -> Result<Event, Broken> {
        if self.socket.is_none() {
            return self.connect().await;
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match codec::read(self.version(), &mut self.inbox, self.setup.incoming_bytes_max)? {
                Some(packet) => self.on_packet(packet)?,
                None => {
                    let step = self.step().await;
                    self.on_step(step)?;
                }
            }
        }
    }

    const fn version(&self) -> MqttVersion {
        self.setup.login.version
    }

    async fn connect(&mut self) -> Result<Event, Broken> {
        let (host, port) = (self.setup.login.host.clone(), self.setup.login.port);
        let connected = timeout(CONNECT_TIME_MAX, hello(&self.setup, &mut self.inbox)).await.unwrap_or_else(|_| {
            Err(LinkFault::Line(format!("{host}:{port} did not answer the connect within {CONNECT_TIME_MAX:?}")).into())
        });
        let (socket, welcome) = connected?;
        if !welcome.retains {
            tracing::warn!(host, port, "the broker keeps no last values: who subscribes later sees nothing at first");
        }
        let every =
            welcome.keep_alive.map_or(KEEP_ALIVE, |seconds| KEEP_ALIVE.min(Duration::from_secs(seconds.into())));
        self.ping.every = every.max(Duration::from_millis(500));
        self.ping.next = Instant::now() + self.ping.every;
        let security = socket.security.clone();
        (self.socket, self.welcome) = (Some(socket), welcome);
        Ok(Event::Connected { session_present: welcome.session_present, security })
    }

    /// Waits for what happens next. Nothing is lost when it is dropped: reads and writes count the moment they happen.
    async fn step(&mut self) -> Step {
        let takes_requests = self.outbox.len() < OUTBOX_BYTES && self.held.is_none() && !self.is_leaving;
        let Self { socket, inbox, outbox, requests, ping, dying, is_unflushed, .. } = self;
        let Some(socket) = socket else { return std::future::pending().await };
        if inbox.capacity() - inbox.len() < READ_BYTES / 4 {
            inbox.reserve(READ_BYTES);
        }
        let is_alive = dying.is_none();
        let has_output = !outbox.is_empty();
        let sending = async {
            if has_output {
                Step::Written(socket.write.write_buf(outbox).await)
            } else {
                Step::Flushed(socket.write.flush().await)
            }
        };
        let last_words = dying.as_ref().map(|(_, until)| *until);
        tokio::select! {
            read = socket.read.read_buf(inbox) => Step::Read(read),
            sent = sending, if is_alive && (has_output || *is_unflushed) => sent,
            Some(request) = requests.recv(), if is_alive && takes_requests => Step::Asked(request),
            () = sleep_until(ping.next), if is_alive => Step::PingDue,
            () = sleep_until(last_words.unwrap_or(ping.next)), if last_words.is_some() => Step::LastWordsOver,
        }
    }

    fn on_step(&mut self, step: Step) -> Result<(), Broken> {
        match step {
            Step::Read(Ok(0)) => Err(self.closed().into()),
            Step::Read(Ok(_)) => {
                self.ping.heard = true;
                Ok(())
            }
            Step::Read(Err(fault)) => Err(self.last_word(io_fault(&fault)).into()),
            Step::Written(Ok(_)) => {
                self.is_unflushed = true;
                Ok(())
            }
            Step::Written(Err(fault)) | Step::Flushed(Err(fault)) => {
                self.dying = Some((io_fault(&fault), Instant::now() + LAST_WORDS_TIME_MAX));
                Ok(())
            }
            Step::Flushed(Ok(())) => {
                self.is_unflushed = false;
                if self.is_leaving {
                    self.events.push_back(Event::Disconnected);
                }
                Ok(())
            }
            Step::Asked(request) => self.take_requests(request),
            Step::PingDue => self.ping(),
            Step::LastWordsOver => Err(self.last_word(LinkFault::Line("the connection broke".into())).into()),
        }
    }

    /// The other side closed.
    fn closed(&mut self) -> LinkFault {
        self.last_word(LinkFault::Line(if self.inbox.is_empty() {
            "the broker closed the connection".to_owned()
        } else {
            "the broker closed the connection in the middle of a message".to_owned()
        }))
    }

    /// Whoever is not trusted hears why as the last thing; otherwise the first fault is the cause.
    fn last_word(&mut self, fault: LinkFault) -> LinkFault {
        match self.dying.take() {
            Some((first, _)) if !matches!(fault, LinkFault::NotTrusted(_)) => first,
            _ => fault,
        }
    }

    /// Takes a request and those that wait behind it, so that they leave in one piece.
    fn take_requests(&mut self, first: Request) -> Result<(), Broken> {
        self.carry_out(first)?;
        while self.outbox.len() < READ_BYTES && self.held.is_none() && !self.is_leaving {
            match self.requests.try_recv() {
                Ok(request) => self.carry_out(request)?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, request: Request) -> Result<(), Broken> {
        match request {
            Request::Publish { qos: QoS::AtLeastOnce | QoS::ExactlyOnce, .. }
                if self.in_flight >= self.welcome.in_flight_max =>
            {
                self.held = Some(request);
                Ok(())
            }
            Request::Publish { topic, qos, retain, payload } => {
                // Our messages carry their own ids; QoS 2 is not offered to publishers.
                let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.take_id()? };
                self.in_flight += u16::from(packet_id != 0);
                let retain = retain && self.welcome.retains;
                self.write(&Out::Publish { topic: &topic, qos, retain, payload, packet_id })?;
                self.events.push_back(Event::Publishing(packet_id));
                Ok(())
            }
            Request::Subscribe(filters) => {
                let packet_id = self.take_id()?;
                self.write(&Out::Subscribe { packet_id, filters: &filters })?;
                self.events.push_back(Event::Subscribing(packet_id));
                Ok(())
            }
            Request::Unsubscribe(topic) => {
                let packet_id = self.take_id()?;
                self.write(&Out::Unsubscribe { packet_id, topic: &topic })
            }
            Request::Acknowledge(Receipt { packet_id, qos: QoS::ExactlyOnce }) => self.write(&Out::PubRec(packet_id)),
            Request::Acknowledge(Receipt { packet_id, .. }) => self.write(&Out::PubAck(packet_id)),
            Request::Disconnect => {
                self.is_leaving = true;
                self.write(&Out::Disconnect)
            }
        }
    }

    fn take_id(&mut self) -> Result<u16, Broken> {
        self.ids.take().ok_or_else(|| LinkFault::Limit("all 65,535 packet ids are in use".into()).into())
    }

    fn write(&mut self, packet: &Out<'_>) -> Result<(), Broken> {
        Ok(codec::write(self.version(), packet, &mut self.outbox, self.welcome.packet_bytes_max)?)
    }

    fn ping(&mut self) -> Result<(), Broken> {
        if self.ping.is_unanswered && !self.ping.heard {
            if self.ping.looked_again {
                return Err(LinkFault::Line("the broker did not answer a ping".into()).into());
            }
            self.ping.looked_again = true;
            self.ping.next = Instant::now() + SECOND_LOOK;
            return Ok(());
        }
        (self.ping.is_unanswered, self.ping.heard, self.ping.looked_again) = (true, false, false);
        self.ping.next = Instant::now() + self.ping.every;
        self.write(&Out::Ping)?;
        self.events.push_back(Event::Pinging);
        Ok(())
    }

    fn on_packet(&mut self, packet: In) -> Result<(), Broken> {
        let event = match packet {
            In::Publish(publish) => Event::Message(publish),
            In::PubAck { packet_id, refusal } => {
                self.answered(packet_id, "PUBACK")?;
                self.in_flight = self.in_flight.saturating_sub(1);
                if let Some(held) = self.held.take() {
                    self.carry_out(held)?;
                }
                Event::Acknowledged { packet_id, refusal }
            }
            // Also for an id we know nothing of: what we knew may be gone, the broker must end its part (§4.3.3).
            In::PubRel(packet_id) => {
                self.write(&Out::PubComp(packet_id))?;
                Event::Released(packet_id)
            }
            In::SubAck { packet_id, granted } => {
                self.answered(packet_id, "SUBACK")?;
                Event::Subscribed { packet_id, granted }
            }
            In::UnsubAck(packet_id) => {
                self.answered(packet_id, "UNSUBACK")?;
                Event::Unsubscribed
            }
            In::Pong => {
                self.ping.is_unanswered = false;
                Event::Pong
            }
            In::Leaving(fault) => return Err(fault.into()),
            In::ConnAck(_) | In::Refused(_) => return Err(codec::nonsense(&"a second CONNACK")),
            In::Other(packet) => return Err(codec::nonsense(&format!("no broker says {packet}"))),
        };
        self.events.push_back(event);
        Ok(())
    }

    fn answered(&mut self, packet_id: u16, what: &str) -> Result<(), Broken> {
        if self.ids.give_back(packet_id) {
            return Ok(());
        }
        Err(LinkFault::Nonsense(format!("{what} for packet id {packet_id} that was not used")).into())
    }
}
