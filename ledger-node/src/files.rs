//! Files and names that are on the disk when a call returns.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces `folder/name` by `bytes`. If we die before the rename: the old one stands, and a `.new` that nobody reads. If we die
/// before the folder is synced: the old or the new one, and nobody was told.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&new, &folder.join(name))
}

/// Gives a file, which is on the disk already, another name in its folder.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to.parent().unwrap_or(Path::new(".")))
}

/// Makes names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The file's text; `None` when there is none.
pub fn read(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
