//! Agreements and standing terms.

use super::{read, scan};
use crate::agreements::{Direction, Retired, each_living, prefixes};
use crate::records::{Account, Agreement, Standing, StepCause};
use crate::{Origin, StateRead, keys};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use tally_evidence::Event;
use tally_model::{AgreementId, ContractName, DeviceId, Timestamp};

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

impl AgreementFilter {
    fn takes(&self, agreement: &Agreement) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        is(&self.contract, Some(agreement.contract.as_str()))
            && is(&self.state, Some(&agreement.state))
            && is(&self.device, agreement.fields.get("device").and_then(crate::Datum::as_text))
    }
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
