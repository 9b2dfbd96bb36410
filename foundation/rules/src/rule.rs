//! A compiled rule.

use crate::checks::CheckSet;
use crate::expression::{Checked, Fault, Kind, Node, check};
use crate::history::{Expected, History};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;
use tally_model::{PointId, RuleSource};

/// Longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 2048;

/// Longest window and longest on-delay: a rule that looks further back needs a vault that keeps days undisturbed.
pub const WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);

/// Which part of a rule is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleField {
    /// `when`.
    When,
    /// `until`.
    Until,
    /// `for`.
    For,
    /// `call.with`, the argument of this name.
    With(String),
    /// `checks.related`, the relation of this name.
    Related(String),
    /// Another part of `checks`.
    Checks,
}

impl fmt::Display for RuleField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::When => f.write_str("when"),
            Self::Until => f.write_str("until"),
            Self::For => f.write_str("for"),
            Self::With(name) => write!(f, "call.with.{name}"),
            Self::Related(name) => write!(f, "checks.related.{name}"),
            Self::Checks => f.write_str("checks"),
        }
    }
}

/// One thing that is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}:{line}:{column}: {message}")]
pub struct RuleFault {
    /// In which expression.
    pub field: RuleField,
    /// Line inside the expression, from 1.
    pub line: u32,
    /// Column inside the line in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// A rule that can run. Compiled once, shared by every watch and verifier.
#[derive(Debug, Clone)]
pub struct Rule {
    source: RuleSource,
    /// The points of `source.points`, sorted; a slot is an index into it.
    slots: Vec<PointId>,
    expected: Vec<Expected>,
    reads: BTreeSet<PointId>,
    pub(crate) when: Node,
    pub(crate) until: Option<Node>,
    pub(crate) with: BTreeMap<String, Node>,
    longest_window: Duration,
    pub(crate) checks: Option<CheckSet>,
}

impl Rule {
    /// Compiles a rule. Every point in `source.points` may be named.
    ///
    /// # Errors
    /// All faults of all its expressions, in the order when, until, for, with.
    pub fn compile(source: &RuleSource) -> Result<Self, Vec<RuleFault>> {
        let mut faults = Vec::new();
        let when = compile_field(source, RuleField::When, &source.when, &mut faults);
        let until = source.until.as_ref().map(|text| compile_field(source, RuleField::Until, text, &mut faults));
        check_frame(source, &mut faults);
        let mut with = BTreeMap::new();
        for (name, text) in source.call.iter().flat_map(|call| &call.with) {
            let node = compile_field(source, RuleField::With(name.clone()), text, &mut faults);
            with.extend(node.map(|node| (name.clone(), node)));
        }
        let related = compile_related(source, &mut faults);
        match when {
            Some(when) if faults.is_empty() => {
                let rule = Self::assemble(source, when, until.flatten(), with);
                Ok(rule.with_checks(related))
            }
            _ => Err(faults),
        }
    }

    fn with_checks(mut self, related: Vec<(PointId, Node, Duration)>) -> Self {
        let Some(source) = self.source.checks.clone() else { return self };
        let mut looks: BTreeSet<PointId> = source.points.keys().cloned().collect();
        looks.extend(source.points.values().filter_map(|checks| Some(checks.redundant.as_ref()?.with.clone())));
        let fresh = |expected: &Expected| Expected { horizon: 0, keeps_last: false, ..expected.clone() };
        let mut expected: Vec<_> = self.expected.iter().map(fresh).collect();
        for (_, node, _) in &related {
            node.each_look(&mut |look| note_look(look, &self.slots, &mut expected, &mut looks));
        }
        let is_looked_at: Vec<bool> = self.slots.iter().map(|point| looks.contains(point)).collect();
        let mut checks = CheckSet::new(source, related, looks, self.history(), expected);
        for (expected, is_looked_at) in checks.expected.iter_mut().zip(is_looked_at) {
            expected.horizon = if is_looked_at { checks.reach } else { 0 };
        }
        self.checks = Some(checks);
        self
    }

    fn assemble(source: &RuleSource, when: Node, until: Option<Node>, with: BTreeMap<String, Node>) -> Self {
        let slots: Vec<PointId> = source.points.keys().cloned().collect();
        let expect = |(kind, unit): &(_, tally_model::Unit)| Expected {
            kind: *kind,
            unit: unit.clone(),
            horizon: 0,
            keeps_last: false,
        };
        let mut expected: Vec<Expected> = source.points.values().map(expect).collect();
        let mut reads = BTreeSet::new();
        for node in [&when].into_iter().chain(&until).chain(with.values()) {
            node.each_look(&mut |look| note_look(look, &slots, &mut expected, &mut reads));
        }
        let longest = expected.iter().map(|expected| expected.horizon).max().unwrap_or(0);
        let longest_window = Duration::from_micros(u64::try_from(longest).unwrap_or(0));
        Self { source: source.clone(), slots, expected, reads, when, until, with, longest_window, checks: None }
    }

    /// The rule as written.
    #[must_use]
    pub fn source(&self) -> &RuleSource {
        &self.source
    }

    /// Every point any of its expressions names; a reading of any of them makes the rule run.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<PointId> {
        self.reads.clone()
    }

    /// Every point that a check of the rule looks at.
    pub fn checked(&self) -> impl Iterator<Item = &PointId> {
        self.checks.iter().flat_map(|checks| &checks.looks)
    }

    /// The points whose readings evidence discloses: what the rule reads, what its checks look at, and what `disclose` adds.
    #[must_use]
    pub fn disclosed(&self) -> BTreeSet<PointId> {
        self.reads.iter().chain(self.checked()).chain(&self.source.disclose).cloned().collect()
    }

    /// How far back it looks: its longest window and its on-delay. Replay this much, and one reading of each point
    /// before it, to fill a new watch.
    #[must_use]
    pub fn history(&self) -> Duration {
        self.longest_window + self.source.on_delay
    }

    /// The slot of a point the rule reads.
    pub(crate) fn slot(&self, point: &PointId) -> Option<usize> {
        if !self.reads.contains(point) {
            return None;
        }
        self.slots.binary_search(point).ok()
    }

    /// The slot of a point that a check looks at.
    pub(crate) fn check_slot(&self, point: &PointId) -> Option<usize> {
        if !self.checks.as_ref()?.looks.contains(point) {
            return None;
        }
        self.slots.binary_search(point).ok()
    }

    /// A memory for the checks: of every point they look at, as far back as any of them reaches.
    pub(crate) fn check_history(&self) -> History {
        History::new(self.checks.iter().flat_map(|checks| checks.expected.iter().cloned()))
    }

    pub(crate) fn point(&self, slot: usize) -> &str {
        self.slots.get(slot).map_or("", PointId::as_str)
    }

    pub(crate) fn empty_history(&self) -> History {
        History::new(self.expected.iter().cloned())
    }
}

fn note_look(look: &Node, slots: &[PointId], expected: &mut [Expected], reads: &mut BTreeSet<PointId>) {
    let slot = match look {
        Node::Point(slot) | Node::Last(slot) | Node::Window { slot, .. } => *slot,
        _ => return,
    };
    reads.extend(slots.get(slot).cloned());
    let Some(expected) = expected.get_mut(slot) else { return };
    match look {
        Node::Window { width, .. } => expected.horizon = expected.horizon.max(*width),
        Node::Last(_) => expected.keeps_last = true,
        _ => {}
    }
}

/// Checks one expression; conditions must be yes/no.
fn compile_field(source: &RuleSource, field: RuleField, text: &str, faults: &mut Vec<RuleFault>) -> Option<Node> {
    let condition = !matches!(field, RuleField::With(_));
    let found = match check(text, &source.points) {
        Ok(Checked { node, kind }) if !condition || kind.may_be_bool() => return Some(node),
        Ok(Checked { kind, .. }) => vec![not_a_condition(&field, kind)],
        Err(found) => found,
    };
    faults.extend(found.into_iter().map(|fault| placed(&field, text, fault)));
    None
}

/// The relations of the checks; every point that a check names must be there to be looked at.
fn compile_related(source: &RuleSource, faults: &mut Vec<RuleFault>) -> Vec<(PointId, Node, Duration)> {
    let Some(checks) = &source.checks else { return Vec::new() };
    let partners = checks.points.values().filter_map(|checks| Some(&checks.redundant.as_ref()?.with));
    for point in checks.points.keys().chain(partners).filter(|point| !source.points.contains_key(*point)) {
        let fault = Fault::new(0, format!("unknown point `{point}`")).hint("checks are of points of the same device");
        faults.push(placed(&RuleField::Checks, "", fault));
    }
    if checks.look_back > WINDOW_MAX {
        faults.push(placed(&RuleField::Checks, "", Fault::new(0, "checks look back at most 24h")));
    }
    let compile = |(name, related): (&PointId, &tally_model::Related)| {
        let field = RuleField::Related(name.to_string());
        Some((name.clone(), compile_field(source, field, &related.holds, faults)?, related.lasting))
    };
    checks.related.iter().filter_map(compile).collect()
}

fn not_a_condition(field: &RuleField, kind: Kind) -> Fault {
    let message = format!("`{field}` is a condition, this is {}", kind.word());
    Fault::new(0, message).hint("compare it with something, for example `> 7.1`")
}

/// What is checked besides the expressions. `disclose` is not: `source.points` names what the rule reads, not every
/// point of the device; the mapping checks it.
fn check_frame(source: &RuleSource, faults: &mut Vec<RuleFault>) {
    if source.on_delay > WINDOW_MAX {
        let fault = Fault::new(0, "an on-delay is at most 24h").hint("use a longer window or `time_in`");
        faults.push(placed(&RuleField::For, "", fault));
    }
}

/// Turns a byte offset into line and column.
fn placed(field: &RuleField, text: &str, fault: Fault) -> RuleFault {
    let before = text.get(..fault.offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    RuleFault {
        field: field.clone(),
        line: count(before.matches('\n').count() + 1),
        column: count(before.get(line_start..).unwrap_or_default().chars().count() + 1),
        message: fault.message,
        hint: fault.hint,
    }
}
