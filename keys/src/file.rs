//! Secrets in files: looked at before they are read, wiped when they are dropped.

use crate::KeyError;
use std::path::Path;
use tally_evidence::SigningKey;
use tally_secrets::SecretFault;
use zeroize::Zeroizing;

/// Reads a text that nobody but its owner may read.
///
/// # Errors
/// [`KeyError::Mode`] with the command that mends it, [`KeyError::Read`].
pub fn read_secret(file: &Path) -> Result<Zeroizing<String>, KeyError> {
    tally_secrets::read_text(file).map_err(|fault| match fault {
        SecretFault::Open(open) => open.into(),
        SecretFault::Read(source) => KeyError::Read { file: file.to_owned(), source },
    })
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
    use std::os::unix::fs::PermissionsExt;

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
        for bytes in [b"MIGHAgEAMBMGByqGSM49".to_vec(), vec![0xff; 9], vec![b'a'; tally_secrets::BYTES_MAX + 1]] {
            write(&file, &bytes).unwrap();
            set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let fault = read_signing_key(&file).unwrap_err();
            let said = format!("{fault} {fault:?}");
            assert!(said.contains("a.key") && !said.contains("MIGHAgEAMBMGByqGSM49"), "{said}");
        }
    }
}
