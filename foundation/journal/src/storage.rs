//! What a journal needs from a disk. [`DirStorage`] is the real one; [`crate::testing::MemStorage`] loses power on demand.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::OpenError;
use crate::format::NUMBER_MAX;

/// A folder of segments, as the journal sees it.
///
/// Promise of an implementation: bytes written are seen by later reads at once, and survive a power cut only after a
/// successful `sync`; a file created or deleted survives as such only after a successful `sync_directory`. Nothing more is
/// assumed: unsynced writes may survive in part and in any order.
pub trait Storage {
    /// Names of all files that could be segments, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty segment; an error if it exists.
    fn create(&mut self, segment: SegmentName) -> io::Result<()>;
    /// Writes all of `bytes` at `offset` (bytes from the start). Used to append, and on opening to write the last
    /// unconfirmed bytes once more over themselves.
    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync(&mut self, segment: SegmentName) -> io::Result<()>;
    /// Makes creations and deletions durable.
    fn sync_directory(&mut self) -> io::Result<()>;
    /// Fills `into` from `offset`; an error when the segment is shorter.
    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Cuts the segment to `length` bytes.
    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()>;
    /// Deletes the segment.
    fn delete(&mut self, segment: SegmentName) -> io::Result<()>;
    /// Length of the segment in bytes.
    fn len(&self, segment: SegmentName) -> io::Result<u64>;

    /// Keeps the summary of a sealed segment in place of any older one. It is gone when the segment is deleted. It need not survive a
    /// power cut, not even in one piece: it carries its own checksum. A storage that keeps none has sealed segments read again.
    fn put_summary(&mut self, segment: SegmentName, summary: &[u8]) -> io::Result<()> {
        let _ = (segment, summary);
        Ok(())
    }
    /// The bytes last given to [`put_summary`](Self::put_summary), or what is left of them; `None` when there are none.
    fn summary(&self, segment: SegmentName) -> io::Result<Option<Vec<u8>>> {
        let _ = segment;
        Ok(None)
    }

    /// How to name a file to the operator.
    fn describe(&self, file: &str) -> String {
        file.to_owned()
    }
}

impl<S: Storage + ?Sized> Storage for Box<S> {
    fn list(&self) -> io::Result<Vec<String>> {
        (**self).list()
    }
    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        (**self).create(segment)
    }
    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(segment, offset, bytes)
    }
    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        (**self).sync(segment)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        (**self).sync_directory()
    }
    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        (**self).read_at(segment, offset, into)
    }
    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        (**self).truncate(segment, length)
    }
    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        (**self).delete(segment)
    }
    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        (**self).len(segment)
    }
    fn put_summary(&mut self, segment: SegmentName, summary: &[u8]) -> io::Result<()> {
        (**self).put_summary(segment, summary)
    }
    fn summary(&self, segment: SegmentName) -> io::Result<Option<Vec<u8>>> {
        (**self).summary(segment)
    }
    fn describe(&self, file: &str) -> String {
        (**self).describe(file)
    }
}

/// Name of a segment: the number of its first record, `00000000000000000042.seg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName(pub u64);

impl SegmentName {
    /// Reads a file name; `None` when it is none of ours.
    pub fn parse(name: &str) -> Option<SegmentName> {
        let digits = name.strip_suffix(".seg")?;
        let ours = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|&number| ours && number < NUMBER_MAX)?;
        Some(SegmentName(number))
    }

    /// Name of the file that keeps the summary of this segment: `00000000000000000042.sum`.
    pub fn summary(self) -> String {
        format!("{:020}{SUMMARY}", self.0)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}.seg", self.0)
    }
}

/// File in the folder that carries the lock. The lock is the kernel's, so it is gone when the process is.
const LOCK: &str = "LOCK";
/// More than a summary has besides its blocks.
const SUMMARY_BYTES_LEAST: u64 = 4096;
/// How the names of summaries end.
const SUMMARY: &str = ".sum";
/// Read handles kept open. Above this all are closed: a vault can have thousands of segments, a process 1024 files.
const READERS_MAX: usize = 64;

/// Segments as files in one folder of a local file system, locked for this process.
#[derive(Debug)]
pub struct DirStorage {
    dir: PathBuf,
    /// Folder of the summaries; `None` keeps none.
    summaries: Option<PathBuf>,
    /// The segment that takes writes. Kept open from its first write on: the kernel reports a failed write-back to handles
    /// that were open when it happened.
    writer: Option<(SegmentName, File)>,
    /// The mutex protects the table only; reads go on outside it.
    readers: Mutex<BTreeMap<SegmentName, Arc<File>>>,
    _lock: Locked,
}

/// A file with the kernel's lock on it.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    /// Closing is not enough: a child that another thread is just starting has a copy of our files until it runs its program, and the
    /// lock with them.
    fn drop(&mut self) {
        // What cannot be unlocked is closed now, which unlocks it as soon as nobody has a copy.
        let _ = self.0.unlock();
    }
}

impl DirStorage {
    /// Creates the folder if need be, and locks it.
    ///
    /// # Errors
    /// [`OpenError::InUse`], [`OpenError::Foreign`] (before anything is written into the folder), [`OpenError::Folder`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref().to_path_buf();
        let folder = |source| OpenError::Folder { dir: dir.clone(), source };
        create_durably(&dir).map_err(folder)?;
        for file in file_names(&dir).map_err(folder)? {
            if SegmentName::parse(&file).is_none() {
                return Err(OpenError::Foreign { file: dir.join(file).display().to_string() });
            }
        }
        let lock = dir.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(lock).map_err(folder)?;
        match lock.try_lock() {
            Ok(()) => {
                sign(&lock);
                Ok(DirStorage { dir, summaries: None, writer: None, readers: Mutex::default(), _lock: Locked(lock) })
            }
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir, holder: holder(&lock) }),
            Err(TryLockError::Error(source)) => Err(OpenError::Folder { dir, source }),
        }
    }

    /// Keeps summaries of sealed segments in the folder `dir`, which is made when the first is kept. Not the folder of the
    /// segments: a program that knows no summaries opens that one as well.
    #[must_use]
    pub fn with_summaries(mut self, dir: impl Into<PathBuf>) -> Self {
        self.summaries = Some(dir.into());
        self
    }

    fn summary_path(&self, segment: SegmentName) -> Option<PathBuf> {
        Some(self.summaries.as_ref()?.join(segment.summary()))
    }

    fn path(&self, segment: SegmentName) -> PathBuf {
        self.dir.join(segment.to_string())
    }

    fn writer(&mut self, segment: SegmentName) -> io::Result<&File> {
        let open = match self.writer.take() {
            Some((name, file)) if name == segment => file,
            _ => OpenOptions::new().write(true).open(self.path(segment))?,
        };
        Ok(&self.writer.insert((segment, open)).1)
    }

    fn reader(&self, segment: SegmentName) -> io::Result<Arc<File>> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = readers.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.path(segment))?);
        if readers.len() >= READERS_MAX {
            readers.clear();
        }
        readers.insert(segment, Arc::clone(&file));
        Ok(file)
    }
}

impl Storage for DirStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        file_names(&self.dir)
    }

    fn create(&mut self, segment: SegmentName) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).open(self.path(segment))?;
        self.writer = Some((segment, file));
        Ok(())
    }

    fn write_at(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writer(segment)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, segment: SegmentName) -> io::Result<()> {
        self.writer(segment)?.sync_data()
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn read_at(&self, segment: SegmentName, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.reader(segment)?.read_exact_at(into, offset)
    }

    fn truncate(&mut self, segment: SegmentName, length: u64) -> io::Result<()> {
        let file = self.writer(segment)?;
        file.set_len(length)?;
        // Rare, so the full sync: not every file system counts a shorter length among what fdatasync must write.
        file.sync_all()
    }

    fn delete(&mut self, segment: SegmentName) -> io::Result<()> {
        self.writer.take_if(|(name, _)| *name == segment);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment);
        if let Some(file) = self.summary_path(segment) {
            // One that stays behind takes room until its number comes again, and then it does not fit.
            fs::remove_file(file).ok();
        }
        fs::remove_file(self.path(segment))
    }

    fn put_summary(&mut self, segment: SegmentName, summary: &[u8]) -> io::Result<()> {
        let (Some(dir), Some(file)) = (&self.summaries, self.summary_path(segment)) else { return Ok(()) };
        fs::create_dir_all(dir)?;
        fs::write(file, summary)
    }

    fn summary(&self, segment: SegmentName) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.summary_path(segment) else { return Ok(None) };
        let mut file = match File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        // A summary has 16 bytes for 4 KiB of its segment, or for a record; whatever is longer than the segment is none.
        let bytes_max = self.len(segment)?.saturating_add(SUMMARY_BYTES_LEAST);
        let mut bytes = Vec::new();
        (&mut file).take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn len(&self, segment: SegmentName) -> io::Result<u64> {
        Ok(self.reader(segment)?.metadata()?.len())
    }

    fn describe(&self, file: &str) -> String {
        let dir = self.summaries.as_ref().filter(|_| file.ends_with(SUMMARY)).unwrap_or(&self.dir);
        dir.join(file).display().to_string()
    }
}

/// Longest name of a holder that is believed.
const HOLDER_BYTES_MAX: usize = 200;

/// Writes into the locked file who has it: a line for people, who otherwise look for the second program in vain. It is a
/// courtesy: on a full disk the journal opens without.
fn sign(lock: &File) {
    let program = std::env::current_exe().ok();
    let program =
        program.as_deref().and_then(Path::file_name).map_or_else(|| "?".into(), |name| name.to_string_lossy());
    let line = format!("process {} ({program})\n", std::process::id());
    // Written before the rest is cut off: a reader in between sees two names rather than none.
    let signed = lock.write_all_at(line.as_bytes(), 0).and_then(|()| lock.set_len(line.len() as u64));
    drop(signed);
}

/// Who signed. The lock itself is the kernel's; whether it holds does not depend on what stands there.
fn holder(lock: &File) -> String {
    let mut bytes = [0; HOLDER_BYTES_MAX];
    let length = lock.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..length]);
    let line = text.lines().next().unwrap_or_default().trim();
    let is_plain = !line.is_empty() && line.chars().all(|character| !character.is_control());
    if is_plain { line.to_owned() } else { "a program that did not leave its name".to_owned() }
}

/// All names in the folder but the lock's.
fn file_names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != LOCK {
            names.push(name);
        }
    }
    Ok(names)
}

/// Creates the folder and those above it, each made durable in its parent: else the first power cut takes the folder with
/// everything that was synced inside.
fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    match fs::create_dir(dir) {
        Err(error) if !dir.is_dir() => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_lock_in_a_child_that_starts_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let storage = DirStorage::open(dir.path()).unwrap();
        assert!(matches!(DirStorage::open(dir.path()), Err(OpenError::InUse { .. })));
        // What fork(2) makes: another descriptor of the same open file.
        let copy = storage._lock.0.try_clone().unwrap();
        drop(storage);
        assert!(DirStorage::open(dir.path()).is_ok());
        drop(copy);
    }

    #[test]
    fn names() {
        assert_eq!(SegmentName(42).to_string(), "00000000000000000042.seg");
        assert_eq!(SegmentName::parse("00000000000000000042.seg"), Some(SegmentName(42)));
        for foreign in
            ["42.seg", "+0000000000000000042.seg", "00000000000000000042.log", "18446744073709551615.seg", ""]
        {
            assert_eq!(SegmentName::parse(foreign), None, "{foreign}");
        }
    }
}
