//! Recorded readings played back as if a device said them now: for rehearsing rules and contracts.
//!
//! A recording is a CSV file with a header. The column `time` holds seconds or RFC 3339 instants that never fall;
//! every other column may be a point (`at: column:NAME`). An empty cell is no sample. The numbers are values in the
//! point's unit: they are not scaled again. Limit: 64 MiB a file, because a recording is held in memory.
//!
//! `every` is ignored: the recording has its own pace. Times count from its first row.

mod config;
mod decode;
mod error;
mod link;
mod plan;

pub use decode::value_of;
pub use error::ReplayError;
pub use link::{AtEnd, link};
pub use plan::{Cell, load};
