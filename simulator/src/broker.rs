//! An MQTT broker on loopback, for the demo and for tests: rumqttd 0.20 in a thread of its own.
//!
//! Limits: 1 MiB a message; some 8 MiB of backlog per subscribed filter; 1,000 connections. Nothing is written to disk.
//!
//! What it cannot do, and why a site has mosquitto instead:
//! - it forgets sessions, subscriptions, retained messages and undelivered messages when it stops;
//! - a subscriber that falls behind by more than the backlog loses messages and is not told;
//! - no access control: anyone on this computer may read and write every topic; so it listens on 127.0.0.1 only;
//! - it refuses nobody with a CONNACK, it just closes the connection;
//! - its router thread has no end: after [`Broker::stop`] it sleeps (with its memory) until the process ends.

use crate::SimError;
use rumqttd::protocol::v4::V4;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Backlog per subscribed filter, 8 MiB: the sample configuration has 10 × 100 MiB, which is why this broker is said to
/// eat memory; with 1 MiB a subscriber got 28,984 of a flood of 200,000 messages of 1 kB.
const SEGMENT_BYTES_MAX: usize = 1 << 20;
const SEGMENTS_MAX: usize = 8;

/// Largest message in bytes; our own publishers send at most 256 KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Ports tried when any free one will do: another program may take it between looking and listening.
const TRIES_MAX: usize = 10;

/// How long the broker's thread may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(5);

/// A running broker; stopped when dropped.
pub struct Broker {
    port: u16,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// The port it listens on, at 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections and frees the port. What it kept for its clients is gone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the broker's thread ended with a panic");
        }
    }
}

/// Starts a broker on 127.0.0.1; it listens when this returns. Port 0 takes a free one.
///
/// # Errors
/// [`SimError::Broker`] when it cannot listen.
pub fn start_broker(port: u16) -> Result<Broker, SimError> {
    if port != 0 {
        return start_on(port);
    }
    let mut last = SimError::Broker("no free port was found".into());
    for _ in 0..TRIES_MAX {
        match start_on(free_port()?) {
            Ok(broker) => return Ok(broker),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// rumqttd listens by number and does not tell what it got for 0.
fn free_port() -> Result<u16, SimError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|fault| SimError::Broker(format!("no free port: {fault}")))
}

fn start_on(port: u16) -> Result<Broker, SimError> {
    let stop = CancellationToken::new();
    let (tell, told) = mpsc::channel();
    let stopped = stop.clone();
    let thread = std::thread::Builder::new().name("mqtt-broker".into()).spawn(move || serve(port, &stopped, &tell));
    let thread = thread.map_err(|fault| SimError::Broker(format!("no thread for it: {fault}")))?;
    let broker = Broker { port, stop, thread: Some(thread) };
    match told.recv_timeout(START_TIME_MAX) {
        Ok(Ok(())) => Ok(broker),
        Ok(Err(reason)) => Err(SimError::Broker(format!("127.0.0.1:{port}: {reason}; is the port in use?"))),
        Err(_) => Err(SimError::Broker(format!("it did not listen on 127.0.0.1:{port} within {START_TIME_MAX:?}"))),
    }
}

/// The broker's thread. Dropping the runtime cuts all connections.
fn serve(port: u16, stop: &CancellationToken, tell: &mpsc::Sender<Result<(), String>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return drop(tell.send(Err(fault.to_string()))),
    };
    runtime.block_on(async {
        let mut server = Server::new(settings(port), Router::new(0, router_config()).spawn(), V4);
        let mut serving = std::pin::pin!(server.start(LinkType::Remote));
        // The server binds before it first waits, so one look at it tells whether it listens.
        let listens = tokio::select! {
            biased;
            ended = &mut serving => Err(ended.map_or_else(|fault| fault.to_string(), |()| "it ended".to_owned())),
            () = std::future::ready(()) => Ok(()),
        };
        let goes_on = listens.is_ok();
        // Whoever started us may have lost patience; then `stop` is cancelled already.
        let _ = tell.send(listens);
        if goes_on {
            stop.run_until_cancelled(serving).await;
        }
    });
}

fn router_config() -> RouterConfig {
    RouterConfig {
        max_connections: 1_000,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES_MAX,
        max_segment_count: SEGMENTS_MAX,
        // A topic that nobody subscribed to falls into this one log. Without it rumqttd would cut off its publisher, or
        // (with `dynamic_filters`) keep a log for each topic.
        initialized_filters: Some(vec!["#".to_owned()]),
        ..RouterConfig::default()
    }
}

fn settings(port: u16) -> ServerSettings {
    ServerSettings {
        name: "loopback".into(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: MESSAGE_BYTES_MAX,
            max_inflight_count: 200,
            auth: None,
            external_auth: None,
            dynamic_filters: false,
        },
    }
}
