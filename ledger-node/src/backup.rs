//! A copy of a ledger, made while the node works, and a ledger made from such a copy.
//!
//! **What is copied.** The log: it is the only truth, and it only grows. Segments are copied oldest first; all but the last never
//! change, and of the last one a beginning is copied. A block that was being written is cut off. When old segments were pruned,
//! also what is kept of them and the newest snapshot. The ledger's key is *not* copied: who has it can seal a second history.
//!
//! **Layout of a copy**
//!
//! ```text
//! MANIFEST.json   written last: without it the copy is not whole
//! log/            segments, as docs/formats/journal.md has them
//! kept/           only when segments were pruned: what is kept of them (docs/formats/retention.md)
//! snapshot/       likewise: the state that the rest of the log goes on from
//! private/        private fields of calls in clear, as far as they were kept when the copy was made
//! ```
//!
//! **Checked** after copying: every checksum, seal, link between checkpoints and tree root of the copy itself. **Checked** before
//! a restored ledger is put in its place: all that, the digests of the manifest, and every block executed again and compared.

use crate::config::{ConfigError, NodeConfig};
use crate::engine::Engine;
use crate::order::OpenLedgerError;
use crate::private::{self, OpeningName};
use crate::retain::{FileFault, kept, snapshot};
use crate::store::{
    FORMAT_GROUPED, Head, IndexDisk, LogDisk, StoreOpenError, audit, check_format, marked_format, raise_format,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tally_evidence::VerifyingKey;
use tally_journal::files::{self, sync_folder};
use tally_journal::{DirStorage, OpenError, SegmentName};

/// The file that makes a copy whole.
pub const MANIFEST: &str = "MANIFEST.json";
/// The last version of the manifest; it is that of the data folder.
const VERSION: u32 = FORMAT_GROUPED;
/// Bytes copied at once.
const PIECE_BYTES: usize = 1 << 20;
const LOG: &str = "log";
const INDEX: &str = "state.redb";
/// Where a ledger is made before it is put in its place.
const LOG_NEW: &str = "log.restoring";
const INDEX_NEW: &str = "state.redb.restoring";

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
    /// Its name in `log/`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Why there is no copy, or no ledger made from it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to copy.
    #[error("{} holds no ledger: there is no `log` in it", .0.display())]
    NoLedger(PathBuf),
    /// The folder for the copy is in use.
    #[error("{} is not empty; a copy needs a folder of its own (one without MANIFEST.json is no whole copy: remove it)", .0.display())]
    NotEmpty(PathBuf),
    /// A ledger is there already.
    #[error("there is a ledger in {} already; restore into an empty data folder, or move `log` and `state.redb` away", .0.display())]
    Occupied(PathBuf),
    /// Not a copy, or not a whole one.
    #[error("{} is no whole copy of a ledger: {why}", dir.display())]
    NotWhole {
        /// The folder.
        dir: PathBuf,
        /// Why.
        why: String,
    },
    /// A copy of something else.
    #[error("the copy is of the {what} `{found}`, node.yaml says `{asked}`")]
    Other {
        /// What differs.
        what: &'static str,
        /// In the copy.
        found: String,
        /// In the configuration.
        asked: String,
    },
    /// The copy does not hold.
    #[error("the copy does not hold: {0}")]
    Log(#[from] StoreOpenError),
    /// The copy does not give the ledger it claims to be.
    #[error("the copy does not hold: {0}")]
    Replay(Box<OpenLedgerError>),
    /// A file of those that stay when the log is pruned.
    #[error(transparent)]
    Retained(#[from] FileFault),
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

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
    let manifest = manifest(dir, &config.ledger, &key, &head, version)?;
    Ok(Copied { manifest, is_live: lock.is_none(), dir: dir.to_owned() })
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

/// Makes the ledger of `config` from the copy in `dir`: copies, compares digests, executes every block again, compares with what
/// was sealed, and only then puts log and index in their place.
///
/// # Errors
/// [`BackupError`]; the data folder then holds no ledger, as before.
pub fn restore(config: &NodeConfig, dir: &Path) -> Result<Manifest, BackupError> {
    let manifest = read_manifest(dir)?;
    is_ours(&manifest, config)?;
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

fn read_manifest(dir: &Path) -> Result<Manifest, BackupError> {
    let not_whole = |why: String| BackupError::NotWhole { dir: dir.to_owned(), why };
    let text = fs::read_to_string(dir.join(MANIFEST)).map_err(|error| not_whole(format!("{MANIFEST}: {error}")))?;
    // The version first: a later one may have other fields.
    let version: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| not_whole(format!("{MANIFEST}: {error}")))?;
    match version["tallystick_backup"].as_u64() {
        Some(known) if (1..=u64::from(VERSION)).contains(&known) => {}
        Some(newer) => {
            return Err(not_whole(format!("it has version {newer}, this program knows versions up to {VERSION}")));
        }
        None => return Err(not_whole(format!("{MANIFEST} names no version"))),
    }
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| not_whole(format!("{MANIFEST}: {error}")))?;
    let is_ours = |folder, name: &str| match folder {
        LOG => SegmentName::parse(name).is_some(),
        kept::FOLDER => kept::KeptName::parse(name).is_some(),
        private::FOLDER => OpeningName::parse(name).is_some(),
        _ => snapshot::height_of(name).is_some(),
    };
    let foreign = manifest.all().find(|(folder, file)| !is_ours(folder, &file.name));
    match foreign {
        // A name is a name, never a path.
        Some((LOG, file)) => Err(not_whole(format!("{MANIFEST} names `{}`, which is no segment", file.name))),
        Some((folder, file)) => {
            Err(not_whole(format!("{MANIFEST} names `{}`, which is no file of {folder}", file.name)))
        }
        None => Ok(manifest),
    }
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

fn manifest(dir: &Path, ledger: &str, key: &VerifyingKey, head: &Head, version: u32) -> Result<Manifest, BackupError> {
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

/// Names of the segments in a folder, oldest first. The lock is left out.
fn segments(log: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = Vec::new();
    for entry in at(log, fs::read_dir(log))? {
        let name = at(log, entry)?.file_name().to_string_lossy().into_owned();
        if SegmentName::parse(&name).is_some() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes the folder when missing; refuses one with anything in it.
fn empty_folder(dir: &Path) -> Result<(), BackupError> {
    at(dir, fs::create_dir_all(dir))?;
    match at(dir, fs::read_dir(dir))?.next() {
        None => Ok(()),
        Some(_) => Err(BackupError::NotEmpty(dir.to_owned())),
    }
}

/// Copies what is there when it is read, durably; gives length and SHA-256.
fn copy_file(from: &Path, to: &Path) -> Result<(u64, String), BackupError> {
    let mut written = at(to, File::options().write(true).create_new(true).open(to))?;
    let copied = digest(from, &mut written)?;
    at(to, written.sync_all())?;
    Ok(copied)
}

/// Reads a file through to `onward`; gives length and SHA-256 in hexadecimal.
fn digest(file: &Path, onward: &mut impl Write) -> Result<(u64, String), BackupError> {
    let mut reader = at(file, File::open(file))?;
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE_BYTES]);
    loop {
        let length = at(file, reader.read(&mut piece))?;
        if length == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&piece[..length]);
        at(file, onward.write_all(&piece[..length]))?;
        bytes += length as u64;
    }
}

fn at<T>(file: &Path, done: io::Result<T>) -> Result<T, BackupError> {
    done.map_err(|source| BackupError::File { file: file.to_owned(), source })
}

/// What is not there need not be removed.
fn remove(file: &Path, removed: io::Result<()>) -> Result<(), BackupError> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => at(file, other),
    }
}
