//! The links only a trigger has: who may speak for the device, which rule, which readings, and whether it follows.

use crate::known::Known;
use crate::report::{Quality, Report, Step};
use tally_evidence::{Disclosure, EvidenceEntry, RuleRecord, SignedStatement, Transition, TriggerBody};
use tally_model::{DeviceId, Reading};
use tally_rules::{Firing, Rule, confirm_findings, recompute};

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
    let readings = report.record(about, Step::Readings, disclosed(trigger, entry.disclosure.as_deref()));
    if let Some((shown, hidden)) = &readings {
        let range = format!("readings {}–{}", trigger.readings.first, trigger.readings.last);
        report.holds(about, Step::Readings, format!("{range}: {} shown, {hidden} hidden", shown.len()));
    }
    let (readings, _) = readings?;
    if let Some(record) = rule
        && let Some(rule) = report.record(about, Step::Recomputed, compiled(record))
    {
        if report.record(about, Step::Recomputed, follows(trigger, record, &rule, &readings)).is_some() {
            report.holds(about, Step::Recomputed, format!("{} at {}", record.rule.when, trigger.at));
        }
        check_truth(about, trigger, &rule, &readings, report);
    }
    readings.into_iter().find(|reading| reading.number == trigger.readings.last)
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
    let confirmed = confirm_findings(rule, readings, trigger.at, trigger.readings.first, claimed);
    let (Some(words), Some(claimed)) = (report.record(about, Step::Truth, confirmed), claimed) else { return };
    let quality = Quality::new(about, claimed, &words);
    report.holds(about, Step::Truth, quality.text.clone());
    report.qualities.push(quality);
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
