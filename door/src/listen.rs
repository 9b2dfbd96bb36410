//! Sockets: bound, accepted, drained. What happens on a connection stands in [`connection`](crate::connection).
//!
//! **Limits.** 256 connections over all sockets; further ones wait in the kernel's backlog. Of these a single peer has at most
//! [`DoorLimits::connections_per_peer`], this machine's local socket and loopback 192 each: nobody takes all places.

use crate::Expiry;
use crate::connection::{End, Stream, serve};
use crate::peer::{Crowd, Peer, Place};
use crate::secure::Secure;
use crate::tallies::Tallies;
use axum::Router;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Pause after a failed accept (no file descriptors left), so that it does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Of them, those of the local socket and of loopback each: a program gone wild here leaves room for the others.
const LOCAL_MAX: usize = 192;

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A local socket, made with mode 0660.
    Unix(PathBuf),
    /// An address and a port.
    Tcp(SocketAddr),
    /// The same with TLS.
    Tls(SocketAddr),
}

impl Listen {
    /// Whether others than this machine can reach it, and read what is said.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Tcp(address) if !Place::Tcp(*address).is_local())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Tls(address) => write!(f, "tls:{address}"),
        }
    }
}

/// How many may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorLimits {
    /// Connections at once of one address other than this machine's.
    pub connections_per_peer: usize,
}

impl Default for DoorLimits {
    /// 64: an agent keeps 16, and a gateway hides several.
    fn default() -> Self {
        Self { connections_per_peer: 64 }
    }
}

/// How connections are treated at the door.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// For `tls:` places.
    pub secure: Option<Secure>,
    /// How many may come.
    pub limits: DoorLimits,
    /// What was turned away.
    pub tallies: Tallies,
}

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
    /// A `tls:` place without certificates.
    #[error("{place} needs TLS: write `tls: {{certificate: FILE, key: FILE, client_ca: FILE}}`")]
    NoTls {
        /// Where.
        place: Listen,
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
    door: Door,
}

enum Socket {
    Tcp(TcpListener),
    Tls(TcpListener, Secure),
    /// The file goes first, or it might be that of whoever listens there next.
    Unix(SocketFile, UnixListener),
}

/// Removes the socket's file when the server is gone.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Binds all of them, or none.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(places: &[Listen], door: Door) -> Result<Self, BindError> {
        let mut sockets = Vec::with_capacity(places.len());
        for place in places {
            sockets.push(match place {
                Listen::Unix(path) => bind_unix(path, place).await?,
                Listen::Tcp(address) => Socket::Tcp(bind_tcp(*address, place).await?),
                Listen::Tls(address) => {
                    let secure = door.secure.clone().ok_or_else(|| BindError::NoTls { place: place.clone() })?;
                    Socket::Tls(bind_tcp(*address, place).await?, secure)
                }
            });
        }
        Ok(Self { sockets, door })
    }

    /// What was turned away; it goes on counting.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        self.door.tallies.clone()
    }

    /// The certificates that this door shows and demands.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        Expiry::of(self.door.secure.iter().flat_map(|secure| secure.files().certificates()).cloned())
    }

    /// Where they really are: port 0 became a number.
    #[must_use]
    pub fn places(&self) -> Vec<Listen> {
        let place = |socket: &Socket| match socket {
            Socket::Tcp(listener) => listener.local_addr().ok().map(Listen::Tcp),
            Socket::Tls(listener, _) => listener.local_addr().ok().map(Listen::Tls),
            Socket::Unix(file, _) => Some(Listen::Unix(file.0.clone())),
        };
        self.sockets.iter().filter_map(place).collect()
    }

    /// Serves until stopped, then drains.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        if let Some(secure) = self.door.secure.clone() {
            tokio::spawn(secure.follow(stop.clone()));
        }
        let server = Server {
            router,
            door: self.door,
            crowd: Crowd::default(),
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

async fn bind_tcp(address: SocketAddr, place: &Listen) -> Result<TcpListener, BindError> {
    if place.is_open() {
        tracing::warn!(%address, "listens beyond this machine without TLS; seals and receipts protect what is said, \
            not who may read it: put a TLS proxy before it or a firewall around it");
    }
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
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
    Ok(Socket::Unix(file, listener))
}

#[derive(Clone)]
struct Server {
    router: Router,
    door: Door,
    crowd: Crowd,
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
                Ok(arrived) => {
                    let server = self.clone();
                    self.connections.spawn(async move {
                        server.attend(arrived).await;
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

impl Server {
    /// One connection, from the door to its end.
    async fn attend(self, arrived: Arrived) {
        let place = arrived.place();
        let most = if place.is_local() { LOCAL_MAX } else { self.door.limits.connections_per_peer };
        let Some(_entered) = self.crowd.enter(place.counted_as(), most) else {
            if self.door.tallies.count("per-peer") {
                tracing::warn!(peer = %place, most, "refused a connection: it has so many already");
            }
            return;
        };
        let plain = |place| Peer { place, is_secure: false, names: Vec::new() };
        let (stream, peer): (Box<dyn Stream>, Peer) = match arrived {
            Arrived::Unix(stream) => (Box::new(stream), plain(place)),
            Arrived::Tcp(stream, _) => (Box::new(stream), plain(place)),
            Arrived::Tls(stream, _, secure) => {
                let accepted = tokio::select! {
                    () = self.stop.cancelled() => return,
                    accepted = secure.accept(stream, place, &self.door.tallies) => accepted,
                };
                let Some(accepted) = accepted else { return };
                accepted
            }
        };
        if serve(stream, Arc::new(peer), self.router, self.stop).await == End::CutOff {
            self.cut_off.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A connection before the first byte.
enum Arrived {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
    Tls(TcpStream, SocketAddr, Secure),
}

impl Arrived {
    const fn place(&self) -> Place {
        match self {
            Self::Unix(_) => Place::Unix,
            Self::Tcp(_, address) | Self::Tls(_, address, _) => Place::Tcp(*address),
        }
    }
}

async fn accept_one(socket: &Socket) -> io::Result<Arrived> {
    // Answers are small and whole: waiting for more (Nagle) only delays them.
    match socket {
        Socket::Unix(_, listener) => Ok(Arrived::Unix(listener.accept().await?.0)),
        Socket::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Arrived::Tcp(stream, address))
        }
        Socket::Tls(listener, secure) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Arrived::Tls(stream, address, secure.clone()))
        }
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places().iter().map(ToString::to_string)).finish()
    }
}
