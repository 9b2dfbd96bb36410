//! What the node's API shows about access.

use super::records::{PolicyRow, Quarantine};
use crate::codec::Record;
use crate::keys;
use crate::state::StateRead;
use serde::Serialize;
use tally_evidence::{Permit, Policy};

/// An open permit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenPermit {
    /// Its number: the entry that requested it.
    pub permit: u64,
    /// Who requested it.
    pub requester: String,
    /// For whom, when it was a command of SCADA.
    pub sender: Option<String>,
    /// Who carries it out.
    pub agent: String,
    /// On which device.
    pub device: String,
    /// On which point.
    pub point: String,
    /// Where that is.
    pub address: String,
    /// What may be done.
    pub right: String,
    /// What is written.
    pub value: Option<serde_json::Value>,
    /// Not before, µs.
    pub from: i64,
    /// Not after, µs.
    pub until: i64,
    /// Which policy allows it.
    pub policy: String,
    /// Whether somebody brings it to the agent.
    pub carried: bool,
}

/// A policy in force.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyView {
    /// Whose.
    pub owner: String,
    /// The entry that set it.
    pub entry: u64,
    /// What it says.
    pub policy: Policy,
}

/// A quarantine, or a party that an owner barred from its devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuarantineView {
    /// `device`, `agent` or `party`.
    pub kind: String,
    /// Which.
    pub name: String,
    /// The entry that began it.
    pub entry: u64,
    /// Who.
    pub by: String,
    /// Why; empty for a party.
    pub reason: String,
}

/// Open permits, oldest first; also those whose time is over but that nobody swept away yet.
#[must_use]
pub fn permits(state: &dyn StateRead, limit: usize) -> Vec<OpenPermit> {
    let rows = state.scan(keys::PERMITS, limit).into_iter();
    rows.filter_map(|(_, bytes)| Permit::decode(&bytes).ok()).map(shown).collect()
}

fn shown(permit: Permit) -> OpenPermit {
    OpenPermit {
        permit: permit.id,
        requester: permit.requester.into(),
        sender: permit.sender,
        agent: permit.agent.into(),
        device: permit.device.into(),
        point: permit.point.into(),
        address: permit.address,
        right: permit.right.word().to_owned(),
        value: permit.value.and_then(|value| serde_json::to_value(value).ok()),
        from: permit.from.as_micros(),
        until: permit.until.as_micros(),
        policy: permit.policy.into(),
        carried: permit.carried,
    }
}

/// Policies in force, by owner and name.
#[must_use]
pub fn policies(state: &dyn StateRead, limit: usize) -> Vec<PolicyView> {
    let row = |(key, bytes): (Vec<u8>, Vec<u8>)| {
        let row = PolicyRow::from_bytes(&bytes)?;
        let owner = key.get(1..)?.split(|byte| *byte == 0).next()?;
        let owner = String::from_utf8(owner.to_vec()).ok()?;
        Some(PolicyView { owner, entry: row.entry, policy: Policy::decode(&row.bytes).ok()? })
    };
    state.scan(keys::POLICIES, limit).into_iter().filter_map(row).collect()
}

/// What is cut off: devices and agents, then parties, at most `limit` in all.
#[must_use]
pub fn quarantines(state: &dyn StateRead, limit: usize) -> Vec<QuarantineView> {
    let row = |(key, bytes): (Vec<u8>, Vec<u8>)| {
        let Quarantine { entry, by, reason } = Quarantine::from_bytes(&bytes)?;
        let kind = if *key.get(1)? == b'd' { "device" } else { "agent" }.to_owned();
        let name = String::from_utf8(key.get(2..)?.to_vec()).ok()?;
        Some(QuarantineView { kind, name, entry, by: by.to_string(), reason })
    };
    let bar = |(key, bytes): (Vec<u8>, Vec<u8>)| {
        let key = String::from_utf8(key.get(1..)?.to_vec()).ok()?;
        let (by, name) = key.split_once('\0')?;
        let (kind, reason, entry) = ("party".to_owned(), String::new(), u64::from_bytes(&bytes)?);
        Some(QuarantineView { kind, name: name.to_owned(), entry, by: by.to_owned(), reason })
    };
    let mut rows: Vec<_> = state.scan(keys::QUARANTINES, limit).into_iter().filter_map(row).collect();
    rows.extend(state.scan(keys::BARS, limit - rows.len().min(limit)).into_iter().filter_map(bar));
    rows
}
