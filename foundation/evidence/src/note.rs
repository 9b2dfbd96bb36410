//! The tree's head as mirrors, monitors and witnesses of transparency logs read it: a C2SP checkpoint (tlog-checkpoint) in a
//! C2SP signed note, with an ECDSA P-256 signature (type 0x02).
//!
//! ```text
//! ORIGIN ⏎  SIZE ⏎  base64(ROOT) ⏎  ⏎
//! — ORIGIN base64(first 4 bytes of SHA-256(SPKI DER of the key) ‖ ASN.1 DER of the signature over the text above the empty line) ⏎
//! ```
//! It says less than our own [`crate::Checkpoint`] (no state, no outcomes, no time), but what it says others can read.

use crate::{Hash, SIGNATURE_BYTES, SigningKey, VerifyingKey, sha256};
use base64ct::{Base64, Encoding};

/// Bytes of the longest note we read: C2SP asks for at least 16 signatures.
const NOTE_BYTES_MAX: usize = 64 << 10;

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
        let text = self.text();
        let signature = p256::ecdsa::Signature::from_slice(&key.sign(text.as_bytes()));
        // 64 bytes from our own signer are always a signature.
        let signature = signature.map(|signature| signature.to_der().as_bytes().to_vec()).unwrap_or_default();
        let line = Base64::encode_string(&[&key_id(key.public())[..], &signature].concat());
        format!("{text}\n\u{2014} {} {line}\n", self.origin)
    }

    /// Reads a signed note whose signature by `key` under the name `origin` holds; other signatures are ignored, as C2SP asks.
    ///
    /// # Errors
    /// [`NoteFault`].
    pub fn open(note: &str, origin: &str, key: &VerifyingKey) -> Result<Self, NoteFault> {
        if note.len() > NOTE_BYTES_MAX || note.chars().any(|char| char.is_control() && char != '\n') {
            return Err(NoteFault::Shape("too long, or control characters in it"));
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteFault::Shape("no empty line before signatures"))?;
        let signatures = signatures.strip_suffix('\n').ok_or(NoteFault::Shape("the last line does not end"))?;
        let text = format!("{text}\n");
        let mut is_signed = false;
        for line in signatures.split('\n') {
            let (name, blob) = read_line(line).ok_or(NoteFault::Shape("a signature line is none"))?;
            let Some(signature) = blob.strip_prefix(&key_id(key)).filter(|_| name == origin) else { continue };
            if !holds(key, text.as_bytes(), signature) {
                return Err(NoteFault::Signature);
            }
            is_signed = true;
        }
        if !is_signed {
            return Err(NoteFault::Unsigned);
        }
        let note = read_text(&text).ok_or(NoteFault::Shape("origin, size and root are not its first three lines"))?;
        if note.origin == origin { Ok(note) } else { Err(NoteFault::Shape("it is another log's")) }
    }
}

/// Signature type 0x02: truncated hash of the SPKI form. Without one (which no parsed key lacks) no note is ever found signed.
fn key_id(key: &VerifyingKey) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&key.to_spki().unwrap_or_default());
    [a, b, c, d]
}

fn read_line(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, blob) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    Some((name, Base64::decode_vec(blob).ok()?))
}

fn holds(key: &VerifyingKey, text: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = p256::ecdsa::Signature::from_der(signature) else { return false };
    let signature: [u8; SIGNATURE_BYTES] = signature.to_bytes().into();
    key.verify(text, &signature)
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
    use proptest::prelude::*;

    fn note() -> (SigningKey, TreeNote, String) {
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        let note = TreeNote { origin: "press-line".to_owned(), size: 1_234, root: [7; 32] };
        let sealed = note.seal(&key);
        (key, note, sealed)
    }

    #[test]
    fn a_note_is_as_written_above_and_opens() {
        let (key, note, sealed) = note();
        let lines: Vec<_> = sealed.lines().collect();
        assert_eq!(lines[..4], ["press-line", "1234", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", ""]);
        assert!(lines[4].starts_with("\u{2014} press-line "));
        assert_eq!(TreeNote::open(&sealed, "press-line", key.public()), Ok(note));
    }

    #[test]
    fn cosignatures_of_others_change_nothing_and_are_not_enough() {
        let (key, note, sealed) = note();
        let other = SigningKey::from_secret(&[6; 32]).unwrap();
        let theirs = note.seal(&other);
        let cosigned = format!("{sealed}{}\n", theirs.lines().last().unwrap());
        assert_eq!(TreeNote::open(&cosigned, "press-line", key.public()), Ok(note));
        assert_eq!(TreeNote::open(&theirs, "press-line", key.public()), Err(NoteFault::Unsigned));
        assert_eq!(TreeNote::open(&sealed, "other-line", key.public()), Err(NoteFault::Unsigned));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (key, _, sealed) = note();
        for place in 0..sealed.len() * 8 {
            let mut forged = sealed.clone().into_bytes();
            forged[place / 8] ^= 1 << (place % 8);
            let Ok(forged) = String::from_utf8(forged) else { continue };
            assert!(TreeNote::open(&forged, "press-line", key.public()).is_err(), "bit {place}: {forged}");
        }
    }

    proptest! {
        #[test]
        fn random_texts_never_panic(text in "\\PC{0,200}", lines in proptest::collection::vec("[a-z0-9=\u{2014} ]{0,20}", 0..8)) {
            let (key, ..) = note();
            let _ = TreeNote::open(&text, "press-line", key.public());
            let _ = TreeNote::open(&lines.join("\n"), "press-line", key.public());
        }
    }
}
