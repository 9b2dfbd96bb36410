//! TLS of a listener: the handshake, who came through it, and new files without a restart.

use crate::connection::Stream;
use crate::peer::{Peer, Place};
use crate::tallies::Tallies;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tally_tls::{CertificateFacts, ServerTls, TlsFault, code, in_words, refusal_of, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_util::sync::CancellationToken;

/// Time for a whole handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// Time for a refused client to read why.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The TLS of a listener, as its files were when last read. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Secure {
    files: Arc<ServerTls>,
    /// Replaced as a whole; a handshake goes on with the one it began with.
    now: Arc<RwLock<Arc<ServerConfig>>>,
    /// How the files looked before they were first read: what is renewed while a node still opens its store is not missed.
    first: Arc<Stamps>,
}

/// When each file was written, and how long it is; nothing of one that is not there.
type Stamps = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Secure {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsFault`].
    pub fn open(files: ServerTls) -> Result<Self, TlsFault> {
        let first = Arc::new(stamps(&files));
        let now = Arc::new(RwLock::new(Arc::new(server_config(&files)?)));
        Ok(Self { files: Arc::new(files), now, first })
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &ServerTls {
        &self.files
    }

    /// Reads the files anew; connections that are open go on. What cannot be used changes nothing.
    ///
    /// # Errors
    /// [`TlsFault`].
    pub fn reload(&self) -> Result<(), TlsFault> {
        let config = Arc::new(server_config(&self.files)?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Reads the files anew whenever one of them changed, or at SIGHUP, until stopped. SIGHUP ends nothing as soon as this was called.
    pub(crate) fn follow(self, stop: CancellationToken) -> impl Future<Output = ()> + Send {
        let hangup = signal(SignalKind::hangup());
        async move {
            if let Ok(hangup) = hangup {
                self.follow_with(hangup, stop).await;
            }
        }
    }

    async fn follow_with(self, mut hangup: Signal, stop: CancellationToken) {
        let mut seen = self.first.as_ref().clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = hangup.recv() => seen.clear(),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let found = stamps(&self.files);
            if found == seen {
                continue;
            }
            seen = found;
            match self.reload() {
                Ok(()) => tracing::info!("the certificates were read anew"),
                // Half a renewal: the certificate is there, its key is not yet. The next change is looked at again.
                Err(fault) => {
                    tracing::error!(%fault, "the certificates cannot be read anew; those read before stay in use")
                }
            }
        }
    }

    /// Makes a connection secure and says who is there; what fails is logged and counted.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        place: Place,
        tallies: &Tallies,
    ) -> Option<(Box<dyn Stream>, Peer)> {
        let config = Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner));
        // Kept until this function ends: who finds the connection closed finds it counted.
        let mut handshake = pin!(TlsAcceptor::from(config).accept(stream).into_fallible());
        let stream = match tokio::time::timeout(HANDSHAKE_TIME, handshake.as_mut()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((fault, stream))) => {
                let code = code(&fault);
                if tallies.count(code) {
                    tracing::warn!(peer = %place, code, "refused a connection: {}", reason(&fault));
                }
                let _ = tokio::time::timeout(GOODBYE_TIME, goodbye(stream)).await;
                return None;
            }
            Err(_) => {
                if tallies.count("handshake-time") {
                    tracing::warn!(peer = %place, "refused a connection: no TLS handshake within {HANDSHAKE_TIME:?}");
                }
                return None;
            }
        };
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let names = leaf.and_then(|leaf| CertificateFacts::of(leaf).ok()).map(|facts| facts.names).unwrap_or_default();
        Some((Box::new(stream), Peer { place, is_secure: true, names }))
    }
}

fn stamps(files: &ServerTls) -> Stamps {
    let stamp = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    files.files().map(|(_, file)| (file.clone(), stamp(file))).collect()
}

/// Reads what the client still sends. Closing over unread bytes would reset the connection, and the alert that tells him why would be lost.
async fn goodbye(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1_024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// What the operator needs to know, who sees this in the log of the server.
fn reason(fault: &io::Error) -> String {
    match refusal_of(fault) {
        Some(Error::NoCertificatesPresented) => {
            "the client shows no certificate, and `tls.clients` demands one".to_owned()
        }
        Some(Error::InvalidCertificate(reason)) => {
            let words = in_words(reason).replace("its certificate", "the client's certificate");
            words.replace("authority in `ca`", "authority in `client_ca`")
        }
        Some(Error::InvalidMessage(_)) => {
            "the client does not speak TLS; its address must begin with `tls:`".to_owned()
        }
        Some(Error::AlertReceived(alert)) => {
            format!(
                "the client does not accept our certificate ({alert:?}): it trusts another authority, or the name is another"
            )
        }
        Some(other) => other.to_string(),
        None => format!("the handshake broke off: {fault}"),
    }
}
