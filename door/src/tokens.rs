//! Bearer tokens (RFC 6750): a file of names, roles and digests; the tokens themselves are nowhere.
//!
//! A token is 32 random bytes, written as `tally_` and 64 hexadecimal digits. The file, mode 0600, holds the SHA-256 of that text: a
//! value of 256 random bits cannot be guessed from its digest, so nothing slower is needed. Digests are compared in constant time, each
//! with each. The file is JSON; it is replaced as a whole, and read anew when it changed.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tally_secrets::SecretFault;

/// Tokens in one file.
const TOKENS_MAX: usize = 10_000;
/// Bytes of it: a token has some 200.
const FILE_BYTES_MAX: usize = TOKENS_MAX * 400;
/// Before the digits: a scanner for leaked secrets finds them by it.
const PREFIX: &str = "tally_";
/// Bytes of the longest text that is looked at.
const TEXT_BYTES_MAX: usize = 256;

/// A token as the file knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who has it: a person, a program. Unique.
    pub name: String,
    /// What it is for; the interface knows the words.
    pub role: String,
    /// SHA-256 of the token, hexadecimal.
    pub sha256: String,
    /// When it was made, Unix seconds.
    pub made: u64,
    /// Last second in which it counts, Unix time; `None`: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// It counts once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
}

/// What a new token shall be.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// [`Token::name`].
    pub name: &'a str,
    /// [`Token::role`].
    pub role: &'a str,
    /// Now, Unix seconds.
    pub now: u64,
    /// [`Token::until`].
    pub until: Option<u64>,
    /// [`Token::once`].
    pub once: bool,
}

/// Why a token file is of no use, or stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// It cannot be read or written.
    #[error("the token file {}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error(transparent)]
    Mode(#[from] tally_secrets::OpenToOthers),
    /// It is none.
    #[error("{} is no token file: {reason}; `tally token add` makes one", file.display())]
    Shape {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is such a token.
    #[error("there is a token of `{0}` already; revoke it first, or choose another name")]
    Taken(String),
    /// There is none.
    #[error("there is no token of `{0}`")]
    Unknown(String),
    /// A name that cannot stand in a list.
    #[error("`{0}` is no name: 1 to 64 letters, digits and `-_.@:/`")]
    Name(String),
    /// The system gives no randomness.
    #[error("the system gives no random bytes")]
    Randomness,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tokens: Vec<Token>,
}

/// The tokens of a file, as it was when last looked at. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Tokens {
    file: Arc<PathBuf>,
    /// What was read, and the file's stamp then. The lock is held while the file is read: all wait for the same answer.
    read: Arc<Mutex<(Stamp, Vec<Token>)>>,
}

/// Inode, time of change in nanoseconds, bytes: a replaced file always has another.
type Stamp = Option<(u64, i64, u64)>;

impl Tokens {
    /// Tokens of this file, which need not exist yet: then there are none.
    ///
    /// # Errors
    /// [`TokenFault`] when it exists and is of no use.
    pub fn open(file: PathBuf) -> Result<Self, TokenFault> {
        let tokens = if file.exists() { load(&file)? } else { Vec::new() };
        let stamp = stamp(&file);
        Ok(Self { file: Arc::new(file), read: Arc::new(Mutex::new((stamp, tokens))) })
    }

    /// Whose token `text` is, at `now` (Unix seconds); one that counts once is used up by this. A file that became of no use has no tokens.
    #[must_use]
    pub fn find(&self, text: &str, now: u64) -> Option<Token> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamp(&self.file);
        if found != read.0 {
            let tokens = load(&self.file).inspect_err(|fault| tracing::error!(%fault, "no token counts"));
            *read = (found, tokens.unwrap_or_default());
        }
        // All of them are compared, so that the time says nothing of which.
        let mut hit = None;
        for token in &read.1 {
            if same(token.sha256.as_bytes(), digest.as_bytes()) {
                hit = Some(token.clone());
            }
        }
        let hit = hit.filter(|token| token.until.is_none_or(|until| now <= until))?;
        if hit.once {
            let left: Vec<Token> = read.1.iter().filter(|token| token.name != hit.name).cloned().collect();
            // What cannot be used up does not count.
            save(&self.file, left.clone())
                .inspect_err(|fault| tracing::error!(%fault, "a token is not used up"))
                .ok()?;
            *read = (stamp(&self.file), left);
        }
        Some(hit)
    }

    /// Makes a token; the only time it is shown.
    ///
    /// # Errors
    /// [`TokenFault`]; then the file is as it was.
    pub fn add(file: &Path, new: &NewToken<'_>) -> Result<String, TokenFault> {
        if !is_name(new.name) {
            return Err(TokenFault::Name(new.name.to_owned()));
        }
        let mut tokens = if file.exists() { load(file)? } else { Vec::new() };
        if tokens.iter().any(|token| token.name == new.name) {
            return Err(TokenFault::Taken(new.name.to_owned()));
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| TokenFault::Randomness)?;
        let text = format!("{PREFIX}{}", hex::encode(secret));
        tokens.push(Token {
            name: new.name.to_owned(),
            role: new.role.to_owned(),
            sha256: hex::encode(Sha256::digest(text.as_bytes())),
            made: new.now,
            until: new.until,
            once: new.once,
        });
        save(file, tokens)?;
        Ok(text)
    }

    /// All tokens of a file, without anything secret.
    ///
    /// # Errors
    /// [`TokenFault`].
    pub fn list(file: &Path) -> Result<Vec<Token>, TokenFault> {
        load(file)
    }

    /// Ends a token. A running server knows it at its next request.
    ///
    /// # Errors
    /// [`TokenFault::Unknown`], and those of the file.
    pub fn revoke(file: &Path, name: &str) -> Result<(), TokenFault> {
        let mut tokens = load(file)?;
        let before = tokens.len();
        tokens.retain(|token| token.name != name);
        if tokens.len() == before {
            return Err(TokenFault::Unknown(name.to_owned()));
        }
        save(file, tokens)
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@:/".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

fn stamp(file: &Path) -> Stamp {
    let found = std::fs::metadata(file).ok()?;
    Some((found.ino(), found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()), found.len()))
}

fn load(file: &Path) -> Result<Vec<Token>, TokenFault> {
    let text = tally_secrets::read(file, FILE_BYTES_MAX).map_err(|fault| match fault {
        SecretFault::Open(open) => open.into(),
        SecretFault::Read(source) => TokenFault::Io { file: file.to_owned(), source },
    })?;
    let shape = |reason: String| TokenFault::Shape { file: file.to_owned(), reason };
    let written: Written = serde_json::from_slice(&text).map_err(|fault| shape(fault.to_string()))?;
    match written.tokens.iter().find(|token| token.sha256.len() != 64) {
        _ if written.tokens.len() > TOKENS_MAX => Err(shape(format!("it has more than {TOKENS_MAX} tokens"))),
        Some(token) => Err(shape(format!("the digest of `{}` is none", token.name))),
        None => Ok(written.tokens),
    }
}

/// Beside it, synced, then in its place: whoever reads sees the old file or the new one.
fn save(file: &Path, tokens: Vec<Token>) -> Result<(), TokenFault> {
    let io = |source| TokenFault::Io { file: file.to_owned(), source };
    let text = serde_json::to_string_pretty(&Written { tokens }).map_err(|fault| io(io::Error::other(fault)))?;
    let beside = file.with_extension("new");
    let mut handle =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(io)?;
    handle.set_permissions(Permissions::from_mode(0o600)).map_err(io)?;
    handle.write_all(format!("{text}\n").as_bytes()).and_then(|()| handle.sync_all()).map_err(io)?;
    std::fs::rename(&beside, file).map_err(io)
}

/// Whether two texts are the same, in a time that depends on their lengths only.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differ = left.iter().zip(right).fold(0, |differ, (left, right)| differ | (left ^ right));
    left.len() == right.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn new<'a>(name: &'a str, role: &'a str) -> NewToken<'a> {
        NewToken { name, role, now: 1_000, until: None, once: false }
    }

    #[test]
    fn a_token_is_found_until_it_is_revoked_and_its_text_is_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens.json");
        let tokens = Tokens::open(file.clone()).unwrap();
        let anna = Tokens::add(&file, &new("anna", "operator")).unwrap();
        let bert = Tokens::add(&file, &new("bert", "auditor")).unwrap();
        assert_eq!(tokens.find(&anna, 1_000).map(|token| token.role), Some("operator".to_owned()));
        assert_eq!(tokens.find(&bert, 1_000).map(|token| token.name), Some("bert".to_owned()));
        assert!(matches!(Tokens::add(&file, &new("anna", "auditor")), Err(TokenFault::Taken(_))));
        assert!(matches!(Tokens::add(&file, &new("a b", "auditor")), Err(TokenFault::Name(_))));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&anna) && !text.contains(&anna[PREFIX.len()..]));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        Tokens::revoke(&file, "anna").unwrap();
        assert_eq!(tokens.find(&anna, 1_000), None);
        assert!(tokens.find(&bert, 1_000).is_some());
        assert!(matches!(Tokens::revoke(&file, "anna"), Err(TokenFault::Unknown(_))));
    }

    #[test]
    fn one_that_ended_and_one_that_was_used_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens.json");
        let short = Tokens::add(&file, &NewToken { until: Some(2_000), ..new("short", "agent") }).unwrap();
        let single = Tokens::add(&file, &NewToken { once: true, ..new("single", "agent") }).unwrap();
        let tokens = Tokens::open(file.clone()).unwrap();
        assert!(tokens.find(&short, 2_000).is_some() && tokens.find(&short, 2_001).is_none());
        assert!(tokens.find(&single, 2_000).is_some() && tokens.find(&single, 2_000).is_none());
        assert!(Tokens::open(file).unwrap().find(&single, 2_000).is_none(), "also after a restart");
    }

    #[test]
    fn a_file_that_is_open_or_damaged_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens.json");
        let anna = Tokens::add(&file, &new("anna", "operator")).unwrap();
        let tokens = Tokens::open(file.clone()).unwrap();
        assert!(tokens.find(&anna, 1_000).is_some());
        for text in ["", "{}", "{\"tokens\": [{\"name\": \"x\"}]}", "[]", "\u{0}"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(tokens.find(&anna, 1_000), None, "{text}");
            assert!(matches!(Tokens::open(file.clone()), Err(TokenFault::Shape { .. })), "{text}");
        }
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Tokens::open(file), Err(TokenFault::Mode(open)) if open.mode == 0o644));
    }

    proptest! {
        #[test]
        fn comparing_is_equality(left in "[a-c]{0,4}", right in "[a-c]{0,4}") {
            prop_assert_eq!(same(left.as_bytes(), right.as_bytes()), left == right);
        }

        #[test]
        fn random_files_never_panic(text in "\\PC{0,80}") {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("tokens.json");
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let _ = Tokens::open(file);
        }
    }
}
