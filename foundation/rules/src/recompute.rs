//! Checking somebody else's firing from the disclosed readings alone.
//!
//! What is proved: with nothing known before reading `first`, the readings `first..=last` make the rule say what is
//! claimed, at the instant claimed, with the arguments claimed. Forgetting what came before cannot help a liar: a part of the
//! condition that is missing is unknown, and an unknown part never turns a condition that would be false into a true
//! one (nor a true one into a false one).
//!
//! What is not proved here: that no reading was left out (numbers and hashes of the vault do that), and that the rule
//! was not already raised (the ledger sees raised and cleared take turns).

use crate::rule::Rule;
use crate::watch::{Evaluation, Firing, Hold, Transition};
use tally_model::{Reading, Timestamp, Value};

/// Why a claimed firing does not follow from the readings.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// A range whose end is before its beginning.
    #[error("the readings {first} to {last} are no range")]
    Range {
        /// Claimed first number.
        first: u64,
        /// Claimed last number.
        last: u64,
    },
    /// A reading that has no place in the evidence.
    #[error("reading {number}: {reason}")]
    Reading {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The deciding reading is not among the disclosed ones, or is of a point the rule does not read.
    #[error("reading {last}, which is said to decide, is not there or is of a point the rule does not read")]
    NoDecidingReading {
        /// Claimed last number.
        last: u64,
    },
    /// The readings do not make the rule say this.
    #[error("the readings do not make the rule {}", match .transition { Transition::Raised => "raise", Transition::Cleared => "clear" })]
    DoesNotFollow {
        /// What was claimed.
        transition: Transition,
    },
    /// Another instant.
    #[error("claimed for {claimed}, the deciding reading is of {found}")]
    Instant {
        /// Claimed instant.
        claimed: Timestamp,
        /// Instant of the deciding reading.
        found: Timestamp,
    },
    /// An argument of the call is not what the readings give.
    #[error("argument `{name}`: claimed {}, the readings give {}", shown(.claimed), shown(.found))]
    Argument {
        /// Its name.
        name: String,
        /// Claimed value.
        claimed: Option<Value>,
        /// Value that follows.
        found: Option<Value>,
    },
}

fn shown(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "nothing".to_owned(), |value| format!("`{value}`"))
}

/// Checks that `claimed` follows from `readings`: the readings numbered `claimed.first..=claimed.last` of the points the
/// rule reads, in number order. Readings of other points may be among them.
///
/// # Errors
/// [`Mismatch`] with the first thing that does not follow.
pub fn recompute(rule: &Rule, readings: &[Reading], claimed: &Firing) -> Result<(), Mismatch> {
    if claimed.first > claimed.last {
        return Err(Mismatch::Range { first: claimed.first, last: claimed.last });
    }
    check_readings(rule, readings, claimed)?;
    let derived = derive(rule, readings, claimed)?;
    if derived.at != claimed.at {
        return Err(Mismatch::Instant { claimed: claimed.at, found: derived.at });
    }
    compare_arguments(claimed, &derived)
}

/// The vault numbers readings upwards and never lets time fall; evidence that does not is made up.
fn check_readings(rule: &Rule, readings: &[Reading], claimed: &Firing) -> Result<(), Mismatch> {
    let mut before: Option<(u64, Timestamp)> = None;
    for reading in readings {
        let at = reading.sample.received;
        let refuse = |reason| Err(Mismatch::Reading { number: reading.number, reason });
        if reading.device != rule.source().device {
            return refuse("is of another device");
        }
        if !(claimed.first..=claimed.last).contains(&reading.number) {
            return refuse("lies outside the claimed range");
        }
        if before.is_some_and(|(number, _)| reading.number <= number) {
            return refuse("comes after a higher number");
        }
        if before.is_some_and(|(_, time)| at < time) {
            return refuse("is older than the one before it");
        }
        before = Some((reading.number, at));
    }
    Ok(())
}

/// Runs the rule over the readings and takes what it says at the last one.
fn derive(rule: &Rule, readings: &[Reading], claimed: &Firing) -> Result<Firing, Mismatch> {
    let mut history = rule.empty_history();
    let mut hold = Hold::default();
    let mut derived = None;
    let mut decided = false;
    for reading in readings {
        let Some(slot) = rule.slot(&reading.sample.point) else { continue };
        history.push(slot, reading);
        let evaluation = Evaluation { rule, history: &history, number: reading.number };
        decided = reading.number == claimed.last;
        derived = match claimed.transition {
            Transition::Raised => {
                let truth = evaluation.judge(&rule.when) == Some(true);
                evaluation.raise(&mut hold, truth).filter(|_| decided).map(|first| evaluation.raised(first))
            }
            Transition::Cleared if decided => evaluation.cleared(),
            Transition::Cleared => None,
        };
    }
    if !decided {
        return Err(Mismatch::NoDecidingReading { last: claimed.last });
    }
    derived.ok_or(Mismatch::DoesNotFollow { transition: claimed.transition })
}

fn compare_arguments(claimed: &Firing, derived: &Firing) -> Result<(), Mismatch> {
    for name in claimed.with.keys().chain(derived.with.keys()) {
        let (claimed, found) = (claimed.with.get(name), derived.with.get(name));
        let equal = match (claimed, found) {
            (Some(claimed), Some(found)) => same(claimed, found),
            _ => false,
        };
        if !equal {
            return Err(Mismatch::Argument { name: name.clone(), claimed: claimed.cloned(), found: found.cloned() });
        }
    }
    Ok(())
}

/// Equal to the bit: what was sealed is bytes, and 0.0 and -0.0 are different bytes.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}
