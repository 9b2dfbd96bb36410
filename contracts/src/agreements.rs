//! Agreements in the state: finds them, lets the engine step, books what it wants, keeps the indexes, retires what ended.

mod agree;
mod attest;
mod book_step;
mod living;
mod people;
mod retire;
mod standing;
mod terms;

use crate::datum::Datum;
use crate::engine::{
    Caller, Cause, Contract, Happening, NEW, STANDING, Stepped, Transition, TriggerFacts, bad_argument, step,
};
use crate::records::{Agreement, Deployed, Party, Standing, StepCause};
use crate::run::Run;
use crate::{Kernel, Origin, Refusal, StateRead, keys, registry};
use people::Registered;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_evidence::cbor::{Cbor, from_value, int, text};
use tally_evidence::{CallBody, TriggerBody, TriggerCall};
use tally_model::{
    AgreementId, ContractName, DeviceId, EvidenceQuality, Finding, Grade, PartyId, Timestamp, TriggerId,
};

pub(crate) use book_step::keep_term;
pub(crate) use living::{Direction, each as each_living, prefixes};
pub(crate) use retire::{Retired, is_retired, retire_after};
pub(crate) use standing::found_standing;
pub(crate) use terms::{defer, term};

/// A call of a contract from the library.
pub(crate) fn call(
    kernel: &Kernel,
    run: &mut Run<'_, '_>,
    by: (u64, &PartyId, &Party),
    body: &CallBody,
) -> Result<(), Refusal> {
    let (entry, signer, party) = by;
    let contract = current(kernel, run, &body.contract)?;
    let action = body.action.as_str();
    if action == STANDING {
        return standing::agree(run, entry, signer, &contract, &body.args);
    }
    let caller = Caller { id: signer.as_str(), kind: party.kind, firm: party.firm.as_ref().map(PartyId::as_str) };
    let happening = Happening::Call(action, caller);
    let Some(id) = &body.agreement else {
        let args = contract.read_call_args(action, &body.args)?;
        let device = args.get("device").and_then(Datum::as_text).and_then(|id| DeviceId::try_new(id).ok());
        let opens = openings(&contract, &happening).next().is_some();
        if !opens {
            return Err(Refusal::MissingArgument { argument: "agreement".to_owned() });
        }
        let given = body.args.get("device").unwrap_or(&Cbor::Null);
        let device = device.ok_or_else(|| bad_argument("device", given, "the id of a device"))?;
        return open_by(run, (entry.into(), &[]), &contract, &device, &happening, &args);
    };
    let agreement = load(run, &body.contract, id)?;
    let contract = version(kernel, run, &agreement.contract, agreement.version)?;
    let args = contract.read_call_args(action, &body.args)?;
    let stepped =
        step(&contract, Cow::Borrowed(&agreement), &happening, &args, run.block.time, &Registered(run.state))?;
    book_step::book(run, &contract, Some(&agreement), stepped, StepCause::Entry(entry.into()))
}

/// A trigger whose rule asks this contract for something; a trigger that concerns nothing is noted.
pub(crate) fn trigger(
    kernel: &Kernel,
    run: &mut Run<'_, '_>,
    origin: Origin,
    body: &TriggerBody,
    call: &TriggerCall,
) -> Result<(), Refusal> {
    let current = current(kernel, run, &call.contract)?;
    let action = call.action.as_str();
    let given = |name: &str| call.with.get(name).map(|value| Cow::Owned(from_value(value)));
    let args = current.read_args(action, given)?;
    let device = attest::concerned(run, &current, &body.device)?;
    let open = find_open(run, &current, &device, &args)?;
    let agreement = open.as_ref().map(|id| load(run, &call.contract, id)).transpose()?;
    let contract = match &agreement {
        Some(agreement) => version(kernel, run, &agreement.contract, agreement.version)?,
        None => current,
    };
    let judged = quality(run, body)?;
    let (quality, _) = judged;
    let mut word = Word::of(body, args, quality);
    if agreement.is_none() && openings(&contract, &Happening::Trigger(action, &word.facts(&device))).next().is_none() {
        note_trigger(run, body, "it concerns no open agreement");
        return Ok(());
    }
    check_required(&contract, body, judged)?;
    if let Some(attest) = contract.attest.get(action) {
        match attest::gather(run, (&contract, attest), &device, (origin, quality), body, call)? {
            Some(reached) => word = Word::together(reached),
            None => return Ok(()),
        }
    }
    let facts = word.facts(&device);
    let happening = Happening::Trigger(action, &facts);
    match agreement {
        None => open_by(run, (origin, &word.before), &contract, &device, &happening, &word.args),
        Some(agreement) => hear(run, (&contract, agreement), &happening, &word, origin, body),
    }
}

/// The word reaches an open agreement; one that does not listen to it now notes it.
fn hear(
    run: &mut Run<'_, '_>,
    (contract, agreement): (&Contract, Agreement),
    happening: &Happening<'_>,
    word: &Word,
    origin: Origin,
    body: &TriggerBody,
) -> Result<(), Refusal> {
    match step(contract, Cow::Borrowed(&agreement), happening, &word.args, run.block.time, &Registered(run.state)) {
        Ok(stepped) => {
            note_attesters(run, &agreement.id, agreement.steps, &word.before);
            book_step::book(run, contract, Some(&agreement), stepped, StepCause::Entry(origin))
        }
        Err(Refusal::WrongState { .. } | Refusal::GuardRefused { .. }) => {
            note_on(run, origin, agreement, body);
            Ok(())
        }
        Err(other) => Err(other),
    }
}

/// What a contract hears: one trigger, or several that say the same.
struct Word {
    args: BTreeMap<String, Datum>,
    trigger: TriggerId,
    at: Timestamp,
    grade: Grade,
    quality: Option<EvidenceQuality>,
    /// The triggers that said it before.
    before: Vec<Origin>,
}

impl Word {
    fn of(body: &TriggerBody, args: BTreeMap<String, Datum>, quality: Option<EvidenceQuality>) -> Self {
        Self { args, trigger: body.trigger.clone(), at: body.at, grade: body.grade, quality, before: Vec::new() }
    }

    fn together(reached: attest::Reached) -> Self {
        let attest::Reached { args, trigger, at, grade, quality, before } = reached;
        Self { args, trigger, at, grade, quality, before }
    }

    fn facts<'a>(&'a self, device: &'a DeviceId) -> TriggerFacts<'a> {
        let (id, device) = (self.trigger.as_str(), device.as_str());
        TriggerFacts { id, device, at: self.at, grade: self.grade, quality: self.quality }
    }
}

/// Who attested a step before the trigger that completed it: their triggers belong to its evidence.
fn note_attesters(run: &mut Run<'_, '_>, id: &AgreementId, step: u64, before: &[Origin]) {
    for (place, origin) in (0..).zip(before) {
        run.store(keys::attester(id, step, place), &StepCause::Entry(*origin));
    }
}

/// The quality of a trigger's evidence, and why the registry contradicts it.
type Judged = (Option<EvidenceQuality>, Option<&'static str>);

/// The trigger is evidence of the grade and the quality that the contract demands.
fn check_required(contract: &Contract, body: &TriggerBody, quality: Judged) -> Result<(), Refusal> {
    let name = || contract.name.to_string();
    if let Some(needs) = contract.grade.filter(|needs| body.grade < *needs) {
        return Err(Refusal::GradeTooLow { contract: name(), found: body.grade.word(), needs: needs.word() });
    }
    let (quality, differs) = quality;
    if let Some(needs) = contract.quality.filter(|needs| quality.is_none_or(|quality| quality < *needs)) {
        let said = body.quality.as_deref();
        let found = match differs {
            Some(why) if said.is_some() => format!("{} ({why})", EvidenceQuality::Contradicted),
            _ => said.map_or("not checked".to_owned(), in_words),
        };
        return Err(Refusal::EvidenceTooWeak { contract: name(), found, needs: needs.word() });
    }
    Ok(())
}

/// What a trigger says of itself; contradicted, with the reason, when what is registered of its device says otherwise.
fn quality(run: &Run<'_, '_>, body: &TriggerBody) -> Result<Judged, Refusal> {
    let Some(said) = body.quality.as_deref() else { return Ok((None, None)) };
    let differs = registry::differs(run, body)?;
    let quality = if differs.is_some() { EvidenceQuality::Contradicted } else { EvidenceQuality::of(said) };
    Ok((Some(quality), differs))
}

/// `doubtful (vibration: frozen in readings 10–40)`
fn in_words(findings: &[Finding]) -> String {
    let found: Vec<_> = findings.iter().map(ToString::to_string).collect();
    let quality = EvidenceQuality::of(findings);
    if found.is_empty() { quality.to_string() } else { format!("{quality} ({})", found.join("; ")) }
}

/// A trigger that changes nothing is still on record.
pub(crate) fn note_trigger(run: &mut Run<'_, '_>, body: &TriggerBody, reason: &str) {
    let data = [
        ("trigger", text(body.trigger.as_str())),
        ("transition", text(body.transition.word())),
        ("number", int(body.number)),
        ("reason", text(reason)),
    ];
    run.emit("trigger.noted", body.device.as_str(), data);
}

fn note_on(run: &mut Run<'_, '_>, origin: Origin, mut agreement: Agreement, body: &TriggerBody) {
    agreement.notes = agreement.notes.saturating_add(1);
    agreement.last_note = Some(origin);
    let data = [
        ("trigger", text(body.trigger.as_str())),
        ("device", text(body.device.as_str())),
        ("number", int(body.number)),
        ("state", text(agreement.state.as_str())),
    ];
    run.emit("agreement.noted", agreement.id.as_str(), data);
    run.store(keys::agreement(&agreement.id), &agreement);
}

/// The version of a contract in force.
fn current(kernel: &Kernel, run: &Run<'_, '_>, name: &ContractName) -> Result<Arc<Contract>, Refusal> {
    let deployed: Option<Deployed> = run.load(&keys::contract(name))?;
    let deployed = deployed.ok_or_else(|| Refusal::UnknownContract { contract: name.to_string() })?;
    kernel.contract(run.state, &deployed.digest)
}

fn version(kernel: &Kernel, run: &Run<'_, '_>, name: &ContractName, version: u64) -> Result<Arc<Contract>, Refusal> {
    let key = keys::contract_version(name, version);
    let deployed: Option<Deployed> = run.load(&key)?;
    kernel.contract(run.state, &deployed.ok_or_else(|| crate::records::corrupt(&key))?.digest)
}

fn load(run: &Run<'_, '_>, contract: &ContractName, id: &AgreementId) -> Result<Agreement, Refusal> {
    let agreement: Option<Agreement> = run.load(&keys::agreement(id))?;
    if agreement.is_none() && is_retired(run.state, id)? {
        return Err(Refusal::AgreementRetired { agreement: id.to_string() });
    }
    let ours = agreement.filter(|agreement| agreement.contract == *contract);
    ours.ok_or_else(|| Refusal::UnknownAgreement { agreement: id.to_string() })
}

fn openings<'c>(contract: &'c Contract, happening: &Happening<'_>) -> impl Iterator<Item = &'c Transition> {
    let wanted = match happening {
        Happening::Trigger(action, _) => Some((true, (*action).to_owned())),
        Happening::Call(action, _) => Some((false, (*action).to_owned())),
        Happening::Term => None,
    };
    contract.transitions.iter().filter(move |way| {
        let mine = (matches!(way.cause, Cause::Trigger(_)), way.cause.action());
        way.is_from(NEW) && wanted.as_ref().is_some_and(|(is_trigger, action)| mine == (*is_trigger, Some(action)))
    })
}

/// The open agreement that a trigger is about: by all key values, or, when it does not name them all, the only one.
fn find_open(
    run: &Run<'_, '_>,
    contract: &Contract,
    device: &DeviceId,
    args: &BTreeMap<String, Datum>,
) -> Result<Option<AgreementId>, Refusal> {
    let named = contract.key.iter().skip(1).map(|name| args.get(name).and_then(Datum::as_text));
    let named: Vec<&str> = named.map_while(|value| value.filter(|value| !value.is_empty())).collect();
    let is_complete = named.len() + 1 == contract.key.len();
    let key = keys::open(&contract.name, [device.as_str()].into_iter().chain(named));
    if is_complete {
        let id: Option<String> = run.load(&key)?;
        return id.map(|id| AgreementId::try_new(id).map_err(|_| crate::records::corrupt(&key))).transpose();
    }
    let found = run.state.scan(&key, 2);
    let [(key, id)] = found.as_slice() else { return Ok(None) };
    let id = <String as crate::codec::Record>::from_bytes(id).and_then(|id| AgreementId::try_new(id).ok());
    id.map(Some).ok_or_else(|| crate::records::corrupt(key))
}

/// Opens an agreement under the standing terms of the device's owner.
fn open_by(
    run: &mut Run<'_, '_>,
    (origin, before): (Origin, &[Origin]),
    contract: &Arc<Contract>,
    device: &DeviceId,
    happening: &Happening<'_>,
    args: &BTreeMap<String, Datum>,
) -> Result<(), Refusal> {
    let terms = standing::terms_for(run, contract, device)?;
    let number = run.load::<u64>(&keys::counter(&contract.prefix))?.unwrap_or(0).saturating_add(1);
    let id = format!("{}-{number}", contract.prefix);
    let id = AgreementId::try_new(&id).map_err(|_| crate::records::corrupt(&keys::counter(&contract.prefix)))?;
    let blank = blank(contract, id, device, terms, run);
    let stepped: Stepped = step(contract, Cow::Owned(blank), happening, args, run.block.time, &Registered(run.state))?;
    run.store(keys::counter(&contract.prefix), &number);
    note_attesters(run, &stepped.agreement.id, 0, before);
    book_step::book(run, contract, None, stepped, StepCause::Entry(origin))
}

fn blank(contract: &Contract, id: AgreementId, device: &DeviceId, terms: Standing, run: &Run<'_, '_>) -> Agreement {
    let (mut parties, mut fields) = contract.blank.clone();
    parties.insert("owner".to_owned(), terms.owner.to_string());
    fields.insert("device".to_owned(), Datum::Text(device.to_string()));
    let known = |name: &String| contract.parties.contains_key(name) || contract.fields.contains_key(name);
    parties.extend(terms.parties.into_iter().filter(|(name, _)| known(name)));
    fields.extend(terms.fields.into_iter().filter(|(name, _)| known(name)));
    Agreement {
        id,
        contract: contract.name.clone(),
        version: contract.version,
        state: NEW.to_owned(),
        ended: false,
        currency: terms.currency,
        parties,
        fields,
        opened: run.block.time,
        opened_by: Origin::from(0),
        updated: run.block.time,
        due: None,
        steps: 0,
        notes: 0,
        last_note: None,
    }
}
