//! The ledger node: sealed statements in, executed and provable entries out.
//!
//! The path of a statement, one room after the other (ARCHITECTURE.md, steps 9 to 12):
//! `api` (bytes from the wire) → `admit` (checked) → `order` (its place in a block) → `execute` (the contracts) → `store` (log
//! synced, index, head) → back through `api` (receipt).
//!
//! **Trusted with** the ledger's key and the order of entries. **Its thief could** leave statements out and sign two histories;
//! he could not alter or invent a statement, for those are sealed by their signers, and receipts given out expose him.
//! **Never here**: connectors, mappings, anything that knows what a register is.

mod node;

mod api;
mod config;
mod engine;

mod admit;
mod clock;
mod execute;
pub mod follow;
mod metrics;
mod order;
mod priority;
mod private;
mod projection;
mod remembered;
mod store;

pub mod alarms;
pub mod backup;
pub mod bench;
pub mod checkup;
pub mod retain;
pub mod testing;
pub mod witness;

pub use admit::{NotNow, OnItsWay, Refused};
pub use api::{Access, ROUTES, Role, Route, Shows};
pub use clock::{Clock, WallClock};
pub use config::{ConfigError, NodeConfig, load_rules};
pub use engine::{
    Committed, Engine, EngineConfig, FollowFault, Following, LastPass, LedgerKey, Limits, NodeState, ReadError,
    SubmitError,
};
pub use node::{Node, NodeError, init, run};
pub use order::{BlockLimits, DivergedIn, OpenLedgerError};
pub use projection::{Checked, Feed, ProjectError, Questions, Rebuilt, Status, check, rebuild};
pub use store::{
    BlockRecord, BlockRow, CommitError, EntryPlace, FlushLimits, Head, IndexDisk, IndexFault, LogDisk, Part, Pruned,
    RunLimits, StateView, Store, StoreOpenError, Usage, UsageFault,
};
pub use tally_door::{BindError, Listen};
