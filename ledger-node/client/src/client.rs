//! Requests and answers.

use crate::connection::{Connections, Sender, describe};
use crate::events::{self, LedgerEvent};
use crate::{Access, NodeAddress, RequestError, SubmitError};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, InvalidHeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tally_evidence::BatchEnvelope;
use tally_model::Secret;
use zeroize::Zeroizing;

/// Bytes of the largest answer we read: an evidence file of some ten thousand entries.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A signed statement with the triggers that it seals (`docs/formats/batch.cddl`).
const SEALED_BATCH: &str = "application/vnd.tallystick.sealed-batch+cbor";

/// How long to wait.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For a connection. Default 2 s: the node is beside us or in the same plant.
    pub connect: Duration,
    /// For a whole answer, connecting included. Default 10 s: longer than the node itself tries.
    pub answer: Duration,
    /// For the next sign of life in the event stream. Default 30 s: twice the node's keep-alive.
    pub quiet: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), answer: Duration::from_secs(10), quiet: Duration::from_secs(30) }
    }
}

/// A statement that is in the ledger, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The receipt (`application/cose`), not yet checked.
    pub receipt: Vec<u8>,
    /// Index of the entry.
    pub entry: u64,
    /// Number of the contract's refusal; `None` when it was done. A refused statement is an entry all the same.
    pub refusal: Option<u16>,
    /// How many triggers of a batch the contracts refused; `GET /entries/{id}/outcome` says which and why.
    pub refused_triggers: u32,
}

/// A client of one node.
#[derive(Debug, Clone)]
pub struct Client {
    connections: Arc<Connections>,
}

impl Client {
    /// A client with the usual [`Timeouts`]. Does not connect yet.
    #[must_use]
    pub fn new(address: NodeAddress) -> Self {
        Self::with_timeouts(address, Timeouts::default())
    }

    /// A client with other timeouts.
    #[must_use]
    pub fn with_timeouts(address: NodeAddress, timeouts: Timeouts) -> Self {
        Self { connections: Arc::new(Connections::new(address, timeouts, Access::default())) }
    }

    /// The same client with a certificate or a token; connections of the one before are not used.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        let (address, timeouts) = (self.address().clone(), self.timeouts().clone());
        Self { connections: Arc::new(Connections::new(address, timeouts, access)) }
    }

    /// Where the node is.
    #[must_use]
    pub fn address(&self) -> &NodeAddress {
        self.connections.address()
    }

    /// Submits a signed statement, or a batch with its triggers ([`BatchEnvelope`]). `Ok` means that it is in the ledger and synced to disk; submitting the same bytes again
    /// gives the same receipt.
    ///
    /// # Errors
    /// [`SubmitError::NotNow`], [`SubmitError::NotFinal`]: keep the statement. [`SubmitError::Refused`]: these bytes will never be taken.
    pub async fn submit(&self, statement: &[u8]) -> Result<Submitted, SubmitError> {
        let body = Bytes::copy_from_slice(statement);
        let media_type = if BatchEnvelope::is_one(statement) { SEALED_BATCH } else { "application/cose" };
        let request = Request::builder().method(Method::POST).uri("/entries").header(CONTENT_TYPE, media_type);
        let (headers, receipt) = self.ask(self.finish(request.header(ACCEPT, "*/*"), body, "/entries")?).await?;
        let nonsense = |reason: &str| self.nonsense("POST /entries", reason);
        let entry = number(&headers, "tally-entry").map_err(nonsense)?.ok_or("`tally-entry` is missing");
        let refusal = number(&headers, "tally-refusal").map_err(nonsense)?;
        let refused_triggers = number(&headers, "tally-refused-triggers").map_err(nonsense)?.unwrap_or(0);
        Ok(Submitted { receipt: receipt.to_vec(), entry: entry.map_err(nonsense)?, refusal, refused_triggers })
    }

    /// Reads JSON from `path` (with query), such as `/orders` or `/agreements?state=reported`.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn get_json(&self, path: &str) -> Result<serde_json::Value, RequestError> {
        let answer = self.get(path, "application/json").await?;
        serde_json::from_slice(&answer).map_err(|error| self.nonsense(&format!("GET {path}"), &error.to_string()))
    }

    /// Asks for something to be done at `path` with an empty POST, such as the agent's `/reload`, and reads its JSON answer.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn post(&self, path: &str) -> Result<serde_json::Value, RequestError> {
        self.post_bytes(path, Vec::new()).await
    }

    /// The same with a body, such as a permit for the agent's `/permits/use`. The request may arrive twice when a connection
    /// breaks: whoever answers must bear that.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn post_bytes(&self, path: &str, body: Vec<u8>) -> Result<serde_json::Value, RequestError> {
        let request = Request::builder().method(Method::POST).uri(path).header(ACCEPT, "application/json");
        let answer = self.ask(self.finish(request, body.into(), path)?).await?.1;
        serde_json::from_slice(&answer).map_err(|error| self.nonsense(&format!("POST {path}"), &error.to_string()))
    }

    /// Sends bytes of a media type to `path` and gives the answer's bytes, whatever they are.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn post_as(&self, path: &str, media_type: &'static str, body: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let request = Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, media_type);
        Ok(self.ask(self.finish(request.header(ACCEPT, "*/*"), body.into(), path)?).await?.1.to_vec())
    }

    /// Sends JSON to `path`, such as a question to `/query/sql`, and reads the JSON answer.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn post_json(&self, path: &str, body: &serde_json::Value) -> Result<serde_json::Value, RequestError> {
        let request = Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, "application/json");
        let request = request.header(ACCEPT, "application/json");
        let answer = self.ask(self.finish(request, Bytes::from(body.to_string()), path)?).await?.1;
        serde_json::from_slice(&answer).map_err(|error| self.nonsense(&format!("POST {path}"), &error.to_string()))
    }

    /// Reads bytes from `path`, such as `/checkpoint` or `/agreements/mo-1/evidence`.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn get_bytes(&self, path: &str) -> Result<Vec<u8>, RequestError> {
        Ok(self.get(path, "*/*").await?.to_vec())
    }

    /// Sends bytes to an interface that is no node's and gives its answer, whatever it is: status, and at most `most` bytes.
    ///
    /// # Errors
    /// [`RequestError::NoAnswer`], [`RequestError::Nonsense`].
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        most: usize,
    ) -> Result<(StatusCode, Vec<u8>), RequestError> {
        let request = Request::builder().method(method).uri(path).header(ACCEPT, "*/*");
        let (status, _, body) = self.answer(self.finish(request, body.into(), path)?, most).await?;
        Ok((status, body.to_vec()))
    }

    /// Follows the ledger's events: from the first one of block `from`, or from now on. Ends with an error when the
    /// connection breaks; go on with [`Client::events_after`] the last event's id.
    pub fn events(
        &self,
        from: Option<u64>,
    ) -> impl Stream<Item = Result<LedgerEvent, RequestError>> + Send + Unpin + use<> {
        let path = from.map_or_else(|| "/events".to_owned(), |height| format!("/events?from={height}"));
        events::follow(self.clone(), path, None)
    }

    /// Follows the ledger's events behind the one with this id.
    pub fn events_after(
        &self,
        id: &str,
    ) -> impl Stream<Item = Result<LedgerEvent, RequestError>> + Send + Unpin + use<> {
        events::follow(self.clone(), "/events".to_owned(), Some(id.to_owned()))
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        self.connections.timeouts()
    }

    /// Opens the event stream; the connection lives as long as the answer's body.
    pub(crate) async fn open_events(
        &self,
        path: &str,
        after: Option<&str>,
    ) -> Result<(Incoming, Sender), RequestError> {
        let mut request = Request::builder().method(Method::GET).uri(path).header(ACCEPT, "text/event-stream");
        if let Some(id) = after {
            request = request.header("last-event-id", id);
        }
        let request = self.finish(request, Bytes::new(), path)?;
        let asked = format!("GET {path}");
        let sent = tokio::time::timeout(self.timeouts().answer, self.connections.send(&request)).await;
        let (response, sender) = self.sent(sent, &asked)?;
        if response.status() == StatusCode::OK {
            return Ok((response.into_body(), sender));
        }
        let (status, headers, body) = self.read(response, &asked, ANSWER_BYTES_MAX).await?;
        Err(self.problem(asked, status, &headers, &body))
    }

    async fn get(&self, path: &str, accept: &'static str) -> Result<Bytes, RequestError> {
        let request = Request::builder().method(Method::GET).uri(path).header(ACCEPT, accept);
        Ok(self.ask(self.finish(request, Bytes::new(), path)?).await?.1)
    }

    fn finish(
        &self,
        request: http::request::Builder,
        body: Bytes,
        path: &str,
    ) -> Result<Request<Full<Bytes>>, RequestError> {
        let host = match self.address() {
            NodeAddress::Unix(_) => "localhost".to_owned(),
            port => port.to_string().split_once(':').map_or_else(String::new, |(_, place)| place.to_owned()),
        };
        let mut request = request.header(HOST, host);
        if let Some(token) = &self.connections.access().token {
            if !self.address().is_private() {
                let reason = "a token is sent over TLS (`tls:`) or on this machine only: others could read it";
                return Err(self.nonsense(path, reason));
            }
            let bearer = bearer(token).map_err(|_| self.nonsense(path, "the token cannot stand in a header"))?;
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request.body(Full::new(body));
        request.map_err(|error| self.nonsense(path, &format!("no request can be made of it: {error}")))
    }

    /// Sends, reads the whole answer, sorts good from bad.
    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<(HeaderMap, Bytes), RequestError> {
        let asked = asked_of(&request);
        let (status, headers, body) = self.answer(request, ANSWER_BYTES_MAX).await?;
        // Nothing of ours answers 202 with what was asked for (RFC 9110 §15.3.3).
        let is_there = status.is_success() && status != StatusCode::ACCEPTED;
        if is_there { Ok((headers, body)) } else { Err(self.problem(asked, status, &headers, &body)) }
    }

    /// Sends and reads the whole answer.
    async fn answer(
        &self,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<(StatusCode, HeaderMap, Bytes), RequestError> {
        let asked = asked_of(&request);
        let limit = self.timeouts().answer;
        let answered = tokio::time::timeout(limit, async {
            let (response, sender) = self.sent(Ok(self.connections.send(&request).await), &asked)?;
            let answer = self.read(response, &asked, most).await?;
            self.connections.keep(sender);
            Ok(answer)
        });
        answered.await.map_err(|_| self.no_answer(&asked, format!("nothing within {limit:?}")))?
    }

    fn sent<T>(
        &self,
        sent: Result<Result<T, String>, tokio::time::error::Elapsed>,
        asked: &str,
    ) -> Result<T, RequestError> {
        let sent = sent.unwrap_or_else(|_| Err(format!("nothing within {:?}", self.timeouts().answer)));
        sent.map_err(|cause| self.no_answer(asked, cause))
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        asked: &str,
        most: usize,
    ) -> Result<(StatusCode, HeaderMap, Bytes), RequestError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, most).collect().await;
        let body = body.map_err(|error| self.no_answer(asked, describe(error.as_ref())))?;
        Ok((head.status, head.headers, body.to_bytes()))
    }

    /// An answer that is not a success: RFC 9457 when it comes from a node.
    fn problem(&self, asked: String, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> RequestError {
        let problem = serde_json::from_slice::<Problem>(body).ok();
        let retry_after = number(headers, RETRY_AFTER.as_str()).ok().flatten().map(Duration::from_secs);
        let is_passing =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        match problem {
            Some(Problem { code, text, hint }) => {
                let text = if hint.is_empty() { text } else { format!("{text}; {hint}") };
                // Another program of ours, such as the agent: its word about our statement counts for nothing.
                if status == StatusCode::NOT_FOUND && code == "path" {
                    return self.nonsense(&asked, &text);
                }
                if status == StatusCode::ACCEPTED {
                    let state = headers.get("tally-state").and_then(|state| state.to_str().ok());
                    RequestError::OnItsWay { asked, state: state.unwrap_or(&code).to_owned(), text }
                } else if is_passing {
                    RequestError::NotNow { asked, code, text, retry_after }
                } else {
                    RequestError::Refused { asked, status: status.as_u16(), code, text }
                }
            }
            None if is_passing => {
                let text = format!("HTTP status {status}");
                RequestError::NotNow { asked, code: "http".to_owned(), text, retry_after }
            }
            // Not in a node's words: a proxy, or another program on this port.
            None => self.nonsense(&asked, &format!("HTTP status {status} without a problem document (RFC 9457)")),
        }
    }

    pub(crate) fn no_answer(&self, asked: &str, cause: String) -> RequestError {
        RequestError::NoAnswer { address: self.address().clone(), asked: asked.to_owned(), cause }
    }

    pub(crate) fn nonsense(&self, asked: &str, reason: &str) -> RequestError {
        RequestError::Nonsense { address: self.address().clone(), asked: asked.to_owned(), reason: reason.to_owned() }
    }
}

fn asked_of(request: &Request<Full<Bytes>>) -> String {
    format!("{} {}", request.method(), request.uri())
}

/// The members of a problem document (RFC 9457 §3) that we show.
#[derive(serde::Deserialize)]
struct Problem {
    code: String,
    #[serde(rename = "detail")]
    text: String,
    #[serde(default)]
    hint: String,
}

/// A header that holds a whole number; `None` when it is absent.
fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &'static str) -> Result<Option<T>, &'static str> {
    let parse = |value: &HeaderValue| value.to_str().ok().and_then(|text| text.trim().parse().ok());
    headers.get(name).map(|value| parse(value).ok_or("a header that should be a number is none")).transpose()
}
/// `Authorization: Bearer …`: shown in no log, and wiped when the request is gone. The buffer out of which it is sent is the HTTP library's.
fn bearer(token: &Secret) -> Result<HeaderValue, InvalidHeaderValue> {
    let text = Zeroizing::new(["Bearer ", token.reveal()].concat().into_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))?;
    value.set_sensitive(true);
    Ok(value)
}
