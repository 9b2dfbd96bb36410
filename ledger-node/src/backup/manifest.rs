//! The manifest: what a copy holds, with lengths and digests. Without it a copy is not whole.

use super::LOG;
use super::fault::BackupError;
use super::files::{digest, segments};
use crate::private::{self, OpeningName};
use crate::retain::{kept, snapshot};
use crate::store::{FORMAT_GROUPED, Head};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;
use tally_evidence::{Checkpoint, VerifyingKey};
use tally_journal::SegmentName;

/// The file that makes a copy whole.
pub const MANIFEST: &str = "MANIFEST.json";

/// The last version of the manifest; it is that of the data folder.
const VERSION: u32 = FORMAT_GROUPED;

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this file: that of the data folder, 1 to 4.
    pub tallystick_backup: u32,
    /// The ledger.
    pub ledger: String,
    /// Id of its key.
    pub key: String,
    /// Its last block in the copy.
    pub height: u64,
    /// Entries up to there.
    pub entries: u64,
    /// Time of that block.
    pub time: String,
    /// The sealed checkpoint of that block, in hexadecimal.
    pub checkpoint: String,
    /// The files of the copy in `log/`.
    pub files: Vec<CopiedFile>,
    /// The files in `kept/`; version 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<CopiedFile>,
    /// The files in `snapshot/`; version 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshot: Vec<CopiedFile>,
    /// The files in `private/`; version 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<CopiedFile>,
}

impl Manifest {
    /// All files with their folders.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &CopiedFile)> {
        let log = self.files.iter().map(|file| (LOG, file));
        let kept = self.kept.iter().map(|file| (kept::FOLDER, file));
        let private = self.private.iter().map(|file| (private::FOLDER, file));
        log.chain(kept).chain(self.snapshot.iter().map(|file| (snapshot::FOLDER, file))).chain(private)
    }
}

/// A file of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedFile {
    /// Its name in its folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Describes the copy in `dir`, which ends with `head`.
pub(super) fn describe(
    dir: &Path,
    ledger: &str,
    key: &VerifyingKey,
    head: &Head,
    version: u32,
) -> Result<Manifest, BackupError> {
    let list = |folder: &str, names: Vec<String>| {
        let describe = |name: String| {
            let (bytes, sha256) = digest(&dir.join(folder).join(&name), &mut io::sink())?;
            Ok(CopiedFile { name, bytes, sha256 })
        };
        names.into_iter().map(describe).collect::<Result<Vec<_>, BackupError>>()
    };
    let kept = list(kept::FOLDER, kept::list(dir)?.iter().map(kept::KeptName::file).collect())?;
    let snapshots =
        snapshot::list(dir)?.into_iter().filter_map(|(_, file)| Some(file.file_name()?.to_str()?.to_owned()));
    let openings = private::names(&dir.join(private::FOLDER))?.into_iter().map(|(name, _)| name.file());
    Ok(Manifest {
        tallystick_backup: version,
        ledger: ledger.to_owned(),
        key: key.id().to_string(),
        height: head.checkpoint.height,
        entries: head.checkpoint.size,
        time: head.checkpoint.time.to_string(),
        checkpoint: hex::encode(&head.sealed),
        files: list(LOG, segments(&dir.join(LOG))?)?,
        kept,
        snapshot: list(snapshot::FOLDER, snapshots.collect())?,
        private: list(private::FOLDER, openings.collect())?,
    })
}

pub(super) fn read(dir: &Path) -> Result<Manifest, BackupError> {
    let not_whole = |why: String| BackupError::NotWhole { dir: dir.to_owned(), why };
    let text = fs::read_to_string(dir.join(MANIFEST)).map_err(|error| not_whole(format!("{MANIFEST}: {error}")))?;
    // The version first: a later one may have other fields.
    check_version(&text).map_err(not_whole)?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| not_whole(format!("{MANIFEST}: {error}")))?;
    // A name is a name, never a path.
    let foreign = manifest.all().find(|(folder, file)| !is_name_in(folder, &file.name));
    match foreign {
        Some((LOG, file)) => Err(not_whole(format!("{MANIFEST} names `{}`, which is no segment", file.name))),
        Some((folder, file)) => {
            Err(not_whole(format!("{MANIFEST} names `{}`, which is no file of {folder}", file.name)))
        }
        None => Ok(manifest),
    }
}

/// What the manifest says of its last block is what that block's checkpoint says.
pub(super) fn agrees(manifest: &Manifest, dir: &Path, key: &VerifyingKey) -> Result<(), BackupError> {
    let not_whole = |why: String| BackupError::NotWhole { dir: dir.to_owned(), why: format!("{MANIFEST}: {why}") };
    let sealed = hex::decode(&manifest.checkpoint).map_err(|fault| not_whole(format!("checkpoint: {fault}")))?;
    let head = Checkpoint::open(&sealed, key).map_err(|fault| not_whole(fault.to_string()))?;
    let said = [
        ("height", manifest.height.to_string()),
        ("entries", manifest.entries.to_string()),
        ("time", manifest.time.clone()),
    ];
    let sealed = [head.height.to_string(), head.size.to_string(), head.time.to_string()];
    match said.iter().zip(&sealed).find(|((_, said), sealed)| said != *sealed) {
        Some(((name, said), sealed)) => {
            Err(not_whole(format!("{name} is {said}, its sealed checkpoint says {sealed}")))
        }
        None => Ok(()),
    }
}

fn check_version(text: &str) -> Result<(), String> {
    let manifest: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    match manifest["tallystick_backup"].as_u64() {
        Some(known) if (1..=u64::from(VERSION)).contains(&known) => Ok(()),
        Some(newer) => Err(format!("it has version {newer}, this program knows versions up to {VERSION}")),
        None => Err(format!("{MANIFEST} names no version")),
    }
}

/// Whether files of this folder have such names.
fn is_name_in(folder: &str, name: &str) -> bool {
    match folder {
        LOG => SegmentName::parse(name).is_some(),
        kept::FOLDER => kept::KeptName::parse(name).is_some(),
        private::FOLDER => OpeningName::parse(name).is_some(),
        _ => snapshot::height_of(name).is_some(),
    }
}
