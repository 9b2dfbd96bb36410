//! Enrolment over HTTPS in the shape of EST (RFC 7030), both sides.
//!
//! Served: `GET /.well-known/est/cacerts` (§4.1), `POST …/simpleenroll` (§4.2.1) and `…/simplereenroll` (§4.2.2). Bodies are base64 of DER
//! (RFC 8951), a request may also be PEM. Who enrols shows a code that was made for one name and counts once, as the password of HTTP Basic
//! (§3.2.3; the user is the name) or as a bearer token; who enrols anew shows the certificate he has. Not served: csrattrs, serverkeygen, fullcmc.
//!
//! **Limits.** A request of 16 KiB within 5 s; 20 a second of one address; connections as [`tally_door`] has them.

use crate::certs_only::{pack, unpack};
use crate::files::request_bytes;
use crate::{Asked, Authority, CaFault, Request};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64ct::{Base64, Encoding};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tally_door::{Peer, Place, RateLimiter, Tokens};
use tally_ledger_client::Client;

const REQUEST_BYTES_MAX: usize = 16 << 10;
const REQUEST_TIME: Duration = Duration::from_secs(5);
const PER_SECOND: u32 = 20;
/// The role of codes in the token file.
const ENROL: &str = "enrol";

/// An authority that answers.
pub struct Est {
    authority: Authority,
    codes: Tokens,
    days: u32,
    rate: RateLimiter<String>,
}

/// Where the codes of an authority are.
#[derive(Debug)]
pub struct InvitePaths;

impl InvitePaths {
    /// The file of codes.
    #[must_use]
    pub fn codes(authority: &Authority) -> PathBuf {
        authority.dir().join("invites.json")
    }
}

impl Est {
    /// Certificates last `days`.
    ///
    /// # Errors
    /// [`CaFault::Tokens`].
    pub fn new(authority: Authority, days: u32) -> Result<Self, CaFault> {
        let codes = Tokens::open(InvitePaths::codes(&authority))?;
        Ok(Self { authority, codes, days, rate: RateLimiter::new(PER_SECOND) })
    }

    /// Makes a code for a name; shown once, counts once, until `until` (Unix seconds).
    ///
    /// # Errors
    /// [`CaFault::Tokens`].
    pub fn invite(authority: &Authority, name: &str, now: u64, until: u64) -> Result<String, CaFault> {
        let new = tally_door::NewToken { name, role: ENROL, now, until: Some(until), once: true };
        Ok(Tokens::add(&InvitePaths::codes(authority), &new)?)
    }
}

/// All routes.
pub fn routes(est: Arc<Est>) -> Router {
    Router::new()
        .route("/.well-known/est/cacerts", get(ca_certificates))
        .route("/.well-known/est/simpleenroll", post(first))
        .route("/.well-known/est/simplereenroll", post(again))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .fallback(|| async {
            problem(StatusCode::NOT_FOUND, "path", "there is nothing here; EST is at /.well-known/est/")
        })
        .with_state(est)
}

async fn ca_certificates(State(est): State<Arc<Est>>) -> Response {
    match est.authority.der().and_then(|der| pack(&[&der])) {
        Ok(packed) => certificates(&packed),
        Err(fault) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &fault.to_string()),
    }
}

async fn first(State(est): State<Arc<Est>>, request: HttpRequest) -> Response {
    let (peer, headers) = (request.extensions().get::<Arc<Peer>>().cloned(), request.headers().clone());
    let asked = match receive(&est, peer.as_deref(), request).await {
        Ok(asked) => asked,
        Err(refused) => return *refused,
    };
    // The code is looked at last: only a request that could be granted uses it up.
    let Some(name) = code(&headers).and_then(|(user, code)| {
        let token = est.codes.find(&code, unix_now()).filter(|token| token.role == ENROL)?;
        user.is_none_or(|user| user == token.name).then_some(token.name)
    }) else {
        let peer = peer.map(|peer| peer.place.to_string()).unwrap_or_default();
        tracing::warn!(audit = true, peer, asked = ?asked.names, "refused to enrol: no code, or one that does not count");
        let text = "a code is needed that was made for this name, was not used and is not over; `tally ca invite NAME` makes one";
        return problem(StatusCode::UNAUTHORIZED, "code", text);
    };
    issue(&est, &asked, &[name])
}

async fn again(State(est): State<Arc<Est>>, request: HttpRequest) -> Response {
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let asked = match receive(&est, peer.as_deref(), request).await {
        Ok(asked) => asked,
        Err(refused) => return *refused,
    };
    match peer.filter(|peer| peer.is_secure && !peer.names.is_empty()) {
        Some(peer) => issue(&est, &asked, &peer.names),
        None => problem(
            StatusCode::UNAUTHORIZED,
            "certificate",
            "show the certificate that is to be renewed (RFC 7030 §4.2.2)",
        ),
    }
}

fn issue(est: &Est, asked: &Asked, allowed: &[String]) -> Response {
    let issued = asked.within(allowed).and_then(|()| est.authority.issue(asked, est.days, unix_now()));
    match issued.and_then(|issued| pack(&[&issued.der]).map(|packed| (issued, packed))) {
        Ok((issued, packed)) => {
            tracing::info!(audit = true, names = ?issued.names, serial = issued.serial, "issued a certificate");
            certificates(&packed)
        }
        Err(fault @ CaFault::Name { .. }) => {
            tracing::warn!(audit = true, asked = ?asked.names, ?allowed, "refused to enrol: another name");
            problem(StatusCode::FORBIDDEN, "name", &fault.to_string())
        }
        Err(fault) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &fault.to_string()),
    }
}

/// The request in the body, not too often and not too large. Boxed: a response is large.
async fn receive(est: &Est, peer: Option<&Peer>, request: HttpRequest) -> Result<Asked, Box<Response>> {
    let address = peer.map(|peer| match peer.place {
        Place::Unix => "unix".to_owned(),
        Place::Tcp(address) => address.ip().to_canonical().to_string(),
    });
    let (address, now) = (address.unwrap_or_default(), Instant::now());
    if !est.rate.takes(address.as_str(), now) {
        let mut slow = problem(StatusCode::TOO_MANY_REQUESTS, "rate", "too many requests; come again in a second");
        slow.headers_mut().insert(header::RETRY_AFTER, 1.into());
        return Err(Box::new(slow));
    }
    let body = tokio::time::timeout(REQUEST_TIME, Bytes::from_request(request, &())).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) => {
            return Err(Box::new(problem(rejection.status(), "body", "a request has at most 16 KiB")));
        }
        Err(_) => return Err(Box::new(problem(StatusCode::REQUEST_TIMEOUT, "body", "the body did not arrive"))),
    };
    let read = request_bytes(&body).and_then(|der| Asked::read(&der));
    read.map_err(|fault| Box::new(problem(StatusCode::BAD_REQUEST, "request", &fault.to_string())))
}

/// The code, with the user of HTTP Basic.
fn code(headers: &HeaderMap) -> Option<(Option<String>, String)> {
    let (scheme, said) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((None, said.trim().to_owned()));
    }
    let basic = scheme.eq_ignore_ascii_case("basic").then(|| Base64::decode_vec(said.trim()).ok()).flatten()?;
    let basic = String::from_utf8(basic).ok()?;
    let (user, password) = basic.split_once(':')?;
    Some((Some(user.to_owned()), password.to_owned()))
}

fn certificates(packed: &[u8]) -> Response {
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/pkcs7-mime; smime-type=certs-only"),
        // RFC 7030 wants the header, RFC 8951 wants it ignored: old clients look for it.
        ("content-transfer-encoding", "base64"),
    ];
    (headers, Base64::encode_string(packed)).into_response()
}

/// RFC 9457, with a hint in the text.
fn problem(status: StatusCode, code: &'static str, text: &str) -> Response {
    let body = serde_json::json!({
        "type": format!("urn:tallystick:problem:{code}"), "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(), "code": code, "detail": text,
    });
    let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let way = header::HeaderValue::from_static("Basic realm=\"tallystick enrolment\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, way);
    }
    response
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Asks for a certificate with a code, which `client` brings along as its token. Gives the certificate in DER.
///
/// # Errors
/// [`CaFault::Asked`], [`CaFault::Answer`].
pub async fn enrol(client: &Client, request: &Request) -> Result<Vec<u8>, CaFault> {
    ask(client, "/.well-known/est/simpleenroll", request).await
}

/// Asks for a new certificate with the one that `client` shows.
///
/// # Errors
/// As [`enrol`].
pub async fn reenrol(client: &Client, request: &Request) -> Result<Vec<u8>, CaFault> {
    ask(client, "/.well-known/est/simplereenroll", request).await
}

async fn ask(client: &Client, path: &str, request: &Request) -> Result<Vec<u8>, CaFault> {
    let body = Base64::encode_string(request.der()).into_bytes();
    let answer = client.post_as(path, "application/pkcs10", body).await?;
    let der = request_bytes(&answer).map_err(|_| CaFault::Answer("it is not base64".to_owned()))?;
    let certificates = unpack(&der)?;
    // Whatever else it sent: ours is the one with our key.
    let ours =
        certificates.into_iter().find(|der| der.windows(request.point().len()).any(|part| part == request.point()));
    ours.ok_or_else(|| CaFault::Answer("none has our key".to_owned()))
}
