//! Seals under receipts, remembered.
//!
//! A receipt seals the tree's root, not the entry (RFC 9942 §4.2): those of one block about one subject share their seal. Seals
//! are deterministic, so one that is remembered is the one that would be made again.

use crate::remembered::Remembered;
use tally_evidence::{Hash, SIGNATURE_BYTES, SigningKey, sha256};

/// Most that are remembered, some 100 bytes each; then all are forgotten.
const SEALS_MAX: usize = 8_192;

/// Digest of what is sealed to its seal.
#[derive(Debug)]
pub(super) struct Seals(Remembered<Hash, [u8; SIGNATURE_BYTES]>);

impl Default for Seals {
    fn default() -> Self {
        Self(Remembered::new(SEALS_MAX))
    }
}

impl Seals {
    /// The seal of `key`, always the same one, over `message`.
    pub(super) fn seal(&self, key: &SigningKey, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let digest = sha256(message);
        if let Some(seal) = self.0.get(&digest) {
            return seal;
        }
        // Without the lock: sealing takes as long as a thousand look-ups.
        let seal = key.sign(message);
        self.0.put(digest, seal);
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
        assert_eq!(seals.0.len(), 2);
    }

    #[test]
    fn it_stays_small() {
        let (seals, key) = (Seals::default(), SigningKey::from_secret(&[7; 32]).unwrap());
        (0..SEALS_MAX).for_each(|n| seals.0.put(sha256(&n.to_le_bytes()), [0; SIGNATURE_BYTES]));
        assert_eq!(seals.0.len(), SEALS_MAX);
        seals.seal(&key, b"one more");
        assert_eq!(seals.0.len(), 1);
    }
}
