//! A whole archive against nothing but the ledger's public key.

use super::disk::ArchiveDisk;
use super::fault::ArchiveFault;
use super::manifest::{compare, list};
use crate::retain::{FileFault, openings};
use crate::store::{LogDisk, audit_from};
use serde::Serialize;
use std::path::Path;
use tally_evidence::{Checkpoint, VerifyingKey};

/// What was found in an archive that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The ledger.
    pub ledger: String,
    /// Segments.
    pub segments: usize,
    /// Height of the first block.
    pub first_block: u64,
    /// Height of the last block.
    pub last_block: u64,
    /// Index of the first entry.
    pub first_entry: u64,
    /// How many entries.
    pub entries: u64,
    /// Private fields of calls that are there in clear.
    pub private: usize,
    /// Whether the roots of the tree were recomputed: only when the archive begins at block 0.
    pub roots: bool,
    /// The last checkpoint.
    #[serde(skip)]
    pub last: Checkpoint,
}

/// Checks a whole archive with nothing but the ledger's public key.
///
/// # Errors
/// [`ArchiveFault`], naming the file or block that does not hold.
pub fn verify(dir: &Path, key: &VerifyingKey) -> Result<Verified, ArchiveFault> {
    let manifests = list(dir)?;
    let (Some(first), Some(last)) = (manifests.first(), manifests.last()) else {
        return Err(FileFault::content(dir, "no segment of a log is in it").into());
    };
    let mut private = 0;
    for manifest in &manifests {
        compare(&dir.join(&manifest.segment), manifest)?;
        private += openings::read(dir, &manifest.segment)?.len();
    }
    let blocks = |source| ArchiveFault::Blocks { dir: dir.to_owned(), source: Box::new(source) };
    let head = audit_from(LogDisk::new(ArchiveDisk::all(dir)), &first.ledger, key, None).map_err(blocks)?;
    let head = head.filter(|head| hex::encode(&head.sealed) == last.checkpoint);
    let head = head
        .ok_or_else(|| FileFault::content(&dir.join(&last.segment), "its last block is not the one of its manifest"))?;
    Ok(Verified {
        ledger: first.ledger.clone(),
        segments: manifests.len(),
        first_block: first.first_block,
        last_block: last.last_block,
        first_entry: first.first_entry,
        entries: manifests.iter().map(|manifest| manifest.entries).sum(),
        private,
        roots: first.first_block == 0,
        last: head.checkpoint,
    })
}
