//! Parties, devices, rules and contracts, and what the genesis said.

use super::{read, scan};
use crate::records::{self, Device, Founding, Party, Registered};
use crate::{StateRead, keys};
use std::time::Duration;
use tally_evidence::cbor;
use tally_evidence::{DeviceRecord, Hash, KeyScheme, PartyRecord, RuleRecord};
use tally_model::{ContractName, DeviceId, PartyId};

/// A party and the entry that registered it.
#[must_use]
pub fn party(state: &dyn StateRead, id: &PartyId) -> Option<(PartyRecord, u64)> {
    party_record(&read(state, &keys::party_record(id))?)
}

fn party_record(registered: &Registered) -> Option<(PartyRecord, u64)> {
    let record = PartyRecord::from_cbor(cbor::decode(&registered.bytes).ok()?).ok()?;
    Some((record, registered.entry))
}

/// Whether a party is revoked.
#[must_use]
pub fn is_revoked(state: &dyn StateRead, id: &PartyId) -> bool {
    read::<Party>(state, &keys::party(id)).is_some_and(|party| party.revoked)
}

/// All parties, each with the entry that registered it.
#[must_use]
pub fn parties(state: &dyn StateRead) -> Vec<(PartyRecord, u64)> {
    scan(state, keys::PARTIES).filter_map(|(_, registered)| party_record(&registered)).collect()
}

/// Parties that may register organisations and deploy contracts, and the one that may issue money.
#[must_use]
pub fn founders(state: &dyn StateRead) -> (Vec<PartyId>, Option<PartyId>) {
    read::<Founding>(state, keys::GENESIS).map(|founding| (founding.admins, founding.issuer)).unwrap_or_default()
}

/// How long behind its end an agreement leaves the state now; `None` when it stays.
#[must_use]
pub fn retire_after(state: &dyn StateRead) -> Option<Duration> {
    let after = read::<Founding>(state, keys::GENESIS)?.retire_after?;
    Some(Duration::from_micros(after.unsigned_abs()))
}

/// How the keys of a ledger's state are hashed; `None` when the record of its genesis cannot be read.
#[must_use]
pub fn key_scheme(state: &dyn StateRead) -> Option<KeyScheme> {
    let founding = records::load::<Founding>(state, keys::GENESIS).ok()?;
    Some(founding.map(|founding| founding.keys).unwrap_or_default())
}

/// A device and the entry that registered it last.
#[must_use]
pub fn device(state: &dyn StateRead, id: &DeviceId) -> Option<(DeviceRecord, u64)> {
    let Device { agent, owner, entry, site } = read(state, &keys::device(id))?;
    Some((DeviceRecord { id: id.clone(), agent, owner, site }, entry))
}

/// All devices.
#[must_use]
pub fn devices(state: &dyn StateRead) -> Vec<(DeviceRecord, u64)> {
    let devices = scan::<Device>(state, keys::DEVICES).filter_map(|(key, device)| {
        let id = DeviceId::try_new(std::str::from_utf8(key.get(1..)?).ok()?).ok()?;
        Some((DeviceRecord { id, agent: device.agent, owner: device.owner, site: device.site }, device.entry))
    });
    devices.collect()
}

/// A rule by device and digest, withdrawn ones too, and the entry that registered it.
#[must_use]
pub fn rule(state: &dyn StateRead, device: &DeviceId, digest: &Hash) -> Option<(RuleRecord, u64)> {
    let Registered { entry, bytes } = read(state, &keys::rule_record(device, digest))?;
    Some((RuleRecord::from_cbor(cbor::bytes(bytes)).ok()?, entry))
}

/// Whether triggers under this rule are admitted.
#[must_use]
pub fn is_rule_in_force(state: &dyn StateRead, rule: &RuleRecord) -> bool {
    state.get(&keys::rule(&rule.rule.device, &rule.rule.id, &rule.digest())).is_some()
}

/// The text of a contract: of this version, or of the one in force.
#[must_use]
pub fn contract_text(state: &dyn StateRead, name: &ContractName, version: Option<u64>) -> Option<String> {
    let key = version.map_or_else(|| keys::contract(name), |version| keys::contract_version(name, version));
    let deployed: records::Deployed = read(state, &key)?;
    read(state, &keys::contract_text(&deployed.digest))
}

/// The entry that deployed a version of a contract.
#[must_use]
pub fn contract_entry(state: &dyn StateRead, name: &ContractName, version: u64) -> Option<u64> {
    read::<records::Deployed>(state, &keys::contract_version(name, version)).map(|deployed| deployed.entry)
}
