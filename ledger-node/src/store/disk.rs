//! The disk under the index and the trees: files of the data folder, or a disk that fails on demand.

use super::IndexFault;
use redb::StorageBackend;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tally_journal::files::sync_folder;

/// Folder of the trees, beside the index.
pub const TREE_DIR: &str = "tree";
/// Name of the index where a [`IndexDisk::Backend`] is asked for it.
const INDEX_NAME: &str = "state.redb";

/// Makes the file of a name, for tests: the one that is there, or a new one.
type MakeBackend = Box<dyn Fn(&str) -> Box<dyn StorageBackend> + Send + Sync>;

/// The disk under index and trees.
pub enum IndexDisk {
    /// The file of the index, thrown away and rebuilt when it is no good; the trees are in the folder `tree` beside it.
    File(PathBuf),
    /// The same, made beside a data folder of which only the rest is used: kept files and snapshots.
    Beside {
        /// The file of the index; the trees are in the folder `tree` beside it.
        index: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
    /// Anything, for tests with disks that fail. Gives the file of a name: `state.redb` (asked for again when the first one is
    /// no good), or one in `tree/`.
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

    /// Throws away the index that is there.
    pub fn discard(&self) -> io::Result<()> {
        match self {
            Self::File(path) | Self::Beside { index: path, .. } => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Self::Backend(_) => Ok(()),
        }
    }

    /// Opens a file of the trees, made when missing, with a durable name.
    pub(super) fn tree_file(&self, name: &str) -> Result<TreeFile, IndexFault> {
        let name = format!("{TREE_DIR}/{name}");
        let bytes = match self {
            Self::Backend(make) => Ok(Bytes::Backend(make(&name))),
            Self::File(index) | Self::Beside { index, .. } => {
                open_file(index.parent().unwrap_or(Path::new("")), &name).map(Bytes::File)
            }
        };
        match bytes {
            Ok(bytes) => Ok(TreeFile { name, bytes }),
            Err(source) => Err(IndexFault::File { file: name, source }),
        }
    }
}

fn open_file(data: &Path, name: &str) -> io::Result<fs::File> {
    let folder = data.join(TREE_DIR);
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

/// An open file of the trees.
#[derive(Debug)]
pub struct TreeFile {
    name: String,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File(fs::File),
    Backend(Box<dyn StorageBackend>),
}

impl TreeFile {
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

    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), IndexFault> {
        self.named(match &self.bytes {
            Bytes::File(file) => file.write_all_at(bytes, offset),
            Bytes::Backend(backend) => backend.len().and_then(|length| {
                let end = offset.saturating_add(bytes.len() as u64);
                if end > length {
                    backend.set_len(end)?
                }
                backend.write(offset, bytes)
            }),
        })
    }

    pub fn set_len(&self, length: u64) -> Result<(), IndexFault> {
        self.named(match &self.bytes {
            Bytes::File(file) => file.set_len(length),
            Bytes::Backend(backend) => backend.set_len(length),
        })
    }

    /// Makes contents and length durable.
    pub fn sync(&self) -> Result<(), IndexFault> {
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
