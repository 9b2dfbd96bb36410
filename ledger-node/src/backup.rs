//! A copy of a ledger, made while the node works, and a ledger made from such a copy.
//!
//! **What is copied.** The log: it is the only truth, and it only grows. Segments are copied oldest first; all but the last never
//! change, and of the last one a beginning is copied. A block that was being written is cut off. When old segments were pruned,
//! also what is kept of them and the newest snapshot. The ledger's key is *not* copied: who has it can seal a second history.
//!
//! **Layout of a copy**
//!
//! ```text
//! MANIFEST.json   written last: without it the copy is not whole
//! log/            segments, as docs/formats/journal.md has them
//! kept/           only when segments were pruned: what is kept of them (docs/formats/retention.md)
//! snapshot/       likewise: the state that the rest of the log goes on from
//! private/        private fields of calls in clear, as far as they were kept when the copy was made
//! ```
//!
//! **Checked** after copying: every checksum, seal, link between checkpoints and tree root of the copy itself. **Checked** before
//! a restored ledger is put in its place: all that, the digests of the manifest, and every block executed again and compared.

mod copy;
mod fault;
mod files;
mod manifest;
mod restore;

pub use copy::{Copied, copy};
pub use fault::BackupError;
pub use manifest::{CopiedFile, MANIFEST, Manifest};
pub use restore::restore;

const LOG: &str = "log";
