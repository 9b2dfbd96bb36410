//! Making a data folder from another node's, over HTTP.
//!
//! **Order**, and what is true if we die behind each step: 1. files in pieces into `joining/`, each checked when it is whole (the next
//! run goes on where this one stopped, and checks again); 2. the ledger opened in there, which executes everything behind the
//! snapshot, or all of it, and compares (again); 3. moved out of `joining/`, the log last: a folder without log is no ledger, and the
//! next run finishes moving.
//!
//! **Checked** before anything is used: the checkpoint under the operator's key; kept files and snapshot by digest, seals, tree roots
//! and state root; segments by checksums, hash chain, seals, `previous`, tree roots; that the source's checkpoint is among the
//! blocks; signers' seals and every root of what is executed again. A file that does not hold is removed.

use super::source::{Source, SourceFault};
use super::{mark, task};
use crate::api::{Listed, Listing};
use crate::engine::{Engine, EngineConfig, FollowFault};
use crate::order::OpenLedgerError;
use crate::retain::kept::{self, KeptChain, KeptName};
use crate::retain::{FileFault, archive, snapshot};
use crate::store::{Before, FORMAT_PARTIAL, LogDisk, StoreOpenError, audit_on, checkpoint_in, raise_format};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tally_evidence::{Checkpoint, VerifyingKey};
use tally_journal::{OpenError, SegmentName, files};
use tally_ledger_client::RequestError;

/// Folder inside the data folder in which everything is until it is checked.
const JOINING: &str = "joining";
const LOG: &str = "log";
const INDEX: &str = "state.redb";
/// How often the list of files is taken anew because the source pruned one while it was copied.
const LISTINGS_MAX: u32 = 5;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The source.
    #[error("{0}; what was copied until then stays, and the same command goes on there")]
    Source(#[from] SourceFault),
    /// There is a ledger already.
    #[error("there is a ledger in {} already; join into an empty folder, or start a node on this one", .0.display())]
    Occupied(PathBuf),
    /// A file that the source gave does not hold. It is removed.
    #[error(
        "{file} of {source_address} does not hold: {what}. It was removed and nothing of it was used; when this comes again, \
             the source, or something between, alters what it gives"
    )]
    Lie {
        /// Which.
        file: String,
        /// Where it is from.
        source_address: String,
        /// What is wrong.
        what: String,
    },
    /// The source's own checkpoint is not among its blocks.
    #[error("block {height} that {source_address} gave is not the one of its checkpoint: it shows different histories")]
    OtherHistory {
        /// The checkpoint's height.
        height: u64,
        /// Where it is from.
        source_address: String,
    },
    /// The blocks do not give what was sealed.
    #[error("what was copied does not hold: {0}")]
    Replay(Box<OpenLedgerError>),
    /// A block behind the copied files.
    #[error("a block behind the copied files does not hold: {0}")]
    Follow(#[from] FollowFault),
    /// It was pruned again and again meanwhile.
    #[error("the source prunes faster than it can be copied; stop its retention meanwhile, or copy nearer to it")]
    Pruned,
    /// The disk is full.
    #[error(
        "{}: no space is left on the disk, and {left} bytes of the copy are still to come (the index needs as much again): make room, \
         then run the same command again, and it goes on here", file.display()
    )]
    Full {
        /// Which file.
        file: PathBuf,
        /// Bytes that are missing.
        left: u64,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A task of this program died.
    #[error("the work did not end in good order: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<FileFault> for JoinError {
    fn from(fault: FileFault) -> Self {
        match fault {
            FileFault::Io { file, source } => Self::File { file, source },
            FileFault::Content { file, what } => Self::File { file, source: io::Error::other(what) },
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of all files that are here, those of an earlier run included, and bytes there are.
    Copied {
        /// Here.
        bytes: u64,
        /// In all.
        of: u64,
    },
    /// All files are here and hold; blocks are executed again.
    Executing,
    /// Blocks behind the copied files.
    Block {
        /// The last one here.
        height: u64,
        /// The last one there.
        of: u64,
    },
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// The ledger.
    pub ledger: String,
    /// Id of its key.
    pub key: String,
    /// Its last block here.
    pub height: u64,
    /// Entries up to there.
    pub entries: u64,
    /// Blocks below this height are kept in part only, as at the source.
    pub kept_below: u64,
    /// Blocks from here on were executed again and compared; what was before them rests on the snapshot's root.
    pub executed_from: u64,
    /// Bytes fetched by this run.
    pub fetched: u64,
}

/// Makes a data folder in `data` from the node at `source`, whose ledger's public key is `key`.
///
/// # Errors
/// [`JoinError`]; `data` then holds no ledger, and what is good of the copy stays in `joining/` for the next run.
pub async fn join(
    source: &Source,
    key: &VerifyingKey,
    data: &Path,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Joined, JoinError> {
    let staged = data.join(JOINING);
    if data.join(LOG).exists() {
        return Err(JoinError::Occupied(data.to_owned()));
    }
    let head = source.checkpoint(key).await?;
    at(&staged, fs::create_dir_all(&staged))?;
    at(&staged, mark::put(&staged, &head.ledger, key))?;
    at(data, mark::put(data, &head.ledger, key))?;
    let mut copy = Copy { source, key, head: &head, staged: &staged, progress, fetched: 0 };
    let first = copy.files().await?;
    (copy.progress)(Progress::Executing);
    let fetched = copy.fetched;
    let config = EngineConfig::new(&head.ledger, &staged, key.clone());
    let engine = tokio::task::spawn_blocking(move || Engine::open(config)).await?;
    let engine = engine.map_err(|error| match error {
        OpenLedgerError::Store(StoreOpenError::Log(OpenError::InUse { .. })) => JoinError::Occupied(staged.clone()),
        error => JoinError::Replay(Box::new(error)),
    })?;
    let caught_up = task::catch_up(&engine, source, &mut |height, of| progress(Progress::Block { height, of })).await;
    let (last, kept_below) = (engine.store().head(), engine.store().kept_below());
    tokio::task::spawn_blocking(move || engine.close()).await?;
    caught_up?;
    put_in_place(&staged, data)?;
    let (height, entries) = last.map_or((0, 0), |head| (head.checkpoint.height, head.checkpoint.size));
    let (ledger, key) = (head.ledger, key.id().to_string());
    Ok(Joined { ledger, key, height, entries, kept_below, executed_from: first, fetched })
}

/// The files on their way.
struct Copy<'a> {
    source: &'a Source,
    key: &'a VerifyingKey,
    /// What the source says it is.
    head: &'a Checkpoint,
    staged: &'a Path,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    fetched: u64,
}

impl Copy<'_> {
    /// Fetches and checks all files; gives the first block that will be executed again.
    async fn files(&mut self) -> Result<u64, JoinError> {
        for _ in 0..LISTINGS_MAX {
            let listing = self.source.listing(&self.head.ledger).await?;
            match self.listed(&listing).await {
                // Pruned meanwhile: there are other files now.
                Err(JoinError::Source(SourceFault::Request(RequestError::Refused { status: 404, .. }))) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let snapshot = listing.snapshot.first().and_then(|file| snapshot::height_of(&file.name));
                    return Ok(snapshot.map_or(0, |height| height + 1));
                }
            }
        }
        Err(JoinError::Pruned)
    }

    async fn listed(&mut self, listing: &Listing) -> Result<(), JoinError> {
        self.tidy(listing)?;
        let folders = [(kept::FOLDER, &listing.kept), (snapshot::FOLDER, &listing.snapshot), (LOG, &listing.log)];
        let of: u64 = folders.iter().flat_map(|(_, files)| files.iter()).map(|file| file.bytes).sum();
        if !listing.kept.is_empty() {
            at(self.staged, raise_format(self.staged, FORMAT_PARTIAL))?;
        }
        let mut here = 0;
        let mut before = Before::default();
        for (folder, files) in folders {
            let path = self.staged.join(folder);
            if !files.is_empty() {
                at(&path, fs::create_dir_all(&path))?;
            }
            for file in files {
                self.fetch(folder, file, here, of).await?;
                here += file.bytes;
                before = self.check(folder, file, before).await?;
            }
        }
        self.is_of_checkpoint(&before)
    }

    /// Removes what an earlier run left and the source no longer lists, and what an opening here has written into the log since.
    fn tidy(&self, listing: &Listing) -> Result<(), JoinError> {
        let was_opened = self.staged.join(INDEX).exists();
        for (folder, files) in
            [(kept::FOLDER, &listing.kept), (snapshot::FOLDER, &listing.snapshot), (LOG, &listing.log)]
        {
            let path = self.staged.join(folder);
            let Ok(entries) = fs::read_dir(&path) else { continue };
            for entry in entries {
                let entry = at(&path, entry)?;
                let length = at(&path, entry.metadata())?.len();
                let listed = files.iter().find(|file| *file.name == *entry.file_name());
                let is_good = listed.is_some_and(|file| length == file.bytes || (length < file.bytes && !was_opened));
                if !is_good && entry.file_name() != "LOCK" {
                    at(&entry.path(), fs::remove_file(entry.path()))?;
                }
            }
        }
        for name in [INDEX, "FORMAT"] {
            remove(&self.staged.join(name), fs::remove_file(self.staged.join(name)))?;
        }
        for name in ["tree", "statements", "summary"] {
            remove(&self.staged.join(name), fs::remove_dir_all(self.staged.join(name)))?;
        }
        Ok(())
    }

    async fn fetch(&mut self, folder: &str, file: &Listed, here: u64, of: u64) -> Result<(), JoinError> {
        let path = self.staged.join(folder).join(&file.name);
        let write = |what: io::Result<()>, left: u64| match what {
            Err(error) if is_full(&error) => Err(JoinError::Full { file: path.clone(), left }),
            what => at(&path, what),
        };
        let mut out = at(&path, File::options().create(true).append(true).open(&path))?;
        let mut length = at(&path, out.metadata())?.len();
        while length < file.bytes {
            let mut piece = self.source.piece(folder, &file.name, length).await?;
            if piece.is_empty() {
                return Err(self.lie(folder, file, format!("it ends at {length} of {} bytes", file.bytes)));
            }
            // The last file grows on; what came in since is taken as blocks.
            piece.truncate(usize::try_from(file.bytes - length).unwrap_or(usize::MAX));
            write(out.write_all(&piece), of.saturating_sub(here + length))?;
            length += piece.len() as u64;
            self.fetched += piece.len() as u64;
            (self.progress)(Progress::Copied { bytes: here + length, of });
        }
        write(out.sync_all(), of.saturating_sub(here + length))
    }

    /// Checks a whole file with what is known of all before it; one that does not hold goes.
    async fn check(&self, folder: &str, file: &Listed, before: Before) -> Result<Before, JoinError> {
        let path = self.staged.join(folder).join(&file.name);
        let (ledger, key) = (self.head.ledger.clone(), self.key.clone());
        let (folder_name, name) = (folder.to_owned(), file.name.clone());
        let checked = tokio::task::spawn_blocking(move || match (&*folder_name, SegmentName::parse(&name)) {
            (LOG, Some(segment)) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                let disk = LogDisk::new(archive::ArchiveDisk::of(folder, segment));
                audit_on(disk, &ledger, &key, before).map_err(|fault| fault.to_string())
            }
            (kept::FOLDER, _) => {
                let name = KeptName::parse(&name).ok_or("it has no name of a kept file")?;
                let mut chain = KeptChain::behind(&ledger, &key, before);
                chain.file(&path, &name, |_| Ok(())).map_err(|fault| fault.to_string())?;
                Ok(chain.end())
            }
            _ => match snapshot::verify(&path, &ledger, &key) {
                Ok(_) => Ok(before),
                Err(fault) => Err(fault.to_string()),
            },
        });
        checked.await?.map_err(|what: String| self.lie(folder, file, what))
    }

    fn lie(&self, folder: &str, file: &Listed, what: String) -> JoinError {
        // Whatever becomes of it, it is fetched anew.
        let _ = fs::remove_file(self.staged.join(folder).join(&file.name));
        let what = what.replace(&format!("{}/", self.staged.display()), "");
        JoinError::Lie { file: format!("{folder}/{}", file.name), source_address: self.source.address(), what }
    }

    /// The checkpoint that the source showed first is one of the blocks it gave.
    fn is_of_checkpoint(&self, (_, last): &Before) -> Result<(), JoinError> {
        let other = || JoinError::OtherHistory { height: self.head.height, source_address: self.source.address() };
        let last = last.as_ref().ok_or_else(other)?;
        let found = if last.height == self.head.height {
            last.digest()
        } else {
            let names = archive::segment_names(&self.staged.join(LOG))?;
            let name = names.into_iter().rev().find(|name| name.0 <= self.head.height).ok_or_else(other)?;
            let disk = LogDisk::new(archive::ArchiveDisk::of(&self.staged.join(LOG), name));
            let found = checkpoint_in(disk, self.head.height, self.key);
            found.map_err(|fault| JoinError::Replay(Box::new(fault.into())))?.ok_or_else(other)?.digest()
        };
        if found == self.head.digest() { Ok(()) } else { Err(other()) }
    }
}

/// Moves what is checked to where a node looks for it, the log last.
fn put_in_place(staged: &Path, data: &Path) -> Result<(), JoinError> {
    let mut names = Vec::new();
    for entry in at(staged, fs::read_dir(staged))? {
        names.push(at(staged, entry)?.file_name());
    }
    names.sort_by_key(|name| name == LOG);
    for name in names {
        let to = data.join(&name);
        if to.is_dir() && name != LOG {
            remove(&to, fs::remove_dir_all(&to))?;
        }
        at(&to, fs::rename(staged.join(&name), &to))?;
    }
    at(data, files::sync_folder(data))?;
    at(staged, fs::remove_dir(staged))
}

/// Whether there is no room: on the disk, in the quota, or below the limit on file sizes.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn at<T>(file: &Path, done: io::Result<T>) -> Result<T, JoinError> {
    done.map_err(|source| JoinError::File { file: file.to_owned(), source })
}

fn remove(file: &Path, done: io::Result<()>) -> Result<(), JoinError> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => at(file, Err(error)),
        _ => Ok(()),
    }
}
