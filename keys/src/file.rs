//! Secrets in files: looked at before they are read, wiped when they are dropped.

use crate::KeyError;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tally_evidence::SigningKey;
use zeroize::Zeroizing;

/// Larger files are no key and no PIN.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Reads a text that nobody but its owner may read. It is the opened file that is looked at, so nobody can put another in its place in between.
///
/// # Errors
/// [`KeyError::Mode`] with the command that mends it, [`KeyError::Read`].
pub fn read_secret(file: &Path) -> Result<Zeroizing<String>, KeyError> {
    let fault = |source| KeyError::Read { file: file.to_owned(), source };
    let mut opened = File::open(file).map_err(fault)?;
    let mode = opened.metadata().map_err(fault)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { file: file.to_owned(), mode });
    }
    read_text(&mut opened).map_err(fault)
}

/// Reads into one piece of memory that never moves: a buffer that grows leaves copies behind that nobody wipes.
pub(crate) fn read_text(file: &mut File) -> std::io::Result<Zeroizing<String>> {
    let invalid = |text| std::io::Error::new(std::io::ErrorKind::InvalidData, text);
    let mut bytes = Zeroizing::new(vec![0; FILE_BYTES_MAX]);
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..])? {
            0 if length == bytes.len() => return Err(invalid("it has more than 64 KiB")),
            0 => break,
            read => length += read,
        }
    }
    let text = std::str::from_utf8(&bytes[..length]).map_err(|_| invalid("it is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads a private P-256 key (PKCS#8 PEM).
///
/// # Errors
/// [`KeyError`].
pub fn read_signing_key(file: &Path) -> Result<SigningKey, KeyError> {
    let pem = read_secret(file)?;
    SigningKey::from_pem(&pem).map_err(|source| KeyError::Key { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};

    #[test]
    fn only_what_nobody_else_may_read_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        write(&file, SigningKey::from_secret(&[7; 32]).unwrap().to_pem().unwrap().as_bytes()).unwrap();
        for (mode, is_fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o660, false)] {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let read = read_signing_key(&file);
            assert_eq!(read.is_ok(), is_fine, "{mode:o}");
            if let Err(fault) = read {
                assert!(fault.to_string().contains(&format!("chmod 600 {}", file.display())), "{fault}");
            }
        }
    }

    #[test]
    fn what_is_no_key_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        for bytes in [b"MIGHAgEAMBMGByqGSM49".to_vec(), vec![0xff; 9], vec![b'a'; FILE_BYTES_MAX + 1]] {
            write(&file, &bytes).unwrap();
            set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let fault = read_signing_key(&file).unwrap_err();
            let said = format!("{fault} {fault:?}");
            assert!(said.contains("a.key") && !said.contains("MIGHAgEAMBMGByqGSM49"), "{said}");
        }
    }
}
