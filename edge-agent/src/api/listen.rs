//! The socket of the interface.

use axum::Router;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tally_ledger_client::NodeAddress;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// An open socket.
#[derive(Debug)]
pub enum Listener {
    /// A local socket; its file goes when this is dropped.
    Unix(UnixListener, SocketFile),
    /// A port.
    Tcp(TcpListener),
}

/// A socket file that is removed with its listener.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already, or in the way of nobody: the next start removes a dead socket anyway.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Why the interface cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another agent is there.
    #[error("another program answers at {0}; is this agent running already?")]
    InUse(NodeAddress),
    /// The system said no.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: NodeAddress,
        /// What the system said.
        source: io::Error,
    },
}

impl Listener {
    /// Opens the socket. A file left behind by a dead agent is replaced; one that answers is not.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn open(address: &NodeAddress) -> Result<Self, ListenError> {
        let fault = |source| ListenError::Listen { address: address.clone(), source };
        match address {
            NodeAddress::Tcp { host, port } => {
                let listener = TcpListener::bind((host.as_str(), *port)).await.map_err(fault)?;
                Ok(Self::Tcp(listener))
            }
            NodeAddress::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(ListenError::InUse(address.clone()));
                }
                open_unix(path).map_err(fault)
            }
        }
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Unix(_, file) => format!("unix:{}", file.0.display()),
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|fault| fault.to_string(), |at| format!("tcp:{at}"))
            }
        }
    }
}

fn open_unix(path: &Path) -> io::Result<Listener> {
    match std::fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let listener = UnixListener::bind(path)?;
    // Owner and group, whatever the umask says: the group is how people are let in.
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(Listener::Unix(listener, SocketFile(path.to_owned())))
}

/// Answers until stopped.
pub async fn serve(listener: Listener, routes: Router, stop: CancellationToken) {
    let served = match listener {
        Listener::Unix(listener, _file) => {
            axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
        }
        Listener::Tcp(listener) => axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await,
    };
    if let Err(fault) = served {
        tracing::error!(%fault, "the agent's interface ended");
    }
}
