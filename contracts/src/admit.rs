//! What every trigger must pass before any contract sees it. The order is that of the refusal numbers.

use crate::records::{Device, RuleInForce};
use crate::registry::{self, KeyText};
use crate::run::Run;
use crate::{Refusal, access, keys};
use tally_evidence::cbor::int;
use tally_evidence::{KeyId, PartyKind, TriggerBody};
use tally_model::{Grade, PartyId};

/// Checks a trigger and remembers its number and readings as used.
pub(crate) fn trigger(run: &mut Run<'_, '_>, signer: &PartyId, key: &KeyId, body: &TriggerBody) -> Result<(), Refusal> {
    let last = check_number(run, signer, body)?;
    check_readings(run, body)?;
    run.check_time(body.at)?;
    run.signer(signer, key)?;
    access::check_free(run, signer, &body.device)?;
    let Device { agent, .. } = registry::device(run, &body.device)?;
    if agent != *signer {
        let (signer, device, agent) = (signer.to_string(), body.device.to_string(), agent.to_string());
        return Err(Refusal::NotTheAgent { signer, device, agent });
    }
    check_rule(run, body)?;
    check_grade(run, body)?;
    registry::check_fingerprints(run, body)?;
    let expected = last.map_or(0, |last| last.saturating_add(1));
    if body.number != expected {
        // A lost trigger shows here for ever, though it refuses nothing.
        run.emit("agent.gap", signer.as_str(), [("expected", int(expected)), ("found", int(body.number))]);
    }
    run.store(keys::last_trigger(signer), &body.number);
    run.store(keys::last_reading(&body.device, &body.trigger), &body.readings.last);
    Ok(())
}

fn check_number(run: &Run<'_, '_>, signer: &PartyId, body: &TriggerBody) -> Result<Option<u64>, Refusal> {
    let last: Option<u64> = run.load(&keys::last_trigger(signer))?;
    match last {
        Some(last) if body.number <= last => {
            Err(Refusal::TriggerReplayed { agent: signer.to_string(), number: body.number, last })
        }
        last => Ok(last),
    }
}

fn check_readings(run: &Run<'_, '_>, body: &TriggerBody) -> Result<(), Refusal> {
    let used: Option<u64> = run.load(&keys::last_reading(&body.device, &body.trigger))?;
    match used {
        Some(used) if body.readings.last <= used => Err(Refusal::ReadingsReused {
            device: body.device.to_string(),
            trigger: body.trigger.to_string(),
            last: body.readings.last,
            used,
        }),
        _ => Ok(()),
    }
}

/// A device seals for itself only with a key of its own.
fn check_grade(run: &Run<'_, '_>, body: &TriggerBody) -> Result<(), Refusal> {
    if body.grade != Grade::Device {
        return Ok(());
    }
    let unfounded = || Refusal::GradeUnfounded { device: body.device.to_string() };
    let party = PartyId::try_new(body.device.as_str()).map_err(|_| unfounded())?;
    run.named(&party, &[PartyKind::Device], "a device").map(|_| ()).map_err(|refusal| match refusal {
        Refusal::UnknownParty { .. } => unfounded(),
        other => other,
    })
}

/// The owner registered this version of the rule, and the trigger asks for what the rule says, or for less.
fn check_rule(run: &Run<'_, '_>, body: &TriggerBody) -> Result<(), Refusal> {
    let rule: Option<RuleInForce> = run.load(&keys::rule(&body.device, &body.trigger, &body.rule))?;
    let Some(RuleInForce(ruled)) = rule else {
        let (device, trigger) = (body.device.to_string(), body.trigger.to_string());
        return Err(Refusal::RuleNotRegistered { device, trigger, rule: KeyText(&body.rule).to_string() });
    };
    let Some(call) = &body.call else { return Ok(()) };
    let as_ruled = ruled.as_ref().is_some_and(|(contract, action, names)| {
        *contract == call.contract && *action == call.action && call.with.keys().all(|name| names.contains(name))
    });
    if as_ruled && body.transition == tally_evidence::Transition::Raised {
        return Ok(());
    }
    let words = |contract: &str, action: &str, names: &[String]| format!("{contract}/{action}({})", names.join(", "));
    let asked: Vec<String> = call.with.keys().cloned().collect();
    Err(Refusal::NotAsRuled {
        trigger: body.trigger.to_string(),
        found: words(call.contract.as_str(), call.action.as_str(), &asked) + " when " + body.transition.word(),
        ruled: ruled.map_or("nothing".into(), |(contract, action, names)| {
            words(contract.as_str(), action.as_str(), &names) + " when raised"
        }),
    })
}
