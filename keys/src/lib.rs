//! Private keys: files that only their owner may read, and PKCS#11 tokens that keep them to themselves.
//!
//! ```text
//! "keys/agent.key" ─┐                ┌─▶ file   (mode 0600, PKCS#8 PEM, wiped)
//!                   ├─▶ KeySource ───┤                                        ──▶ SealingKey
//! "pkcs11:token=…" ─┘   (uri)        └─▶ token  (session, login, sign, again)
//! ```
//! One spelling everywhere a key file is taken: a path, or a URI by RFC 7512. [`KeySource::open`] is for whoever stands before the
//! screen: everything must work now. [`KeySource::open_later`] is for a service: a token that is away, or refuses, is a state
//! and no fault, and is asked again with growing pauses.
//!
//! **A PIN is tried once.** Tokens lock themselves after a few wrong ones, so a PIN that was refused is not tried again before
//! its file says another, and a token that says "one try left" is left alone (`docs/decisions/038-keys-in-tokens.md`).
//!
//! Never here: a key or PIN in a message, a log or a `Debug`.

mod fault;
mod file;
mod pin;
pub mod testing;
mod token;
mod uri;

pub use fault::KeyError;
pub use file::{read_secret, read_signing_key};
pub use pin::PinSource;
pub use token::{Generated, TokenKey, generate};
pub use uri::{TokenUri, UriFault};

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_evidence::{SealingKey, SigningKey};

/// What every URI of a token begins with.
pub const SCHEME: &str = "pkcs11:";

/// Where a key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file, PKCS#8 PEM.
    File(PathBuf),
    /// In a token.
    Token(Box<TokenUri>),
}

impl KeySource {
    /// A path (relative ones begin at `folder`), or a `pkcs11:` URI.
    ///
    /// # Errors
    /// [`UriFault`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, UriFault> {
        if text.starts_with(SCHEME) {
            return TokenUri::parse(text, folder).map(|uri| Self::Token(Box::new(uri)));
        }
        Ok(Self::File(folder.join(text)))
    }

    /// The key, ready to sign.
    ///
    /// # Errors
    /// [`KeyError`], also when the token is not there.
    pub fn open(&self) -> Result<SealingKey, KeyError> {
        match self {
            Self::File(file) => read_signing_key(file).map(SealingKey::from),
            Self::Token(uri) => {
                let key = TokenKey::new(uri)?;
                key.connect()?;
                Ok(SealingKey::remote(Arc::new(key)))
            }
        }
    }

    /// The key; a token need not be there, nor willing, yet.
    ///
    /// # Errors
    /// [`KeyError`]: the file is of no use, the token's module does not load, or the PIN cannot be read.
    pub fn open_later(&self) -> Result<SealingKey, KeyError> {
        match self {
            Self::File(_) => self.open(),
            Self::Token(uri) => {
                uri.pin_is_readable()?;
                Ok(SealingKey::remote(Arc::new(TokenKey::new(uri)?)))
            }
        }
    }

    /// The key itself, which only a file gives. `why` says what it is needed for.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open_file(&self, why: &'static str) -> Result<SigningKey, KeyError> {
        match self {
            Self::File(file) => read_signing_key(file),
            Self::Token(uri) => Err(KeyError::FileNeeded { uri: uri.to_string(), why }),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Token(uri) => uri.fmt(f),
        }
    }
}
