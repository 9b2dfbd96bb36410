//! Seals under receipts, remembered.
//!
//! A receipt seals the tree's root, not the entry (RFC 9942 §4.2): those of one block about one subject share their seal. Seals
//! are deterministic, so one that is remembered is the one that would be made again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tally_evidence::{Hash, SIGNATURE_BYTES, SigningKey, sha256};

/// Most that are remembered, some 100 bytes each; then all are forgotten.
const SEALS_MAX: usize = 8_192;

/// Digest of what is sealed to its seal.
#[derive(Debug, Default)]
pub(super) struct Seals(Mutex<HashMap<Hash, [u8; SIGNATURE_BYTES]>>);

impl Seals {
    /// The seal of `key`, always the same one, over `message`.
    pub(super) fn seal(&self, key: &SigningKey, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let digest = sha256(message);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied();
        if let Some(seal) = known {
            return seal;
        }
        // Without the lock: sealing takes as long as a thousand look-ups.
        let seal = key.sign(message);
        let mut seals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seals.len() >= SEALS_MAX {
            seals.clear();
        }
        seals.insert(digest, seal);
        seal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_would_be_made() {
        let (seals, key) = (Seals::default(), SigningKey::from_secret(&[7; 32]).unwrap());
        for message in [b"one", b"two", b"one"] {
            assert_eq!(seals.seal(&key, message), key.sign(message));
        }
        assert_eq!(seals.0.lock().unwrap().len(), 2);
    }

    #[test]
    fn it_stays_small() {
        let (seals, key) = (Seals::default(), SigningKey::from_secret(&[7; 32]).unwrap());
        seals.0.lock().unwrap().extend((0..SEALS_MAX).map(|n| (sha256(&n.to_le_bytes()), [0; SIGNATURE_BYTES])));
        seals.seal(&key, b"one more");
        assert_eq!(seals.0.lock().unwrap().len(), 1);
    }
}
