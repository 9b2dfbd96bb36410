//! `listen`, `tls` and `access` of node.yaml: who can reach the node, and what he may do there.

use super::{Checker, to_usize};
use crate::api::{Access, Role};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tally_contracts::Fault;
use tally_door::{DoorLimits, Places, WrittenDoor};

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

impl Checker<'_> {
    /// Where to listen, with which certificates; nowhere after a fault.
    pub(crate) fn places(&mut self, written: &WrittenDoor<'_>) -> Places {
        written.check(self.folder).unwrap_or_else(|faults| {
            self.faults.extend(faults.into_iter().map(|fault| {
                let (line, column) = (fault.at.line(), fault.at.column());
                Fault { line, column, key: fault.key, found: fault.found, hint: fault.hint }
            }));
            Places { listen: Vec::new(), tls: None }
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
