//! Secrets in files: keys, tokens, PINs, the vault's secret. The one place that says who may read them and how they are read.
//!
//! **Who may.** Nobody but the owner: any permission of group or others refuses the file, whatever else would be right about it. It is
//! the opened file that is looked at, so nobody can put another in its place in between.
//!
//! **Memory.** They are read into one piece that never moves and is wiped when it is dropped: a buffer that grows leaves copies behind
//! that nobody wipes.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
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

/// Reads a password from such a file: all of it but the end of its last line.
///
/// # Errors
/// As [`read_text`].
pub fn read_password(file: &Path) -> Result<Zeroizing<String>, SecretFault> {
    let mut text = read_text(file)?;
    let length = text.trim_end_matches(['\n', '\r']).len();
    // Shorter, in the same memory: all of it is wiped.
    text.truncate(length);
    Ok(text)
}

/// Says whether others may read a file that is read in another way, such as by a library; one that cannot be opened is left to that.
///
/// # Errors
/// [`OpenToOthers`].
pub fn judge(file: &Path) -> Result<(), OpenToOthers> {
    match open(file) {
        Err(SecretFault::Open(open)) => Err(open),
        Ok(_) | Err(SecretFault::Read(_)) => Ok(()),
    }
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

/// Writes a secret, synced, into a file that only its owner may read, made or replaced in place.
///
/// # Errors
/// What the system says.
pub fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    // The mode is of effect for a new file only.
    opened.set_permissions(Permissions::from_mode(0o600))?;
    opened.write_all(bytes)?;
    opened.sync_all()
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
    use std::fs::{set_permissions, write as put};

    #[test]
    fn only_what_nobody_else_may_read_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        put(&file, "secret\n").unwrap();
        for (mode, is_fine) in
            [(0o600, true), (0o400, true), (0o700, true), (0o640, false), (0o604, false), (0o660, false)]
        {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert_eq!(judge(&file).is_ok(), is_fine, "{mode:o}");
            assert_eq!(
                read_password(&file).ok().as_deref().map(String::as_str),
                is_fine.then_some("secret"),
                "{mode:o}"
            );
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
        put(&file, [0xff]).unwrap();
        assert!(read_text(&file).unwrap_err().to_string().contains("no text"));
        assert!(matches!(read_text(&dir.path().join("none")), Err(SecretFault::Read(_))));
        assert_eq!(judge(&dir.path().join("none")), Ok(()));
    }

    #[test]
    fn what_is_written_is_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        put(&file, "of before, longer, and open").unwrap();
        set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        for text in ["secret", "other"] {
            write(&file, text.as_bytes()).unwrap();
            assert_eq!(read_text(&file).unwrap().as_str(), text);
            write(&dir.path().join(text), text.as_bytes()).unwrap();
            assert!(judge(&dir.path().join(text)).is_ok());
        }
    }

    /// Its memory is as long as it ever was, so nothing of it was left behind elsewhere.
    #[test]
    fn what_is_read_stays_in_one_piece() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        put(&file, vec![7; 5_000]).unwrap();
        set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let bytes = read(&file, 10_000).unwrap();
        assert!(bytes.len() == 5_000 && bytes.capacity() >= 10_001);
    }
}
