//! What the state says, for the node's API. Read only; may scan, so nothing of `execute` uses it. What cannot be read is
//! left out here: `execute` refuses over it (191).

use crate::agreements::{Direction, Retired, each_living, prefixes};
use crate::codec::Record;
use crate::records::{
    self, Account, Agreement, AnchorPlace, Device, Founding, LastAnchor, Party, Registered, Standing, StepCause,
};
use crate::{Origin, StateRead, keys};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;
use tally_evidence::cbor;
use tally_evidence::{DeviceRecord, Event, Hash, KeyScheme, PartyRecord, RuleRecord};
use tally_model::{AgreementId, ContractName, DeviceId, PartyId, Timestamp};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountView {
    /// `acme/EUR`, `escrow:mo-1`, `issue:EUR`.
    pub id: String,
    /// Whose money it is; nobody's for `issue:`.
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
    /// Role to party, of the roles that somebody holds.
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
    /// When it is retired, or was: some time after its end it leaves the state, where the ledger was founded so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retires_at: Option<Timestamp>,
    /// Whether it left the state; what is shown then is what the outcome of that says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// Entries that made it what it is, in ledger order (not mere notes).
    pub history: Vec<u64>,
    /// The same with the place in its batch of each trigger that came in one.
    pub steps: Vec<Origin>,
    /// Terms of it that ran out, in order.
    pub terms: Vec<Timestamp>,
    /// How many further triggers were noted on it.
    pub notes: u64,
    /// The entry of the last of them.
    pub last_note: Option<u64>,
}

/// Standing terms of a contract for a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StandingView {
    /// The contract.
    pub contract: String,
    /// The device.
    pub device: String,
    /// Its owner, who agreed.
    pub owner: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Role to party, as given.
    pub parties: BTreeMap<String, String>,
    /// Fields as given; money in minor units, durations in microseconds.
    pub fields: BTreeMap<String, serde_json::Value>,
    /// The entry of the agreement to them.
    pub entry: u64,
}

fn read<T: Record>(state: &dyn StateRead, key: &[u8]) -> Option<T> {
    records::load(state, key).ok().flatten()
}

fn scan<T: Record>(state: &dyn StateRead, prefix: &[u8]) -> impl Iterator<Item = (Vec<u8>, T)> {
    state.scan(prefix, usize::MAX).into_iter().filter_map(|(key, value)| Some((key, T::from_bytes(&value)?)))
}

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

/// An anchor of a device: the entry it stands in, and the entry that had registered the device with its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorView {
    /// Its entry.
    pub entry: u64,
    /// The registration it rests on.
    pub registered: u64,
}

/// The anchors that cover receive times `from..=to` of a device, in ledger order, and the one before them: at most `limit`,
/// `None` when there are more.
#[must_use]
pub fn anchors(
    state: &dyn StateRead,
    device: &DeviceId,
    (from, to): (Timestamp, Timestamp),
    limit: u64,
) -> Option<Vec<AnchorView>> {
    let count = read::<LastAnchor>(state, &keys::last_anchor(device)).map_or(0, |last| last.count);
    let place = |number: u64| read::<AnchorPlace>(state, &keys::anchor(device, number));
    let reaches = |number, time, or_equal: bool| {
        place(number).is_some_and(|place| place.received > time || or_equal && place.received == time)
    };
    let begin = first_in(1, count, |number| reaches(number, from, true)).saturating_sub(1).max(1);
    let end = first_in(begin, count, |number| reaches(number, to, false)).min(count);
    if end.saturating_sub(begin) >= limit {
        return None;
    }
    let found = (begin..=end).filter_map(place);
    Some(found.map(|place| AnchorView { entry: place.entry, registered: place.registered }).collect())
}

/// The newest anchor of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastAnchorView {
    /// The number its agent gave it.
    pub number: u64,
    /// How many the ledger has taken of the device, this one included; [`anchor_at`] counts the same way.
    pub count: u64,
}

/// The newest anchor of a device; `None` when it has none.
#[must_use]
pub fn last_anchor(state: &dyn StateRead, device: &DeviceId) -> Option<LastAnchorView> {
    read::<LastAnchor>(state, &keys::last_anchor(device))
        .map(|LastAnchor { number, count, .. }| LastAnchorView { number, count })
}

/// The anchor of a device that the ledger took as its `place`th, from 1.
#[must_use]
pub fn anchor_at(state: &dyn StateRead, device: &DeviceId, place: u64) -> Option<AnchorView> {
    let AnchorPlace { entry, registered, .. } = read(state, &keys::anchor(device, place))?;
    Some(AnchorView { entry, registered })
}

/// The first number in `first..=last` for which `holds` (which goes on holding behind it); `last + 1` when there is none.
fn first_in(first: u64, last: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (first, last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
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

/// Standing terms.
#[must_use]
pub fn standing(state: &dyn StateRead, contract: &ContractName, device: &DeviceId) -> Option<StandingView> {
    let Standing { entry, owner, currency, parties, fields } = read(state, &keys::standing(contract, device))?;
    Some(StandingView {
        contract: contract.to_string(),
        device: device.to_string(),
        owner: owner.to_string(),
        currency,
        parties,
        fields: fields.into_iter().map(|(name, datum)| (name, datum.to_json())).collect(),
        entry,
    })
}

/// All accounts, in order of id.
#[must_use]
pub fn accounts(state: &dyn StateRead) -> Vec<AccountView> {
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    let mut accounts = Vec::new();
    for (key, account) in scan::<Account>(state, keys::ACCOUNTS) {
        let id = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
        if id.starts_with("escrow:") {
            let payer = held.entry(keys::account_id(&account.owner, &account.currency)).or_default();
            *payer = payer.saturating_add(account.balance);
        }
        let Account { owner, currency, balance } = account;
        accounts.push(AccountView { id, owner, currency, balance_minor: balance, held_minor: 0 });
    }
    for account in &mut accounts {
        account.held_minor = held.get(&account.id).copied().unwrap_or(0);
    }
    accounts
}

/// At most `limit` agreements, newest first. Costs what lives, not what was ever opened.
#[must_use]
pub fn agreements(state: &dyn StateRead, filter: &AgreementFilter, limit: usize) -> Vec<AgreementView> {
    let mut found = Vec::new();
    for (prefix, given) in prefixes(state).flatten() {
        let mut left = limit;
        // What cannot be read is left out, so there is nothing that this could refuse.
        let _ = each_living(state, &prefix, 1..=given, Direction::Falling, |read| {
            let taken = read.ok().filter(|agreement| left > 0 && filter.takes(agreement));
            left -= usize::from(taken.is_some());
            found.extend(taken);
            Ok(if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        });
    }
    // Stable: within one contract the higher number stays first.
    found.sort_by_key(|agreement: &Agreement| std::cmp::Reverse(agreement.opened));
    found.into_iter().take(limit).map(|agreement| view(state, agreement)).collect()
}

impl AgreementFilter {
    fn takes(&self, agreement: &Agreement) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        is(&self.contract, Some(agreement.contract.as_str()))
            && is(&self.state, Some(&agreement.state))
            && is(&self.device, agreement.fields.get("device").and_then(crate::Datum::as_text))
    }
}

/// One agreement.
#[must_use]
pub fn agreement(state: &dyn StateRead, id: &AgreementId) -> Option<AgreementView> {
    read(state, &keys::agreement(id)).map(|agreement| view(state, agreement))
}

/// Whether there was an agreement of this id, and it left the state.
#[must_use]
pub fn is_retired(state: &dyn StateRead, id: &AgreementId) -> bool {
    crate::agreements::is_retired(state, id).unwrap_or(false)
}

/// The agreement that the events of an outcome retire; `None` when they retire none.
#[must_use]
pub fn retired(events: &[Event]) -> Option<AgreementView> {
    let Retired { agreement, steps, terms } = events.iter().find_map(Retired::of)?;
    Some(AgreementView { retired: true, ..show(agreement, 0, steps, terms) })
}

fn view(state: &dyn StateRead, agreement: Agreement) -> AgreementView {
    let escrow: Option<Account> = read(state, &keys::account(&keys::escrow_id(&agreement.id)));
    let (mut steps, mut terms) = (vec![agreement.opened_by], Vec::new());
    for (_, step) in scan::<StepCause>(state, &keys::steps(&agreement.id)) {
        match step {
            StepCause::Entry(origin) => steps.push(origin),
            StepCause::Term(due) => terms.push(due),
        }
    }
    // Who attested a step spoke before the one who completed it.
    steps.sort_unstable();
    show(agreement, escrow.map_or(0, |escrow| escrow.balance), steps, terms)
}

fn show(agreement: Agreement, escrow_minor: i64, steps: Vec<Origin>, terms: Vec<Timestamp>) -> AgreementView {
    let mut history: Vec<_> = steps.iter().map(|step| step.entry).collect();
    history.dedup();
    AgreementView {
        id: agreement.id.to_string(),
        contract: agreement.contract.to_string(),
        version: agreement.version,
        state: agreement.state,
        ended: agreement.ended,
        fields: agreement.fields.iter().map(|(name, datum)| (name.clone(), datum.to_json())).collect(),
        parties: agreement.parties.into_iter().filter(|(_, id)| !id.is_empty()).collect(),
        currency: agreement.currency,
        escrow_minor,
        opened_at: agreement.opened,
        updated_at: agreement.updated,
        due: agreement.due.filter(|_| !agreement.ended),
        retires_at: agreement.due.filter(|_| agreement.ended),
        retired: false,
        history,
        steps,
        terms,
        notes: agreement.notes,
        last_note: agreement.last_note.map(|origin| origin.entry),
    }
}

/// Sum of all accounts per currency; anything but 0 is a broken ledger.
#[must_use]
pub fn totals(state: &dyn StateRead) -> BTreeMap<String, i64> {
    let mut totals: BTreeMap<String, i128> = BTreeMap::new();
    for (_, account) in scan::<Account>(state, keys::ACCOUNTS) {
        *totals.entry(account.currency).or_default() += i128::from(account.balance);
    }
    let clamp = |total: i128| i64::try_from(total).unwrap_or(if total < 0 { i64::MIN } else { i64::MAX });
    totals.into_iter().map(|(currency, total)| (currency, clamp(total))).collect()
}
