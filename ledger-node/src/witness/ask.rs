//! One witness asked over HTTP: one connection, kept while it works.
//!
//! **Limits.** 2 s to connect, 5 s for a whole answer, 64 KiB of it: a slow, dead or hostile witness costs its own task that, and nobody else.

use super::policy::WitnessUrl;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

const CONNECT_TIME: Duration = Duration::from_secs(2);
const ANSWER_TIME: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A witness's answer, whatever it is.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    /// Not UTF-8: empty.
    pub text: String,
}

/// The connection to a witness.
pub struct Line {
    url: WitnessUrl,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl Line {
    pub const fn new(url: WitnessUrl) -> Self {
        Self { url, kept: None }
    }

    /// Asks; `Err` says in words why there is no answer.
    pub async fn ask(&mut self, method: Method, path: &str, body: String) -> Result<Answered, String> {
        let asked = tokio::time::timeout(ANSWER_TIME, self.send(method, path, body.into())).await;
        // A connection with half an answer on it is of no use.
        asked.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIME:?}")))
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answered, String> {
        let request = || {
            let request = Request::builder().method(method.clone()).uri(format!("{}{path}", self.url.prefix()));
            let request = request.header(http::header::HOST, host(&self.url));
            request.body(Full::new(body.clone())).map_err(|error| error.to_string())
        };
        // Taken out: if this is cut short, the next time begins with a new one.
        if let Some(mut sender) = self.kept.take()
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(request()?).await
        {
            return self.read(response, sender).await;
        }
        let connected = tokio::time::timeout(CONNECT_TIME, connect(&self.url)).await;
        let mut sender = connected.map_err(|_| format!("no connection within {CONNECT_TIME:?}"))??;
        let response = sender.send_request(request()?).await.map_err(|error| error.to_string())?;
        self.read(response, sender).await
    }

    async fn read(
        &mut self,
        response: http::Response<Incoming>,
        sender: SendRequest<Full<Bytes>>,
    ) -> Result<Answered, String> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        self.kept = Some(sender);
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap_or_default();
        Ok(Answered { status: head.status, text })
    }
}

fn host(url: &WitnessUrl) -> String {
    match url {
        WitnessUrl::Http { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
        WitnessUrl::Http { host, port, .. } => format!("{host}:{port}"),
        WitnessUrl::Unix(_) => "localhost".to_owned(),
    }
}

async fn connect(url: &WitnessUrl) -> Result<SendRequest<Full<Bytes>>, String> {
    let refused = |error: std::io::Error| error.to_string();
    match url {
        WitnessUrl::Http { host, port, .. } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
            stream.set_nodelay(true).map_err(refused)?;
            handshake(stream).await
        }
        WitnessUrl::Unix(path) => handshake(UnixStream::connect(path).await.map_err(refused)?).await,
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with the connection; its error reaches the request.
    tokio::spawn(connection);
    Ok(sender)
}
