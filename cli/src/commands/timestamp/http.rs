//! Asking a time-stamping authority over HTTP or HTTPS (RFC 3161 §3.4).

use super::AuthorityFlags;
use crate::answer::{Context, Fault};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tally_connector_api::tls::handshake;
use tally_evidence::TOKEN_BYTES_MAX;
use tally_model::Tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

const CONNECT_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// A token and the status around it.
const ANSWER_BYTES_MAX: usize = TOKEN_BYTES_MAX + 4096;

/// Where an authority answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityUrl {
    uri: Uri,
    host: String,
    port: u16,
    is_secure: bool,
}

impl std::str::FromStr for AuthorityUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "write for example http://tsa.example.org/tsr";
        let uri: Uri = text.parse().map_err(|fault| format!("`{text}` is no URL ({fault}); {hint}"))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("`{text}` begins with neither http:// nor https://; {hint}")),
        };
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| format!("`{text}` names no host; {hint}"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("a URL with a password in it is not taken: it would end in process lists".to_owned());
        }
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { host: host.to_owned(), port, is_secure, uri })
    }
}

/// The authority's answer to a TimeStampReq, whatever it is.
pub async fn ask(url: &AuthorityUrl, flags: &AuthorityFlags, request: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let asked = tokio::time::timeout(ANSWER_TIME, send(url, flags, request)).await;
    asked
        .unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIME:?}").into()))
        .context(format_args!("asking {}", url.uri))
}

async fn send(url: &AuthorityUrl, flags: &AuthorityFlags, request: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let (host, port) = (url.host.trim_matches(['[', ']']), url.port);
    let stream = tokio::time::timeout(CONNECT_TIME, TcpStream::connect((host, port))).await;
    let stream = stream.map_err(|_| format!("no connection within {CONNECT_TIME:?}"))??;
    if !url.is_secure {
        return exchange(url, stream, request).await;
    }
    let tls = Tls { ca: Some(flags.https_ca.clone()), ..Tls::default() };
    exchange(url, handshake(stream, host, port, &tls).await?, request).await
}

async fn exchange(
    url: &AuthorityUrl,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Vec<u8>,
) -> Result<Vec<u8>, Fault> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = url.uri.path_and_query().map_or("/", |path| path.as_str());
    let host = url.uri.authority().map_or(url.host.as_str(), |authority| authority.as_str());
    let request = Request::post(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/timestamp-query")
        .header(ACCEPT, "application/timestamp-reply")
        .body(Full::new(Bytes::from(request)))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("it answered {} instead of 200", head.status).into());
    }
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    connection.abort();
    Ok(body.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_authorities() {
        let url: AuthorityUrl = "http://tsa.example.org/tsr?x=1".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.is_secure), ("tsa.example.org", 80, false));
        let url: AuthorityUrl = "https://[::1]:8443".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.is_secure), ("[::1]", 8443, true));
        for wrong in ["", "tsa.example.org", "/tsr", "ftp://tsa.example.org", "http://", "http://a:b@tsa.example.org/"]
        {
            assert!(wrong.parse::<AuthorityUrl>().is_err(), "{wrong}");
        }
    }
}
