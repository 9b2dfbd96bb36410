//! Mapping files: what devices there are, how they are read, and when something is worth a trigger.
//!
//! [`load`] reads a plant file and the data sheets it uses and gives either a [`Plant`], complete and checked, or **all**
//! faults at once, each with file, line, column, key, what was found, what is allowed, and a hint. Nothing is connected
//! to. The manual for people is `docs/operator/mappings.md`; the keys are described once, on the types in `written.rs`,
//! and the JSON Schema for editors is generated from them.
//!
//! The way of a file: text → tree with places ([`yaml`]) → held against the schema ([`shape`], unknown keys, wrong
//! types, missing keys) → as-written types ([`written`]) → checked ([`check`]). A fault in one place hides no fault in another.
//!
//! The tree is built from the events of `granit-parser`, the parser under `serde-saphyr`, whose own serde layer stops
//! at the first fault.
//!
//! Limits: 1 MiB a file, 16 levels of nesting, 2 KiB an expression, 64 MiB a recording for `tests:`.
//! Mapping files are written by people (and `tally browse`), never by this crate.
//!
//! Never here: protocol stacks, network.

mod check;
mod expression_place;
mod fault;
mod load;
mod names;
mod plant;
mod profile;
mod schema;
mod shape;
mod testing;
mod written;
mod yaml;

pub use fault::{Fault, Faults, Severity};
pub use load::load;
pub use names::{ReservedName, reserved_device, reserved_point};
pub use plant::{Expectation, Plant, TestCase};
pub use schema::{json_schema, sheet_json_schema};
pub use testing::{TestReport, run_tests};
