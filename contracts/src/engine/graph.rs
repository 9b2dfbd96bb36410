//! What the transitions add up to: every state is reached, none is a trap, no money stays in escrow.
//!
//! Conditions (`when:`) are taken as "may hold or not": what is proved holds for every run, and a fault may name a path
//! that no run can take; then the contract says too little and should say it differently.

use super::contract::{Cause, Contract, EffectSpec, NEW, Transition};
use crate::datum::FieldType;
use crate::yaml::{Faults, Node, Tree};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Checks a contract whose lines are all readable.
pub(super) fn check(contract: &Contract, root: &Node, faults: &mut Faults) {
    let mut checker = Checker { contract, root, faults, reached: reached(contract) };
    checker.openings();
    checker.states();
    checker.ends();
    checker.ways_out();
    checker.terms();
    checker.shadows();
    checker.roles();
    checker.actions();
    checker.keys();
    checker.money();
}

/// States an agreement can get into.
fn reached(contract: &Contract) -> BTreeSet<&str> {
    let mut reached = BTreeSet::from([NEW]);
    let mut waiting = vec![NEW];
    while let Some(state) = waiting.pop() {
        for target in ways_from(contract, state).flat_map(Transition::targets) {
            if reached.insert(target) {
                waiting.push(target);
            }
        }
    }
    reached
}

struct Checker<'a> {
    contract: &'a Contract,
    root: &'a Node,
    faults: &'a mut Faults,
    reached: BTreeSet<&'a str>,
}

/// The lines that lead from `state`.
fn ways_from<'a>(contract: &'a Contract, state: &str) -> impl Iterator<Item = &'a Transition> + use<'a> {
    let state = state.to_owned();
    contract.transitions.iter().filter(move |way| way.is_from(&state))
}

impl<'a> Checker<'a> {
    fn fault_at(&mut self, way: &Transition, found: String, hint: impl Into<String>) {
        let place = Node { line: way.line, column: way.column, value: Tree::Empty };
        self.faults.add(&place, "on", found, hint);
    }

    fn openings(&mut self) {
        if ways_from(self.contract, NEW).next().is_none() {
            self.faults.add(self.root, "on", "nothing opens an agreement", "write a line with `from: new`");
        }
        for way in ways_from(self.contract, NEW) {
            let Some(action) = way.cause.action() else { continue };
            let args = self.contract.actions.get(action);
            let has = |name: &str, kind| {
                args.and_then(|args| args.get(name))
                    .is_some_and(|(found, is_optional)| *found == kind && (!*is_optional || kind == FieldType::Device))
            };
            let missing = self.contract.key.iter().skip(1).find(|name| !has(name, FieldType::Text)).cloned();
            if let Some(name) = missing {
                let found = format!("opens an agreement, but action `{action}` does not carry the key `{name}`");
                self.fault_at(way, found, format!("write `{name}: text` into `actions.{action}`"));
            }
            if matches!(way.cause, Cause::Call { .. }) && !has("device", FieldType::Device) {
                let found = format!("opens an agreement by a call, but action `{action}` does not carry the device");
                self.fault_at(way, found, format!("write `device: device?` into `actions.{action}`"));
            }
        }
    }

    fn states(&mut self) {
        for way in &self.contract.transitions {
            let unknown: Vec<_> =
                way.from.iter().filter(|state| !self.reached.contains(state.as_str())).cloned().collect();
            for state in unknown {
                let hint = format!("no line leads to `{state}`; correct the name or write `to: {state}` somewhere");
                self.fault_at(way, format!("state `{state}` is never reached"), hint);
            }
        }
    }

    fn ends(&mut self) {
        if self.contract.ends.is_empty() {
            self.faults.add(self.root, "ends", "names no state", "write the states in which the agreement is over");
        }
        for end in &self.contract.ends {
            if !self.reached.contains(end.as_str()) {
                let hint = format!("no line leads to it; write `to: {end}` somewhere or leave it out");
                self.faults.add(self.root, "ends", format!("state `{end}` is never reached"), hint);
            }
            if let Some(way) = ways_from(self.contract, end).next() {
                let hint = "an end is an end; leave the line out, or leave the state out of `ends:`";
                self.fault_at(way, format!("leads on from `{end}`, which is an end"), hint);
            }
        }
    }

    /// Every state that is no end leads, sooner or later, to one.
    fn ways_out(&mut self) {
        let mut ending: BTreeSet<&str> = self.contract.ends.iter().map(String::as_str).collect();
        loop {
            let more: Vec<&str> = self.reached.iter().copied().filter(|state| !ending.contains(state)).collect();
            let more: Vec<&str> = more
                .into_iter()
                .filter(|state| {
                    ways_from(self.contract, state).flat_map(Transition::targets).any(|to| ending.contains(to))
                })
                .collect();
            if more.is_empty() {
                break;
            }
            ending.extend(more);
        }
        let trapped: Vec<&str> = self.reached.iter().copied().filter(|state| !ending.contains(state)).collect();
        for state in trapped {
            let leads_here = |way: &&Transition| way.targets().any(|to| to == state);
            let Some(way) = self.contract.transitions.iter().find(leads_here) else { continue };
            let found = match ways_from(self.contract, state).flat_map(Transition::targets).any(|to| to != state) {
                true => format!("state `{state}` leads to no end"),
                false => format!("state `{state}` is a dead end"),
            };
            self.fault_at(way, found, "write a call or a term that leads from it, or name it in `ends:`");
        }
    }

    fn terms(&mut self) {
        let mut seen = BTreeMap::new();
        for way in self.contract.transitions.iter().filter(|way| matches!(way.cause, Cause::Term(_))) {
            for state in &way.from {
                if let Some(first) = seen.insert(state, way.line) {
                    let found = format!("is a second term of state `{state}` (the first is in line {first})");
                    self.fault_at(way, found, "a state has one term; lead to a state between");
                }
            }
        }
    }

    /// A line behind an unconditional one with the same cause is never taken.
    fn shadows(&mut self) {
        let cause = |way: &Transition| match &way.cause {
            Cause::Trigger(action) => Some((action.clone(), None)),
            Cause::Call { action, by } => Some((action.clone(), Some(by.clone()))),
            Cause::Term(_) => None,
        };
        for (place, way) in self.contract.transitions.iter().enumerate() {
            let Some(mine) = cause(way) else { continue };
            let before = &self.contract.transitions[..place];
            let taken = |state: &String| {
                before
                    .iter()
                    .any(|other| other.when.is_none() && other.is_from(state) && cause(other).as_ref() == Some(&mine))
            };
            if way.from.iter().all(taken) {
                let hint = "put the line with the condition first, or give the other one a condition";
                self.fault_at(way, "is never taken: a line before it takes the same cause".into(), hint);
            }
        }
    }

    fn roles(&mut self) {
        let mut filled: BTreeSet<&str> = BTreeSet::from(["owner"]);
        filled.extend(self.contract.standing.required.iter().map(String::as_str));
        filled.extend(self.contract.standing.optional.keys().map(String::as_str));
        for effect in self.contract.transitions.iter().flat_map(|way| &way.effects) {
            if let EffectSpec::Choose { role, .. } = effect {
                filled.insert(role);
            }
        }
        for role in self.contract.parties.keys().filter(|role| !filled.contains(role.as_str())) {
            let hint = "name it in `standing:` or fill it with `choose:`";
            self.faults.add(self.root, "parties", format!("nobody ever becomes `{role}`"), hint);
        }
    }

    fn actions(&mut self) {
        for action in self.contract.actions.keys() {
            if !self.contract.transitions.iter().any(|way| way.cause.action() == Some(action)) {
                let hint = format!("write a line with `call: {action}` or `trigger: {action}`, or leave it out");
                self.faults.add(self.root, &format!("actions.{action}"), "causes nothing", hint);
            }
        }
    }

    /// A key that changed would leave the agreement where no trigger finds it.
    fn keys(&mut self) {
        for way in self.contract.transitions.iter().filter(|way| !way.is_from(NEW)) {
            let sets = way.effects.iter().filter_map(|effect| match effect {
                EffectSpec::Set(assignments) => Some(assignments),
                _ => None,
            });
            let mut names = sets.flatten().map(|(name, _)| name);
            if let Some(name) = names.find(|name| self.contract.key.contains(name)) {
                let hint = "a key field gets its value when the agreement is opened and keeps it";
                self.fault_at(way, format!("sets the key `{name}`"), hint);
            }
        }
    }

    /// Walks every (state, is there money in escrow) and names the path to each leak.
    fn money(&mut self) {
        let mut payers = BTreeSet::new();
        for way in &self.contract.transitions {
            payers.extend(way.effects.iter().filter_map(|effect| match effect {
                EffectSpec::Escrow { from, .. } => Some(from.as_str()),
                _ => None,
            }));
        }
        if payers.len() > 1 {
            let found = format!("escrow is paid in by {}", payers.into_iter().collect::<Vec<_>>().join(" and "));
            self.faults.add(self.root, "on", found, "one role pays in, so that it is known to whom the rest belongs");
        }
        let mut seen = BTreeMap::from([((NEW, false), vec![NEW])]);
        let mut waiting = VecDeque::from([(NEW, false)]);
        let mut told = BTreeSet::new();
        while let Some(here) = waiting.pop_front() {
            let path = seen.get(&here).cloned().unwrap_or_default();
            for way in ways_from(self.contract, here.0) {
                let held = self.held_after(way, here.1, &mut told);
                for target in way.targets().chain(way.to.is_none().then_some(here.0)) {
                    let mut path = path.clone();
                    path.push(target);
                    if held && self.contract.ends.contains(target) && told.insert((way.line, target)) {
                        let found = format!("money stays in escrow: {}", path.join(" → "));
                        self.fault_at(way, found, "write `release: rest` as the last effect");
                    }
                    if let Entry::Vacant(place) = seen.entry((target, held)) {
                        place.insert(path);
                        waiting.push_back((target, held));
                    }
                }
            }
        }
    }

    /// Whether there can be money in escrow after the effects of `way`.
    fn held_after(&mut self, way: &'a Transition, held: bool, told: &mut BTreeSet<(u64, &'a str)>) -> bool {
        let mut held = held;
        for effect in &way.effects {
            match effect {
                EffectSpec::Escrow { .. } => held = true,
                EffectSpec::Release => held = false,
                EffectSpec::Pay { .. } if !held && told.insert((way.line, "pay")) => {
                    let hint = "money comes into escrow by `escrow:`, before anything is paid from it";
                    self.fault_at(way, "pays from an empty escrow".into(), hint);
                }
                _ => {}
            }
        }
        held
    }
}
