//! An archive: complete segments of the log in a folder, each with a manifest, never changed again.
//!
//! ```text
//! 00000000000000000000.seg    a segment as it was in the log (docs/formats/journal.md), mode 0444
//! 00000000000000000000.json   its manifest, mode 0444; written last: without it the segment is not whole
//! 00000000000000000000.private   private fields of its calls, mode 0600; only when there are some, may be deleted (`openings`)
//! ```
//! Anyone with the ledger's public key can check an archive: digests, hash chain, seals, chain of checkpoints, and the roots of
//! the tree when it reaches back to block 0. Written down in `docs/formats/retention.md`.

mod disk;
mod fault;
mod files;
mod manifest;
mod put;
mod verify;

pub(crate) use disk::ArchiveDisk;
pub use fault::ArchiveFault;
pub(super) use files::{remove, rename};
pub(super) use manifest::compare;
pub(crate) use manifest::segment_names;
pub use manifest::{Manifest, list};
pub use put::{put, put_all};
pub use verify::{Verified, verify};
