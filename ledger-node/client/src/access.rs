//! How we show who we are: a certificate, a token, or nothing on this machine.

use std::path::{Path, PathBuf};
use tally_model::{Secret, Tls};

/// What a client brings along.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// For `tls:` addresses: whom to trust, and our certificate. Read at every connect, so a renewed one needs no restart.
    pub tls: Tls,
    /// Sent with every request as `Authorization: Bearer`; only over TLS or on this machine.
    pub token: Option<Secret>,
}

/// Why a token file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum AccessFault {
    /// It cannot be read.
    #[error("the token in {}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("{file} may be read by others (mode {mode:04o}); type `chmod 600 {file}`", file = file.display())]
    Mode {
        /// Which file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds none.
    #[error("{} holds no token: one line, as `tally token add` showed it", file.display())]
    None {
        /// Which file.
        file: PathBuf,
    },
}

/// Reads a token from a file that only its owner may read.
///
/// # Errors
/// [`AccessFault`].
pub fn read_token(file: &Path) -> Result<Secret, AccessFault> {
    use std::os::unix::fs::PermissionsExt;
    let read = |source| AccessFault::Read { file: file.to_owned(), source };
    let mode = std::fs::metadata(file).map_err(read)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(AccessFault::Mode { file: file.to_owned(), mode });
    }
    let text = std::fs::read_to_string(file).map_err(read)?;
    let token = text.trim();
    // RFC 6750 §2.1: b64token.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if token.is_empty() || !token.chars().all(allowed) {
        return Err(AccessFault::None { file: file.to_owned() });
    }
    Ok(Secret::new(token.to_owned()))
}
