//! Connections: made on demand, kept while idle, thrown away when anything about them is doubtful.

use crate::{Access, NodeAddress, Timeouts};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tally_tls::{client_config, denied, in_words, refusal_of};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Idle connections kept; as many as an agent submits at once. More are closed after use.
const IDLE_MAX: usize = 16;

/// Time for a connection that ended to say why.
const END_TIME: Duration = Duration::from_millis(500);

/// Why a connection ended in a fault.
type End = oneshot::Receiver<String>;

pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// The connections to one node.
#[derive(Debug)]
pub(crate) struct Connections {
    address: NodeAddress,
    timeouts: Timeouts,
    access: Access,
    /// Connections that are open and have nothing to do. The lock protects the list only and is never held over an await.
    idle: Mutex<Vec<Sender>>,
}

impl Connections {
    pub(crate) fn new(address: NodeAddress, timeouts: Timeouts, access: Access) -> Self {
        Self { address, timeouts, access, idle: Mutex::default() }
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
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
        let (mut sender, end) = self.connect().await?;
        match sender.send_request(request.clone()).await {
            Ok(response) => Ok((response, sender)),
            // The connection ended before the request was on it; why, it alone knows: in TLS 1.3 a refused certificate looks like this.
            Err(error) if error.is_canceled() => {
                let end = tokio::time::timeout(END_TIME, end).await;
                Err(end.ok().and_then(Result::ok).unwrap_or_else(|| describe(&error)))
            }
            Err(error) => Err(describe(&error)),
        }
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

    async fn connect(&self) -> Result<(Sender, End), String> {
        let limit = self.timeouts.connect;
        let connected = tokio::time::timeout(limit, self.open()).await;
        connected.map_err(|_| format!("no connection within {limit:?}"))?.map_err(|error| error.to_string())
    }

    async fn open(&self) -> io::Result<(Sender, End)> {
        match &self.address {
            NodeAddress::Unix(path) => handshake(UnixStream::connect(path).await?).await,
            NodeAddress::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // A statement is one small write: waiting for more (Nagle) would only add its delay.
                stream.set_nodelay(true)?;
                handshake(stream).await
            }
            NodeAddress::Tls { host, port } => {
                let mut config = client_config(&self.access.tls).map_err(our_files)?;
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| io::Error::other(format!("`{host}` is no name a certificate can carry")))?;
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
                handshake(connected.map_err(|fault| io::Error::other(tls_in_words(&fault)))?).await
            }
        }
    }
}

/// What of our own settings cannot be used; here they are flags or keys of `tls`.
fn our_files(fault: tally_tls::TlsFault) -> io::Error {
    let text = match fault {
        tally_tls::TlsFault::NoTrust => {
            "nothing says which node to trust: write `tls: {ca: FILE}` or `--ca FILE` (or `pin`)".to_owned()
        }
        other => other.to_string(),
    };
    io::Error::other(text)
}

/// Whose "no" a failed handshake, read or write was.
fn tls_in_words(fault: &io::Error) -> String {
    match (refusal_of(fault), denied(fault)) {
        (Some(tokio_rustls::rustls::Error::InvalidCertificate(reason)), _) => {
            format!("we do not trust the node: {}", in_words(reason))
        }
        (Some(tokio_rustls::rustls::Error::InvalidMessage(_)), _) => {
            "the node does not speak TLS there; its address begins with `tcp:`".to_owned()
        }
        (_, Some(no)) => format!("the node does not trust us: {no}"),
        _ => format!("TLS failed: {fault}"),
    }
}

async fn handshake<S>(stream: S) -> io::Result<(Sender, End)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the connection: when the node closes it, or when the sender is dropped. Its error reaches the request in hand.
    let (ended, end) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Nobody asks after the first request.
            let _ = ended.send(describe(&error));
        }
    });
    Ok((sender, end))
}

/// hyper's own text hides the cause ("connection error"); the operator needs it.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // In TLS 1.3 the node's "no" to our certificate comes instead of its first answer.
        if let Some(no) = inner.downcast_ref::<io::Error>().and_then(denied) {
            return format!("the node does not trust us: {no}");
        }
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
