//! An archive: complete segments of the log in a folder, each with a manifest, never changed again.
//!
//! ```text
//! 00000000000000000000.seg    a segment as it was in the log (docs/formats/journal.md), mode 0444
//! 00000000000000000000.json   its manifest, mode 0444; written last: without it the segment is not whole
//! 00000000000000000000.private   private fields of its calls, mode 0600; only when there are some, may be deleted (`openings`)
//! ```
//! Anyone with the ledger's public key can check an archive: digests, hash chain, seals, chain of checkpoints, and the roots of
//! the tree when it reaches back to block 0. Written down in `docs/formats/retention.md`.

use super::container::{FileFault, unfinished};
use super::openings;
use crate::admit::CheckedStatement;
use crate::config::ConfigError;
use crate::order::OpenLedgerError;
use crate::store::{Log, LogDisk, StoreOpenError, audit_from, read_block};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tally_evidence::{Checkpoint, StatementId, VerifyingKey};
use tally_journal::files;
use tally_journal::{OpenError, SegmentName, Storage};

/// Version of the manifest.
const VERSION: u32 = 1;
const PIECE_BYTES: usize = 1 << 20;
const LOG: &str = "log";
/// Where the chain hash stands in the header of a segment.
const CHAIN: std::ops::Range<usize> = 24..56;

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

/// Why an archive is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFault {
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileFault),
    /// Its blocks.
    #[error("{}: {source}", dir.display())]
    Blocks {
        /// The archive.
        dir: PathBuf,
        /// What is wrong.
        source: Box<StoreOpenError>,
    },
    /// The log that is brought back belongs to another ledger, or does not reach.
    #[error("{0}")]
    NotOurs(String),
    /// The log of the data folder.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// What was brought back does not give the ledger.
    #[error("what is in the archive does not give the ledger: {0}")]
    Replay(Box<OpenLedgerError>),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

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

/// The statements of a segment in the archive.
fn statements(dir: &Path, name: SegmentName, key: &VerifyingKey) -> Result<BTreeSet<StatementId>, ArchiveFault> {
    let blocks = |source| ArchiveFault::Blocks { dir: dir.join(name.to_string()), source: Box::new(source) };
    let disk = LogDisk::new(ArchiveDisk { dir: dir.to_owned(), only: Some(name) });
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

fn manifest_name(segment: &str) -> String {
    format!("{}.json", segment.trim_end_matches(".seg"))
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

/// Length, SHA-256 and header of a file.
fn digest(file: &Path) -> Result<(u64, String, Vec<u8>), FileFault> {
    let io = |source| FileFault::io(file, source);
    let mut input = File::open(file).map_err(io)?;
    let (mut hash, mut bytes, mut head, mut piece) = (Sha256::new(), 0u64, Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        let count = input.read(&mut piece).map_err(io)?;
        if count == 0 {
            return Ok((bytes, hex::encode(hash.finalize()), head));
        }
        if bytes == 0 {
            head.extend_from_slice(&piece[..count.min(64)]);
        }
        hash.update(&piece[..count]);
        bytes += count as u64;
    }
}

pub(super) fn compare(file: &Path, manifest: &Manifest) -> Result<(), FileFault> {
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

/// Copies, syncs, and only then gives the copy its name.
fn copy(from: &Path, to: &Path) -> Result<(), FileFault> {
    let new = unfinished(to);
    remove(&new)?;
    fs::copy(from, &new).map_err(|source| FileFault::io(&new, source))?;
    seal(&new)?;
    rename(&new, to)
}

fn write_read_only(file: &Path, bytes: &[u8]) -> Result<(), FileFault> {
    let new = unfinished(file);
    remove(&new)?;
    let mut out = File::create(&new).map_err(|source| FileFault::io(&new, source))?;
    out.write_all(bytes).map_err(|source| FileFault::io(&new, source))?;
    seal(&new)?;
    rename(&new, file)
}

fn seal(file: &Path) -> Result<(), FileFault> {
    let set = fs::set_permissions(file, fs::Permissions::from_mode(0o444));
    set.and_then(|()| File::open(file)?.sync_all()).map_err(|source| FileFault::io(file, source))
}

pub(super) fn rename(new: &Path, file: &Path) -> Result<(), FileFault> {
    files::rename(new, file).map_err(|source| FileFault::io(file, source))
}

pub(super) fn remove(file: &Path) -> Result<(), FileFault> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileFault::io(file, error)),
        _ => Ok(()),
    }
}

fn read_manifest(file: &Path) -> Result<Manifest, FileFault> {
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
    let head = audit_from(LogDisk::new(ArchiveDisk { dir: dir.to_owned(), only: None }), &first.ledger, key, None)
        .map_err(blocks)?;
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

/// The segments of an archive, only read. Opening a journal writes the end of its last segment over itself: that is left out
/// here, and anything that would change a file is refused.
pub(crate) struct ArchiveDisk {
    dir: PathBuf,
    /// This segment alone.
    only: Option<SegmentName>,
}

impl ArchiveDisk {
    /// This segment alone of those in `dir`.
    pub(crate) fn of(dir: &Path, segment: SegmentName) -> Self {
        Self { dir: dir.to_owned(), only: Some(segment) }
    }

    fn file(&self, segment: SegmentName) -> io::Result<File> {
        File::open(self.dir.join(segment.to_string()))
    }

    fn refuse(&self, segment: SegmentName) -> io::Error {
        io::Error::other(format!("{} in the archive is not whole", self.dir.join(segment.to_string()).display()))
    }
}

impl Storage for ArchiveDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        let is_wanted = |name: SegmentName| self.only.is_none_or(|only| only == name);
        Ok(names.into_iter().filter(|name| SegmentName::parse(name).is_some_and(is_wanted)).collect())
    }
    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        Err(self.refuse(segment))
    }
    fn write_at(&mut self, _: SegmentName, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn sync(&mut self, _: SegmentName) -> io::Result<()> {
        Ok(())
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file(segment)?.read_exact_at(into, offset)
    }
    fn truncate(&mut self, segment: SegmentName, _: u64) -> io::Result<()> {
        Err(self.refuse(segment))
    }
    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        Err(self.refuse(segment))
    }
    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        Ok(self.file(segment)?.metadata()?.len())
    }
    fn describe(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }
}
