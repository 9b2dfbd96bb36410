//! Sockets: bound, accepted, drained. What happens on a connection stands in [`connection`](super::connection).
//!
//! **Limits.** 256 connections over all sockets; further ones wait in the kernel's backlog.

use super::connection::{End, Stream, serve};
use crate::config::Listen;
use axum::Router;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Pause after a failed accept (no file descriptors left), so that it does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
            cut_off: Arc::default(),
        };
        let accepting = self.sockets.into_iter().map(|socket| server.clone().accept(socket));
        futures_util::future::join_all(accepting).await;
        server.connections.close();
        // Each ends by itself, at most `connection::DRAIN_TIME` after the stop.
        server.connections.wait().await;
        let connections = server.cut_off.load(Ordering::Relaxed);
        if connections > 0 {
            tracing::warn!(connections, "closed connections whose requests did not end");
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
    /// Connections whose request was being handled and did not end in time after the stop.
    cut_off: Arc<AtomicUsize>,
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
                    let (router, stop, cut_off) = (self.router.clone(), self.stop.clone(), self.cut_off.clone());
                    self.connections.spawn(async move {
                        if serve(stream, router, stop).await == End::CutOff {
                            cut_off.fetch_add(1, Ordering::Relaxed);
                        }
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
}

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
