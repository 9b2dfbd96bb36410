//! Sockets: bound, accepted, served, drained.
//!
//! **Limits.** 256 connections over all sockets; further ones wait in the kernel's backlog. A connection has 10 s to send a
//! whole request head (this also closes idle ones), so a client that dribbles bytes holds a place for 10 s, not for ever.
//! When stopping, running requests get 5 s.

use crate::config::Listen;
use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Time for a request's head, and for an idle connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of a request's head and of the reading buffer.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Pause after a failed accept (no file descriptors left), so that it does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for running requests when stopping.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("another program answers at {place}; is a second node running?")]
    InUse {
        /// Where.
        place: Listen,
    },
    /// Something that is no socket is in the way.
    #[error("{} exists and is no socket; remove it, or listen elsewhere", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot listen at {place}")]
    Io {
        /// Where.
        place: Listen,
        /// Why.
        source: io::Error,
    },
}

/// The sockets, bound but not served.
pub struct Bound {
    sockets: Vec<Socket>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Removes the socket's file when the node is gone.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Binds all of them, or none.
    pub async fn bind(places: &[Listen]) -> Result<Self, BindError> {
        let mut sockets = Vec::with_capacity(places.len());
        for place in places {
            sockets.push(match place {
                Listen::Unix(path) => bind_unix(path, place).await?,
                Listen::Tcp(address) => bind_tcp(*address, place).await?,
            });
        }
        Ok(Self { sockets })
    }

    /// Where they really are: port 0 became a number.
    pub fn places(&self) -> Vec<Listen> {
        let place = |socket: &Socket| match socket {
            Socket::Tcp(listener) => listener.local_addr().ok().map(Listen::Tcp),
            Socket::Unix(_, file) => Some(Listen::Unix(file.0.clone())),
        };
        self.sockets.iter().filter_map(place).collect()
    }

    /// Serves until stopped, then drains.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let server = Server {
            router,
            stop: stop.clone(),
            connections: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        };
        let accepting = self.sockets.into_iter().map(|socket| server.clone().accept(socket));
        futures_util::future::join_all(accepting).await;
        server.connections.close();
        if tokio::time::timeout(DRAIN_TIME, server.connections.wait()).await.is_err() {
            tracing::warn!(connections = server.connections.len(), "closed connections whose requests did not end");
        }
    }
}

async fn bind_tcp(address: SocketAddr, place: &Listen) -> Result<Socket, BindError> {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "listens beyond this machine without TLS; seals and receipts protect what is said, \
            not who may read it: put a TLS proxy before it or a firewall around it");
    }
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Socket::Tcp(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BindError::InUse { place: place.clone() }),
        Err(source) => Err(BindError::Io { place: place.clone(), source }),
    }
}

async fn bind_unix(path: &Path, place: &Listen) -> Result<Socket, BindError> {
    let io = |source| BindError::Io { place: place.clone(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::InTheWay { path: path.to_owned() }),
        // Left behind by a node that was killed, unless somebody answers.
        Ok(_) if tokio::net::UnixStream::connect(path).await.is_ok() => {
            return Err(BindError::InUse { place: place.clone() });
        }
        Ok(_) => std::fs::remove_file(path).map_err(io)?,
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    let file = SocketFile(path.to_owned());
    // The agent runs as another user of the same group.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(io)?;
    Ok(Socket::Unix(listener, file))
}

#[derive(Clone)]
struct Server {
    router: Router,
    stop: CancellationToken,
    connections: TaskTracker,
    permits: Arc<Semaphore>,
}

impl Server {
    async fn accept(self, socket: Socket) {
        loop {
            // Taken before accepting: what we cannot serve waits in the backlog, where it costs us nothing.
            let permit = tokio::select! {
                () = self.stop.cancelled() => return,
                permit = Arc::clone(&self.permits).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept_one(&socket) => accepted,
            };
            match accepted {
                Ok(stream) => {
                    let connection = self.clone().connection(stream);
                    self.connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, stream: Box<dyn Stream>) {
        let service = TowerToHyperService::new(tower::util::MapRequest::new(self.router, |request: Request<_>| {
            request.map(axum::body::Body::new)
        }));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(BUFFER_BYTES_MAX);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            // A client that went away or broke the protocol is its own business.
            _ = connection.as_mut() => return,
            () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn accept_one(socket: &Socket) -> io::Result<Box<dyn Stream>> {
    match socket {
        Socket::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        Socket::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            // Answers are small and whole: waiting for more (Nagle) only delays them.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places().iter().map(ToString::to_string)).finish()
    }
}
