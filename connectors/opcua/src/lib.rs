//! Reads OPC UA servers (OPC UA 1.05) by subscription and reports what changed, with the server's own times.
//!
//! One link is one session with one server; it carries one subscription per device and started thousand points.
//! Values come by exception: the first notification after every (re)connect gives the current value of each point,
//! after that every change. Sampling and publishing interval are the device's `every`.
//!
//! Limits: 1,000 monitored items per subscription and per request (less when the server says so), 64 MiB per message,
//! 100,000 array elements, server-side queue of 10 values per point and publishing interval. A full sink stops the
//! session's task: publish requests stay unanswered, the server queues, and what overflows there arrives marked
//! (overflow bit, OPC UA Part 4 §7.39.1) and is handed on as uncertain. A skipped notification number ends the
//! session, which then starts again with all current values: nothing is missing without a trace.
//!
//! Files: `<pki>/own` is written once by us, `<pki>/rejected` is written by us and emptied by the operator,
//! `<pki>/trusted` is the operator's. What this crate decided about security stands in
//! `docs/decisions/003-async-opcua.md`.

mod acknowledge;
mod alarm;
mod browse;
mod config;
mod connect;
mod decode;
mod endpoint;
mod error;
mod event;
mod expiry;
mod facts;
mod hand;
mod history;
mod issuers;
mod link;
mod outlet;
mod path;
mod pki;
mod plan;
mod poll;
mod session;
mod subscribe;
mod trust;
mod visit;

#[cfg(test)]
mod late_node;

pub use browse::{BrowseOptions, FoundPoint, Survey};
pub use config::Settings;
pub use error::PlanFault;
pub use hand::{Hand, HandFault};
pub use link::link;
pub use pki::{KnownCertificate, PkiFault, TrustList, approve, list, reject};
pub use plan::{AlarmPlan, ItemPlan, Plan, SubscriptionPlan, plan};
pub use visit::Visit;
