//! `listen`, `tls` and `access` of node.yaml: who can reach the node, and what he may do there.

use super::{Checker, to_usize};
use crate::api::{Access, Role};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use tally_door::{DoorLimits, Listen};
use tally_tls::ServerTls;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    clients: Option<Spanned<String>>,
    crl: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccess {
    local: Option<Spanned<String>>,
    tokens: Option<PathBuf>,
    #[serde(default)]
    agent: Vec<Spanned<String>>,
    #[serde(default)]
    operator: Vec<Spanned<String>>,
    #[serde(default)]
    auditor: Vec<Spanned<String>>,
    #[serde(default)]
    regulator: Vec<Spanned<String>>,
    requests_per_second: Option<Spanned<u64>>,
    connections_per_peer: Option<Spanned<u64>>,
}

/// Places as they are written, and what is allowed there.
pub(crate) struct RawPlaces<'a> {
    pub listen: Option<Spanned<Vec<Spanned<String>>>>,
    /// `listen_plain`.
    pub plain: Option<&'a Spanned<String>>,
    pub has_tls: bool,
    /// Where to listen when nothing is said.
    pub usual: SocketAddr,
}

impl Checker<'_> {
    /// Where to listen. What others can reach needs TLS, or somebody who says that it does not.
    pub(crate) fn listen(&mut self, raw: RawPlaces<'_>) -> Vec<Listen> {
        let plain_is_allowed = raw.plain.is_some_and(|word| word.value == "allowed");
        if let Some(word) = raw.plain.filter(|_| !plain_is_allowed) {
            let found = format!("`{}`", word.value);
            self.fault(word, "listen_plain", found, "the only word is `allowed`; without it plain ports are local");
        }
        let Some(listen) = raw.listen else { return vec![Listen::Tcp(raw.usual)] };
        if listen.value.is_empty() {
            self.fault(&listen, "listen", "nowhere to listen".to_owned(), "for example [\"tcp:127.0.0.1:7460\"]");
        }
        let mut places = Vec::new();
        for (number, text) in listen.value.iter().enumerate() {
            let key = format!("listen[{number}]");
            let fault = match self.place(&text.value) {
                Err(reason) => (format!("`{}`: {reason}", text.value), PLACES),
                Ok(place) if places.contains(&place) => (format!("`{}` stands here twice", text.value), "remove one"),
                Ok(place) if place.is_open() && !plain_is_allowed => {
                    (format!("`{}` can be reached from other machines without TLS", text.value), OPEN)
                }
                Ok(Listen::Tls(_)) if !raw.has_tls => {
                    (format!("`{}` without certificates", text.value), "write `tls: {certificate: …, key: …}` too")
                }
                Ok(place) => {
                    places.push(place);
                    continue;
                }
            };
            self.fault(text, &key, fault.0, fault.1);
        }
        places
    }

    fn place(&self, text: &str) -> Result<Listen, &'static str> {
        let address = |text: &str| text.parse().map_err(|_| "an address and a port are needed, not a name");
        match text.split_once(':') {
            Some(("unix", "")) => Err("the path is missing"),
            Some(("unix", path)) => Ok(Listen::Unix(self.folder.join(path))),
            Some(("tcp", place)) => address(place).map(Listen::Tcp),
            Some(("tls", place)) => address(place).map(Listen::Tls),
            _ => Err("it begins with none of `unix:`, `tcp:` and `tls:`"),
        }
    }

    pub(crate) fn tls(&mut self, raw: Option<RawTls>) -> Option<ServerTls> {
        let raw = raw?;
        let clients = raw.clients.as_ref().map(|word| (word, word.value.as_str()));
        let is_optional = match (clients, &raw.client_ca) {
            (Some((word, "required")), None) => {
                let found = "clients need a certificate, and no authority is named".to_owned();
                self.fault(word, "tls.clients", found, "write `client_ca: FILE` too");
                false
            }
            (Some((_, "required")) | None, _) => false,
            (Some((_, "optional")), _) => true,
            (Some((word, found)), _) => {
                self.fault(word, "tls.clients", format!("`{found}`"), "`required` or `optional`");
                false
            }
        };
        let file = |path: PathBuf| self.folder.join(path);
        Some(ServerTls {
            certificate: file(raw.certificate),
            key: file(raw.key),
            client_ca: raw.client_ca.map(file),
            is_optional,
            crl: raw.crl.map(file),
        })
    }

    pub(super) fn access(&mut self, raw: RawAccess) -> (Access, DoorLimits) {
        let mut names: BTreeMap<String, Role> = BTreeMap::new();
        let lists = [
            (Role::Agent, &raw.agent),
            (Role::Operator, &raw.operator),
            (Role::Auditor, &raw.auditor),
            (Role::Regulator, &raw.regulator),
        ];
        for (role, list) in lists {
            for name in list {
                if let Some(other) = names.insert(name.value.clone(), role) {
                    let found = format!("`{}` is {} already", name.value, other.word());
                    self.fault(name, &format!("access.{}", role.word()), found, "each name has one role");
                }
            }
        }
        let is_local_open = match raw.local.as_ref().map(|word| word.value.as_str()) {
            None | Some("open") => true,
            Some("closed") => false,
            Some(found) => {
                let found = format!("`{found}`");
                raw.local.iter().for_each(|word| self.fault(word, "access.local", found.clone(), "`open` or `closed`"));
                false
            }
        };
        let rate = self.number(&raw.requests_per_second, "access.requests_per_second", 1..=1_000_000);
        let peers = self.number(&raw.connections_per_peer, "access.connections_per_peer", 1..=256);
        let usual = Access::default();
        let access = Access {
            is_local_open,
            tokens: raw.tokens.map(|file| self.folder.join(file)),
            names,
            requests_per_second: rate.map_or(usual.requests_per_second, |rate| u32::try_from(rate).unwrap_or(u32::MAX)),
        };
        let usual = DoorLimits::default();
        (access, DoorLimits { connections_per_peer: peers.map_or(usual.connections_per_peer, to_usize) })
    }
}

const PLACES: &str = "write `unix:/run/tallystick/node.sock`, `tcp:127.0.0.1:7460` or `tls:10.0.0.5:7460`";
const OPEN: &str = "write `tls:` instead of `tcp:`, with certificates under `tls`; or, behind a proxy or a firewall that you trust, \
     `listen_plain: allowed`";
