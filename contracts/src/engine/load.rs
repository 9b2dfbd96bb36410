//! From YAML to a [`Contract`]: names, types and expressions. What the states add up to is checked in `graph`.

mod attest;
mod effects;
mod head;

pub(crate) use attest::GROUP_MAX;

use super::contract::{Cause, Contract, NEW, Transition};
use super::expression::Expression;
use super::types::{Names, Type};
use crate::datum::{FieldType, parse_micros};
use crate::yaml::{Faults, Node, Section};

/// Most lines of `on:`.
const TRANSITIONS_MAX: usize = 256;

/// Reads a contract; with faults the result is only good for finding more of them.
pub(super) fn load(root: &Node, faults: &mut Faults) -> Option<Contract> {
    let mut section = faults.section(root, "");
    let mut contract = head::head(&mut section, faults)?;
    let attested = section.take("attest").map(|node| attest::attest(node, &contract, faults));
    contract.attest = attested.unwrap_or_default();
    let names = names_of(&contract);
    contract.standing.require = head::requirements(&mut section, &contract, faults);
    let lines = section.need("on", faults).map(|on| faults.list(on, "on")).unwrap_or_default();
    if lines.len() > TRANSITIONS_MAX {
        faults.add(root, "on", format!("has {} lines", lines.len()), format!("at most {TRANSITIONS_MAX} are allowed"));
        return None;
    }
    section.finish(faults);
    for (number, line) in lines.iter().enumerate() {
        let mut loader = Loader { contract: &contract, names: &names, faults, path: format!("on[{number}]") };
        let transition = loader.transition(line);
        contract.transitions.extend(transition);
    }
    for action in contract.attest.keys() {
        let is_cause = |way: &Transition| matches!(&way.cause, Cause::Trigger(trigger) if trigger == action);
        if !contract.transitions.iter().any(is_cause) {
            let hint = format!("write a line with `trigger: {action}`, or remove it here");
            faults.add(root, &format!("attest.{action}"), "no line of `on:` waits for this trigger", hint);
        }
    }
    // A line that could not be read leaves holes that would look like dead ends: nothing more can be said then.
    (contract.transitions.len() == lines.len()).then_some(contract)
}

/// The names every expression of the contract may use.
fn names_of(contract: &Contract) -> Names<'static> {
    let mut names = Names::default();
    names.add("now", Type::Integer);
    for role in contract.parties.keys() {
        names.add(role, Type::Text);
    }
    for (field, kind) in &contract.fields {
        names.add(field, (*kind).into());
    }
    names
}

/// Reads one line of `on:`.
struct Loader<'a> {
    contract: &'a Contract,
    names: &'a Names<'a>,
    faults: &'a mut Faults,
    path: String,
}

impl Loader<'_> {
    fn transition(&mut self, line: &Node) -> Option<Transition> {
        let mut section = self.faults.section(line, &self.path);
        let from = self.from(&mut section);
        let cause = self.cause(&mut section);
        let to = section.take("to").map(|to| self.word(to, "to", "a state"));
        let mut names = Names::within(self.names);
        if let Some(cause) = &cause {
            self.cause_names(cause, &mut names);
        }
        let when = section.take("when").map(|when| self.expression(when, "when", Type::Bool, &names));
        let effects = section.take("do").map(|effects| self.effects(effects, &names)).unwrap_or_default();
        section.finish(self.faults);
        let (from, cause) = (from?, cause?);
        self.shape(line, &from, &cause, to.as_ref(), when.as_ref());
        let to = match to {
            Some(to) => Some(to?),
            None => None,
        };
        Some(Transition { line: line.line, column: line.column, from, cause, when, to, effects })
    }

    fn from(&mut self, section: &mut Section<'_>) -> Option<Vec<String>> {
        let from = section.need("from", self.faults)?;
        if from.scalar().is_some() {
            return Some(vec![self.word(from, "from", "a state")?]);
        }
        let key = self.key("from");
        let states = self.faults.list(from, &key);
        if states.is_empty() {
            self.faults.add(from, &key, "names no state", "write a state, a list of states, or `new`");
        }
        states.iter().map(|state| self.word(state, "from", "a state")).collect()
    }

    fn cause(&mut self, section: &mut Section<'_>) -> Option<Cause> {
        let (trigger, call) = (section.take("trigger"), section.take("call"));
        let (term, by) = (section.take("term"), section.take("by"));
        let cause = match (trigger, call, term) {
            (Some(action), None, None) => Some(Cause::Trigger(self.action(action, "trigger")?)),
            (None, Some(action), None) => {
                let action = self.action(action, "call");
                let Some(by) = by else {
                    let key = self.key("by");
                    self.faults.add(section.node, &key, "is missing", "name the role that may call, `by: technician`");
                    return None;
                };
                return Some(Cause::Call { action: action?, by: self.role(by, "by")? });
            }
            (None, None, Some(term)) => Some(Cause::Term(self.duration(term))),
            _ => {
                let (key, hint) = (self.path.clone(), "write exactly one of `trigger:`, `call:`, `term:`");
                self.faults.add(section.node, &key, "has no single cause", hint);
                None
            }
        };
        if let Some(by) = by {
            let key = self.key("by");
            self.faults.add(
                by,
                &key,
                "is only for calls",
                "leave it out; triggers come from agents, terms from nobody",
            );
        }
        cause
    }

    /// What the cause alone makes right or wrong.
    fn shape(
        &mut self,
        line: &Node,
        from: &[String],
        cause: &Cause,
        to: Option<&Option<String>>,
        when: Option<&Expression>,
    ) {
        let is_new = from.iter().any(|state| state == NEW);
        let is_term = matches!(cause, Cause::Term(_));
        let path = self.path.clone();
        let mut fault = |found: &str, hint: &str| self.faults.add(line, &path, found, hint);
        if is_new && from.len() > 1 {
            fault("opens from `new` and from other states", "write a line of its own for `new`");
        }
        if is_new && to.is_none() {
            fault("opens an agreement without a state", "write `to:` with the state it begins in");
        }
        if is_new && is_term {
            fault("opens an agreement by a term", "agreements are opened by a trigger or a call");
        }
        if is_term && when.is_some() {
            fault("is a term with a condition", "a term must always run out somewhere; leave `when:` out");
        }
        if is_term && to.is_none() {
            fault("is a term that leads nowhere", "write `to:`");
        }
    }

    fn cause_names(&self, cause: &Cause, names: &mut Names<'_>) {
        let specs = cause.action().and_then(|action| self.contract.actions.get(action));
        for (name, (kind, _)) in specs.into_iter().flatten() {
            names.add(format!("args.{name}"), (*kind).into());
        }
        match cause {
            Cause::Trigger(_) => {
                names.add("trigger.id", Type::Text).add("trigger.device", Type::Text);
                names
                    .add("trigger.at", Type::Integer)
                    .add("trigger.grade", Type::Text)
                    .add("trigger.quality", Type::Text);
            }
            Cause::Call { .. } => {
                names.add("caller", Type::Text);
            }
            Cause::Term(_) => {}
        }
    }

    /// A fixed duration (`4h`) or an expression in microseconds, usually a field.
    fn duration(&mut self, node: &Node) -> Expression {
        match node.scalar().and_then(parse_micros) {
            Some(micros) => Expression::constant(crate::Datum::Integer(micros)),
            None => self.expression(node, "term", Type::Integer, self.names),
        }
    }

    fn expression(&mut self, node: &Node, key: &str, wanted: Type, names: &Names<'_>) -> Expression {
        let key = self.key(key);
        compile(node, &key, wanted, names, self.faults)
    }

    fn action(&mut self, node: &Node, key: &str) -> Option<String> {
        let path = self.key(key);
        let action = self.faults.scalar(node, &path, "an action of `actions:`")?;
        if !self.contract.actions.contains_key(action) {
            let known = self.contract.actions.keys().cloned().collect::<Vec<_>>().join(", ");
            self.faults.add(node, &path, format!("`{action}` is no action"), format!("`actions:` has: {known}"));
            return None;
        }
        Some(action.to_owned())
    }

    fn role(&mut self, node: &Node, key: &str) -> Option<String> {
        let path = self.key(key);
        let role = self.faults.scalar(node, &path, "a role of `parties:`")?;
        if !self.contract.parties.contains_key(role) {
            let known = self.contract.parties.keys().cloned().collect::<Vec<_>>().join(", ");
            self.faults.add(node, &path, format!("`{role}` is no role"), format!("`parties:` has: {known}"));
            return None;
        }
        Some(role.to_owned())
    }

    fn word(&mut self, node: &Node, key: &str, what: &str) -> Option<String> {
        let path = self.key(key);
        let word: tally_model::ActionName = self.faults.parse(node, &path, what)?;
        Some(word.to_string())
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }
}

/// Compiles the expression at `node`; with a fault, a stand-in that lets the other checks go on.
fn compile(node: &Node, key: &str, wanted: Type, names: &Names<'_>, faults: &mut Faults) -> Expression {
    let stand_in = || {
        Expression::constant(match wanted {
            Type::Bool => FieldType::Bool.zero(),
            Type::Text => FieldType::Text.zero(),
            Type::List => FieldType::List.zero(),
            Type::Integer | Type::Number => FieldType::Integer.zero(),
        })
    };
    let Some(source) = faults.scalar(node, key, "a CEL expression") else { return stand_in() };
    Expression::compile(source, wanted, names).unwrap_or_else(|fault| {
        faults.add(
            node,
            key,
            format!("`{source}` {fault}"),
            format!("write an expression that gives {}", wanted.word()),
        );
        stand_in()
    })
}
