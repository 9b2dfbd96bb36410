//! Two of the bodies a statement can carry; the others are [`crate::AnchorBody`] and [`crate::BatchBody`]. CDDL: `docs/formats/trigger.cddl`,
//! `docs/formats/call.cddl`.

mod call;
mod quick;
#[cfg(test)]
pub(crate) mod tests;
mod trigger;

pub use call::CallBody;
pub use trigger::{ReadingsClaim, Transition, TriggerBody, TriggerCall};

use crate::cbor::CborFault;
use tally_model::{Grade, Priority};

/// Most arguments a call may carry; contracts name a handful.
const ARGUMENTS_MAX: usize = 64;

/// Why bytes are not a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The CBOR is not what the CDDL says.
    #[error("{0}")]
    Cbor(#[from] CborFault),
    /// A word outside its closed list.
    #[error("`{0}` is not one of the allowed words")]
    Word(String),
    /// The numbers of the readings run backwards.
    #[error("readings {first}..{last} run backwards")]
    Range {
        /// First reading number.
        first: u64,
        /// Last reading number.
        last: u64,
    },
    /// A state of a clock that is none, or whose bound is missing or one too many.
    #[error("`{0}` is no state of a clock, or goes with an error where it must not, or without one where it must")]
    Clock(String),
    /// A grade outside its list, or one that is written by leaving it out.
    #[error("`{0}` is no grade that is written; allowed: device-sealed, gateway-sealed; absent is agent-sealed")]
    Grade(String),
    /// Origins that do not rise, do not change, or whose parts do not belong together.
    #[error("the origins of the readings are not in the form in which agents write them")]
    Origins,
    /// Findings out of order, twice for one point, or a class that does not follow from them.
    #[error("the evidence quality is not in the form that the checks give it")]
    Quality,
    /// More arguments than any contract takes.
    #[error("more than {ARGUMENTS_MAX} arguments")]
    TooManyArguments,
}

/// One meaning has one form: agent-sealed is not written.
fn written_grade(word: &str) -> Result<Grade, BodyFault> {
    let grade = word.parse().ok().filter(|grade| *grade != Grade::Agent);
    grade.ok_or_else(|| BodyFault::Grade(word.to_owned()))
}

pub(crate) const fn priority_word(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
        Priority::Critical => "critical",
    }
}

pub(crate) fn priority_from(word: &str) -> Result<Priority, BodyFault> {
    [Priority::Low, Priority::Medium, Priority::High, Priority::Critical]
        .into_iter()
        .find(|priority| priority_word(*priority) == word)
        .ok_or_else(|| BodyFault::Word(word.to_owned()))
}
