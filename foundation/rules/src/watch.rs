//! The running state of one rule.
//!
//! ```text
//!              when true                    when true for on-delay
//!   Normal ───────────────▶ Pending ───────────────────────────────▶ Raised ──┐ Firing (Raised)
//!     ▲  ▲                    │                                        │      └─▶
//!     │  └── not true ────────┘                                        │
//!     └──────────────── until true (without until: when false) ───────┘ Firing (Cleared)
//! ```
//! The evaluation that clears does not count towards the next on-delay.

use crate::checks::Live;
use crate::expression::{Node, Scalar, evaluate};
use crate::history::History;
use crate::rule::Rule;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{Finding, Reading, Timestamp, Value};

/// Which way a rule changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transition {
    /// The condition came true and stayed so for the on-delay.
    Raised,
    /// It is over.
    Cleared,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
        })
    }
}

/// A rule's word about a range of readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// Raised or cleared.
    pub transition: Transition,
    /// Rule time of the reading that decided it.
    pub at: Timestamp,
    /// Number of the first reading needed to recompute it.
    pub first: u64,
    /// Number of the reading that decided it.
    pub last: u64,
    /// Call arguments by name, evaluated at `at`; empty without a call and when cleared. An argument that had no value
    /// at that instant is left out: the trigger is not held back for it, and the contract says what is missing.
    pub with: BTreeMap<String, Value>,
}

/// What a rule is doing, for status displays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchState {
    /// The condition is false.
    Normal,
    /// The condition is true, the on-delay runs.
    Pending {
        /// First evaluation of the unbroken run.
        since: Timestamp,
    },
    /// Raised and not yet cleared.
    Raised {
        /// When it was raised; after a restart, the time of the newest reading known then.
        since: Timestamp,
    },
    /// The condition cannot be judged.
    TooThin {
        /// What is missing; empty when the parts are there and only their combination has no value.
        missing: Vec<Missing>,
    },
}

/// A part of a condition that has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The part, as in `mean(vibration, '10s')`.
    pub what: String,
    /// Why it has no value.
    pub reason: MissingReason,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}

/// Why a part of a condition has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MissingReason {
    /// The newest reading has no usable value, or there is none yet.
    #[error("no usable value")]
    NoValue,
    /// No reading as old as the window is long.
    #[error("not watched for as long as the window")]
    NotWatchedLongEnough,
    /// Too few usable readings, or less than half of them usable.
    #[error("only {usable} of {readings} readings usable")]
    TooFewUsable {
        /// Usable readings in the window.
        usable: usize,
        /// All readings in the window.
        readings: usize,
    },
    /// The result is not a finite number.
    #[error("the result is not a finite number")]
    NotFinite,
}

/// One rule, watching.
#[derive(Debug, Clone)]
pub struct Watch {
    rule: Arc<Rule>,
    history: History,
    next_number: u64,
    phase: Phase,
    /// What `when` said last.
    judged: Option<bool>,
    /// For the checks, when the rule asks for some.
    live: Option<Live>,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Normal or pending.
    Armed(Hold),
    Raised {
        since: Timestamp,
    },
}

/// The unbroken run of evaluations at which `when` was true.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold {
    /// Rule time of its first evaluation, and the lowest reading number that one looked at.
    run: Option<(Timestamp, u64)>,
}

impl Hold {
    /// Takes in one evaluation. Answers with the lowest number the run needs once it has lasted `on_delay`.
    pub(crate) fn advance(&mut self, truth: bool, now: Timestamp, first: u64, on_delay: Duration) -> Option<u64> {
        if !truth {
            self.run = None;
            return None;
        }
        let (since, first) = *self.run.get_or_insert((now, first));
        (now.since(since) >= on_delay).then_some(first)
    }
}

impl Watch {
    /// A watch that knows nothing yet.
    #[must_use]
    pub fn new(rule: Arc<Rule>) -> Self {
        let history = rule.empty_history();
        let live = rule.checks.as_ref().map(|checks| Live::new(&rule, checks));
        Self { rule, history, next_number: 0, phase: Phase::Armed(Hold::default()), judged: None, live }
    }

    /// The rule it runs.
    #[must_use]
    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Takes in the next reading of the device and says whether the rule changed. Readings of other devices, of
    /// points that neither the rule nor its checks look at, and repeated numbers are ignored.
    pub fn observe(&mut self, reading: &Reading) -> Option<Firing> {
        if reading.device != self.rule.source().device || reading.number < self.next_number {
            return None;
        }
        self.next_number = reading.number.saturating_add(1);
        if let (Some(live), Some(checks)) = (&mut self.live, &self.rule.checks) {
            live.push(&self.rule, checks, reading);
        }
        let slot = self.rule.slot(&reading.sample.point)?;
        self.history.push(slot, reading);
        let evaluation = Evaluation { rule: &self.rule, history: &self.history, number: reading.number };
        match &mut self.phase {
            Phase::Armed(hold) => {
                self.judged = evaluation.judge(&self.rule.when);
                let first = evaluation.raise(hold, self.judged == Some(true))?;
                let firing = evaluation.raised(first);
                self.phase = Phase::Raised { since: firing.at };
                Some(firing)
            }
            Phase::Raised { .. } => {
                let firing = evaluation.cleared()?;
                self.judged = Some(false);
                self.phase = Phase::Armed(Hold::default());
                Some(firing)
            }
        }
    }

    /// What the rule is doing.
    #[must_use]
    pub fn state(&self) -> WatchState {
        match &self.phase {
            Phase::Raised { since } => WatchState::Raised { since: *since },
            Phase::Armed(Hold { run: Some((since, _)) }) => WatchState::Pending { since: *since },
            Phase::Armed(_) if self.judged.is_none() => {
                WatchState::TooThin { missing: missing(&self.rule, &self.history) }
            }
            Phase::Armed(_) => WatchState::Normal,
        }
    }

    /// Whether the rule is raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        matches!(self.phase, Phase::Raised { .. })
    }

    /// Says whether the rule was raised when the agent stopped. The memory of readings stays: after a restart make a new
    /// watch, let it observe the readings of the last [`Rule::history`] (and one reading of each point before that)
    /// from the vault, and then restore.
    pub fn restore_raised(&mut self, raised: bool) {
        match (&self.phase, raised) {
            (Phase::Armed(_), true) => self.phase = Phase::Raised { since: self.history.now() },
            (Phase::Raised { .. }, false) => self.phase = Phase::Armed(Hold::default()),
            _ => {}
        }
    }

    /// The lowest reading number that a later firing can need. The vault keeps it and everything after it.
    #[must_use]
    pub fn first_needed(&self) -> Option<u64> {
        let pending = match &self.phase {
            Phase::Armed(Hold { run }) => run.map(|(_, first)| first),
            Phase::Raised { .. } => None,
        };
        [self.history.first_needed(), pending, self.first_checked()].into_iter().flatten().min()
    }

    /// The lowest reading number that the checks look at: evidence of a firing begins there or before.
    #[must_use]
    pub fn first_checked(&self) -> Option<u64> {
        self.live.as_ref()?.first_needed()
    }

    /// What the checks know of a firing at `at` beyond any evidence: copies of readings that are remembered, but not shown.
    #[must_use]
    pub fn known_findings(&self, at: Timestamp) -> Vec<Finding> {
        match (&self.live, &self.rule.checks) {
            (Some(live), Some(checks)) => live.copies(checks, at),
            _ => Vec::new(),
        }
    }
}

/// One look at the rule after one reading; the watch and [`crate::recompute`] both decide through it.
pub(crate) struct Evaluation<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) history: &'a History,
    /// The reading just taken in.
    pub(crate) number: u64,
}

impl Evaluation<'_> {
    /// True, false, or unknown.
    pub(crate) fn judge(&self, node: &Node) -> Option<bool> {
        match evaluate(node, self.history)? {
            Scalar::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    /// Lets the run of true evaluations grow or break; answers with its first number when the on-delay is over.
    pub(crate) fn raise(&self, hold: &mut Hold, truth: bool) -> Option<u64> {
        let first = self.first(&self.rule.when);
        hold.advance(truth, self.history.now(), first, self.rule.source().on_delay)
    }

    pub(crate) fn raised(&self, first: u64) -> Firing {
        let arguments = self.rule.with.iter();
        let with =
            arguments.filter_map(|(name, node)| Some((name.clone(), evaluate(node, self.history)?.into_value()?)));
        Firing {
            transition: Transition::Raised,
            at: self.history.now(),
            first: self.rule.with.values().map(|node| self.first(node)).fold(first, u64::min),
            last: self.number,
            with: with.collect(),
        }
    }

    /// The firing that says it is over, when it is.
    pub(crate) fn cleared(&self) -> Option<Firing> {
        let (node, wanted) = match &self.rule.until {
            Some(until) => (until, true),
            None => (&self.rule.when, false),
        };
        (self.judge(node) == Some(wanted)).then(|| Firing {
            transition: Transition::Cleared,
            at: self.history.now(),
            first: self.first(node),
            last: self.number,
            with: BTreeMap::new(),
        })
    }

    /// The lowest number that `node` looks at, the reading just taken in included.
    fn first(&self, node: &Node) -> u64 {
        self.history.first_looked_at(node).map_or(self.number, |first| first.min(self.number))
    }
}

/// The parts of `when` without a value.
fn missing(rule: &Rule, history: &History) -> Vec<Missing> {
    let mut missing = Vec::new();
    rule.when.each_look(&mut |look| {
        let found = match look {
            Node::Point(slot) if history.newest(*slot).is_none() => {
                Missing { what: rule.point(*slot).to_owned(), reason: MissingReason::NoValue }
            }
            Node::Last(slot) if history.newest_usable(*slot).is_none() => {
                Missing { what: format!("last({})", rule.point(*slot)), reason: MissingReason::NoValue }
            }
            Node::Window { function, slot, width } => match history.window(*slot, *width).apply(*function) {
                Ok(_) => return,
                Err(reason) => Missing { what: window_text(rule, function.word(), *slot, *width), reason },
            },
            _ => return,
        };
        if !missing.contains(&found) {
            missing.push(found);
        }
    });
    missing
}

fn window_text(rule: &Rule, function: &str, slot: usize, width: i64) -> String {
    let width = Duration::from_micros(u64::try_from(width).unwrap_or(0));
    format!("{function}({}, '{width:?}')", rule.point(slot))
}
