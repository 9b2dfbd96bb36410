//! What the state says, for the node's API. Read only; may scan, so nothing of `execute` uses it.

use crate::StateRead;
use serde::Serialize;
use std::collections::BTreeMap;
use tally_evidence::{DeviceRecord, Hash, PartyRecord, RuleRecord};
use tally_model::{AgreementId, DeviceId, PartyId, Timestamp};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountView {
    /// `acme/EUR`, `escrow:mo-1`, `issue:EUR`.
    pub id: String,
    /// Whose money it is.
    pub owner: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Balance in minor units; only issuance accounts are negative.
    pub balance_minor: i64,
    /// The owner's money held in escrow accounts of this currency (not part of `balance_minor`).
    pub held_minor: i64,
}

/// Which agreements to list; `None` means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgreementFilter {
    /// Of this contract.
    pub contract: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// About this device.
    pub device: Option<String>,
}

/// An agreement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgreementView {
    /// Its id, such as `mo-1`.
    pub id: String,
    /// Its contract.
    pub contract: String,
    /// The contract's version.
    pub version: u64,
    /// The state it is in.
    pub state: String,
    /// Whether the state is a final one.
    pub ended: bool,
    /// Fields; money in minor units, durations and times in microseconds.
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Role to party.
    pub parties: BTreeMap<String, String>,
    /// ISO 4217 code.
    pub currency: String,
    /// Minor units held in escrow now.
    pub escrow_minor: i64,
    /// Block time at which it was opened.
    pub opened_at: Timestamp,
    /// Block time at which it last changed.
    pub updated_at: Timestamp,
    /// When its term runs out.
    pub due: Option<Timestamp>,
    /// Entries that made it what it is, in ledger order (not mere notes).
    pub history: Vec<u64>,
    /// Terms of it that ran out, in order.
    pub terms: Vec<Timestamp>,
    /// How many further triggers were noted on it.
    pub notes: u64,
    /// The last of them.
    pub last_note: Option<u64>,
}

/// A party and the entry that registered it.
#[must_use]
pub fn party(_state: &dyn StateRead, _id: &PartyId) -> Option<(PartyRecord, u64)> {
    None
}

/// Whether a party is revoked.
#[must_use]
pub fn is_revoked(_state: &dyn StateRead, _id: &PartyId) -> bool {
    false
}

/// All parties, each with the entry that registered it.
#[must_use]
pub fn parties(_state: &dyn StateRead) -> Vec<(PartyRecord, u64)> {
    Vec::new()
}

/// A device and the entry that registered it last.
#[must_use]
pub fn device(_state: &dyn StateRead, _id: &DeviceId) -> Option<(DeviceRecord, u64)> {
    None
}

/// All devices.
#[must_use]
pub fn devices(_state: &dyn StateRead) -> Vec<(DeviceRecord, u64)> {
    Vec::new()
}

/// A registered rule by device and digest, and the entry that registered it.
#[must_use]
pub fn rule(_state: &dyn StateRead, _device: &DeviceId, _digest: &Hash) -> Option<(RuleRecord, u64)> {
    None
}

/// All accounts, in order of id.
#[must_use]
pub fn accounts(_state: &dyn StateRead) -> Vec<AccountView> {
    Vec::new()
}

/// At most `limit` agreements, newest first.
#[must_use]
pub fn agreements(_state: &dyn StateRead, _filter: &AgreementFilter, _limit: usize) -> Vec<AgreementView> {
    Vec::new()
}

/// One agreement.
#[must_use]
pub fn agreement(_state: &dyn StateRead, _id: &AgreementId) -> Option<AgreementView> {
    None
}

/// Sum of all accounts per currency; anything but 0 is a broken ledger.
#[must_use]
pub fn totals(_state: &dyn StateRead) -> BTreeMap<String, i64> {
    BTreeMap::new()
}
