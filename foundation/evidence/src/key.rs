//! P-256 keys: sealing and checking seals with ES256 (RFC 9053 §2.1).
//!
//! Signing is deterministic (RFC 6979, crate `p256`): the same statement sealed twice is the same bytes, and a receipt can
//! be made again instead of being stored. Checking uses `aws-lc-rs`, four times as fast. Both `(r, s)` and `(r, n−s)` verify
//! in any ECDSA library, so only the low half of `s` is let in, and no id is ever derived from signature bytes.

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of an ES256 signature: r and s, 32 bytes each, big-endian.
pub const SIGNATURE_BYTES: usize = 64;

/// Half the order of P-256, big-endian: the largest `s` we accept.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xde, 0x73, 0x7d,
    0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// Why a key cannot be used. Never carries key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Not a PKCS#8 PEM private key on P-256.
    #[error("not a P-256 private key in PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`)")]
    Private,
    /// Not a P-256 public key.
    #[error("not a P-256 public key in SPKI PEM (`-----BEGIN PUBLIC KEY-----`) or 65 uncompressed SEC1 bytes")]
    Public,
    /// Not a PKCS#8 PEM private key of either kind that signs notes.
    #[error("not a P-256 or Ed25519 private key in PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`)")]
    PrivateNote,
    /// Not a public key of either kind that signs notes.
    #[error("not a P-256 or Ed25519 public key in SPKI (PEM: `-----BEGIN PUBLIC KEY-----`)")]
    PublicNote,
    /// No randomness to make a key from.
    #[error("the operating system gave no randomness")]
    Randomness,
}

/// RFC 9679 COSE Key Thumbprint (SHA-256) of a public key; the `kid` of everything it seals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", hex::encode(&self.0[..6]))
    }
}

/// A private key. Has no `Debug` that shows it, and is wiped when the last clone is dropped (by `p256`).
#[derive(Clone)]
pub struct SigningKey {
    /// In one place: a value that moves leaves copies behind, which nobody wipes.
    key: Arc<p256::ecdsa::SigningKey>,
    public: VerifyingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {:?})", self.public.id())
    }
}

impl SigningKey {
    /// A key from a 32-byte secret, such as fresh randomness.
    ///
    /// # Errors
    /// [`KeyFault::Private`] for the few texts of 32 bytes that are no scalar.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, KeyFault> {
        Self::new(|| p256::ecdsa::SigningKey::from_slice(secret).ok())
    }

    /// Reads PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyFault::Private`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyFault> {
        Self::new(|| p256::ecdsa::SigningKey::from_pkcs8_pem(pem).ok())
    }

    fn new(read: impl FnOnce() -> Option<p256::ecdsa::SigningKey>) -> Result<Self, KeyFault> {
        let key = leaving_nothing(|| read().map(Arc::new)).ok_or(KeyFault::Private)?;
        let public = VerifyingKey::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes())?;
        Ok(Self { key, public })
    }

    /// PKCS#8 PEM, wiped when dropped.
    ///
    /// # Errors
    /// [`KeyFault::Private`] when the encoder fails.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyFault> {
        leaving_nothing(|| self.key.to_pkcs8_pem(LineEnding::LF)).map_err(|_| KeyFault::Private)
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs `message` (hashed with SHA-256), deterministic, `s` in the low half.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let signature: p256::ecdsa::Signature = leaving_nothing(|| self.key.sign(message));
        signature.normalize_s().to_bytes().into()
    }

    /// As [`Self::sign`], for a message whose SHA-256 is `digest`.
    ///
    /// # Errors
    /// [`KeyFault::Private`] when the library refuses, which it does for no digest of 32 bytes.
    pub fn sign_digest(&self, digest: &crate::Hash) -> Result<[u8; SIGNATURE_BYTES], KeyFault> {
        let signature: Result<p256::ecdsa::Signature, _> = leaving_nothing(|| self.key.sign_prehash(digest));
        let signature = signature.map_err(|_| KeyFault::Private)?;
        Ok(signature.normalize_s().to_bytes().into())
    }
}

/// Words of stack that are wiped behind work with a private key: 16 KiB, more than the library takes.
const STACK_WORDS: usize = 2_048;

/// Does `work`, and wipes the stack on which it was done: the arithmetic copies the number it works with, and leaves the copies there until
/// somebody happens to write over them. Costs about 1 µs.
#[inline(never)]
fn leaving_nothing<T>(work: impl FnOnce() -> T) -> T {
    // A frame of its own, so that what is wiped next lies where it lay.
    #[inline(never)]
    fn below<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    #[inline(never)]
    fn wipe() {
        let mut stack = [0_u64; STACK_WORDS];
        stack.zeroize();
        std::hint::black_box(&mut stack);
    }
    let done = below(work);
    wipe();
    done
}

/// A public key, parsed once and cheap to clone.
#[derive(Clone)]
pub struct VerifyingKey {
    sec1: [u8; 65],
    parsed: Arc<ParsedPublicKey>,
}

impl VerifyingKey {
    /// Takes 65 bytes of uncompressed SEC1 (`04 ‖ x ‖ y`).
    ///
    /// # Errors
    /// [`KeyFault::Public`] when they are no point on P-256.
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, KeyFault> {
        let sec1: [u8; 65] = bytes.try_into().map_err(|_| KeyFault::Public)?;
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, sec1).map_err(|_| KeyFault::Public)?;
        Ok(Self { sec1, parsed: Arc::new(parsed) })
    }

    /// Reads SPKI PEM.
    ///
    /// # Errors
    /// [`KeyFault::Public`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyFault> {
        let key = p256::ecdsa::VerifyingKey::from_public_key_pem(pem).map_err(|_| KeyFault::Public)?;
        Self::from_sec1(key.to_sec1_point(false).as_bytes())
    }

    /// SPKI PEM.
    ///
    /// # Errors
    /// [`KeyFault::Public`] when the encoder fails.
    pub fn to_pem(&self) -> Result<String, KeyFault> {
        let key = p256::PublicKey::from_sec1_bytes(&self.sec1).map_err(|_| KeyFault::Public)?;
        key.to_public_key_pem(LineEnding::LF).map_err(|_| KeyFault::Public)
    }

    /// SPKI DER (RFC 5480).
    ///
    /// # Errors
    /// [`KeyFault::Public`] when the encoder fails.
    pub fn to_spki(&self) -> Result<Vec<u8>, KeyFault> {
        let key = p256::PublicKey::from_sec1_bytes(&self.sec1).map_err(|_| KeyFault::Public)?;
        Ok(key.to_public_key_der().map_err(|_| KeyFault::Public)?.into_vec())
    }

    /// 65 bytes of uncompressed SEC1.
    #[must_use]
    pub const fn sec1(&self) -> &[u8; 65] {
        &self.sec1
    }

    /// RFC 9679 §3: SHA-256 over the deterministic COSE_Key with kty (1), crv (−1), x (−2), y (−3) only.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut key = Vec::with_capacity(75);
        key.extend([0xa4, 0x01, 0x02, 0x20, 0x01, 0x21, 0x58, 0x20]);
        key.extend(&self.sec1[1..33]);
        key.extend([0x22, 0x58, 0x20]);
        key.extend(&self.sec1[33..65]);
        KeyId(crate::sha256(&key))
    }

    /// Whether `signature` over `message` holds and is in the low-s form.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        is_low(signature) && self.parsed.verify_sig(message, signature).is_ok()
    }

    /// Whether `signature` over `message` holds, in either of its two forms: for seals of others, from which nothing is derived.
    #[must_use]
    pub fn verify_either(&self, message: &[u8], signature: &[u8]) -> bool {
        signature.len() == SIGNATURE_BYTES && self.parsed.verify_sig(message, signature).is_ok()
    }

    /// As [`Self::verify`], for a message whose SHA-256 is `digest`.
    #[must_use]
    pub fn verify_digest(&self, digest: &crate::Hash, signature: &[u8]) -> bool {
        is_low(signature)
            && Digest::import_less_safe(digest, &SHA256)
                .is_ok_and(|digest| self.parsed.verify_digest_sig(&digest, signature).is_ok())
    }
}

/// 64 bytes, `s` in the low half.
pub(crate) fn is_low(signature: &[u8]) -> bool {
    signature.len() == SIGNATURE_BYTES && signature[32..] <= HALF_ORDER[..]
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.sec1 == other.sec1
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({:?})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_secret(&[7; 32]).unwrap()
    }

    #[test]
    fn seals_hold_and_are_deterministic() {
        let signature = key().sign(b"statement");
        assert_eq!(signature, key().sign(b"statement"));
        assert_eq!(key().sign_digest(&crate::sha256(b"statement")), Ok(signature));
        assert!(key().public().verify(b"statement", &signature));
        assert!(!key().public().verify(b"statemenT", &signature));
        assert!(key().public().verify_digest(&crate::sha256(b"statement"), &signature));
        assert!(!key().public().verify_digest(&crate::sha256(b"statemenT"), &signature));
    }

    #[test]
    fn the_malleated_twin_is_refused() {
        let signature = p256::ecdsa::Signature::from_slice(&key().sign(b"statement")).unwrap();
        let twin = p256::ecdsa::Signature::from_scalars(*signature.r(), -*signature.s()).unwrap();
        assert!(!key().public().verify(b"statement", &twin.to_bytes()));
        assert!(!key().public().verify_digest(&crate::sha256(b"statement"), &twin.to_bytes()));
        assert!(key().public().verify_either(b"statement", &twin.to_bytes()), "a device's own is taken");
        // The library itself would take it: that is why the check stands here.
        assert!(key().public().parsed.verify_sig(b"statement", &twin.to_bytes()).is_ok());
    }

    #[test]
    fn pem_round_trips_and_ids_are_stable() {
        let again = SigningKey::from_pem(&key().to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key().public());
        let public = VerifyingKey::from_pem(&key().public().to_pem().unwrap()).unwrap();
        assert_eq!(public.id(), key().public().id());
        assert!(SigningKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
        assert!(VerifyingKey::from_sec1(&[4; 65]).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", key()).contains("07070707"));
    }
}
