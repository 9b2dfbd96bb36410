//! What stays of a segment of the log that goes: all that receipts need, and the statements and outcomes that are still needed.
//!
//! One file a segment, `kept/FIRST-LAST.kept` (heights, 20 digits each), as [`container`](super::container) has it. First record
//! `h` and a CBOR head, then one record `b` and a [`KeptBlock`] a block. It proves itself: checkpoints are sealed and chained, the
//! ids give the tree's roots, statements have these ids, outcomes lead to the checkpoints' outcome roots. Subjects of entries
//! whose statement is gone, and refusal numbers of outcomes that are gone, rest on the file's digest alone.

mod block;
mod chain;
mod file;

pub use block::{KeptBlock, KeptEntry, KeptOutcome, batches, is_of};
pub use chain::{CheckedKept, KeptChain};
pub use file::{FOLDER, KeptName, list, read, write};
