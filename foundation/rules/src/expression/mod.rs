//! One CEL expression: text → scanned → parsed by `cel` → checked into a small typed tree → evaluated.
//!
//! The crate `cel` supplies the grammar. Its interpreter is not used: it has no windows, no type checker, calls
//! 1.0/0.0 a number, and compares a missing point as an error text; ours is a walk over the tree below, and a
//! property test holds the two against each other where both have an answer.

mod check;
mod evaluate;
mod scan;
mod tree;

pub(crate) use check::{Checked, Fault, check};
pub(crate) use evaluate::evaluate;
pub(crate) use tree::{Function, Kind, Node, Scalar, Slot};
