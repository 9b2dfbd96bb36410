//! PEM files, and why one is of no use.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a TLS connection cannot even be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// Neither `ca` nor `pin`.
    #[error("nothing says which server to trust: write `security: {{ca: FILE}}` or `security: {{pin: SHA-256}}`")]
    NoTrust,
    /// One of certificate and key alone.
    #[error("a client certificate needs both `certificate` and `key`")]
    HalfIdentity,
    /// A pin that is no fingerprint.
    #[error("`pin` is the SHA-256 of the server's certificate in 64 hexadecimal digits")]
    Pin,
    /// A file that does not hold what it should.
    #[error("{what} {file}: {reason}", file = file.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Others may read a private key.
    #[error("{file} may be read by others (mode {mode:04o}); type `chmod 600 {file}`", file = file.display())]
    KeyMode {
        /// Which file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The certificates do not fit together.
    #[error("certificates that cannot be used: {0}")]
    Unusable(String),
}

pub(crate) fn unusable(fault: &dyn std::fmt::Display) -> TlsFault {
    TlsFault::Unusable(fault.to_string())
}

pub(crate) fn file_fault(what: &'static str, file: &Path, reason: &dyn std::fmt::Display) -> TlsFault {
    TlsFault::File { what, file: file.to_owned(), reason: reason.to_string() }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// [`TlsFault::File`], which says what they are for.
pub fn certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let read = CertificateDer::pem_file_iter(file).map_err(|fault| file_fault(what, file, &fault))?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(|fault| file_fault(what, file, &fault))?;
    if certificates.is_empty() {
        return Err(file_fault(what, file, &"holds no certificate in PEM form"));
    }
    Ok(certificates)
}

/// A private key (PKCS#8, SEC 1 or PKCS#1 PEM) that nobody but its owner may read.
///
/// # Errors
/// [`TlsFault::KeyMode`], [`TlsFault::File`].
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsFault> {
    let mode = std::fs::metadata(file).map_err(|fault| file_fault("our key", file, &fault))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(TlsFault::KeyMode { file: file.to_owned(), mode: mode & 0o7777 });
    }
    read_key(file)
}

/// The same without a look at who may read it.
pub(crate) fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsFault> {
    PrivateKeyDer::from_pem_file(file).map_err(|fault| file_fault("our key", file, &fault))
}
