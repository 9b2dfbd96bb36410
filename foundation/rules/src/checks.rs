//! Truth before the seal: what the checks of a rule find in the readings behind a firing (`docs/formats/checks.md`).
//!
//! [`findings`] is a function of the rule and the readings shown, so agent and verifier get the same. Only a recording that is
//! older than the evidence is known to nobody but the agent that remembers it ([`Live`]): there its word stands, and
//! [`confirm_findings`] says so.

mod find;
mod identity;
mod live;
mod replay;

pub use identity::{confirm_identity, other_identity};
pub(crate) use live::Live;

use crate::expression::Node;
use crate::history::Expected;
use crate::rule::Rule;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tally_model::{Checks, Finding, FindingCode, PointId, Reading, Timestamp};

/// The checks of a compiled rule.
#[derive(Debug, Clone)]
pub(crate) struct CheckSet {
    pub(crate) source: Checks,
    /// Relations by name.
    pub(crate) related: Vec<(PointId, Node, Duration)>,
    /// Every point that a check looks at.
    pub(crate) looks: BTreeSet<PointId>,
    /// How far before the deciding reading findings count, µs.
    pub(crate) look_back: i64,
    /// How far readings are needed for that: relations have windows, µs.
    pub(crate) reach: i64,
    /// By slot, for the memory of the checks.
    pub(crate) expected: Vec<Expected>,
}

/// Why claimed findings are not those of the readings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindingMismatch {
    /// Checks without a rule that asks for them, or the other way round.
    #[error("the rule {} checks before the seal, the trigger says {}", if *.asked { "asks for" } else { "asks for no" }, if *.asked { "nothing of them" } else { "what they found" })]
    Asked {
        /// Whether the rule asks.
        asked: bool,
    },
    /// The readings show it, the trigger does not say it.
    #[error("the readings show what the trigger does not say: {0}")]
    Concealed(Finding),
    /// The trigger says it, the readings do not show it.
    #[error("the trigger says what the readings do not show: {0}")]
    Invented(Finding),
}

impl CheckSet {
    /// Puts together what is compiled; `expected` says how far back relations look, `history` how far the rule itself does.
    pub(crate) fn new(
        source: Checks,
        related: Vec<(PointId, Node, Duration)>,
        looks: BTreeSet<PointId>,
        history: Duration,
        expected: Vec<Expected>,
    ) -> Self {
        let lasting = source.points.values().flat_map(|checks| {
            // Twice: the last reading is a little older than the deciding one, and slow points need more than the time alone.
            let frozen = checks.frozen.map(|frozen| frozen.lasting.saturating_mul(2));
            [frozen, checks.redundant.as_ref().map(|other| other.lasting)]
        });
        let lasting = lasting.flatten().chain(related.iter().map(|(_, _, lasting)| *lasting)).max();
        let look_back = source.look_back.max(history).max(lasting.unwrap_or_default());
        // Never nothing: the deciding reading and the one before each count.
        let look_back = i64::try_from(look_back.as_micros()).unwrap_or(i64::MAX).max(1);
        let longest_window = expected.iter().map(|expected| expected.horizon).max().unwrap_or(0);
        Self { source, related, looks, look_back, reach: look_back.saturating_add(longest_window), expected }
    }
}

/// What the checks of `rule` find in `readings` (of the points it discloses, in number order) before a firing at `at`: sorted
/// by code and point. Nothing for a rule without checks.
#[must_use]
pub fn findings(rule: &Rule, readings: &[Reading], at: Timestamp) -> Vec<Finding> {
    let Some(checks) = &rule.checks else { return Vec::new() };
    let mut found = find::Found::default();
    find::all(rule, checks, readings, at.as_micros(), &mut found);
    found.into_sorted()
}

/// What a trigger says: what the readings from number `first` on show, and what the agent knows beyond them.
#[must_use]
pub fn with_known(shown: Vec<Finding>, known: Vec<Finding>, first: u64) -> Vec<Finding> {
    let mut all: BTreeMap<_, Finding> = shown.into_iter().map(|finding| (key(&finding), finding)).collect();
    for known in known {
        let key = key(&known);
        let merged = match all.get(&key) {
            Some(_) if !is_word(&known, first) => continue,
            Some(shown) => Finding { from: known.from.min(shown.from), to: known.to.max(shown.to), ..known },
            None => known,
        };
        all.insert(key, merged);
    }
    all.into_values().collect()
}

/// Checks what a trigger says its checks found, against the readings shown from number `first` on. Gives what stands on the
/// agent's word alone.
///
/// # Errors
/// [`FindingMismatch`] with the first difference.
pub fn confirm_findings<'c>(
    rule: &Rule,
    readings: &[Reading],
    at: Timestamp,
    first: u64,
    claimed: Option<&'c [Finding]>,
) -> Result<Vec<&'c Finding>, FindingMismatch> {
    let (Some(checks), Some(claimed)) = (&rule.checks, claimed) else {
        let asked = rule.checks.is_some();
        return if asked || claimed.is_some() { Err(FindingMismatch::Asked { asked }) } else { Ok(Vec::new()) };
    };
    let shown = findings(rule, readings, at);
    for shown in &shown {
        let covers = |claim: &&Finding| {
            *claim == shown
                || key(claim) == key(shown) && is_word(claim, first) && claim.from <= shown.from && claim.to >= shown.to
        };
        if !claimed.iter().any(|claim| covers(&claim)) {
            return Err(FindingMismatch::Concealed(shown.clone()));
        }
    }
    let words: Vec<_> = claimed.iter().filter(|claim| !shown.contains(claim)).collect();
    match words.iter().find(|claim| !may_be_known(checks, claim, first)) {
        Some(invented) => Err(FindingMismatch::Invented((*invented).clone())),
        None => Ok(words),
    }
}

fn key(finding: &Finding) -> (FindingCode, Option<PointId>) {
    (finding.code, finding.point.clone())
}

/// Whether it speaks of readings before those shown.
fn is_word(finding: &Finding, first: u64) -> bool {
    finding.from < first || finding.earlier.is_some_and(|earlier| earlier < first)
}

/// Whether an agent may know it beyond the readings shown.
fn may_be_known(checks: &CheckSet, claim: &Finding, first: u64) -> bool {
    match (claim.code, &claim.point) {
        (FindingCode::Replay, Some(point)) => {
            let is_checked = checks.source.points.get(point).is_some_and(|checks| checks.replay.is_some());
            is_checked && is_word(claim, first)
        }
        (FindingCode::Map, None) => checks.source.map.is_some(),
        (FindingCode::Identity, None) => checks.source.identity.is_some(),
        _ => false,
    }
}
