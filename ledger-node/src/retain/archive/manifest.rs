//! The manifests of an archive: what each segment holds, and that it is the one that its manifest describes.

use super::files::digest;
use crate::retain::FileFault;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use tally_journal::SegmentName;

/// Version of the manifest.
pub(super) const VERSION: u32 = 1;

/// Where the chain hash stands in the header of a segment.
pub(super) const CHAIN: std::ops::Range<usize> = 24..56;

/// What a segment in an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this file, 1.
    pub tallystick_archive: u32,
    /// The ledger.
    pub ledger: String,
    /// Id of its key.
    pub key: String,
    /// The segment's file.
    pub segment: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Height of its first block.
    pub first_block: u64,
    /// Height of its last block.
    pub last_block: u64,
    /// Index of its first entry.
    pub first_entry: u64,
    /// How many entries.
    pub entries: u64,
    /// Time of its first block.
    pub from: String,
    /// Time of its last block.
    pub to: String,
    /// Hash of the log's chain before its first record, in hexadecimal.
    pub chain: String,
    /// The sealed checkpoint of its last block, in hexadecimal.
    pub checkpoint: String,
}

pub(super) fn manifest_name(segment: &str) -> String {
    format!("{}.json", segment.trim_end_matches(".seg"))
}

pub(super) fn read_manifest(file: &Path) -> Result<Manifest, FileFault> {
    let text = fs::read_to_string(file).map_err(|source| FileFault::io(file, source))?;
    // The version first: a later one may have other fields.
    let wrong = |error: serde_json::Error| FileFault::content(file, error.to_string());
    let value: serde_json::Value = serde_json::from_str(&text).map_err(wrong)?;
    match value["tallystick_archive"].as_u64() {
        Some(1) => serde_json::from_value(value).map_err(wrong),
        Some(newer) => {
            Err(FileFault::content(file, format!("it has version {newer}, this program knows version {VERSION}")))
        }
        None => Err(FileFault::content(file, "it names no version")),
    }
}

/// The segments of an archive, in order.
///
/// # Errors
/// [`FileFault`]: a manifest that is none, a segment or a manifest that is missing, named.
pub fn list(dir: &Path) -> Result<Vec<Manifest>, FileFault> {
    let names = segment_names(dir)?;
    let mut found: Vec<Manifest> = Vec::new();
    for name in names {
        let manifest = read_manifest(&dir.join(manifest_name(&name.to_string())))?;
        if manifest.segment != name.to_string() || manifest.first_block != name.0 {
            return Err(FileFault::content(&dir.join(name.to_string()), "its manifest is of another segment"));
        }
        if let Some(last) = found.last()
            && last.last_block + 1 != name.0
        {
            let what = format!("the segment of blocks {} to {} is missing before it", last.last_block + 1, name.0 - 1);
            return Err(FileFault::content(&dir.join(name.to_string()), what));
        }
        found.push(manifest);
    }
    if found.is_empty() {
        return Err(FileFault::content(dir, "no segment of a log is in it"));
    }
    Ok(found)
}

/// The segments in a folder, oldest first.
pub(crate) fn segment_names(folder: &Path) -> Result<Vec<SegmentName>, FileFault> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| FileFault::io(folder, source))? {
        let name = entry.map_err(|source| FileFault::io(folder, source))?.file_name();
        names.extend(name.to_str().and_then(SegmentName::parse));
    }
    names.sort_unstable_by_key(|name| name.0);
    Ok(names)
}

pub(in crate::retain) fn compare(file: &Path, manifest: &Manifest) -> Result<(), FileFault> {
    let (bytes, sha256, head) = digest(file)?;
    if (bytes, &sha256) != (manifest.bytes, &manifest.sha256) {
        let what = format!(
            "it has {bytes} bytes and SHA-256 {sha256}, its manifest says {} bytes and {}",
            manifest.bytes, manifest.sha256
        );
        return Err(FileFault::content(file, what));
    }
    if head.get(CHAIN).map(hex::encode).as_ref() != Some(&manifest.chain) {
        return Err(FileFault::content(file, "its chain hash is not the one of its manifest"));
    }
    Ok(())
}
