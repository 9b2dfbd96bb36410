//! Why there is no certificate.

use std::io;
use std::path::PathBuf;
use tally_secrets::SecretFault;

/// Why a certificate is not issued, or an authority not opened.
#[derive(Debug, thiserror::Error)]
pub enum CaFault {
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing is overwritten.
    #[error("{} exists; nothing was overwritten: name another folder, or move it away", .0.display())]
    Exists(PathBuf),
    /// Others may read a private key.
    #[error(transparent)]
    Open(#[from] tally_secrets::OpenToOthers),
    /// A certificate or key file.
    #[error(transparent)]
    Tls(#[from] tally_tls::TlsFault),
    /// A request that is none.
    #[error("no certification request (PKCS#10, RFC 2986): {0}")]
    Request(String),
    /// A key of another kind.
    #[error(
        "the request's key is not P-256: make one with `tally enrol`, or `openssl ecparam -name prime256v1 -genkey`"
    )]
    KeyKind,
    /// A name that may not be had.
    #[error("the request asks for the name `{asked}`; allowed are {allowed}")]
    Name {
        /// What it asks for.
        asked: String,
        /// What it may.
        allowed: String,
    },
    /// A name that no certificate should carry.
    #[error("`{0}` is no name for a certificate: 1 to 64 letters, digits and `-_.@`")]
    BadName(String),
    /// Not one of ours.
    #[error("{} was not issued by this authority", .0.display())]
    Foreign(PathBuf),
    /// The authority's own time is over.
    #[error("the authority's own certificate is over; make a new one with `tally ca init`")]
    Over,
    /// The library says no.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The enrolment server says no, or is not there.
    #[error("{0}")]
    Asked(#[from] tally_ledger_client::RequestError),
    /// What it answered is no certificate.
    #[error("the answer holds no certificate of the key we asked for: {0}")]
    Answer(String),
    /// Codes.
    #[error(transparent)]
    Tokens(#[from] tally_door::TokenFault),
    /// The system gives no randomness.
    #[error("the system gives no random bytes")]
    Randomness,
}

impl CaFault {
    /// Why a private key's file is not read.
    pub(crate) fn secret(file: &std::path::Path) -> impl FnOnce(SecretFault) -> Self {
        move |fault| match fault {
            SecretFault::Open(open) => open.into(),
            SecretFault::Read(source) => Self::Io { file: file.to_owned(), source },
        }
    }
}
