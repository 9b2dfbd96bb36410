//! What can go wrong, one enum per operation. Variant names serve as metric labels, so they are part of the interface.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::format::VERSION;

/// Why a journal does not open. Nothing on disk has been cut or deleted when one of these is returned, except with
/// [`Repair`](OpenError::Repair) and [`Create`](OpenError::Create).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or another part of this one) has the journal open.
    #[error("the journal in {} is in use by {holder}; only one program may open it at a time", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Who has it, as it wrote into `LOCK`: `process 4711 (tally)`.
        holder: String,
    },
    /// The folder cannot be created, listed or locked.
    #[error("cannot use {} as a journal folder", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is no segment of ours: wrong folder, or someone put something in.
    #[error("{file} is not part of a journal; a journal needs a folder of its own")]
    Foreign {
        /// The file.
        file: String,
    },
    /// Written by a newer program.
    #[error("{file} has format version {version}, this program knows versions up to {VERSION}; use the newer program")]
    Newer {
        /// The segment.
        file: String,
        /// Its version.
        version: u32,
    },
    /// Synced bytes are not what was written. Nothing was changed; restore from a copy, or decide what to give up.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The system cannot list or read.
    #[error("cannot read {file}")]
    Read {
        /// The segment, or the folder.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The torn tail could not be cut, or what was found could not be made durable. Opening again tries again.
    #[error("cannot make {file} whole")]
    Repair {
        /// The segment, or the folder.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The first segment cannot be created.
    #[error("cannot create {file}")]
    Create {
        /// The segment.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why an open journal refuses. All but [`TooLarge`](Self::TooLarge), [`Read`](Self::Read) and
/// [`Damaged`](Self::Damaged) leave it poisoned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// An earlier write or sync failed. What is on disk is unknown until the journal is opened again.
    #[error("the journal stopped at an earlier failure; open it again")]
    Poisoned,
    /// The record is above the limit. Nothing was appended.
    #[error("a record of {bytes} bytes is above the limit of {bytes_max}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// [`Options::record_bytes_max`](crate::Options::record_bytes_max).
        bytes_max: u32,
    },
    /// Writing failed; `source` is of kind [`io::ErrorKind::StorageFull`] when the disk is full.
    #[error("cannot write to {file}")]
    Write {
        /// The segment.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The disk did not confirm.
    #[error("cannot sync {file}")]
    Sync {
        /// The segment, or the folder.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The next segment could not be created.
    #[error("cannot create {file}")]
    Create {
        /// The segment.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A segment could not be deleted.
    #[error("cannot delete {file}")]
    Delete {
        /// The segment.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed. The journal stays usable.
    #[error("cannot read {file}")]
    Read {
        /// The segment.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes changed since the journal was opened. The journal stays usable, this record does not.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// Where synced bytes are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at byte {offset}: {fault}")]
pub struct Damage {
    /// The segment, with its folder where there is one.
    pub file: String,
    /// Offset of the first bad frame (0: the header), in bytes.
    pub offset: u64,
    /// What does not fit.
    pub fault: Fault,
}

/// What does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The header's checksum is wrong, or the header is incomplete.
    Header,
    /// The header names another first record than the file name.
    Name,
    /// The previous segment ends at another record number: a segment or its end is missing.
    Gap {
        /// First number after the previous segment.
        expected: u64,
    },
    /// The hash chain does not continue the previous segment's.
    Chain,
    /// A frame reaches beyond the end of the segment.
    CutShort,
    /// The checksum of a record is wrong.
    Checksum,
    /// A sync mark is wrong.
    Mark,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Header => f.write_str("the segment header is incomplete or its checksum is wrong"),
            Fault::Name => f.write_str("the header names another first record than the file name"),
            Fault::Gap { expected } => write!(f, "the segment before it ends at record {expected}"),
            Fault::Chain => f.write_str("the hash chain does not continue the segment before it"),
            Fault::CutShort => f.write_str("a record reaches beyond the end of the file"),
            Fault::Checksum => f.write_str("the checksum of a record is wrong"),
            Fault::Mark => f.write_str("a sync mark is wrong"),
        }
    }
}
