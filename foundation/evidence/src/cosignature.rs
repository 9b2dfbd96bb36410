//! Cosignatures: a witness says that it saw a log only grow up to this checkpoint (C2SP tlog-cosignature).
//!
//! ```text
//! — WITNESS base64(key id (4 bytes) ‖ time u64, big-endian, seconds since 1970 ‖ signature (64 bytes)) ⏎
//! signed:   cosignature/v1 ⏎  time SECONDS ⏎  the note's text (its final newline included, no signature lines)
//!
//! Ed25519:  type = 0x04                                             (C2SP)
//! P-256:    type = 0xff ‖ "tallystick/cosignature-p256/v1"          (ours: C2SP keeps 0xff for types without a number)
//! key id  = SHA-256(name ‖ 0x0a ‖ type ‖ key)[..4]                  key: 32 bytes of RFC 8032, or 65 of uncompressed SEC1
//! vkey    = name + hex(key id) + base64(type ‖ key)                 separated by `+`
//! ```
//! The P-256 form is for plants whose tokens and TPMs hold P-256 keys only; its signature is `r ‖ s`, `s` in the low half.

use crate::note::is_key_name;
use crate::{
    Hash, LogKey, NoteFault, NoteSigningKey, NoteVerifyingKey, SIGNATURE_BYTES, SignatureLine, SignedNote, sha256,
};
use base64ct::{Base64, Encoding};
use std::fmt;
use std::str::FromStr;

const ED25519_TYPE: &[u8] = b"\x04";
const P256_TYPE: &[u8] = b"\xfftallystick/cosignature-p256/v1";
/// Largest time: C2SP keeps the highest bit zero.
const TIME_MAX: u64 = i64::MAX as u64;

/// A witness as others know it: a name and a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigner {
    name: String,
    key: NoteVerifyingKey,
}

/// Why a text names no witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CosignerFault {
    /// The name is not one that a note can carry.
    #[error("the name of a witness is not empty and has neither spaces nor `+`; `witness.example/w1` is usual")]
    Name,
    /// Not a verifier key of a witness.
    #[error("not a verifier key of a witness: NAME+KEYID+BASE64, of type Ed25519 cosignature (0x04) or our P-256 one")]
    Vkey,
}

impl Cosigner {
    /// The witness of this name and key.
    ///
    /// # Errors
    /// [`CosignerFault::Name`].
    pub fn new(name: impl Into<String>, key: NoteVerifyingKey) -> Result<Self, CosignerFault> {
        let name = name.into();
        if is_key_name(&name) { Ok(Self { name, key }) } else { Err(CosignerFault::Name) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> &NoteVerifyingKey {
        &self.key
    }

    fn typed_key(&self) -> Vec<u8> {
        let kind = match self.key {
            NoteVerifyingKey::Ed25519(_) => ED25519_TYPE,
            NoteVerifyingKey::P256(_) => P256_TYPE,
        };
        [kind, self.key.raw()].concat()
    }

    /// First four bytes of the hash that stand in its signature lines.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = sha256(&[self.name.as_bytes(), b"\n", &self.typed_key()].concat());
        [a, b, c, d]
    }

    /// Whether a signature line is said to be its own.
    #[must_use]
    pub fn is_of(&self, line: &SignatureLine) -> bool {
        line.name == self.name && line.key_id == self.key_id()
    }

    /// When it cosigned this note, in seconds since 1970; of several times the last.
    ///
    /// # Errors
    /// [`NoteFault::Unsigned`] when it did not, [`NoteFault::Signature`] when any line said to be its own does not hold.
    pub fn time_of(&self, note: &SignedNote) -> Result<u64, NoteFault> {
        let signatures = note.of(&self.name, self.key_id());
        let times = signatures.map(|signature| self.holds(note.text(), signature).ok_or(NoteFault::Signature));
        times.collect::<Result<Vec<_>, _>>()?.into_iter().max().ok_or(NoteFault::Unsigned)
    }

    /// The time of a timestamped signature that holds.
    fn holds(&self, text: &str, blob: &[u8]) -> Option<u64> {
        let (time, signature) = blob.split_first_chunk()?;
        let time = u64::from_be_bytes(*time);
        let is_whole = signature.len() == SIGNATURE_BYTES && (1..=TIME_MAX).contains(&time);
        (is_whole && self.key.verify(&signed_text(text, time), signature)).then_some(time)
    }
}

/// A verifier key (C2SP signed-note, *Verifier keys*).
impl fmt::Display for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Base64::encode_string(&self.typed_key());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.key_id()))
    }
}

impl FromStr for Cosigner {
    type Err = CosignerFault;

    fn from_str(vkey: &str) -> Result<Self, CosignerFault> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(CosignerFault::Vkey);
        };
        let key = Base64::decode_vec(key).map_err(|_| CosignerFault::Vkey)?;
        let key = match (key.strip_prefix(ED25519_TYPE), key.strip_prefix(P256_TYPE)) {
            (Some(key), _) => NoteVerifyingKey::from_ed25519(key),
            (_, Some(key)) => crate::VerifyingKey::from_sec1(key).map(NoteVerifyingKey::from),
            _ => return Err(CosignerFault::Vkey),
        };
        let cosigner = Self::new(name, key.map_err(|_| CosignerFault::Vkey)?)?;
        if cosigner.to_string() == vkey { Ok(cosigner) } else { Err(CosignerFault::Vkey) }
    }
}

/// Cosigns a note at `time` (seconds since 1970, not 0) under `name`. The caller has checked the log's signature and that it only grew.
///
/// # Errors
/// [`CosignerFault::Name`].
pub fn cosign(note: &SignedNote, name: &str, key: &NoteSigningKey, time: u64) -> Result<SignatureLine, CosignerFault> {
    let cosigner = Cosigner::new(name, key.public().clone())?;
    let signature = key.sign(&signed_text(note.text(), time));
    let signature = [&time.to_be_bytes()[..], &signature].concat();
    Ok(SignatureLine { name: cosigner.name.clone(), key_id: cosigner.key_id(), signature })
}

fn signed_text(text: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

/// A checkpoint with the witnesses that cosigned it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// Entries in the tree.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Name and time (seconds since 1970) of each witness that cosigned, in the order of those asked for.
    pub by: Vec<(String, u64)>,
}

/// Which of `witnesses` cosigned this note of `log`. One key counts once, however often and under whatever names it is listed.
///
/// # Errors
/// [`NoteFault`] when the log's own signature, or any that is said to be of one of these witnesses, does not hold.
pub fn witnessed(note: &SignedNote, log: &LogKey, witnesses: &[Cosigner]) -> Result<Witnessed, NoteFault> {
    let tree = log.check(note)?;
    let mut by = Vec::new();
    let mut keys: Vec<&NoteVerifyingKey> = vec![log.key()];
    for witness in witnesses {
        match witness.time_of(note) {
            Err(NoteFault::Unsigned) => {}
            // The log is no witness of itself.
            Ok(_) if keys.contains(&witness.key()) => {}
            Ok(time) => {
                keys.push(witness.key());
                by.push((witness.name.clone(), time));
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(Witnessed { size: tree.size, root: tree.root, by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, SigningKey, TreeNote};
    use proptest::prelude::*;

    fn note() -> (LogKey, SignedNote) {
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        let note = TreeNote { origin: "press-line".to_owned(), size: 1_234, root: [7; 32] }.seal(&key);
        (LogKey::new("press-line".to_owned(), key.public().clone().into()), SignedNote::parse(&note).unwrap())
    }

    fn key(algorithm: Algorithm, secret: u8) -> NoteSigningKey {
        NoteSigningKey::from_secret(algorithm, &[secret; 32]).unwrap()
    }

    #[test]
    fn cosignatures_of_both_kinds_hold_and_tell_their_time() {
        let (log, plain) = note();
        for algorithm in [Algorithm::Ed25519, Algorithm::P256] {
            let key = key(algorithm, 9);
            let witness = Cosigner::new("witness.example/w1", key.public().clone()).unwrap();
            let line = cosign(&plain, "witness.example/w1", &key, 1_790_000_000).unwrap();
            let cosigned = plain.clone().with(line.clone());
            assert_eq!(witness.time_of(&cosigned), Ok(1_790_000_000), "{algorithm}");
            assert_eq!(witness.time_of(&plain), Err(NoteFault::Unsigned));
            assert!(witness.is_of(&line) && log.check(&cosigned).is_ok());
            assert_eq!(witness.to_string().parse(), Ok(witness));
        }
    }

    #[test]
    fn a_cosignature_moved_to_another_note_or_time_does_not_hold() {
        let (_, plain) = note();
        let key = key(Algorithm::Ed25519, 9);
        let witness = Cosigner::new("w", key.public().clone()).unwrap();
        let line = cosign(&plain, "w", &key, 1_790_000_000).unwrap();
        let later = SignedNote::parse(&plain.to_string().replacen("1234", "1235", 1)).unwrap();
        assert_eq!(witness.time_of(&later.with(line.clone())), Err(NoteFault::Signature));
        for place in 0..line.signature.len() {
            let mut forged = line.clone();
            forged.signature[place] ^= 1;
            assert_eq!(witness.time_of(&plain.clone().with(forged)), Err(NoteFault::Signature), "byte {place}");
        }
        let never = cosign(&plain, "w", &key, 0).unwrap();
        assert_eq!(witness.time_of(&plain.clone().with(never)), Err(NoteFault::Signature), "time 0 is none");
    }

    #[test]
    fn one_key_counts_once_and_the_log_never() {
        let (log, plain) = note();
        let (one, own) = (key(Algorithm::Ed25519, 9), NoteSigningKey::from(SigningKey::from_secret(&[5; 32]).unwrap()));
        let mut cosigned = plain.clone();
        let mut witnesses = Vec::new();
        for (name, key) in [("a", &one), ("b", &one), ("press-line", &own)] {
            cosigned = cosigned.with(cosign(&plain, name, key, 5).unwrap());
            witnesses.push(Cosigner::new(name, key.public().clone()).unwrap());
        }
        assert_eq!(witnessed(&cosigned, &log, &witnesses).unwrap().by, [("a".to_owned(), 5)]);
        assert_eq!(witnessed(&plain, &log, &witnesses).unwrap().by, []);
    }

    /// C2SP tlog-cosignature, the example at its head: name, key id and time read as written there.
    #[test]
    fn the_example_of_the_specification_is_read() {
        let line = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
        let read = SignatureLine::parse(line).unwrap();
        assert_eq!((read.key_id, read.signature.len()), ([0x8d, 0x66, 0xcf, 0x3f], 72));
        assert_eq!(u64::from_be_bytes(read.signature[..8].try_into().unwrap()), 1_679_315_147);
        assert_eq!(read.to_string(), line);
    }

    proptest! {
        #[test]
        fn any_text_is_a_verifier_key_that_round_trips_or_a_fault(text in "[a-z]{0,4}\\+?[0-9a-f]{0,8}\\+?[A-Za-z0-9+/=]{0,60}") {
            if let Ok(witness) = text.parse::<Cosigner>() {
                prop_assert_eq!(witness.to_string(), text);
            }
        }
    }
}
