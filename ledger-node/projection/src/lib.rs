//! The ledger as tables, for questions that the ledger itself has no index for: by device, party, contract, state and time,
//! history, windowed aggregates, and whatever somebody asks in SQL.
//!
//! **Never the truth.** Everything here follows from the log and is made from it again with one command. The height up to
//! which it is complete is written in the same transaction as the rows ([`Height`]), so every answer can say how old it is, and
//! a crash between two transactions leaves an older projection, never a wrong one.
//!
//! - [`BlockFacts`], [`AgreementFacts`]: what a block says, in the words of `foundation/evidence`; who reads the log gives them
//! - [`Projection`]: writes them, in SQLite or PostgreSQL ([`Place`])
//! - [`ask`]: pages of entries, agreements and histories, and aggregates; every value is a bound parameter
//! - [`guarded`]: somebody's own `SELECT` on the SQLite file, with limits of time, rows and bytes
//! - [`compare`]: two projections, row by row
//!
//! **Never here**: the node, its log, the contracts, a network interface of ours.

pub mod ask;
mod batch;
mod compare;
mod database;
mod facts;
mod guarded;
mod linear;
mod postgres;
mod project;
mod pruned;
mod rows;
mod schema;
mod sqlite;
mod statement;
mod window;

pub use batch::Details;
pub use compare::{Comparison, compare};
pub use database::{Database, Dialect, Fault, Row, Value};
pub use facts::{AccountFacts, AgreementFacts, BlockFacts};
pub use guarded::{SqlAnswer, SqlLimits, guarded};
pub use project::{Height, Place, Projection, WriteOutcome};
pub use schema::{SCHEMA_VERSION, VIEWS};
pub use sqlite::remove;
pub use window::{instant, reaching_back};
