//! An append-only record file that a power cut cannot hurt. The agent's outbox and vault and the ledger's log stand on it.
//!
//! **Purpose.** Records are byte strings, numbered from 0 in the order of [`Journal::append`]. After [`Journal::sync`]
//! returned `Ok` every record appended before survives a power cut, unaltered, under its number. Records appended but not
//! synced may survive or not; those that do are the oldest of them, without a hole. This crate knows no meaning of its bytes.
//!
//! **Who writes, who deletes.** One process, one [`Journal`] at a time (a `LOCK` file sees to it). It alone writes, and it
//! deletes only when the owner calls [`Journal::discard_before`], only whole segments, never the last one.
//!
//! **Limits.** Record: 0 bytes to [`Options::record_bytes_max`] (16 MiB by default, never above 2³² − 2). Numbers: below 2⁶³.
//! Memory: 16 bytes of index for each 4 KiB on disk, plus up to 1 MiB of records not yet written. Opening reads and checks
//! every byte kept (checksum and hash chain), through a window of 256 KiB; with [`Check::LastSegment`] the last segment only.
//!
//! # Bytes
//!
//! A folder holds `LOCK` (a line about its owner) and segments named by their first record number: `00000000000000000000.seg`. All integers
//! are little-endian. A segment is one header and then frames, back to back, no padding:
//!
//! ```text
//! header, 64 bytes           0  magic  "TALLYJNL"
//!                            8  version u32 = 1
//!                           12  zero u32
//!                           16  number of the first record u64 (the same as in the file name)
//!                           24  chain hash before the first record [32]
//!                           56  zero u32
//!                           60  CRC32C u32 over bytes 0..60   (stays here in every later version)
//! record, 8 + n bytes        0  length n u32, below 0xFFFF_FFFF
//!                            4  CRC32C u32 over: record number u64, length u32, payload
//!                            8  payload
//! sync mark, 24 bytes        0  0xFFFF_FFFF u32
//!                            4  CRC32C u32 over: 0xFFFF_FFFF u32, bytes 8..24
//!                            8  offset of this mark in its segment u64
//!                           16  number of the next record u64
//! ```
//!
//! Hash chain: `h(0)` = 32 zero bytes, `h(n+1)` = SHA-256(`h(n)` ‖ n as u64 ‖ payload of record n).
//!
//! # Torn tail or damage?
//!
//! A disk may write the unsynced end of a file in any order, so after a power cut a bad frame can stand *before* a good one
//! and nothing is wrong: no one was told that either is safe. The same picture in synced bytes means that an acknowledged
//! record is gone. The **sync mark** tells them apart. It is the first thing written after each successful sync (and when
//! the journal is dropped in good order) and says: *all bytes before me are synced*. So on opening, in the last segment,
//!
//! - a bad frame with a good mark anywhere behind it is **damage**: [`OpenError::Damaged`], with file and offset;
//! - a bad frame with no mark behind it is a **torn tail**: it is cut off and reported by [`Journal::repaired`].
//!
//! In every earlier segment any bad byte is damage: a segment is synced before the next one is created. What one sync
//! cannot tell: rot in the very last synced group *and* a power cut right after it looks like a torn tail. It is reported,
//! not silent; whoever needs more compares [`Journal::head_hash`] with a hash kept elsewhere.
//!
//! # Modes
//!
//! ```text
//!             append (into memory)          any failed write, sync, create or delete
//!            ┌──────────┐                  ┌───────────────────────────────┐
//!  open ──▶ synced ◀──▶ unsynced ──────────┴──▶ poisoned ── drop, open ──▶ synced (what is certain)
//!                sync
//! ```

mod journal;
mod open;
mod read;

mod error;
pub mod files;
mod format;
mod index;
mod scan;
mod storage;
mod summary;
pub mod testing;
mod whole;

pub use error::{Damage, Fault, JournalError, OpenError};
pub use journal::Journal;
pub use open::Repair;
pub use read::Iter;
pub use storage::{DirStorage, SegmentName, Storage};

/// Limits of one journal. They bind what is appended from now on; whatever is on disk already stays readable.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes after which a new segment is begun. The unit of deletion: smaller gives disk back sooner, larger means fewer
    /// files. A record larger than this gets a segment of its own. Default 64 MiB.
    pub segment_bytes_max: u64,
    /// Bytes of the largest record [`Journal::append`] accepts. Default 16 MiB.
    pub record_bytes_max: u32,
    /// What opening reads. Default [`Check::Everything`].
    pub check: Check,
}

/// What opening reads and checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Check {
    /// Every byte kept: each checksum and the whole hash chain.
    #[default]
    Everything,
    /// Every byte of the last segment, the only one that can be torn. Of each sealed segment its length and header, held
    /// against a summary that was kept when it was sealed ([`Storage::put_summary`]), and against the header of the next one;
    /// a segment whose summary is missing or does not fit is read, and its summary made anew. A damaged record of a sealed
    /// segment is found when it is read, or by [`Journal::check_everything`].
    LastSegment,
}

impl Default for Options {
    fn default() -> Self {
        Options { segment_bytes_max: 64 << 20, record_bytes_max: 16 << 20, check: Check::Everything }
    }
}
