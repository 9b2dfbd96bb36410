//! Making a ledger from a copy: copied, compared, executed again, and only then put in its place.

use super::LOG;
use super::fault::BackupError;
use super::files::{at, copy_file, remove, segments};
use super::manifest::{self, CopiedFile, MANIFEST, Manifest};
use crate::config::NodeConfig;
use crate::engine::Engine;
use crate::private;
use crate::retain::{kept, snapshot};
use crate::store::{IndexDisk, LogDisk, StoreOpenError, audit, check_format, raise_format};
use std::fs;
use std::path::Path;
use tally_journal::files::sync_folder;

const INDEX: &str = "state.redb";

/// Where a ledger is made before it is put in its place.
const LOG_NEW: &str = "log.restoring";
const INDEX_NEW: &str = "state.redb.restoring";

/// Makes the ledger of `config` from the copy in `dir`: copies, compares digests, executes every block again, compares with what
/// was sealed, and only then puts log and index in their place.
///
/// # Errors
/// [`BackupError`]; the data folder then holds no ledger, as before.
pub fn restore(config: &NodeConfig, dir: &Path) -> Result<Manifest, BackupError> {
    let manifest = manifest::read(dir)?;
    is_ours(&manifest, config)?;
    manifest::agrees(&manifest, dir, &config.load_public_key()?)?;
    let data = &config.data;
    let has_log = data.join(LOG).exists() && !segments(&data.join(LOG))?.is_empty();
    // What is kept of a ledger is not there without it, unless an earlier attempt was interrupted.
    let is_there = |folder: &&str| data.join(folder).exists();
    let has_kept = [kept::FOLDER, private::FOLDER].iter().any(is_there) && !data.join(LOG_NEW).exists();
    if has_log || has_kept || data.join(INDEX).exists() {
        return Err(BackupError::Occupied(data.clone()));
    }
    at(data, fs::create_dir_all(data))?;
    check_format(data)?;
    let (log, index) = (data.join(LOG_NEW), data.join(INDEX_NEW));
    // What an interrupted attempt left.
    remove(&log, fs::remove_dir_all(&log))?;
    remove(&index, fs::remove_file(&index))?;
    at(&log, fs::create_dir(&log))?;
    at(data, raise_format(data, manifest.tallystick_backup))?;
    for folder in [kept::FOLDER, snapshot::FOLDER, private::FOLDER] {
        remove(&data.join(folder), fs::remove_dir_all(data.join(folder)))?;
    }
    for (folder, file) in manifest.all() {
        let target = if folder == LOG { log.clone() } else { data.join(folder) };
        at(&target, fs::create_dir_all(&target))?;
        take(&dir.join(folder), file, &target)?;
        if folder == private::FOLDER {
            // What the log says is not known yet: a field may have been purged while the copy was made.
            private::doubt(data, &file.name)?;
        }
        at(&target, sync_folder(&target))?;
    }
    replay(config, &manifest, &log, &index)?;
    put_in_place(data)?;
    Ok(manifest)
}

fn is_ours(manifest: &Manifest, config: &NodeConfig) -> Result<(), BackupError> {
    let key = config.load_public_key()?.id().to_string();
    for (what, found, asked) in [("ledger", &manifest.ledger, &config.ledger), ("key", &manifest.key, &key)] {
        if found != asked {
            return Err(BackupError::Other { what, found: found.clone(), asked: asked.clone() });
        }
    }
    Ok(())
}

/// Copies one file of a copy, whose length and digest must be those of the manifest.
fn take(dir: &Path, file: &CopiedFile, target: &Path) -> Result<(), BackupError> {
    let from = dir.join(&file.name);
    let (bytes, sha256) = copy_file(&from, &target.join(&file.name))?;
    if (bytes, &sha256) == (file.bytes, &file.sha256) {
        return Ok(());
    }
    let why = format!(
        "{} has {bytes} bytes and SHA-256 {sha256}, the manifest says {} bytes and {}",
        from.display(),
        file.bytes,
        file.sha256
    );
    Err(BackupError::NotWhole { dir: dir.to_owned(), why })
}

/// Executes everything again and compares the end with the manifest.
fn replay(config: &NodeConfig, manifest: &Manifest, log: &Path, index: &Path) -> Result<(), BackupError> {
    let disk = LogDisk::dir(log).map_err(StoreOpenError::from)?;
    let key = config.load_public_key()?;
    audit(disk, &config.data, &config.ledger, &key)?;
    let disk = LogDisk::dir(log).map_err(StoreOpenError::from)?;
    let engine = Engine::open_on(config.engine(None)?, disk, &IndexDisk::File(index.to_owned()));
    let engine = engine.map_err(|error| BackupError::Replay(Box::new(error)))?;
    let sealed = engine.store().head().map(|head| hex::encode(&head.sealed));
    engine.close();
    if sealed.as_ref() == Some(&manifest.checkpoint) {
        return Ok(());
    }
    let why = format!("its last checkpoint is not the one of {MANIFEST}");
    Err(BackupError::NotWhole { dir: log.to_owned(), why })
}

/// If the power goes in here: nothing is in place, or the log without the index, which the next start rebuilds from it.
fn put_in_place(data: &Path) -> Result<(), BackupError> {
    let log = data.join(LOG);
    // A folder with nothing but a lock, where a node was started and found nothing.
    remove(&log, fs::remove_dir_all(&log))?;
    at(&log, fs::rename(data.join(LOG_NEW), &log))?;
    at(data, sync_folder(data))?;
    let index = data.join(INDEX);
    at(&index, fs::rename(data.join(INDEX_NEW), &index))?;
    at(data, sync_folder(data))
}
