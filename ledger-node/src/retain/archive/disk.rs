//! Segments in a folder as a log that is only read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tally_journal::{SegmentName, Storage};

/// The segments of an archive, only read. Opening a journal writes the end of its last segment over itself: that is left out
/// here, and anything that would change a file is refused.
pub(crate) struct ArchiveDisk {
    dir: PathBuf,
    /// This segment alone.
    only: Option<SegmentName>,
}

impl ArchiveDisk {
    /// All segments in `dir`.
    pub(crate) fn all(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), only: None }
    }

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
