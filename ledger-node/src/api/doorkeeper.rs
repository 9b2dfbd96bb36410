//! Who sends a request, and whether he may: before anything else is done for him.
//!
//! A bearer token counts before a certificate, a certificate before the place. Who reaches the local socket or loopback is this machine's
//! operator, unless `access.local` says `closed`: the socket's mode says who that is. What is refused is counted by its code and leaves
//! a line in the log.

use super::Api;
use super::problem::Problem;
use super::roles::{ROUTES, Role, Shows, roles_of, shows};
use super::sight::Caller;
use crate::clock::{Clock, WallClock};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tally_contracts::sight::Reader;
use tally_door::{Expiry, Peer, RateLimiter, Tallies, TokenFault, Tokens};
use tally_model::PartyId;

/// `access` of node.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Whether who reaches the local socket or loopback needs nothing.
    pub is_local_open: bool,
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
    /// Names in client certificates.
    pub names: BTreeMap<String, Role>,
    /// Requests a second of one name; whoever needs nothing has no such limit.
    pub requests_per_second: u32,
}

impl Default for Access {
    /// Local, 1,000 requests a second: an agent that drains its outbox sends some hundreds.
    fn default() -> Self {
        Self { is_local_open: true, tokens: None, names: BTreeMap::new(), requests_per_second: 1_000 }
    }
}

/// Looks at every request.
pub(crate) struct Doorkeeper {
    access: Access,
    tokens: Option<Tokens>,
    rate: RateLimiter<String>,
    refused: Tallies,
    /// What the door itself turned away.
    connections: Tallies,
    /// Certificates that end.
    expiry: Expiry,
}

/// Who he is.
#[derive(Debug)]
enum Who {
    /// On this machine, which needs no more.
    Local,
    Known {
        name: String,
        role: Role,
    },
    Nobody,
}

impl Who {
    fn name(&self) -> &str {
        match self {
            Self::Local => "(local)",
            Self::Known { name, .. } => name,
            Self::Nobody => "(nobody)",
        }
    }

    /// As the rules of who sees what know him.
    fn reader(&self) -> Reader {
        match self {
            Self::Local => Reader::operator(),
            Self::Known { name, role } => Reader { party: PartyId::try_new(name).ok(), role: Some(role.word()) },
            Self::Nobody => Reader::default(),
        }
    }
}

impl Doorkeeper {
    pub(crate) fn new(access: Access, connections: Tallies, expiry: Expiry) -> Result<Self, TokenFault> {
        let tokens = access.tokens.clone().map(Tokens::open).transpose()?;
        Ok(Self {
            rate: RateLimiter::new(access.requests_per_second),
            refused: Tallies::new("tally_requests_refused_total", "requests refused at the door", &CODES),
            tokens,
            access,
            connections,
            expiry,
        })
    }

    /// For Prometheus.
    pub(crate) fn text(&self) -> String {
        self.connections.text() + &self.refused.text() + &self.expiry.text("tally", unix_now())
    }

    /// Lets a request in and says whose it is, or why not.
    fn judge(&self, request: &Request) -> Result<Reader, Problem> {
        let peer = request.extensions().get::<Arc<Peer>>();
        let Some(place) = request.extensions().get::<MatchedPath>() else { return Ok(Reader::default()) };
        let (method, path) = (request.method().as_str(), place.as_str());
        let who = self.who(peer.map(AsRef::as_ref), request.headers());
        let judged = announces_little(request.headers())
            .and_then(|()| self.may(peer.map(AsRef::as_ref), who.as_ref().ok(), method, path));
        let judged = judged.and_then(|()| who.as_ref().map(Who::reader).map_err(|()| "token"));
        judged.map_err(|code| {
            let name = who.as_ref().map_or("(unknown token)", Who::name);
            if self.refused.count(code) {
                let peer = peer.map(|peer| peer.place.to_string()).unwrap_or_default();
                tracing::warn!(audit = true, who = name, peer, method, path, code, "refused a request");
            }
            self.problem(code, name, method, path)
        })
    }

    /// `Err`: a token that is none.
    fn who(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Who, ()> {
        if let Some(said) = headers.get(header::AUTHORIZATION) {
            let text = said.to_str().map_err(|_| ())?;
            let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).ok_or(())?.1;
            let token = self.tokens.as_ref().and_then(|tokens| tokens.find(token.trim(), unix_now())).ok_or(())?;
            let role = Role::of(&token.role).ok_or(())?;
            return Ok(Who::Known { name: token.name, role });
        }
        let Some(peer) = peer else { return Ok(Who::Nobody) };
        let role = peer.names.iter().find_map(|name| Some((name, *self.access.names.get(name)?)));
        Ok(match role {
            Some((name, role)) => Who::Known { name: name.clone(), role },
            // Over TLS somebody may have come through a gateway: there only a name counts.
            None if self.access.is_local_open && peer.place.is_local() && !peer.is_secure => Who::Local,
            None => Who::Nobody,
        })
    }

    fn may(&self, peer: Option<&Peer>, who: Option<&Who>, method: &str, path: &str) -> Result<(), &'static str> {
        let who = who.ok_or("token")?;
        let Some(roles) = roles_of(method, path) else {
            let is_known = ROUTES.iter().any(|route| route.path == path);
            return Err(if is_known { "method" } else { "no-row" });
        };
        self.within_rate(peer, who)?;
        match who {
            Who::Local => Ok(()),
            _ if roles.is_empty() => Ok(()),
            Who::Known { role, .. } if roles.contains(role) => Ok(()),
            Who::Known { .. } => Err("role"),
            Who::Nobody => Err("no-credentials"),
        }
    }

    fn within_rate(&self, peer: Option<&Peer>, who: &Who) -> Result<(), &'static str> {
        let (name, now) = match who {
            Who::Local => return Ok(()),
            Who::Known { name, .. } => (name.clone(), Instant::now()),
            // Nobody in particular is counted by his address.
            Who::Nobody => (format!("@{}", peer.map(address_of).unwrap_or_default()), Instant::now()),
        };
        if self.rate.takes(name.as_str(), now) { Ok(()) } else { Err("rate") }
    }

    fn problem(&self, code: &'static str, name: &str, method: &str, path: &str) -> Problem {
        match code {
            "no-credentials" => Problem::unauthorized(
                code,
                format!("{method} {path} needs a token, or a certificate whose name stands in `access` of node.yaml"),
                "`tally token add NAME --role ROLE` makes a token; send it as `Authorization: Bearer TOKEN`",
            ),
            "token" => Problem::unauthorized(
                code,
                "the token is unknown, revoked or over",
                "`tally token list` shows who has one; `tally token add` makes a new one",
            ),
            "role" => Problem::new(
                axum::http::StatusCode::FORBIDDEN,
                code,
                format!("`{name}` may not {method} {path}: it needs one of {}", words(roles_of(method, path))),
                "ask the operator of the node for a token or a certificate with another role",
            ),
            "rate" => Problem::too_many(
                code,
                format!("`{name}` sends more than {} requests a second", self.rate.per_second()),
                1,
            ),
            "method" => Problem::method(),
            "announced" => Problem::new(
                axum::http::StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                format!("the request announces more than {ANNOUNCED_BYTES_MAX} bytes"),
                "no path takes as much",
            ),
            _ => Problem::new(
                axum::http::StatusCode::FORBIDDEN,
                code,
                format!("{method} {path} stands in no row of the table of roles, so nobody may"),
                "this is a fault of the program: report it",
            ),
        }
    }
}

/// By this computer's clock.
pub(crate) fn unix_now() -> u64 {
    u64::try_from(WallClock.now().as_seconds()).unwrap_or(0)
}

/// Why a request is refused at the door.
const CODES: [&str; 7] = ["no-credentials", "token", "role", "rate", "method", "no-row", "announced"];

/// A body may announce as much as the largest that any path takes, whatever the method: `limits.body_bytes_max` goes up to 4 MiB.
const ANNOUNCED_BYTES_MAX: u64 = 4 << 20;

/// Submitting has its own, smaller limit and its own count.
fn announces_little(headers: &HeaderMap) -> Result<(), &'static str> {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|said| said.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|bytes| bytes > ANNOUNCED_BYTES_MAX) { Err("announced") } else { Ok(()) }
}

fn address_of(peer: &Peer) -> String {
    match peer.place {
        tally_door::Place::Unix => "unix".to_owned(),
        tally_door::Place::Tcp(address) => address.ip().to_canonical().to_string(),
    }
}

fn words(roles: Option<&[Role]>) -> String {
    roles.unwrap_or_default().iter().map(|role| role.word()).collect::<Vec<_>>().join(", ")
}

/// The middleware.
pub(super) async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let caller = match api.doorkeeper.judge(&request) {
        Ok(reader) => Caller::new(reader),
        Err(problem) => return problem.into_response(),
    };
    let place = request.extensions().get::<MatchedPath>().cloned();
    if let Some(place) = place.filter(|place| shows(request.method().as_str(), place.as_str()) == Shows::All) {
        let what = format!("{} shows everything", place.as_str());
        if let Err(problem) = caller.needs_everything(&api.engine, &what).await {
            return problem.into_response();
        }
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}
