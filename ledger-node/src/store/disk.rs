//! The disk under the index, the trees and the statement ids: files of the data folder, or a disk that fails on demand.

use super::IndexFault;
use redb::StorageBackend;
use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;
use std::fs;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tally_journal::files::sync_folder;

/// Folder of the trees, beside the index.
const TREE_DIR: &str = "tree";
/// Folder of the runs of statement ids, beside the index.
pub const RUN_DIR: &str = "statements";
/// What the name of a run's file ends with, behind its number.
const RUN_END: &str = ".run";
/// Name of the index where a [`IndexDisk::Backend`] is asked for it.
const INDEX_NAME: &str = "state.redb";

/// Makes the file of a name, for tests: the one that is there, or a new one.
type MakeBackend = Arc<dyn Fn(&str) -> Box<dyn StorageBackend> + Send + Sync>;

/// The disk under index, trees and statement ids.
#[derive(Clone)]
pub enum IndexDisk {
    /// The file of the index, thrown away and rebuilt when it is no good; the trees are in the folder `tree` beside it, the ids in
    /// `statements`.
    File(PathBuf),
    /// The same, made beside a data folder of which only the rest is used: kept files and snapshots.
    Beside {
        /// The file of the index; trees and ids are in folders beside it.
        index: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
    /// Anything, for tests with disks that fail. Gives the file of a name: `state.redb` (asked for again when the first one is
    /// no good), or one in `tree/` or `statements/`.
    Backend(MakeBackend),
}

impl IndexDisk {
    /// The data folder.
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Beside { data, .. } => Some(data.clone()),
            Self::File(path) => path.parent().map(Path::to_path_buf),
            Self::Backend(_) => None,
        }
    }

    /// The index, where it is no file.
    pub(super) fn index(&self) -> Result<&Path, Box<dyn StorageBackend>> {
        match self {
            Self::File(path) | Self::Beside { index: path, .. } => Ok(path),
            Self::Backend(make) => Err(make(INDEX_NAME)),
        }
    }

    /// The index, where it is a file.
    pub(super) fn index_path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Beside { index: path, .. } => Some(path),
            Self::Backend(_) => None,
        }
    }

    /// Throws away the index that is there.
    pub fn discard(&self) -> io::Result<()> {
        match self.index_path().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Opens a file of the trees, made when missing, with a durable name.
    pub(super) fn tree_file(&self, name: &str) -> Result<TreeFile, IndexFault> {
        self.file(TREE_DIR, name)
    }

    /// The same of the file of a run.
    pub(super) fn run_file(&self, number: u64) -> Result<TreeFile, IndexFault> {
        self.file(RUN_DIR, &run_name(number))
    }

    fn file(&self, folder: &str, name: &str) -> Result<TreeFile, IndexFault> {
        let name = format!("{folder}/{name}");
        let bytes = match self {
            Self::Backend(make) => Ok(Bytes::Backend(make(&name))),
            Self::File(index) | Self::Beside { index, .. } => open_file(beside(index), folder, &name).map(Bytes::File),
        };
        match bytes {
            Ok(bytes) => Ok(TreeFile::new(name, bytes)),
            Err(source) => Err(IndexFault::File { file: name, source }),
        }
    }

    /// Removes the files of all runs but those with these numbers. Nobody may have them open.
    pub(super) fn keep_runs(&self, numbers: &[u64]) -> Result<(), IndexFault> {
        let Some(index) = self.index_path() else { return Ok(()) };
        let named = |source| IndexFault::File { file: RUN_DIR.to_owned(), source };
        let entries = match fs::read_dir(beside(index).join(RUN_DIR)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(named)?,
        };
        for entry in entries {
            let entry = entry.map_err(named)?;
            let number = entry.file_name().to_str().and_then(run_number);
            if number.is_some_and(|number| !numbers.contains(&number)) {
                fs::remove_file(entry.path()).map_err(named)?;
            }
        }
        Ok(())
    }

    /// Removes the file of a run that counts no more. Its name may come back with the power: opening removes it then.
    pub(super) fn remove_run(&self, number: u64) -> Result<(), IndexFault> {
        let name = format!("{RUN_DIR}/{}", run_name(number));
        match self {
            // It has no names to remove; the bytes go.
            Self::Backend(_) => self.run_file(number)?.set_len(0),
            Self::File(index) | Self::Beside { index, .. } => {
                fs::remove_file(beside(index).join(&name)).map_err(|source| IndexFault::File { file: name, source })
            }
        }
    }
}

/// The folder of the index.
fn beside(index: &Path) -> &Path {
    index.parent().unwrap_or(Path::new(""))
}

fn run_name(number: u64) -> String {
    format!("{number:08}{RUN_END}")
}

fn run_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(RUN_END)?.parse().ok()?;
    (run_name(number) == name).then_some(number)
}

fn open_file(data: &Path, folder: &str, name: &str) -> io::Result<fs::File> {
    let folder = data.join(folder);
    if !folder.exists() {
        fs::create_dir(&folder)?;
        sync_folder(data)?;
    }
    let path = data.join(name);
    let is_new = !path.exists();
    let file = fs::File::options().create(true).truncate(false).read(true).write(true).open(path)?;
    if is_new {
        sync_folder(&folder)?;
    }
    Ok(file)
}

/// An open file of the trees, of statement ids, or the index, to sync what redb wrote to it.
#[derive(Debug)]
pub struct TreeFile {
    name: String,
    bytes: Bytes,
    /// See [`TreeFile::unsynced`].
    unsynced: AtomicU64,
}

#[derive(Debug)]
enum Bytes {
    File(fs::File),
    Backend(Box<dyn StorageBackend>),
}

impl TreeFile {
    const fn new(name: String, bytes: Bytes) -> Self {
        Self { name, bytes, unsynced: AtomicU64::new(0) }
    }

    /// The index at this path.
    pub fn index(path: &Path) -> Result<Self, IndexFault> {
        let name = INDEX_NAME.to_owned();
        match fs::File::open(path) {
            Ok(file) => Ok(Self::new(name, Bytes::File(file))),
            Err(source) => Err(IndexFault::File { file: name, source }),
        }
    }

    pub fn len(&self) -> Result<u64, IndexFault> {
        self.named(match &self.bytes {
            Bytes::File(file) => file.metadata().map(|meta| meta.len()),
            Bytes::Backend(backend) => backend.len(),
        })
    }

    /// Fills `into` from `offset`; a file that ends before is an error.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), IndexFault> {
        self.named(match &self.bytes {
            Bytes::File(file) => file.read_exact_at(into, offset),
            Bytes::Backend(backend) => match backend.len() {
                Ok(length) if offset.saturating_add(into.len() as u64) > length => {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
                Ok(_) => backend.read(offset, into),
                Err(error) => Err(error),
            },
        })
    }

    /// [`read`](Self::read) where the system has it all in memory; where it has not, or cannot say, begins to bring it there, does not wait
    /// for it and gives `false`.
    pub fn read_at_hand(&self, offset: u64, into: &mut [u8]) -> Result<bool, IndexFault> {
        let Bytes::File(file) = &self.bytes else { return self.read(offset, into).map(|()| true) };
        let (length, mut bytes) = (into.len(), [io::IoSliceMut::new(into)]);
        if rustix::io::preadv2(file, &mut bytes, offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == length) {
            return Ok(true);
        }
        self.advise(offset, length as u64);
        Ok(false)
    }

    /// Has the system begin to bring these bytes into memory, where it cares. What is wrong is found by whoever reads them.
    pub fn advise(&self, offset: u64, length: u64) {
        if let Bytes::File(file) = &self.bytes {
            let _ = rustix::fs::fadvise(file, offset, NonZero::new(length), Advice::WillNeed);
        }
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), IndexFault> {
        let written = self.named(match &self.bytes {
            Bytes::File(file) => file.write_all_at(bytes, offset),
            Bytes::Backend(backend) => backend.len().and_then(|length| {
                let end = offset.saturating_add(bytes.len() as u64);
                if end > length {
                    backend.set_len(end)?
                }
                backend.write(offset, bytes)
            }),
        });
        self.changed(bytes.len());
        written
    }

    pub fn set_len(&self, length: u64) -> Result<(), IndexFault> {
        let set = self.named(match &self.bytes {
            Bytes::File(file) => file.set_len(length),
            Bytes::Backend(backend) => backend.set_len(length),
        });
        self.changed(1);
        set
    }

    /// To be called behind the change: a sync that goes on meanwhile may not have it.
    fn changed(&self, bytes: usize) {
        self.unsynced.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    /// Bytes that were written here and not synced here; more than 0 also when the length was set.
    pub fn unsynced(&self) -> u64 {
        self.unsynced.load(Ordering::SeqCst)
    }

    /// Makes contents and length durable.
    pub fn sync(&self) -> Result<(), IndexFault> {
        self.unsynced.store(0, Ordering::SeqCst);
        self.named(match &self.bytes {
            Bytes::File(file) => file.sync_data(),
            Bytes::Backend(backend) => backend.sync_data(),
        })
    }

    /// What is there makes no sense.
    pub fn damaged(&self, what: &str) -> IndexFault {
        IndexFault::Damaged(format!("{}: {what}; the next start builds it again", self.name))
    }

    fn named<T>(&self, done: io::Result<T>) -> Result<T, IndexFault> {
        done.map_err(|source| IndexFault::File { file: self.name.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the system has is the only thing that can be said for sure: the rest depends on it.
    #[test]
    fn what_is_at_hand_is_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = IndexDisk::File(folder.path().join("state.redb")).tree_file("state.pages").unwrap();
        file.write(0, &[7; 10_000]).unwrap();
        file.write(5_000, &[8; 10]).unwrap();
        let mut read = [0; 20];
        let is_at_hand = file.read_at_hand(4_995, &mut read).unwrap();
        assert!(!is_at_hand || read == [[7; 5], [8; 5], [8; 5], [7; 5]].concat()[..]);
        assert!(!file.read_at_hand(9_990, &mut read).unwrap(), "not all of it is there, nor ever will be");
        file.read(9_990, &mut read).unwrap_err();
    }
}
