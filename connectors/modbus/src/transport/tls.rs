//! Modbus/TCP Security (*MODBUS/TCP Security Protocol Specification V36*, 2021): MBAP inside TLS 1.2 or 1.3, both sides
//! with certificates (§8.2, "mutual client/server TLS authentication"). The role in our certificate (extension
//! 1.3.6.1.4.1.50316.802.1, §8.4) is read by the server; we only present it.

use crate::error::Failure;
use std::time::Duration;
use tally_connector_api::{LinkFault, tls};
use tally_model::{LinkProtocol, LinkSecurity, Login, Tls};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Makes the connection secure, and says how.
pub(super) async fn handshake(
    stream: TcpStream,
    host: &str,
    port: u16,
    settings: &Tls,
    time_max: Duration,
) -> Result<(TlsStream<TcpStream>, LinkSecurity), Failure> {
    match tokio::time::timeout(time_max, tls::handshake(stream, host, port, settings)).await {
        Err(_) => Err(Failure::Line(format!("{host}:{port} did not finish the TLS handshake within {time_max:?}"))),
        Ok(Err(LinkFault::Untrusted(text))) => Err(Failure::Untrusted(text)),
        Ok(Err(LinkFault::NotTrusted(text))) => Err(Failure::Denied(text)),
        Ok(Err(fault)) => Err(Failure::Line(match fault {
            LinkFault::Line(text) => text,
            other => other.to_string(),
        })),
        Ok(Ok(stream)) => {
            let login = if settings.certificate.is_some() { Login::Certificate } else { Login::Anonymous };
            let security = tls::security(&stream, LinkProtocol::Modbus, login);
            Ok((stream, security))
        }
    }
}
