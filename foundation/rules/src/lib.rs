//! Rule + window of readings → firing; the same answer in agent, node and verifier, to the last bit.
//!
//! A [`Rule`] is a compiled [`tally_model::RuleSource`]. A [`Watch`] runs it over the numbered readings of **one**
//! device and says when it is raised and cleared. [`recompute`] lets anyone check such a [`Firing`] from nothing but
//! the disclosed readings behind it; it runs the very same code. [`findings`] says what speaks against these readings:
//! truth before the seal, checked again by [`confirm_findings`].
//!
//! # Semantics (decided in `docs/decisions/004-rule-semantics.md`, for people in `docs/operator/mappings.md`)
//! - *Rule time* is `sample.received` of the reading at hand, which the vault never lets fall. There is no other clock.
//! - The rule is evaluated after each reading of a point that any of its expressions names.
//! - A truth is *true*, *false* or *unknown*. Unknown is never true, and never false either: a machine that went
//!   silent neither raises nor clears. `&&`, `||` and `!` treat unknown as CEL treats errors (`true || unknown` is
//!   true). A number that is not finite (1/0, overflow) is unknown.
//! - A bare point is its newest reading; when that has no value, it is unknown. `last(p)` is its newest *usable* value.
//! - A window is (now − w, now]. It needs an edge, a reading of the point at or before now − w: we have watched that
//!   long. It needs one usable reading (`rate`: two), and at least half of its readings usable, else it is *too thin*.
//! - Usable is a value of the expected kind and unit whose quality is not bad.
//! - Sums are taken afresh in number order, so every machine gets the same double.
//! - Raised at the first evaluation at which `when` has been true at every evaluation since one at or before
//!   now − on-delay; once, until cleared. Cleared when `until` is true, or without `until` when `when` is false.
//!
//! # Limits
//! Expression 2 KiB, brackets 8 deep, 100 operators deep; windows and on-delays up to 24 h, 1,000,000 readings a
//! window (a fuller one counts as too thin). A watch holds 32 bytes for each reading inside its longest window; an
//! evaluation walks the readings of its windows once and copies none.
//!
//! Never here: I/O, a clock, randomness, results that depend on order of arrival or on the machine.

mod checks;
mod expression;
mod history;
mod near;
mod recompute;
mod rule;
mod watch;

pub use checks::{FindingMismatch, confirm_findings, confirm_identity, findings, other_identity, with_known};
pub use near::nearest_name;
pub use recompute::{Mismatch, recompute};
pub use rule::{EXPRESSION_BYTES_MAX, Rule, RuleFault, RuleField, WINDOW_MAX};
pub use watch::{Firing, Missing, MissingReason, Transition, Watch, WatchState};
