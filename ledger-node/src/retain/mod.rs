//! Forgetting: what stays when old segments of the log go, and how a ledger lives on without them.
//!
//! The order is always the same: a verified snapshot that is newer than the segment; the segment in the archive, compared, when one
//! is configured; what is still needed in a kept file, compared; and only then the segment is deleted. After a power cut at any
//! place the pass is simply made again. Formats: `docs/formats/retention.md`; reasons: `docs/decisions/018-retention.md`.

pub mod archive;
mod container;
mod import;
pub mod kept;
mod openings;
pub mod pass;
pub(crate) mod rebuild;
pub mod snapshot;

pub use container::FileFault;
pub use import::{ImportStep, Imported, import, import_with};
pub use kept::KeptBlock;
pub use pass::{Done, Pass, Plan, Reason, RetainFault, Retention, Step, plan};
