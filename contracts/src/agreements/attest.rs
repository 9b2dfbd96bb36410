//! k of n: the contract waits for the word of several, fires once, and says who agreed and who did not.
//!
//! ```text
//!   first word ──▶ waiting ──enough agree──▶ reached ──term──▶ closed
//!                     │ term
//!                     ▼
//!                  expired
//! ```
//! A round belongs to a contract's action, a device and the values of the contract's key. What comes after it was reached and
//! belongs to it is late: on record, without effect. When its term has run out the round is gone.

use super::agree::{group, independent, together};
use super::standing;
use crate::attestation::{Attestation, Vote};
use crate::datum::Datum;
use crate::engine::{Attest, Contract, GROUP_MAX};
use crate::records::{Device, Party, Standing};
use crate::run::Run;
use crate::{Origin, Refusal, access, keys, records};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tally_evidence::cbor::{self, Cbor, from_value, int, map, text};
use tally_evidence::{TriggerBody, TriggerCall};
use tally_model::{AgreementId, DeviceId, EvidenceQuality, Grade, PartyId, Timestamp, TriggerId};

/// Enough agree.
pub(super) struct Reached {
    /// What they say together.
    pub args: BTreeMap<String, Datum>,
    /// The trigger of the first device among them stands for all.
    pub trigger: TriggerId,
    /// The latest of their rule times.
    pub at: Timestamp,
    /// The least of their grades.
    pub grade: Grade,
    /// The least of their qualities.
    pub quality: Option<EvidenceQuality>,
    /// Where their triggers stand, but for the one that is executed now.
    pub before: Vec<Origin>,
}

/// Whom the word of `device` is about: itself, or the device whose owner listed it.
pub(super) fn concerned(run: &Run<'_, '_>, contract: &Contract, device: &DeviceId) -> Result<DeviceId, Refusal> {
    if contract.attest.is_empty() {
        return Ok(device.clone());
    }
    let key = keys::watched(&contract.name, device);
    match run.load::<String>(&key)? {
        Some(concerned) => DeviceId::try_new(concerned).map_err(|_| records::corrupt(&key)),
        None => Ok(device.clone()),
    }
}

/// Takes in a trigger's word. `None` while the contract waits, and for what comes too late.
pub(super) fn gather(
    run: &mut Run<'_, '_>,
    (contract, attest): (&Arc<Contract>, &Attest),
    device: &DeviceId,
    (origin, quality): (Origin, Option<EvidenceQuality>),
    body: &TriggerBody,
    call: &TriggerCall,
) -> Result<Option<Reached>, Refusal> {
    let terms = standing::terms_for(run, contract, device)?;
    let members = members(device, &terms, attest);
    let action = call.action.as_str();
    let vote = vote(run, (origin, quality), body, call)?;
    let args = read(contract, action, &vote)?;
    let values = contract.key.iter().skip(1).map(|name| args.get(name).and_then(Datum::as_text).unwrap_or_default());
    let running = keys::attesting(&contract.name, action, device, values);
    let mut round = match current(run, &running)? {
        Some(round) if round.agreed.is_some() && is_late(&round, attest, &vote) => {
            note(run, "attestation.late", &round, attest, &members, &vote);
            return Ok(None);
        }
        Some(round) if round.agreed.is_some() => {
            close(run, &round, "attestation.closed")?;
            begin(run, contract, attest, device, running)?
        }
        Some(round) => round,
        None => begin(run, contract, attest, device, running)?,
    };
    let with = put(&mut round.votes, vote.clone());
    let arguments = round.votes.iter().map(|vote| read(contract, action, vote)).collect::<Result<Vec<_>, _>>()?;
    let Some(agreed) = group(attest, &round.votes, &arguments, with) else {
        note(run, "attestation.waiting", &round, attest, &members, &vote);
        let able = reachable(run, attest, &members)?;
        if able < attest.k {
            let data = [("k", count(attest.k)), ("reachable", count(able)), ("device", text(device.as_str()))];
            run.emit("attestation.unreachable", round.id.as_str(), data);
        }
        store(run, &round);
        return Ok(None);
    };
    let chosen: Vec<&Vote> = agreed.iter().filter_map(|place| round.votes.get(*place)).collect();
    let said: Vec<_> = agreed.iter().filter_map(|place| arguments.get(*place)).collect();
    let reached = Reached {
        args: together(attest, &said),
        trigger: chosen.first().map_or_else(|| body.trigger.clone(), |vote| vote.trigger.clone()),
        at: chosen.iter().map(|vote| vote.at).max().unwrap_or(body.at),
        grade: chosen.iter().map(|vote| vote.grade).min().unwrap_or(body.grade),
        quality: chosen.iter().map(|vote| vote.quality).min().flatten(),
        before: chosen.iter().map(|vote| vote.origin).filter(|one| *one != origin).collect(),
    };
    round.agreed = Some(chosen.iter().map(|vote| vote.device.to_string()).collect());
    note(run, "attestation.reached", &round, attest, &members, &vote);
    store(run, &round);
    Ok(Some(reached))
}

fn vote(
    run: &Run<'_, '_>,
    (origin, quality): (Origin, Option<EvidenceQuality>),
    body: &TriggerBody,
    call: &TriggerCall,
) -> Result<Vote, Refusal> {
    let Device { agent, .. } = crate::registry::device(run, &body.device)?;
    let party: Option<Party> = run.load(&keys::party(&agent))?;
    let with = map(call.with.iter().map(|(name, value)| (name.as_str(), from_value(value))));
    Ok(Vote {
        device: body.device.clone(),
        firm: party.and_then(|party| party.firm),
        agent,
        origin,
        at: body.at,
        trigger: body.trigger.clone(),
        grade: body.grade,
        quality,
        with: cbor::encode(&with),
    })
}

fn read(contract: &Contract, action: &str, vote: &Vote) -> Result<BTreeMap<String, Datum>, Refusal> {
    let given: BTreeMap<String, Cbor> = vote.arguments().into_iter().collect();
    let mut args = contract.read_args(action, |name| given.get(name).map(Cow::Borrowed))?;
    // Who speaks is not what is said.
    args.remove("device");
    Ok(args)
}

/// The device itself and those that its owner listed.
fn members(device: &DeviceId, terms: &Standing, attest: &Attest) -> BTreeSet<String> {
    let mut members = BTreeSet::from([device.to_string()]);
    if let Some(Datum::List(listed)) = terms.fields.get(&attest.of) {
        members.extend(listed.iter().cloned());
    }
    members
}

fn current(run: &Run<'_, '_>, running: &[u8]) -> Result<Option<Attestation>, Refusal> {
    let Some(id) = run.load::<String>(running)? else { return Ok(None) };
    let id = AgreementId::try_new(id).map_err(|_| records::corrupt(running))?;
    run.load(&keys::attestation(&id))
}

fn begin(
    run: &mut Run<'_, '_>,
    contract: &Contract,
    attest: &Attest,
    device: &DeviceId,
    running: Vec<u8>,
) -> Result<Attestation, Refusal> {
    let counter = keys::attestation_counter(&contract.prefix);
    let number = run.load::<u64>(&counter)?.unwrap_or(0).saturating_add(1);
    let id = AgreementId::try_new(format!("{}.attest-{number}", contract.prefix));
    let id = id.map_err(|_| records::corrupt(&counter))?;
    run.store(counter, &number);
    run.store(running.clone(), &id.to_string());
    let due = run.block.time.plus(Duration::from_micros(attest.wait.unsigned_abs()));
    run.store(keys::term(due, &id), &id.to_string());
    Ok(Attestation { id, running, device: device.clone(), due, agreed: None, votes: Vec::new() })
}

fn store(run: &mut Run<'_, '_>, round: &Attestation) {
    run.store(keys::attestation(&round.id), round);
}

/// The place of the vote; a newer word of a device stands for its older one.
fn put(votes: &mut Vec<Vote>, vote: Vote) -> usize {
    match votes.binary_search_by(|known| known.device.cmp(&vote.device)) {
        Ok(place) => {
            if let Some(known) = votes.get_mut(place) {
                *known = vote;
            }
            place
        }
        Err(place) => {
            votes.insert(place, vote);
            place
        }
    }
}

/// Belongs to what was reached: not later than the window behind the last of those who agreed.
fn is_late(round: &Attestation, attest: &Attest, vote: &Vote) -> bool {
    let agreed = round.agreed.as_deref().unwrap_or_default();
    let last = round.votes.iter().filter(|one| agreed.iter().any(|device| device == one.device.as_str()));
    let last = last.map(|one| one.at.as_micros()).max().unwrap_or(i64::MIN);
    let spoke = agreed.iter().any(|device| device == vote.device.as_str());
    !spoke && vote.at.as_micros() <= last.saturating_add(attest.within)
}

/// How many independent words could still come: of devices that are registered, whose agents are neither revoked nor cut off.
fn reachable(run: &Run<'_, '_>, attest: &Attest, members: &BTreeSet<String>) -> Result<usize, Refusal> {
    let mut able = Vec::new();
    for member in members {
        let Ok(device) = DeviceId::try_new(member) else { continue };
        let Some(Device { agent, .. }) = run.load(&keys::device(&device))? else { continue };
        let party: Option<Party> = run.load(&keys::party(&agent))?;
        let Some(party) = party.filter(|party| !party.revoked) else { continue };
        match access::check_free(run, &agent, &device) {
            Ok(()) => able.push(stand_in(device, agent, party.firm)?),
            Err(Refusal::Quarantined { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(independent(attest.independent, able.iter()))
}

/// A word that was not said yet, to count with.
fn stand_in(device: DeviceId, agent: PartyId, firm: Option<PartyId>) -> Result<Vote, Refusal> {
    let trigger = TriggerId::try_new(device.as_str()).map_err(|_| records::corrupt(device.as_str().as_bytes()))?;
    Ok(Vote {
        device,
        agent,
        firm,
        origin: Origin::from(0),
        at: Timestamp::default(),
        trigger,
        grade: Grade::Agent,
        quality: None,
        with: Vec::new(),
    })
}

/// Who agreed, who said something else, and who is silent.
fn note(
    run: &mut Run<'_, '_>,
    kind: &str,
    round: &Attestation,
    attest: &Attest,
    members: &BTreeSet<String>,
    vote: &Vote,
) {
    let mut data = standings(round, members);
    data.extend([
        ("k".to_owned(), count(attest.k)),
        ("of".to_owned(), count(members.len())),
        ("within".to_owned(), int(attest.within)),
        ("by".to_owned(), text(vote.device.as_str())),
        ("agent".to_owned(), text(vote.agent.as_str())),
        ("trigger-at".to_owned(), int(vote.at.as_micros())),
        ("due".to_owned(), int(round.due.as_micros())),
    ]);
    run.emit_map(kind, round.id.as_str(), data);
}

fn standings(round: &Attestation, members: &BTreeSet<String>) -> BTreeMap<String, Cbor> {
    let texts = |devices: Vec<&str>| Cbor::Array(devices.into_iter().map(text).collect());
    let spoke: Vec<&str> = round.votes.iter().map(|vote| vote.device.as_str()).collect();
    let silent = members.iter().map(String::as_str).filter(|member| !spoke.contains(member)).collect();
    let mut data =
        BTreeMap::from([("device".to_owned(), text(round.device.as_str())), ("silent".to_owned(), texts(silent))]);
    match &round.agreed {
        Some(agreed) => {
            let is_in = |device: &&str| agreed.iter().any(|one| one == device);
            let entry_of = |vote: &Vote| is_in(&vote.device.as_str()).then(|| int(vote.origin.entry));
            data.insert("agreed".to_owned(), texts(agreed.iter().map(String::as_str).collect()));
            data.insert("entries".to_owned(), Cbor::Array(round.votes.iter().filter_map(entry_of).collect()));
            data.insert("disagreed".to_owned(), texts(spoke.into_iter().filter(|one| !is_in(one)).collect()));
        }
        None => {
            data.insert("spoke".to_owned(), texts(spoke));
        }
    }
    data
}

fn count(number: usize) -> Cbor {
    int(u64::try_from(number).unwrap_or(u64::MAX))
}

fn close(run: &mut Run<'_, '_>, round: &Attestation, kind: &str) -> Result<(), Refusal> {
    let listed = run.load::<String>(&round.running)?.is_some_and(|id| id == round.id.as_str());
    if listed {
        run.state.delete(round.running.clone());
    }
    run.state.delete(keys::attestation(&round.id));
    run.state.delete(keys::term(round.due, &round.id));
    let data = standings(round, &BTreeSet::new());
    run.emit_map(kind, round.id.as_str(), data);
    Ok(())
}

/// The term of a round ran out; `None` when `id` is no round.
pub(super) fn term(run: &mut Run<'_, '_>, id: &AgreementId, due: Timestamp) -> Result<Option<()>, Refusal> {
    let Some(round) = run.load::<Attestation>(&keys::attestation(id))? else { return Ok(None) };
    if round.due != due || due > run.block.time {
        let found = format!("a term at {}, block time {}", round.due, run.block.time);
        return Err(Refusal::TermNotDue { agreement: id.to_string(), due: due.to_string(), found });
    }
    let kind = if round.agreed.is_some() { "attestation.closed" } else { "attestation.expired" };
    close(run, &round, kind).map(Some)
}

/// The owner of `device` agreed to standing terms: the devices listed in them speak about it from now on.
pub(super) fn list(
    run: &mut Run<'_, '_>,
    contract: &Contract,
    device: &DeviceId,
    before: Option<&Standing>,
    terms: &Standing,
) -> Result<(), Refusal> {
    for attest in contract.attest.values() {
        if let Some(Datum::List(gone)) = before.and_then(|before| before.fields.get(&attest.of)) {
            for gone in gone.iter().filter_map(|gone| DeviceId::try_new(gone).ok()) {
                run.state.delete(keys::watched(&contract.name, &gone));
            }
        }
    }
    for (action, attest) in &contract.attest {
        let members = members(device, terms, attest);
        let refuse = |reason: String| Refusal::NotEnoughAttest {
            contract: contract.name.to_string(),
            action: action.clone(),
            reason,
        };
        if members.len() < attest.k || members.len() > GROUP_MAX {
            let found = members.len();
            return Err(refuse(format!(
                "`{}` and `{device}` make {found} devices; {} to {GROUP_MAX} are needed",
                attest.of, attest.k
            )));
        }
        for member in members.iter().filter(|member| *member != device.as_str()) {
            let other = DeviceId::try_new(member).map_err(|fault| refuse(format!("`{member}`: {fault}")))?;
            crate::registry::device(run, &other)?;
            if concerned(run, contract, &other)? != other && concerned(run, contract, &other)? != *device {
                return Err(refuse(format!("`{other}` already speaks about another device")));
            }
            run.store(keys::watched(&contract.name, &other), &device.to_string());
        }
        let able = reachable(run, attest, &members)?;
        if able < attest.k {
            let word = attest.independent.word();
            return Err(refuse(format!(
                "only {able} independent {word} speak for these devices, {} are needed",
                attest.k
            )));
        }
    }
    Ok(())
}
