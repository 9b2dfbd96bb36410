//! The ledger kernel: what the contracts make of an input, as a pure function of state, block and input.
//!
//! Never here: I/O, a clock (block time is the only one), randomness, a float in money. The same inputs on the same state
//! give the same bytes on every machine; everything, contracts included, lives in the state, so the log alone rebuilds it.
//!
//! - [`Kernel::execute`]: one input, all or nothing: events, or a numbered [`Refusal`]
//! - [`Overlay`]: writes over a [`StateRead`]; the node stores [`Overlay::into_changes`]
//! - [`views`]: what the node's API shows
//! - [`Genesis`]: entry 0

mod access;
mod accounts;
mod admit;
mod agreements;
mod anchors;
mod args;
mod attestation;
mod book;
mod codec;
mod currency;
mod datum;
mod engine;
mod fault;
mod genesis;
mod kernel;
mod keys;
mod library;
pub mod live;
mod origin;
mod privacy;
mod records;
mod refusal;
mod registry;
pub mod resolve;
mod run;
pub mod sight;
mod state;
mod state_key;
pub mod views;
mod yaml;

pub use access::{OpenPermit, PolicyView, QuarantineView, permits, policies, quarantines};
pub use currency::{minor_digits, parse_amount};
pub use datum::{Datum, FieldType};
pub use engine::{
    Caller, Candidate, Cause, Contract, Effect, EffectSpec, Expression, Happening, NEW, Order, People, STANDING,
    Standing, Stepped, Transition, TriggerFacts, step,
};
pub use fault::Fault;
pub use genesis::{Genesis, GenesisAccount, GenesisIssue, GenesisStanding, RETIRE_AFTER_USUAL, genesis_body};
pub use kernel::{Block, Input, Kernel};
pub use keys::GENESIS as GENESIS_KEY;
pub use library::LIBRARY;
pub use origin::Origin;
pub use privacy::{PRIVACY, PrivateField, Purge, all_purged, fields_of, purged_by};
pub use records::Agreement;
pub use refusal::Refusal;
pub use state::{Changes, Layer, Overlay, StateRead};
pub use state_key::state_key;
