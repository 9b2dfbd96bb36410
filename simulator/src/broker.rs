//! An MQTT 3.1.1 broker on loopback, for the demo and for tests, in a thread of its own; packets by rumqttc.
//!
//! QoS 0 and 1 in full, QoS 2 on the way in (a subscription to QoS 2 is granted 1), retained messages, wills, sessions
//! that outlive their connection. Limits: 1 MiB a message; 8 MiB of backlog a subscriber; 1,000 sessions; 64 MiB of
//! retained messages. Nothing is written to disk.
//!
//! What it cannot do, and why a site has mosquitto instead:
//! - it forgets everything when it stops;
//! - a subscriber that falls behind by more than its backlog loses QoS 0 messages, and is cut off, its session with it,
//!   before a QoS 1 message would be lost;
//! - no access control: anyone on this computer may read and write every topic; so it listens on 127.0.0.1 only;
//! - no TLS, no MQTT 5 (such a client is told so).

mod connection;
mod hub;
mod topic;

use crate::SimError;
use hub::Hub;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Largest packet in bytes; our own publishers send at most 256 KiB.
const PACKET_BYTES_MAX: usize = 1 << 20;

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
    let failed = |what: &str, fault: std::io::Error| SimError::Broker(format!("127.0.0.1:{port}: {what}: {fault}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|fault| failed("cannot listen; is the port in use?", fault))?;
    let port = listener.local_addr().map_err(|fault| failed("has no address", fault))?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| failed("no runtime for it", fault))?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // Dropping the runtime cuts all connections.
    let serve = move || {
        runtime.block_on(stopped.run_until_cancelled(accept(listener)));
    };
    let thread = std::thread::Builder::new().name("mqtt-broker".into()).spawn(serve);
    let thread = thread.map_err(|fault| failed("no thread for it", fault))?;
    Ok(Broker { port, stop, thread: Some(thread) })
}

/// Never ends, unless the listener cannot be used at all.
async fn accept(listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(fault) => return tracing::error!(%fault, "the broker cannot listen"),
    };
    let hub = Arc::new(Hub::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection::serve(stream, hub.clone()))),
            Err(fault) => {
                tracing::warn!(%fault, "the broker could not take a connection");
                // Out of file descriptors: some may come back.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
