//! Copying files with their length and digest, durably, and the other small steps of both ways.

use super::fault::BackupError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use tally_journal::SegmentName;

/// Bytes copied at once.
const PIECE_BYTES: usize = 1 << 20;

/// Names of the segments in a folder, oldest first. The lock is left out.
pub(super) fn segments(log: &Path) -> Result<Vec<String>, BackupError> {
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
pub(super) fn empty_folder(dir: &Path) -> Result<(), BackupError> {
    at(dir, fs::create_dir_all(dir))?;
    match at(dir, fs::read_dir(dir))?.next() {
        None => Ok(()),
        Some(_) => Err(BackupError::NotEmpty(dir.to_owned())),
    }
}

/// Copies what is there when it is read, durably; gives length and SHA-256.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(u64, String), BackupError> {
    let mut written = at(to, File::options().write(true).create_new(true).open(to))?;
    let copied = digest(from, &mut written)?;
    at(to, written.sync_all())?;
    Ok(copied)
}

/// Reads a file through to `onward`; gives length and SHA-256 in hexadecimal.
pub(super) fn digest(file: &Path, onward: &mut impl Write) -> Result<(u64, String), BackupError> {
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

pub(super) fn at<T>(file: &Path, done: io::Result<T>) -> Result<T, BackupError> {
    done.map_err(|source| BackupError::File { file: file.to_owned(), source })
}

/// What is not there need not be removed.
pub(super) fn remove(file: &Path, removed: io::Result<()>) -> Result<(), BackupError> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => at(file, other),
    }
}
