//! The tree's head as mirrors, monitors and witnesses of transparency logs read it: a C2SP checkpoint (tlog-checkpoint) in a
//! C2SP signed note, with an ECDSA P-256 signature (type 0x02) or, of logs of others, an Ed25519 one (type 0x01).
//!
//! ```text
//! ORIGIN ⏎  SIZE ⏎  base64(ROOT) ⏎  ⏎
//! — ORIGIN base64(key id (4 bytes) ‖ signature over the text above the empty line) ⏎
//!
//! P-256:    key id = SHA-256(SPKI DER)[..4],                       signature in ASN.1 DER
//! Ed25519:  key id = SHA-256(name ‖ 0x0a ‖ 0x01 ‖ key)[..4],       signature of RFC 8032
//! ```
//! It says less than our own [`crate::Checkpoint`] (no state, no outcomes, no time), but what it says others can read.
//! Signatures of witnesses stand in `cosignature.rs`.

use crate::{Hash, NoteSigningKey, NoteVerifyingKey, SIGNATURE_BYTES, SigningKey, sha256};
use base64ct::{Base64, Encoding};
use std::fmt;

/// Bytes of the longest note we read: C2SP asks for at least 16 signatures.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// Begins a signature line.
const DASH: &str = "\u{2014} ";

/// Size and root of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNote {
    /// Which log; also the name of its key.
    pub origin: String,
    /// Entries in the tree.
    pub size: u64,
    /// Root over them (RFC 9162 §2.1.1).
    pub root: Hash,
}

/// Why a note says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    /// Not a signed note, or not a checkpoint in one.
    #[error("not a signed checkpoint: {0}")]
    Shape(&'static str),
    /// No signature of the expected key.
    #[error("the note carries no signature of the expected key")]
    Unsigned,
    /// The signature of the expected key does not hold.
    #[error("the signature of the expected key does not hold")]
    Signature,
}

impl TreeNote {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, Base64::encode_string(&self.root))
    }

    /// The signed note.
    #[must_use]
    pub fn seal(&self, key: &SigningKey) -> String {
        let log = LogKey::new(self.origin.clone(), key.public().clone().into());
        log.seal(&self.text(), &key.clone().into()).to_string()
    }

    /// Reads a signed note whose signature by `log` holds; other signatures are ignored, as C2SP asks.
    ///
    /// # Errors
    /// [`NoteFault`].
    pub fn open(note: &str, log: &LogKey) -> Result<Self, NoteFault> {
        let note = SignedNote::parse(note)?;
        log.check(&note)
    }
}

/// A text and who signed it. Nothing is checked by parsing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    lines: Vec<SignatureLine>,
}

/// A signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    /// Name of the key.
    pub name: String,
    /// Which key of that name.
    pub key_id: [u8; 4],
    /// What it signed with.
    pub signature: Vec<u8>,
}

impl SignatureLine {
    /// Reads a line without its newline; `None` when it is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (name, blob) = line.strip_prefix(DASH)?.split_once(' ')?;
        let blob = Base64::decode_vec(blob).ok()?;
        let (key_id, signature) = blob.split_first_chunk()?;
        is_key_name(name).then(|| Self { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DASH}{} {}", self.name, Base64::encode_string(&[&self.key_id[..], &self.signature].concat()))
    }
}

/// Whether C2SP allows it as the name of a key: not empty, neither spaces nor plus.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|char: char| char.is_whitespace() || char.is_control() || char == '+')
}

impl SignedNote {
    /// Reads a note of at most [`NOTE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`NoteFault::Shape`].
    pub fn parse(note: &str) -> Result<Self, NoteFault> {
        if note.len() > NOTE_BYTES_MAX || note.chars().any(|char| char.is_control() && char != '\n') {
            return Err(NoteFault::Shape("too long, or control characters in it"));
        }
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteFault::Shape("no empty line before signatures"))?;
        let lines = lines.strip_suffix('\n').ok_or(NoteFault::Shape("the last line does not end"))?;
        let lines: Option<_> = lines.split('\n').map(SignatureLine::parse).collect();
        Ok(Self { text: format!("{text}\n"), lines: lines.ok_or(NoteFault::Shape("a signature line is none"))? })
    }

    /// What is signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Who signed it, as is said.
    #[must_use]
    pub fn lines(&self) -> &[SignatureLine] {
        &self.lines
    }

    /// The same with another signature, once.
    #[must_use]
    pub fn with(mut self, line: SignatureLine) -> Self {
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
        self
    }

    /// The same with those signatures only that `keep` wants.
    #[must_use]
    pub fn only(mut self, keep: impl FnMut(&SignatureLine) -> bool) -> Self {
        self.lines.retain(keep);
        self
    }

    /// The checkpoint in it, **whoever signed it**.
    ///
    /// # Errors
    /// [`NoteFault::Shape`].
    pub fn tree(&self) -> Result<TreeNote, NoteFault> {
        read_text(&self.text).ok_or(NoteFault::Shape("origin, size and root are not its first three lines"))
    }

    /// The signatures said to be of this key.
    pub(crate) fn of<'a>(&'a self, name: &'a str, key_id: [u8; 4]) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.lines.iter().filter(move |line| line.name == name && line.key_id == key_id);
        lines.map(|line| line.signature.as_slice())
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The key a log signs its checkpoints with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    origin: String,
    key: NoteVerifyingKey,
}

impl LogKey {
    /// The key of the log `origin`, whose name it also has.
    #[must_use]
    pub const fn new(origin: String, key: NoteVerifyingKey) -> Self {
        Self { origin, key }
    }

    /// Name of the log and of its key.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The key alone.
    #[must_use]
    pub const fn key(&self) -> &NoteVerifyingKey {
        &self.key
    }

    /// First four bytes of its hash.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = match &self.key {
            NoteVerifyingKey::P256(_) => sha256(&self.key.to_spki()),
            NoteVerifyingKey::Ed25519(_) => sha256(&[self.origin.as_bytes(), b"\n\x01", self.key.raw()].concat()),
        };
        [a, b, c, d]
    }

    /// The checkpoint in a note, when it is this log's and the log's signature holds.
    ///
    /// # Errors
    /// [`NoteFault`].
    pub fn check(&self, note: &SignedNote) -> Result<TreeNote, NoteFault> {
        let mut signatures = note.of(&self.origin, self.key_id()).peekable();
        signatures.peek().ok_or(NoteFault::Unsigned)?;
        if !signatures.all(|signature| self.holds(note.text.as_bytes(), signature)) {
            return Err(NoteFault::Signature);
        }
        let tree = note.tree()?;
        if tree.origin == self.origin { Ok(tree) } else { Err(NoteFault::Shape("it is another log's")) }
    }

    fn holds(&self, text: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            NoteVerifyingKey::Ed25519(_) => self.key.verify(text, signature),
            NoteVerifyingKey::P256(key) => {
                let Ok(signature) = p256::ecdsa::Signature::from_der(signature) else { return false };
                let signature: [u8; SIGNATURE_BYTES] = signature.to_bytes().into();
                key.verify(text, &signature)
            }
        }
    }

    /// Signs `text`, which ends in a newline, with the private half.
    fn seal(&self, text: &str, key: &NoteSigningKey) -> SignedNote {
        let fixed = key.sign(text.as_bytes());
        let signature = match self.key {
            NoteVerifyingKey::Ed25519(_) => fixed.to_vec(),
            // 64 bytes from our own signer are always a signature.
            NoteVerifyingKey::P256(_) => p256::ecdsa::Signature::from_slice(&fixed)
                .map(|signature| signature.to_der().as_bytes().to_vec())
                .unwrap_or_default(),
        };
        let line = SignatureLine { name: self.origin.clone(), key_id: self.key_id(), signature };
        SignedNote { text: text.to_owned(), lines: vec![line] }
    }
}

fn read_text(text: &str) -> Option<TreeNote> {
    let mut lines = text.split('\n');
    let (origin, digits, root) = (lines.next()?, lines.next()?, lines.next()?);
    let size: u64 = digits.parse().ok()?;
    let root = Base64::decode_vec(root).ok()?.try_into().ok()?;
    let is_canonical = size.to_string() == digits && !origin.is_empty();
    is_canonical.then(|| TreeNote { origin: origin.to_owned(), size, root })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;
    use proptest::prelude::*;

    fn note() -> (LogKey, TreeNote, String) {
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        let note = TreeNote { origin: "press-line".to_owned(), size: 1_234, root: [7; 32] };
        let sealed = note.seal(&key);
        (LogKey::new("press-line".to_owned(), key.public().clone().into()), note, sealed)
    }

    #[test]
    fn a_note_is_as_written_above_and_opens() {
        let (log, note, sealed) = note();
        let lines: Vec<_> = sealed.lines().collect();
        assert_eq!(lines[..4], ["press-line", "1234", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", ""]);
        assert!(lines[4].starts_with("\u{2014} press-line "));
        assert_eq!(TreeNote::open(&sealed, &log), Ok(note));
        assert_eq!(SignedNote::parse(&sealed).unwrap().to_string(), sealed);
    }

    #[test]
    fn a_log_of_others_may_sign_with_ed25519() {
        let key = NoteSigningKey::from_secret(Algorithm::Ed25519, &[5; 32]).unwrap();
        let log = LogKey::new("example.com/log".to_owned(), key.public().clone());
        let note = TreeNote { origin: "example.com/log".to_owned(), size: 9, root: [1; 32] };
        let sealed = log.seal(&note.text(), &key).to_string();
        assert_eq!(TreeNote::open(&sealed, &log), Ok(note));
        let forged = sealed.replacen("\n9\n", "\n8\n", 1);
        assert_eq!(TreeNote::open(&forged, &log), Err(NoteFault::Signature));
    }

    #[test]
    fn cosignatures_of_others_change_nothing_and_are_not_enough() {
        let (log, note, sealed) = note();
        let other = SigningKey::from_secret(&[6; 32]).unwrap();
        let theirs = note.seal(&other);
        let cosigned = format!("{sealed}{}\n", theirs.lines().last().unwrap());
        assert_eq!(TreeNote::open(&cosigned, &log), Ok(note));
        assert_eq!(TreeNote::open(&theirs, &log), Err(NoteFault::Unsigned));
        let elsewhere = LogKey::new("other-line".to_owned(), log.key().clone());
        assert_eq!(TreeNote::open(&sealed, &elsewhere), Err(NoteFault::Unsigned));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (log, _, sealed) = note();
        for place in 0..sealed.len() * 8 {
            let mut forged = sealed.clone().into_bytes();
            forged[place / 8] ^= 1 << (place % 8);
            let Ok(forged) = String::from_utf8(forged) else { continue };
            assert!(TreeNote::open(&forged, &log).is_err(), "bit {place}: {forged}");
        }
    }

    proptest! {
        #[test]
        fn random_texts_never_panic(text in "\\PC{0,200}", lines in proptest::collection::vec("[a-z0-9=\u{2014} ]{0,20}", 0..8)) {
            let (log, ..) = note();
            let _ = TreeNote::open(&text, &log);
            let _ = TreeNote::open(&lines.join("\n"), &log);
        }

        #[test]
        fn what_parses_is_written_the_same(text in "[ -~\n]{1,40}", name in "[a-z/.]{1,9}", blob in proptest::collection::vec(any::<u8>(), 0..90)) {
            let line = format!("\u{2014} {name} {}\n", Base64::encode_string(&blob));
            let note = format!("{text}\n\n{line}");
            if let Ok(parsed) = SignedNote::parse(&note) {
                prop_assert_eq!(parsed.to_string(), note);
            }
        }
    }
}
