//! What packets travel over: TCP, or TLS over TCP.

use crate::config::Login;
use std::io;
use tally_connector_api::{LinkFault, tls};
use tally_model::{LinkProtocol, LinkSecurity, Login as LoginKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

/// A stream of bytes, whatever carries it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Both directions of an open connection.
pub(super) struct Socket {
    pub read: ReadHalf<Box<dyn Stream>>,
    pub write: WriteHalf<Box<dyn Stream>>,
    /// How the connection is secured.
    pub security: LinkSecurity,
}

pub(super) async fn connect(login: &Login) -> Result<Socket, LinkFault> {
    let Login { host, port, .. } = login;
    // A URL writes IPv6 addresses in brackets (RFC 3986 §3.2.2), the resolver knows them without.
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), *port))
        .await
        .map_err(|fault| LinkFault::Line(format!("cannot connect to {host}:{port}: {fault}")))?;
    // A PUBACK must not wait for company.
    if let Err(fault) = stream.set_nodelay(true) {
        tracing::debug!(%fault, "cannot switch off Nagle's algorithm, acknowledgements come later");
    }
    let kind = login_kind(login);
    let (stream, security): (Box<dyn Stream>, _) = match &login.tls {
        Some(tls) => {
            let stream = tls::handshake(stream, host, *port, tls).await?;
            let security = tls::security(&stream, LinkProtocol::Mqtt, kind);
            (Box::new(stream), security)
        }
        None => (Box::new(stream), LinkSecurity { login: Some(kind), ..LinkSecurity::none(LinkProtocol::Mqtt) }),
    };
    let (read, write) = tokio::io::split(stream);
    Ok(Socket { read, write, security })
}

/// The stronger of the two, when we show both.
fn login_kind(login: &Login) -> LoginKind {
    match (&login.tls, &login.user) {
        (Some(tls), _) if tls.certificate.is_some() => LoginKind::Certificate,
        (_, Some(_)) => LoginKind::UserName,
        _ => LoginKind::Anonymous,
    }
}

/// The end of a connection, seen from reading or writing.
pub(super) fn io_fault(fault: &io::Error) -> LinkFault {
    match tls::denied(fault) {
        Some(reason) => LinkFault::NotTrusted(reason),
        None => LinkFault::Line(fault.to_string()),
    }
}
