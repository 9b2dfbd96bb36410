//! The engine of agreements: contracts are data, [`step`] is a pure function.
//!
//! ```text
//! YAML text --load--> Contract (every fault at once) --step(contract, agreement, cause)--> (agreement', effects) or refusal
//! ```
//! The engine moves no money and writes no state: it says what shall happen ([`Effect`]), and the kernel books it.

mod contract;
mod expression;
mod graph;
mod load;
mod scope;
mod step;
mod types;

pub(crate) use contract::bad_argument;
pub use contract::{Attest, Cause, Contract, EffectSpec, Independent, NEW, Order, STANDING, Standing, Transition};
pub use expression::Expression;
pub(crate) use load::GROUP_MAX;
pub(crate) use scope::Scope;
pub use scope::{Candidate, TriggerFacts};
pub use step::{Caller, Effect, Happening, People, Stepped, step};
