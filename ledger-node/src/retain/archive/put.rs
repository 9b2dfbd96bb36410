//! Complete segments of a log into an archive: copied, compared, read through, described.

use super::disk::ArchiveDisk;
use super::fault::ArchiveFault;
use super::files::{copy, digest, write_read_only};
use super::manifest::{CHAIN, Manifest, VERSION, compare, manifest_name, read_manifest, segment_names};
use crate::admit::CheckedStatement;
use crate::retain::{FileFault, openings};
use crate::store::{Log, LogDisk, audit_from, read_block};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use tally_evidence::{StatementId, VerifyingKey};
use tally_journal::SegmentName;

const LOG: &str = "log";

/// Copies a complete segment of the log in `data` into the archive, compares the copy, and reads it through: checksums, hash
/// chain, seals; and the private fields of its calls. A segment that is there already is compared only.
///
/// # Errors
/// [`ArchiveFault`]; the segment is not in the archive then, or was there and is another one.
pub fn put(data: &Path, segment: SegmentName, key: &VerifyingKey, dir: &Path) -> Result<Manifest, ArchiveFault> {
    fs::create_dir_all(dir).map_err(|source| FileFault::io(dir, source))?;
    let manifest = put_segment(&data.join(LOG), segment, key, dir)?;
    openings::put(data, dir, &manifest.segment, || statements(dir, segment, key))?;
    Ok(manifest)
}

/// Copies all complete segments of the log in `data` into the archive, whether a node has it open or not. Gives what is in it now
/// of this log.
///
/// # Errors
/// [`ArchiveFault`].
pub fn put_all(data: &Path, key: &VerifyingKey, dir: &Path) -> Result<Vec<Manifest>, ArchiveFault> {
    let mut names = segment_names(&data.join(LOG))?;
    // The last one still takes blocks.
    names.pop();
    names.into_iter().map(|name| put(data, name, key, dir)).collect()
}

fn put_segment(log: &Path, segment: SegmentName, key: &VerifyingKey, dir: &Path) -> Result<Manifest, ArchiveFault> {
    let name = segment.to_string();
    let (from, target, file) = (log.join(&name), dir.join(&name), dir.join(manifest_name(&name)));
    let (bytes, sha256, head) = digest(&from)?;
    match read_manifest(&file) {
        Ok(there) if (there.bytes, &there.sha256) == (bytes, &sha256) => {
            compare(&target, &there)?;
            return Ok(there);
        }
        Ok(_) => return Err(FileFault::content(&target, "another segment of this name is there already").into()),
        Err(FileFault::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(fault) => return Err(fault.into()),
    }
    copy(&from, &target)?;
    let manifest = describe(dir, segment, key, (bytes, sha256, head))?;
    compare(&target, &manifest)?;
    let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::other);
    let text = text.map_err(|source| FileFault::io(&file, source))?;
    write_read_only(&file, &[text.as_bytes(), b"\n"].concat())?;
    Ok(manifest)
}

/// The statements of a segment in the archive.
fn statements(dir: &Path, name: SegmentName, key: &VerifyingKey) -> Result<BTreeSet<StatementId>, ArchiveFault> {
    let blocks = |source| ArchiveFault::Blocks { dir: dir.join(name.to_string()), source: Box::new(source) };
    let disk = LogDisk::new(ArchiveDisk::of(dir, name));
    let log = Log::open(disk).map_err(|fault| blocks(fault.into()))?;
    let mut found = BTreeSet::new();
    for height in log.first()..log.blocks() {
        let (record, _) = read_block(&log, height, key).map_err(blocks)?;
        for bytes in &record.statements {
            found.extend(CheckedStatement::from_log(bytes).map(|statement| statement.id).ok());
        }
    }
    Ok(found)
}

/// What a segment in the archive holds, by reading all of it.
fn describe(
    dir: &Path,
    name: SegmentName,
    key: &VerifyingKey,
    (bytes, sha256, head): (u64, String, Vec<u8>),
) -> Result<Manifest, ArchiveFault> {
    let blocks = |source| ArchiveFault::Blocks { dir: dir.join(name.to_string()), source: Box::new(source) };
    let disk = || LogDisk::new(ArchiveDisk::of(dir, name));
    let log = Log::open(disk()).map_err(|fault| blocks(fault.into()))?;
    let (record, begin) = read_block(&log, log.first(), key).map_err(blocks)?;
    let end = audit_from(disk(), &begin.checkpoint.ledger, key, None).map_err(blocks)?.unwrap_or_else(|| begin.clone());
    let first_entry = begin.checkpoint.size.saturating_sub(record.statements.len() as u64);
    Ok(Manifest {
        tallystick_archive: VERSION,
        ledger: begin.checkpoint.ledger,
        key: key.id().to_string(),
        segment: name.to_string(),
        bytes,
        sha256,
        first_block: name.0,
        last_block: end.checkpoint.height,
        first_entry,
        entries: end.checkpoint.size - first_entry,
        from: begin.checkpoint.time.to_string(),
        to: end.checkpoint.time.to_string(),
        chain: hex::encode(head.get(CHAIN).unwrap_or_default()),
        checkpoint: hex::encode(&end.sealed),
    })
}
