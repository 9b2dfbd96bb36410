//! Fuzzing without a nightly compiler: inputs that gave an answer never seen before are kept and mutated further.
//!
//! **What is new.** Coverage counters need compiler flags of nightly; instead a target says in a text what became of the input (which fault,
//! which numbers of what), and a text with its digits taken out that was not there before makes the input worth keeping. Our parsers name each of
//! their refusals, so this follows their branches well; it does not see inside one branch.
//!
//! **What is found.** A panic (also an overflow: tests are built with checks), an input that takes longer than [`SLOW`], a reader that
//! takes bytes which its own writer would not write (one meaning, one form). Such an input goes to `fuzz/found/` and ends the run.
//!
//! `fuzz/corpus/TARGET/` holds small inputs, replayed by a normal test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // it fails by panicking: that is its answer

mod engine;
mod mutate;
mod seeds;
mod targets;

pub use engine::{Report, SLOW, corpus, replay, run};
pub use seeds::seeds;
pub use targets::{TARGETS, Target};
