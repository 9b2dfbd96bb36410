//! How we show who we are: a certificate, a token, or nothing on this machine.

use std::path::{Path, PathBuf};
use tally_model::{Secret, Tls};
use tally_secrets::SecretFault;

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
    #[error(transparent)]
    Mode(#[from] tally_secrets::OpenToOthers),
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
    let text = tally_secrets::read_text(file).map_err(|fault| match fault {
        SecretFault::Open(open) => open.into(),
        SecretFault::Read(source) => AccessFault::Read { file: file.to_owned(), source },
    })?;
    let token = text.trim();
    // RFC 6750 §2.1: b64token.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if token.is_empty() || !token.chars().all(allowed) {
        return Err(AccessFault::None { file: file.to_owned() });
    }
    Ok(Secret::new(token.to_owned()))
}
