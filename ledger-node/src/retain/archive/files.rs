//! Files of an archive: copied under another name and made read-only before they get theirs.

use crate::retain::FileFault;
use crate::retain::container::unfinished;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tally_journal::files;

const PIECE_BYTES: usize = 1 << 20;

/// Length, SHA-256 and header of a file.
pub(super) fn digest(file: &Path) -> Result<(u64, String, Vec<u8>), FileFault> {
    let io = |source| FileFault::io(file, source);
    let mut input = File::open(file).map_err(io)?;
    let (mut hash, mut bytes, mut head, mut piece) = (Sha256::new(), 0u64, Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        let count = input.read(&mut piece).map_err(io)?;
        if count == 0 {
            return Ok((bytes, hex::encode(hash.finalize()), head));
        }
        if bytes == 0 {
            head.extend_from_slice(&piece[..count.min(64)]);
        }
        hash.update(&piece[..count]);
        bytes += count as u64;
    }
}

/// Copies, syncs, and only then gives the copy its name.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), FileFault> {
    let new = unfinished(to);
    remove(&new)?;
    fs::copy(from, &new).map_err(|source| FileFault::io(&new, source))?;
    seal(&new)?;
    rename(&new, to)
}

pub(super) fn write_read_only(file: &Path, bytes: &[u8]) -> Result<(), FileFault> {
    let new = unfinished(file);
    remove(&new)?;
    let mut out = File::create(&new).map_err(|source| FileFault::io(&new, source))?;
    out.write_all(bytes).map_err(|source| FileFault::io(&new, source))?;
    seal(&new)?;
    rename(&new, file)
}

fn seal(file: &Path) -> Result<(), FileFault> {
    let set = fs::set_permissions(file, fs::Permissions::from_mode(0o444));
    set.and_then(|()| File::open(file)?.sync_all()).map_err(|source| FileFault::io(file, source))
}

pub(in crate::retain) fn rename(new: &Path, file: &Path) -> Result<(), FileFault> {
    files::rename(new, file).map_err(|source| FileFault::io(file, source))
}

pub(in crate::retain) fn remove(file: &Path) -> Result<(), FileFault> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileFault::io(file, error)),
        _ => Ok(()),
    }
}
