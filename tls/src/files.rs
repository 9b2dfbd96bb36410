//! PEM files, and why one is of no use.

use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_secrets::{OpenToOthers, SecretFault};
use zeroize::Zeroizing;

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
    #[error(transparent)]
    KeyMode(#[from] OpenToOthers),
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

/// A private key (PKCS#8, SEC 1 or PKCS#1 PEM) that nobody but its owner may read; wiped when it is dropped.
///
/// # Errors
/// [`TlsFault::KeyMode`], [`TlsFault::File`].
pub fn private_key(file: &Path) -> Result<Zeroizing<PrivateKeyDer<'static>>, TlsFault> {
    let pem = tally_secrets::read(file, tally_secrets::BYTES_MAX).map_err(|fault| match fault {
        SecretFault::Open(open) => open.into(),
        SecretFault::Read(fault) => file_fault("our key", file, &fault),
    })?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|fault| file_fault("our key", file, &fault))?;
    Ok(Zeroizing::new(key))
}

/// Certificate and key as the library wants them. It is given the key to look at, not to keep: its own form of it lies in the
/// cryptographic library, and ours is wiped.
pub(crate) fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<Arc<SingleCertAndKey>, rustls::Error> {
    let certified = CertifiedKey::new(chain, any_supported_type(key)?);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified.into())),
        Err(fault) => Err(fault),
    }
}
