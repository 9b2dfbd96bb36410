//! Why a key cannot be used. No variant carries key material or a PIN.

use crate::uri::UriFault;
use std::path::PathBuf;
use tally_evidence::{KeyFault, SealFault};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error(transparent)]
    Mode(#[from] tally_secrets::OpenToOthers),
    /// It holds no key of the kind that is needed.
    #[error("{}: {source}", file.display())]
    Key {
        /// Which file.
        file: PathBuf,
        /// What it should be.
        source: KeyFault,
    },
    /// The URI.
    #[error(transparent)]
    Uri(#[from] UriFault),
    /// The PKCS#11 module does not load.
    #[error("the PKCS#11 module {} does not load: {reason}", module.display())]
    Module {
        /// Which library.
        module: PathBuf,
        /// Why.
        reason: String,
    },
    /// A PIN source holds none.
    #[error("{source_name} holds no PIN: one line of text, as the token's owner chose it")]
    Pin {
        /// The file.
        source_name: String,
    },
    /// The token is away or says no.
    #[error("{uri}: {fault}")]
    Token {
        /// Which key.
        uri: String,
        /// What the token said.
        fault: SealFault,
    },
    /// The key must lie in a file here.
    #[error("{uri}: {why}; write the path of a key file")]
    FileNeeded {
        /// Which key.
        uri: String,
        /// Why.
        why: &'static str,
    },
    /// There is such a key already.
    #[error("{uri}: the token has a key of this name; a key is never overwritten: write another `object`")]
    Exists {
        /// Which key.
        uri: String,
    },
}
