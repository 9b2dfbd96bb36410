//! Small files and names that are on the disk when a call returns. For what is replaced whole; what grows belongs into a
//! [`Journal`](crate::Journal).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces `file` by `bytes`, whole or not at all, by way of `file.new` in the same folder. Power lost before the rename: the old
/// one stands, and a `.new` that nobody reads. Power lost before the folder is synced: the old or the new one, and nobody was told.
///
/// # Errors
/// What the system says of creating, writing, syncing or renaming; the old file stands then, or the new one if only the sync of
/// the folder failed.
pub fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(file);
    let mut writing = File::create(&new)?;
    writing.write_all(bytes)?;
    writing.sync_all()?;
    rename(&new, file)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".new");
    PathBuf::from(name)
}

/// Gives a file, which is synced already, another name in its folder.
///
/// # Errors
/// What the system says of renaming, or of syncing the folder.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    sync_folder(folder.unwrap_or(Path::new(".")))
}

/// Makes names in a folder durable.
///
/// # Errors
/// What the system says of opening or syncing it.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The file's text; `None` when there is none.
///
/// # Errors
/// What the system says of reading it, or `InvalidData` for text that is not UTF-8.
pub fn read(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("place.txt");
        assert_eq!(read(&file).unwrap(), None);
        replace(&file, b"a longer one").unwrap();
        replace(&file, b"2").unwrap();
        assert_eq!(read(&file).unwrap().as_deref(), Some("2"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_old_file_stands_when_the_new_one_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("place.txt");
        replace(&file, b"old").unwrap();
        fs::create_dir(beside(&file)).unwrap();
        assert!(replace(&file, b"new").is_err());
        assert_eq!(read(&file).unwrap().as_deref(), Some("old"));
    }
}
