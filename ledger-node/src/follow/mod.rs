//! A second node of a ledger: it copies what the one that orders has, believes none of it, and from then on takes its blocks, executes
//! each and compares. A regulator's own copy, or a standby. Decision 026; for people `docs/operator/node.md`.
//!
//! ```text
//!   join     /checkpoint ─ /copy ─ files in pieces ─▶ joining/ ─ every seal, root, digest ─ executed again ─▶ data folder, marked
//!   task     /copy/blocks?from=N ─▶ seal, chain, signers' seals ─ executed, roots compared ─▶ log (synced), index
//!   promote  at an operator's word: the mark goes, and the folder may be opened with the ledger's key
//! ```
//! **Trusted with** nothing but the ledger's *public* key, which the operator gives. **Its thief could** stop it or show its readers
//! less; it can seal nothing: no receipt, no note, no block. **Never here**: the ledger's private key.

mod join;
pub mod mark;
mod promote;
mod source;
mod task;

pub use join::{JoinError, Joined, Progress, join};
pub use promote::{PromoteError, promote};
pub use source::{Source, SourceFault};
pub(crate) use task::run;
