//! Triggers: ids, device, durations, and the rule itself.

use super::{Checker, Outline, Outlines, Site};
use crate::expression_place::place_in_file;
use crate::fault::did_you_mean;
use crate::written::{CallWritten, PlantFile, TriggerWritten};
use crate::yaml::Content;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tally_model::{CallTemplate, DeviceId, PointId, Priority, RuleSource, TriggerId};
use tally_rules::{Rule, RuleFault, RuleField, WINDOW_MAX, nearest_name};

/// Trigger ids that tests may name, with their device.
pub(super) type TriggerIds = BTreeMap<String, Option<DeviceId>>;

impl Checker<'_> {
    pub(super) fn triggers(
        &mut self,
        written: &PlantFile,
        root: &Site<'_>,
        outlines: &Outlines,
    ) -> (Vec<Arc<Rule>>, TriggerIds) {
        let list = root.key("triggers");
        let (mut rules, mut ids) = (Vec::new(), TriggerIds::new());
        for (index, trigger) in written.triggers.iter().enumerate() {
            let site = list.item(index);
            let id = trigger.id.as_deref().and_then(|text| self.trigger_id(&site.key("id"), text));
            let outline =
                trigger.device.as_deref().and_then(|name| self.known_device(&site.key("device"), name, outlines));
            if let Some(id) = &id {
                let device = outline.map(|outline| outline.id.clone());
                if ids.insert(id.to_string(), device).is_some() {
                    let fault = site.key("id").fault("another trigger has this id").found(format!("`{id}`"));
                    self.report(fault.hint("ids are unique in the plant"));
                }
            }
            rules.extend(self.trigger(trigger, &site, id, outline).map(Arc::new));
        }
        (rules, ids)
    }

    fn trigger_id(&mut self, site: &Site<'_>, text: &str) -> Option<TriggerId> {
        let id = TriggerId::try_new(text);
        id.map_err(|fault| self.report(site.fault(fault.to_string()).found(format!("`{text}`")))).ok()
    }

    pub(super) fn known_device<'o>(
        &mut self,
        site: &Site<'_>,
        name: &str,
        outlines: &'o Outlines,
    ) -> Option<&'o Outline> {
        let outline = outlines.get(name);
        if outline.is_none() && self.all_devices_named {
            let known: Vec<&str> = outlines.keys().map(String::as_str).collect();
            let near = nearest_name(name, known.iter().copied()).map(did_you_mean);
            let fault = site.fault("unknown device").found(format!("`{name}`")).allowed(known.join(", "));
            self.report(fault.maybe_hint(near));
        }
        outline
    }

    fn trigger(
        &mut self,
        written: &TriggerWritten,
        site: &Site<'_>,
        id: Option<TriggerId>,
        outline: Option<&Outline>,
    ) -> Option<Rule> {
        let on_delay = match &written.on_delay {
            Some(text) => self.duration(&site.key("for"), text, Duration::ZERO, WINDOW_MAX),
            None => Some(Duration::ZERO),
        };
        let call = written.call.as_ref().map(|call| self.call(call, &site.key("call")));
        let outline = outline?;
        let disclose = self.disclose(&written.disclose, &site.key("disclose"), outline);
        let when = written.when.clone()?;
        if !outline.complete {
            // Which points there are is not known yet; the faults of the device come first.
            return None;
        }
        let source = RuleSource {
            // A trigger without a good id is checked all the same, under a name that is certainly one.
            id: id.or_else(|| TriggerId::try_new(outline.id.as_str()).ok())?,
            device: outline.id.clone(),
            when,
            on_delay: on_delay.unwrap_or_default(),
            until: written.until.clone(),
            priority: written.priority.unwrap_or(Priority::Medium),
            disclose,
            call: call.flatten(),
            points: outline.points.clone(),
            checks: None,
        };
        self.compile(source, site, outline)
    }

    /// Compiles with all points of the device, so that every name can be judged; the rule that is kept knows only those
    /// it reads or checks, because they are its version.
    fn compile(&mut self, mut source: RuleSource, site: &Site<'_>, outline: &Outline) -> Option<Rule> {
        let compiled = Rule::compile(&source).and_then(|rule| {
            source.checks = outline.checks.of_rule(&rule.disclosed());
            let rule = Rule::compile(&source)?;
            let (reads, checked) = (rule.reads(), rule.checked().cloned().collect::<BTreeSet<_>>());
            source.points.retain(|point, _| reads.contains(point) || checked.contains(point));
            Rule::compile(&source)
        });
        match compiled {
            Ok(rule) => Some(rule),
            Err(faults) => {
                faults.into_iter().for_each(|fault| self.rule_fault(site, fault));
                None
            }
        }
    }

    fn rule_fault(&mut self, site: &Site<'_>, fault: RuleFault) {
        let site = match &fault.field {
            RuleField::When => site.key("when"),
            RuleField::Until => site.key("until"),
            RuleField::For => site.key("for"),
            RuleField::With(name) => site.key("call").key("with").key(name),
            // Checked with the device.
            RuleField::Related(_) | RuleField::Checks => return,
        };
        self.expression_fault(&site, &fault);
    }

    /// A fault inside the expression at `site`.
    pub(super) fn expression_fault(&mut self, site: &Site<'_>, fault: &RuleFault) {
        let place = match site.node.map(|node| (&node.place, &node.content)) {
            Some((place, Content::Scalar { text, .. })) => {
                place_in_file(&site.document.text, place, text, fault.line, fault.column)
            }
            _ => site.place().clone(),
        };
        self.report(site.fault_at(&place, fault.message.clone()).maybe_hint(fault.hint.clone()));
    }

    fn disclose(&mut self, written: &[String], site: &Site<'_>, outline: &Outline) -> Vec<PointId> {
        let mut disclose = Vec::new();
        for (index, name) in written.iter().enumerate() {
            match PointId::try_new(name) {
                Ok(point) if outline.points.contains_key(&point) => {
                    if disclose.contains(&point) {
                        self.report(site.item(index).fault("this point is listed twice").warning());
                    }
                    disclose.push(point);
                }
                _ if !outline.complete => {}
                _ => {
                    let known = outline.points.keys().map(PointId::as_str);
                    let near = nearest_name(name, known.clone()).map(did_you_mean);
                    let fault = site.item(index).fault(format!("unknown point of `{}`", outline.id));
                    let fault = fault.found(format!("`{name}`")).allowed(known.collect::<Vec<_>>().join(", "));
                    self.report(fault.maybe_hint(near));
                }
            }
        }
        disclose
    }

    fn call(&mut self, written: &CallWritten, site: &Site<'_>) -> Option<CallTemplate> {
        let contract = written.contract.as_deref().map(|text| (text.parse(), text));
        let action = written.action.as_deref().map(|text| (text.parse(), text));
        if let Some((Err(fault), text)) = &contract {
            self.report(id_fault(&site.key("contract"), fault, text));
        }
        if let Some((Err(fault), text)) = &action {
            self.report(id_fault(&site.key("action"), fault, text));
        }
        Some(CallTemplate { contract: contract?.0.ok()?, action: action?.0.ok()?, with: written.with.clone() })
    }
}

fn id_fault(site: &Site<'_>, fault: &tally_model::IdFault, text: &str) -> crate::Fault {
    site.fault(fault.to_string()).found(format!("`{text}`"))
}
