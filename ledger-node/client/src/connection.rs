//! Connections: made on demand, kept while idle, thrown away when anything about them is doubtful.

use crate::{NodeAddress, Timeouts};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::sync::{Mutex, PoisonError};
use tokio::net::{TcpStream, UnixStream};

/// Idle connections kept; as many as an agent submits at once. More are closed after use.
const IDLE_MAX: usize = 16;

pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// The connections to one node.
#[derive(Debug)]
pub(crate) struct Connections {
    address: NodeAddress,
    timeouts: Timeouts,
    /// Connections that are open and have nothing to do. The lock protects the list only and is never held over an await.
    idle: Mutex<Vec<Sender>>,
}

impl Connections {
    pub(crate) fn new(address: NodeAddress, timeouts: Timeouts) -> Self {
        Self { address, timeouts, idle: Mutex::default() }
    }

    pub(crate) fn address(&self) -> &NodeAddress {
        &self.address
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Sends a request; gives the answer's head and the connection it will go on arriving on. The caller gives the
    /// connection back with [`Connections::keep`] when it has read the whole answer.
    pub(crate) async fn send(&self, request: &Request<Full<Bytes>>) -> Result<(Response<Incoming>, Sender), String> {
        // The node may have closed an idle connection at any moment. Every request may be repeated (see the crate head), so
        // that is no failure as long as a new connection works.
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_ok()
                && let Ok(response) = sender.send_request(request.clone()).await
            {
                return Ok((response, sender));
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(request.clone()).await.map_err(|error| describe(&error))?;
        Ok((response, sender))
    }

    /// Takes back a connection whose answer was read to the end.
    pub(crate) fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            idle.push(sender);
        }
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        // The latest one: the others grow old together and are closed by the node.
        idle.pop()
    }

    async fn connect(&self) -> Result<Sender, String> {
        let limit = self.timeouts.connect;
        let connected = tokio::time::timeout(limit, self.open()).await;
        connected.map_err(|_| format!("no connection within {limit:?}"))?.map_err(|error| error.to_string())
    }

    async fn open(&self) -> std::io::Result<Sender> {
        match &self.address {
            NodeAddress::Unix(path) => handshake(UnixStream::connect(path).await?).await,
            NodeAddress::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // A statement is one small write: waiting for more (Nagle) would only add its delay.
                stream.set_nodelay(true)?;
                handshake(stream).await
            }
        }
    }
}

async fn handshake<S>(stream: S) -> std::io::Result<Sender>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // Ends with the connection: when the node closes it, or when the sender is dropped. Its error reaches the request.
    tokio::spawn(connection);
    Ok(sender)
}

/// hyper's own text hides the cause ("connection error"); the operator needs it.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
