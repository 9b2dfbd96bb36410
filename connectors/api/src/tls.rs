//! TLS of connections to devices and brokers: rustls with aws-lc, the same for every protocol ([`tally_tls`]).
//!
//! Files are read at every connect: a renewed certificate needs no restart.

use crate::LinkFault;
use std::sync::Arc;
use tally_model::{LinkProtection, LinkProtocol, LinkSecurity, Login, Tls};
use tally_tls::{client_config, in_words, refusal_of};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{Error, ProtocolVersion};

pub use tally_tls::{TlsFault, check, denied, private_key, sha256};

/// Makes a connection secure.
///
/// # Errors
/// [`LinkFault::Untrusted`] when we do not trust the other side or our own files cannot be used,
/// [`LinkFault::NotTrusted`] when it does not trust us, [`LinkFault::Line`] for everything else.
pub async fn handshake(stream: TcpStream, host: &str, port: u16, tls: &Tls) -> Result<TlsStream<TcpStream>, LinkFault> {
    let config = client_config(tls).map_err(|fault| LinkFault::Untrusted(fault.to_string()))?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| LinkFault::Untrusted(format!("`{host}` is no name a certificate can carry")))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|fault| refusal(host, port, &fault))
}

/// How a connection is secured: the version of TLS that was agreed on, and the certificate of the other side.
#[must_use]
pub fn security(stream: &TlsStream<TcpStream>, protocol: LinkProtocol, login: Login) -> LinkSecurity {
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(<[_]>::first).map(|first| sha256(first));
    let policy = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => Some("TLS 1.2"),
        Some(ProtocolVersion::TLSv1_3) => Some("TLS 1.3"),
        _ => None,
    };
    let protection = LinkProtection::Tls;
    LinkSecurity { protocol, protection, policy: policy.map(str::to_owned), certificate, login: Some(login) }
}

/// Whose "no" it was: ours, theirs, or the line's.
fn refusal(host: &str, port: u16, fault: &std::io::Error) -> LinkFault {
    if let Some(Error::InvalidCertificate(reason)) = refusal_of(fault) {
        return LinkFault::Untrusted(format!("{host}:{port}: {}", in_words(reason)));
    }
    match denied(fault) {
        Some(reason) => LinkFault::NotTrusted(format!("{host}:{port}: {reason}")),
        None => LinkFault::Line(format!("TLS with {host}:{port} failed: {fault}")),
    }
}
