//! Tower 1: readings → sealed triggers that will not be lost; and what SCADA hears.
//!
//! ```text
//! connectors ──Batch──▶ ingest ─┬─▶ vault   (numbered, salted, chained, on disk)
//!                               ├─▶ watch   (rules) ─▶ seal ─▶ outbox (synced)
//!                               │                                │
//!                               ├─▶ anchor  (every minute: all readings of a device) ─▶ submit ─▶ node
//!                               └─▶ publish (live values) ◀─ spool ├─▶ submit ─▶ node ─▶ receipts
//!                                                                └─▶ publish (triggers), node's events ─▶ publish
//! api: status, metrics, statements, receipts, disclosures
//! ```
//! [`run`] wires it. What is true after each step when the power goes stands in `docs/decisions/008-edge-agent.md`, what an
//! operator does about it in `docs/operator/agent.md`, what SCADA hears in `docs/formats/topics.md`.
//!
//! Limits: 1,000 points in under 40 MB resident; every queue is bounded and says what happens when it is full. One process
//! at a time owns the data folder.
//!
//! Never here: contracts, the ledger node, a decision about money.

mod agent;
mod command;
mod config;
pub mod gate;
mod links;
pub mod reload;

pub mod anchor;
pub mod disclose;
pub mod ingest;
pub mod outbox;
mod publish;
pub mod receipts;
pub mod seal;
pub mod spool;
pub mod submit;
pub mod unsealed;
pub mod vault;
pub mod watch;

mod api;
mod certificates;
mod systemd;

pub mod bench;
mod bytes;
pub mod error;
pub mod status;
pub mod store;

pub use agent::{AgentError, AgentPlant, MakeClock, run, run_plant, run_plant_by, run_plant_with};
pub use anchor::bench::bench_anchors;
pub use api::{Shows, shown_by_route};
pub use bench::bench_vault;
pub use command::CommandLimits;
#[doc(hidden)]
pub use command::read_json;
pub use config::{AgentConfig, BrokerConfig, ConfigError, Fault, Limits, PublishMode, SparkplugConfig};
pub use spool::SpoolLimits;
