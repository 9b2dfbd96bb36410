//! Where a token's PIN comes from: a file, or a credential of systemd (`LoadCredential=`, systemd.exec(5)).

use crate::KeyError;
use crate::file::read_secret;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What a credential's name begins with in `pin-source`.
const CREDENTIAL: &str = "credential:";

/// Where a PIN comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    /// A file with mode 0600.
    File(PathBuf),
    /// A file of this name in `$CREDENTIALS_DIRECTORY`. Systemd gives that folder to the service alone; the mode of its files
    /// shows the mask of their access list and says nothing.
    Credential(String),
}

impl PinSource {
    /// From the value of `pin-source`; `None` for a command (`|…`), which is never run, and for a credential's name with a path in it.
    pub(crate) fn parse(text: &str, folder: &Path) -> Option<Self> {
        if let Some(name) = text.strip_prefix(CREDENTIAL) {
            return (!name.is_empty() && !name.contains('/') && name != "..")
                .then(|| Self::Credential(name.to_owned()));
        }
        let path = text.strip_prefix("file://").or_else(|| text.strip_prefix("file:")).unwrap_or(text);
        (!path.is_empty() && !path.starts_with('|')).then(|| Self::File(folder.join(path)))
    }

    /// The PIN: the first line.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn read(&self) -> Result<Zeroizing<String>, KeyError> {
        let text = match self {
            Self::File(file) => read_secret(file)?,
            Self::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
                let file = folder.unwrap_or_else(|| PathBuf::from("$CREDENTIALS_DIRECTORY")).join(name);
                let read = File::open(&file).and_then(|mut opened| tally_secrets::text(&mut opened));
                read.map_err(|source| KeyError::Read { file, source })?
            }
        };
        match text.lines().next().map(str::trim_end) {
            None | Some("") => Err(KeyError::Pin { source_name: self.to_string() }),
            Some(pin) => Ok(Zeroizing::new(pin.to_owned())),
        }
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Credential(name) => write!(f, "{CREDENTIAL}{name}"),
        }
    }
}
