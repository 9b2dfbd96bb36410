//! A small client of the ledger node's HTTP API (`docs/formats/api.md`), for agents and people.
//!
//! **Purpose.** Submit sealed statements, read what the node knows, follow its events; over a unix socket, TCP or TLS, the same
//! way. It looks into no statement and checks no receipt: the caller does, with the ledger's key.
//!
//! **Limits.** 2 s to connect, 10 s for a whole answer ([`Timeouts`]); at most 16 idle connections are kept; an answer has at
//! most 64 MiB, one line of the event stream 1 MiB. Cloning a [`Client`] is cheap and shares the connections.
//!
//! **What is safe.** Every request may be repeated: a statement submitted twice is one entry and gets its first receipt. So a
//! kept connection that turns out to be dead is replaced and the request sent again, once, without telling anyone.

mod client;
mod error;
mod events;

mod access;
mod address;
mod connection;

pub use access::{Access, AccessFault, read_token};
pub use address::{AddressFault, NodeAddress};
pub use client::{Client, Submitted, Timeouts};
pub use error::{RequestError, SubmitError};
pub use events::LedgerEvent;
