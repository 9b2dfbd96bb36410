//! Secrets in files: keys, tokens, PINs, the vault's secret. The one place that says who may read them and how they are read.
//!
//! **Who may.** Nobody but the owner: any permission of group or others refuses the file, whatever else would be right about it. It is
//! the opened file that is looked at, so nobody can put another in its place in between.
//!
//! **Memory.** They are read into one piece that never moves and is wiped when it is dropped: a buffer that grows leaves copies behind
//! that nobody wipes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Larger files are no key, no PIN and no token.
pub const BYTES_MAX: usize = 64 << 10;

/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// Others may read a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} may be read by others (mode {mode:04o}); type `chmod 600 {file}`", file = file.display())]
pub struct OpenToOthers {
    /// Which file.
    pub file: PathBuf,
    /// Its mode.
    pub mode: u32,
}

/// Why a secret is not read.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    /// Others may read it.
    #[error(transparent)]
    Open(#[from] OpenToOthers),
    /// It cannot be read; the error does not say which file.
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// Opens a file that nobody but its owner may read.
///
/// # Errors
/// [`SecretFault`].
pub fn open(file: &Path) -> Result<File, SecretFault> {
    let opened = File::open(file)?;
    let mode = opened.metadata()?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(OpenToOthers { file: file.to_owned(), mode }.into());
    }
    Ok(opened)
}

/// Reads such a file, of at most `bytes_max` bytes.
///
/// # Errors
/// [`SecretFault`]; `InvalidData` when it is larger.
pub fn read(file: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, SecretFault> {
    Ok(whole(&mut open(file)?, bytes_max)?)
}

/// Reads such a file as a text, of at most [`BYTES_MAX`] bytes.
///
/// # Errors
/// [`SecretFault`]; `InvalidData` when it is larger, or no text.
pub fn read_text(file: &Path) -> Result<Zeroizing<String>, SecretFault> {
    Ok(text(&mut open(file)?)?)
}

/// Reads the rest of a file as a text, of at most [`BYTES_MAX`] bytes, whoever may read it: what the system itself guards, such as the
/// credentials of a service.
///
/// # Errors
/// What the system says; `InvalidData` when it is larger, or no text.
pub fn text(file: &mut File) -> io::Result<Zeroizing<String>> {
    let bytes = whole(file, BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("it is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn whole(file: &mut File, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // One byte more than allowed shows that there are too many.
    let mut bytes = Zeroizing::new(vec![0; bytes_max.saturating_add(1)]);
    let mut length = 0;
    while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    if length > bytes_max {
        return Err(invalid(&format!("it has more than {bytes_max} bytes")));
    }
    // Shorter, in the same memory: all of it is wiped.
    bytes.truncate(length);
    Ok(bytes)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};

    #[test]
    fn only_what_nobody_else_may_read_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        write(&file, "secret\n").unwrap();
        for (mode, is_fine) in
            [(0o600, true), (0o400, true), (0o700, true), (0o640, false), (0o604, false), (0o660, false)]
        {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            match read_text(&file) {
                Ok(text) => assert!(is_fine && *text == "secret\n", "{mode:o}"),
                Err(SecretFault::Open(open)) => {
                    assert!(!is_fine && open.mode == mode, "{open}");
                    assert!(open.to_string().contains("chmod 600 ") && !open.to_string().contains("secret"), "{open}");
                }
                Err(other) => panic!("{other}"),
            }
        }
        set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(**read(&file, 7).unwrap(), *b"secret\n");
        assert!(matches!(read(&file, 6), Err(SecretFault::Read(fault)) if fault.kind() == io::ErrorKind::InvalidData));
        write(&file, [0xff]).unwrap();
        assert!(read_text(&file).unwrap_err().to_string().contains("no text"));
        assert!(matches!(read_text(&dir.path().join("none")), Err(SecretFault::Read(_))));
    }

    /// Its memory is as long as it ever was, so nothing of it was left behind elsewhere.
    #[test]
    fn what_is_read_stays_in_one_piece() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        write(&file, vec![7; 5_000]).unwrap();
        set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let bytes = read(&file, 10_000).unwrap();
        assert!(bytes.len() == 5_000 && bytes.capacity() >= 10_001);
    }
}
