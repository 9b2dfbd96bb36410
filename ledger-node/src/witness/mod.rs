//! Witnesses: what other organisations sign, so that a ledger cannot show two histories. Formats: `docs/formats/witness.md`.
//!
//! ```text
//!   our node                                  somebody else's `tally witness` or node, or any C2SP witness
//!   collect ── old size, path, note (wire) ──▶ serve ─▶ judge ─▶ record (synced) ─▶ cosignature
//!      └──────────── cosignature, checked ◀──────────────────────────────────────────────┘
//!      └─▶ final.note (synced) ─▶ finality: which receipts are final
//! ```
//! A node can be a witness of others besides (`witness_for`): the same records and rules behind its own interface (`api/witness.rs`).
//!
//! **Trusted with** one thing: that it never signs two histories of one log. **Its thief could** cosign a second history, which shows as
//! soon as two people compare, and needs `need` − 1 more thieves before anybody is deceived.
//! **Never here**: statements, contracts. A witness sees sizes and roots.

mod config;
mod judge;
mod metrics;
mod program;
mod record;
mod serve;

mod ask;
mod collect;
mod finality;
mod policy;
mod tallies;

mod wire;

pub(crate) use collect::start;
pub(crate) use config::RawWatching;
pub use config::{WatchedLog, Watching, WitnessConfig};
pub use finality::{Finality, Standing};
pub use judge::{Answer, Witness};
pub(crate) use policy::RawPolicy;
pub use policy::{AskedWitness, WitnessPolicy, WitnessUrl};
pub(crate) use program::open;
pub use program::{WitnessError, run};
pub use record::{RecordError, Records, Settled};
pub(crate) use serve::{REQUEST_TIME, judged, shown, status_of};
#[doc(hidden)]
pub use wire::AddCheckpoint;
pub(crate) use wire::REQUEST_BYTES_MAX;
