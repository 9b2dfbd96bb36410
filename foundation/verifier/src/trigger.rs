//! The links only a trigger has: who may speak for the device, which rule, which readings, and whether it follows.

use crate::known::Known;
use crate::report::{Quality, ReadingsOrigin, Report, Step};
use std::collections::BTreeMap;
use tally_evidence::{
    DeviceSealFault, Disclosure, EvidenceEntry, OpenedSeal, RuleRecord, SignedStatement, Transition, TriggerBody,
    VerifyingKey,
};
use tally_model::{DeviceId, Grade, PointId, Reading};
use tally_rules::{Firing, Rule, confirm_findings, confirm_identity, recompute};

/// Gives the reading that decided the trigger, when the readings shown are the ones it sealed.
pub(crate) fn check(
    about: &str,
    trigger: &TriggerBody,
    statement: &SignedStatement,
    entry: &EvidenceEntry,
    known: &Known,
    report: &mut Report,
) -> Option<Reading> {
    if report.record(about, Step::DeviceBinding, bound(&trigger.device, statement, known)).is_some() {
        report.holds(about, Step::DeviceBinding, format!("{} speaks for {}", statement.issuer, trigger.device));
    }
    let rule = report.record(about, Step::Rule, registered_rule(trigger, known));
    if rule.is_some() {
        report.holds(about, Step::Rule, format!("{}…", short_hex(&trigger.rule)));
    }
    origins(about, trigger, report);
    let readings = report.record(about, Step::Readings, disclosed(trigger, entry.disclosure.as_deref()));
    if let Some((shown, hidden)) = &readings {
        let range = format!("readings {}–{}", trigger.readings.first, trigger.readings.last);
        report.holds(about, Step::Readings, format!("{range}: {} shown, {hidden} hidden", shown.len()));
    }
    let (readings, _) = readings?;
    own_seals(about, trigger, &readings, rule, known, report);
    if let Some(record) = rule
        && let Some(rule) = report.record(about, Step::Recomputed, compiled(record))
    {
        if report.record(about, Step::Recomputed, follows(trigger, record, &rule, &readings)).is_some() {
            report.holds(
                about,
                Step::Recomputed,
                format!("{} at rule time {} (the agent's clock)", record.rule.when, trigger.at),
            );
        }
        check_truth(about, trigger, &rule, &readings, report);
    }
    readings.into_iter().find(|reading| reading.number == trigger.readings.last)
}

/// Where the readings come from, when the agent said it: of readings that are the trigger's own.
fn origins(about: &str, trigger: &TriggerBody, report: &mut Report) {
    let (first, last) = (trigger.readings.first, trigger.readings.last);
    let strange = trigger.origins.iter().find(|stretch| !(first..=last).contains(&stretch.from));
    if let Some(strange) = strange {
        let why = format!("it speaks of reading {}, the trigger is about {first}–{last}", strange.from);
        report.fails(about, Step::Origin, why);
    } else if !trigger.origins.is_empty() {
        let found = ReadingsOrigin::of(about, trigger);
        let words = found.iter().map(|one| format!("readings {}–{}: {}", one.from, one.to, one.text));
        report.holds(about, Step::Origin, words.collect::<Vec<_>>().join("; "));
        report.origins.extend(found);
    }
}

/// The device's registration names the signer as its agent.
pub(crate) fn bound(id: &DeviceId, statement: &SignedStatement, known: &Known) -> Result<(), String> {
    let device = known.device(id).ok_or_else(|| format!("{id} is not registered by any entry in this file"))?;
    if device.agent == statement.issuer {
        Ok(())
    } else {
        Err(format!("{id} is spoken for by {}, not by {}", device.agent, statement.issuer))
    }
}

fn registered_rule<'a>(trigger: &TriggerBody, known: &'a Known) -> Result<&'a RuleRecord, String> {
    let rule = known
        .rule(&trigger.rule)
        .ok_or_else(|| format!("rule {}… is not registered by any entry in this file", short_hex(&trigger.rule)))?;
    if rule.rule.id == trigger.trigger && rule.rule.device == trigger.device {
        Ok(rule)
    } else {
        Err(format!("the rule is for trigger {} of {}", rule.rule.id, rule.rule.device))
    }
}

fn disclosed(trigger: &TriggerBody, disclosure: Option<&[u8]>) -> Result<(Vec<Reading>, u64), String> {
    let disclosure = disclosure.ok_or("the readings behind it are not in this file")?;
    let disclosure = Disclosure::decode(disclosure).map_err(|fault| fault.to_string())?;
    let claim = &trigger.readings;
    if disclosure.device != trigger.device || disclosure.first != claim.first || disclosure.last != claim.last {
        return Err("the readings shown are of another device or range".to_owned());
    }
    if disclosure.root().map_err(|fault| fault.to_string())? != claim.root {
        return Err("the readings shown do not give the root that was sealed".to_owned());
    }
    let readings = disclosure.readings(&claim.points).map_err(|fault| fault.to_string())?;
    Ok((readings, disclosure.hidden()))
}

fn compiled(record: &RuleRecord) -> Result<Rule, &'static str> {
    Rule::compile(&record.rule).map_err(|_| "the registered rule does not compile")
}

/// Truth before the seal: what the trigger says that the checks found is what they find in the readings shown.
fn check_truth(about: &str, trigger: &TriggerBody, rule: &Rule, readings: &[Reading], report: &mut Report) {
    let claimed = trigger.quality.as_deref();
    let confirmed = confirm_findings(rule, readings, trigger.at, trigger.readings.first, claimed)
        .and_then(|words| confirm_identity(rule, &trigger.origins, trigger.readings.last, words));
    let (Some(words), Some(claimed)) = (report.record(about, Step::Truth, confirmed), claimed) else { return };
    let quality = Quality::new(about, claimed, &words);
    report.holds(about, Step::Truth, quality.text.clone());
    report.qualities.push(quality);
}

/// What the device sealed itself: every seal that is shown holds with the key that is registered for the device; and all are
/// there when the trigger says `device-sealed`.
fn own_seals(
    about: &str,
    trigger: &TriggerBody,
    readings: &[Reading],
    rule: Option<&RuleRecord>,
    known: &Known,
    report: &mut Report,
) {
    let is_claimed = trigger.grade == Grade::Device;
    let any_seal = readings.iter().any(|reading| reading.sample.seal.is_some());
    let has_key = !known.keys_of_device(&trigger.device, trigger.at).is_empty();
    // Seals that nothing rests on, and no key to check them by; or none.
    let is_worth_checking = is_claimed || has_key && any_seal;
    if !is_worth_checking {
        return;
    }
    let checked = if has_key {
        seals_hold(trigger, readings, known)
    } else {
        Err(format!("no key of device {} is registered by any entry in this file", trigger.device))
    };
    let checked = checked
        .and_then(|words| if is_claimed { all_sealed(trigger, readings, rule).map(|()| words) } else { Ok(words) });
    if let Some(words) = report.record(about, Step::DeviceSeal, checked) {
        report.holds(about, Step::DeviceSeal, words);
    }
}

fn seals_hold(trigger: &TriggerBody, readings: &[Reading], known: &Known) -> Result<String, String> {
    let device = &trigger.device;
    let (mut holding, mut found) = (0_u64, 0_u64);
    let mut latest: BTreeMap<&PointId, u64> = BTreeMap::new();
    for Reading { number, sample, .. } in readings {
        let Some(seal) = &sample.seal else { continue };
        let keys = known.keys_of_device(device, sample.received);
        let opened = opened_by_any(seal, &keys).map_err(|fault| format!("reading {number}: {fault}"))?;
        if opened.device != device.as_str() {
            return Err(format!("reading {number}: the device sealed it as `{}`", opened.device));
        }
        if sample.source_time != opened.at {
            return Err(format!("reading {number} says {}, the device sealed {}", sample.source_time, opened.at));
        }
        if latest.insert(&sample.point, opened.seq).is_some_and(|before| before >= opened.seq) {
            return Err(format!("reading {number}: message {} of the device comes twice, or late", opened.seq));
        }
        holding += 1;
        found += u64::from(sample.outcome.as_ref().is_ok_and(|value| opened.holds(value)));
    }
    Ok(format!("{holding} readings carry the device's own seal; {found} values stand under it as they are shown"))
}

/// With one of the keys that the device had then.
fn opened_by_any(seal: &[u8], keys: &[&VerifyingKey]) -> Result<OpenedSeal, DeviceSealFault> {
    let mut why = DeviceSealFault::Signature;
    for key in keys {
        match OpenedSeal::open(seal, key) {
            Ok(opened) => return Ok(opened),
            Err(fault) => why = fault,
        }
    }
    Err(why)
}

/// Every reading of a point that the rule reads carries its seal.
fn all_sealed(trigger: &TriggerBody, readings: &[Reading], rule: Option<&RuleRecord>) -> Result<(), String> {
    let rule = rule.ok_or("without its rule nobody knows which readings must be sealed")?;
    let rule = Rule::compile(&rule.rule).map_err(|_| "the registered rule does not compile".to_owned())?;
    let reads = rule.reads();
    let bare = readings.iter().find(|reading| reads.contains(&reading.sample.point) && reading.sample.seal.is_none());
    bare.map_or(Ok(()), |bare| {
        Err(format!("{} says device-sealed, but reading {} is not", trigger.trigger, bare.number))
    })
}

fn follows(trigger: &TriggerBody, record: &RuleRecord, rule: &Rule, readings: &[Reading]) -> Result<(), String> {
    if let Some(point) = rule.reads().into_iter().find(|point| !trigger.readings.points.contains_key(point)) {
        return Err(format!("the rule reads `{point}`, which the trigger does not claim"));
    }
    let asked = trigger.call.as_ref().map(|call| (&call.contract, &call.action));
    let raised = trigger.transition == Transition::Raised;
    let due = record.rule.call.as_ref().filter(|_| raised).map(|call| (&call.contract, &call.action));
    if asked != due {
        return Err("the trigger asks the contract for something else than the rule says".to_owned());
    }
    let firing = Firing {
        transition: if raised { tally_rules::Transition::Raised } else { tally_rules::Transition::Cleared },
        at: trigger.at,
        first: trigger.readings.first,
        last: trigger.readings.last,
        with: trigger.call.as_ref().map(|call| call.with.clone()).unwrap_or_default(),
    };
    recompute(rule, readings, &firing).map_err(|mismatch| mismatch.to_string())
}

fn short_hex(hash: &[u8; 32]) -> String {
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
