//! Making a copy of a ledger while its node works.

use super::LOG;
use super::fault::BackupError;
use super::files::{at, copy_file, empty_folder, segments};
use super::manifest::{MANIFEST, Manifest, describe};
use crate::config::NodeConfig;
use crate::private;
use crate::retain::{kept, snapshot};
use crate::store::{LogDisk, StoreOpenError, audit, marked_format};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tally_journal::files::{self, sync_folder};
use tally_journal::{DirStorage, OpenError, SegmentName};

/// A copy that was made and checked, and lacks its manifest.
#[derive(Debug)]
pub struct Copied {
    /// What the manifest will say.
    pub manifest: Manifest,
    /// Whether a node had the ledger open meanwhile. Its last block may then be written but not synced: confirm that the node has
    /// published it before calling [`finish`](Self::finish).
    pub is_live: bool,
    dir: PathBuf,
}

/// Copies the ledger of `config` into `dir` and checks the copy.
///
/// # Errors
/// [`BackupError`]; the ledger itself is only read.
pub fn copy(config: &NodeConfig, dir: &Path) -> Result<Copied, BackupError> {
    let key = config.load_public_key()?;
    let log = config.data.join(LOG);
    if !log.is_dir() {
        return Err(BackupError::NoLedger(config.data.clone()));
    }
    let target = dir.join(LOG);
    empty_folder(dir)?;
    at(&target, fs::create_dir(&target))?;
    // Without a node we hold its lock meanwhile, so that none starts in the middle.
    let lock = match DirStorage::open(&log) {
        Ok(lock) => Some(lock),
        Err(OpenError::InUse { .. }) => None,
        Err(error) => return Err(StoreOpenError::from(error).into()),
    };
    // The snapshot first: it must not be ahead of the log.
    let newest = snapshot::list(&config.data)?.into_iter().next();
    let snapshot = newest.map(|(_, file)| copy_into(&file, &dir.join(snapshot::FOLDER))).transpose()?;
    copy_log(&log, &target)?;
    copy_kept(&config.data, dir, snapshot)?;
    let disk = LogDisk::dir(&target).map_err(StoreOpenError::from)?;
    let head = audit(disk, dir, &config.ledger, &key)?.ok_or_else(|| BackupError::NoLedger(config.data.clone()))?;
    // After the log was copied: it is raised before anything is written that needs it.
    let version = at(&config.data, marked_format(&config.data))?;
    // Last: what was purged before the log was copied is gone by now.
    copy_private(&config.data, dir)?;
    let manifest = describe(dir, &config.ledger, &key, &head, version)?;
    Ok(Copied { manifest, is_live: lock.is_none(), dir: dir.to_owned() })
}

impl Copied {
    /// Writes the manifest, durably: the copy is whole.
    ///
    /// # Errors
    /// [`BackupError::File`].
    pub fn finish(self) -> Result<Manifest, BackupError> {
        let file = self.dir.join(MANIFEST);
        let text = serde_json::to_string_pretty(&self.manifest).map_err(io::Error::other);
        let text = at(&file, text)?;
        let write = || {
            // Checking left a sync mark at the end of the last segment.
            for (folder, copied) in self.manifest.all() {
                File::open(self.dir.join(folder).join(&copied.name))?.sync_all()?;
                sync_folder(&self.dir.join(folder))?;
            }
            files::replace(&self.dir.join(MANIFEST), format!("{text}\n").as_bytes())
        };
        at(&file, write())?;
        Ok(self.manifest)
    }
}

/// Copies the segments of a log. One that is pruned meanwhile is not there any more when its turn comes: then those before it
/// were pruned too, and what is kept of them all was written before.
fn copy_log(log: &Path, target: &Path) -> Result<(), BackupError> {
    for name in segments(log)? {
        match copy_file(&log.join(&name), &target.join(&name)) {
            Err(BackupError::File { file, source })
                if source.kind() == io::ErrorKind::NotFound && file == log.join(&name) =>
            {
                at(target, fs::remove_dir_all(target).and_then(|()| fs::create_dir(target)))?;
            }
            copied => drop(copied?),
        }
    }
    Ok(())
}

/// Copies what is kept of the segments that are not in the copied log; without such, takes the copied snapshot away again.
fn copy_kept(data: &Path, dir: &Path, snapshot: Option<PathBuf>) -> Result<(), BackupError> {
    let first = segments(&dir.join(LOG))?.first().and_then(|name| SegmentName::parse(name)).map_or(0, |name| name.0);
    for name in kept::list(data)?.into_iter().filter(|name| name.last < first) {
        copy_into(&data.join(kept::FOLDER).join(name.file()), &dir.join(kept::FOLDER))?;
    }
    match snapshot {
        Some(_) if first == 0 => {
            let folder = dir.join(snapshot::FOLDER);
            at(&folder, fs::remove_dir_all(&folder))
        }
        Some(file) if snapshot::reaches(&file, first) => Ok(()),
        _ if first == 0 => Ok(()),
        _ => {
            let why = "old segments were pruned while it was made, and the snapshot in it is too old: copy again";
            Err(BackupError::NotWhole { dir: dir.to_owned(), why: why.to_owned() })
        }
    }
}

/// Copies the private fields that are kept; one that is purged meanwhile is not there any more when its turn comes.
fn copy_private(data: &Path, dir: &Path) -> Result<(), BackupError> {
    let (from, to) = (data.join(private::FOLDER), dir.join(private::FOLDER));
    for (name, _) in private::names(&from)?.into_iter().filter(|(_, pending)| !pending) {
        if let Some(opening) = private::read(&from.join(name.file()), &name)? {
            at(&to, fs::create_dir_all(&to))?;
            let file = to.join(name.file());
            at(&file, fs::write(&file, opening))?;
        }
    }
    Ok(())
}

fn copy_into(file: &Path, folder: &Path) -> Result<PathBuf, BackupError> {
    at(folder, fs::create_dir_all(folder))?;
    let target = folder.join(file.file_name().unwrap_or_default());
    copy_file(file, &target)?;
    Ok(target)
}
