//! Keys that sign notes: P-256, as all our keys, or Ed25519, which transparency logs and witnesses of others use.
//!
//! Both have 32-byte secrets and 64-byte signatures; files are PKCS#8 and SPKI in PEM (RFC 5958, RFC 5280, for Ed25519 RFC 8410). They
//! sign notes and nothing else: statements, receipts and checkpoints stay with ES256 ([`SigningKey`]).

use crate::{KeyFault, SIGNATURE_BYTES, SigningKey, VerifyingKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use p256::pkcs8::LineEnding;
use p256::pkcs8::der::pem;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// PKCS#8 v1 before the 32 bytes of an Ed25519 secret (RFC 8410 §7).
const ED25519_PRIVATE: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// SPKI before the 32 bytes of an Ed25519 public key (RFC 8410 §4).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// SPKI before the 65 bytes of an uncompressed P-256 public key (RFC 5480 §2.1.1).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Which signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    P256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// A private key of either kind. Has no `Debug` that shows it.
#[derive(Clone)]
pub struct NoteSigningKey {
    key: Private,
    public: NoteVerifyingKey,
}

#[derive(Clone)]
enum Private {
    P256(SigningKey),
    Ed25519(Arc<Ed25519KeyPair>),
}

impl fmt::Debug for NoteSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSigningKey(of {:?})", self.public)
    }
}

impl NoteSigningKey {
    /// A key from a 32-byte secret, such as fresh randomness.
    ///
    /// # Errors
    /// [`KeyFault::Private`] for the few texts of 32 bytes that are no scalar of P-256; never for Ed25519.
    pub fn from_secret(algorithm: Algorithm, secret: &[u8; 32]) -> Result<Self, KeyFault> {
        match algorithm {
            Algorithm::P256 => SigningKey::from_secret(secret).map(Self::from),
            Algorithm::Ed25519 => {
                Ed25519KeyPair::from_seed_unchecked(secret).map_err(|_| KeyFault::Private).and_then(Self::ed25519)
            }
        }
    }

    /// Reads PKCS#8 PEM of either kind.
    ///
    /// # Errors
    /// [`KeyFault::PrivateNote`].
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        if let Ok(key) = SigningKey::from_pem(text) {
            return Ok(key.into());
        }
        let (label, der) = pem::decode_vec(text.as_bytes()).map_err(|_| KeyFault::PrivateNote)?;
        let der = Zeroizing::new(der);
        let pair = Ed25519KeyPair::from_pkcs8(&der).ok().filter(|_| label == "PRIVATE KEY");
        Self::ed25519(pair.ok_or(KeyFault::PrivateNote)?)
    }

    fn ed25519(pair: Ed25519KeyPair) -> Result<Self, KeyFault> {
        let public = NoteVerifyingKey::from_ed25519(pair.public_key().as_ref())?;
        Ok(Self { key: Private::Ed25519(Arc::new(pair)), public })
    }

    /// PKCS#8 PEM, wiped when dropped.
    ///
    /// # Errors
    /// [`KeyFault::Private`] when the encoder fails.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyFault> {
        match &self.key {
            Private::P256(key) => key.to_pem(),
            Private::Ed25519(pair) => {
                let seed = pair.seed().map_err(|_| KeyFault::Private)?;
                let seed =
                    aws_lc_rs::encoding::AsBigEndian::<aws_lc_rs::encoding::Curve25519SeedBin<'_>>::as_be_bytes(&seed);
                let seed = seed.map_err(|_| KeyFault::Private)?;
                let der = Zeroizing::new([&ED25519_PRIVATE[..], seed.as_ref()].concat());
                let pem = pem::encode_string("PRIVATE KEY", LineEnding::LF, &der).map_err(|_| KeyFault::Private)?;
                Ok(Zeroizing::new(pem))
            }
        }
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &NoteVerifyingKey {
        &self.public
    }

    /// Signs `message`, deterministic: Ed25519, or ES256 as `r ‖ s` with `s` in the low half.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        match &self.key {
            Private::P256(key) => key.sign(message),
            // Fails only when the library has no memory; zeros are no signature of any key.
            Private::Ed25519(pair) => pair
                .try_sign(message)
                .ok()
                .and_then(|signature| signature.as_ref().try_into().ok())
                .unwrap_or([0; SIGNATURE_BYTES]),
        }
    }
}

impl From<SigningKey> for NoteSigningKey {
    fn from(key: SigningKey) -> Self {
        let public = key.public().clone().into();
        Self { key: Private::P256(key), public }
    }
}

/// A public key of either kind, parsed once and cheap to clone.
#[derive(Clone)]
pub enum NoteVerifyingKey {
    /// P-256.
    P256(VerifyingKey),
    /// Ed25519.
    Ed25519(Ed25519Key),
}

/// A parsed Ed25519 public key.
#[derive(Clone)]
pub struct Ed25519Key {
    bytes: [u8; 32],
    parsed: Arc<ParsedPublicKey>,
}

impl NoteVerifyingKey {
    /// Takes the 32 bytes of an Ed25519 public key (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`KeyFault::PublicNote`].
    pub fn from_ed25519(bytes: &[u8]) -> Result<Self, KeyFault> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyFault::PublicNote)?;
        let parsed = ParsedPublicKey::new(&ED25519, bytes).map_err(|_| KeyFault::PublicNote)?;
        Ok(Self::Ed25519(Ed25519Key { bytes, parsed: Arc::new(parsed) }))
    }

    /// Takes SPKI DER of either kind, in the one form that [`NoteVerifyingKey::to_spki`] gives.
    ///
    /// # Errors
    /// [`KeyFault::PublicNote`].
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyFault> {
        if let Some(bytes) = der.strip_prefix(&ED25519_SPKI) {
            return Self::from_ed25519(bytes);
        }
        let sec1 = der.strip_prefix(&P256_SPKI).ok_or(KeyFault::PublicNote)?;
        VerifyingKey::from_sec1(sec1).map(Self::P256).map_err(|_| KeyFault::PublicNote)
    }

    /// Reads SPKI PEM of either kind.
    ///
    /// # Errors
    /// [`KeyFault::PublicNote`].
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        let (label, der) = pem::decode_vec(text.as_bytes()).map_err(|_| KeyFault::PublicNote)?;
        if label == "PUBLIC KEY" { Self::from_spki(&der) } else { Err(KeyFault::PublicNote) }
    }

    /// SPKI PEM.
    ///
    /// # Errors
    /// [`KeyFault::PublicNote`] when the encoder fails.
    pub fn to_pem(&self) -> Result<String, KeyFault> {
        pem::encode_string("PUBLIC KEY", LineEnding::LF, &self.to_spki()).map_err(|_| KeyFault::PublicNote)
    }

    /// SPKI DER.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => [&P256_SPKI[..], key.sec1()].concat(),
            Self::Ed25519(key) => [&ED25519_SPKI[..], &key.bytes].concat(),
        }
    }

    /// The key alone: 32 bytes of RFC 8032, or 65 of uncompressed SEC1.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::P256(key) => key.sec1(),
            Self::Ed25519(key) => &key.bytes,
        }
    }

    /// Of which kind.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::P256,
            Self::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// Whether the 64 bytes of `signature` over `message` hold; for P-256 only in the low-s form.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => key.verify(message, signature),
            Self::Ed25519(key) => {
                signature.len() == SIGNATURE_BYTES && key.parsed.verify_sig(message, signature).is_ok()
            }
        }
    }
}

impl From<VerifyingKey> for NoteVerifyingKey {
    fn from(key: VerifyingKey) -> Self {
        Self::P256(key)
    }
}

impl PartialEq for NoteVerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl Eq for NoteVerifyingKey {}

impl fmt::Debug for NoteVerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteVerifyingKey({} {})", self.algorithm(), hex::encode(&self.raw()[..6]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_sign_and_their_files_round_trip() {
        for algorithm in [Algorithm::P256, Algorithm::Ed25519] {
            let key = NoteSigningKey::from_secret(algorithm, &[7; 32]).unwrap();
            let signature = key.sign(b"note");
            assert!(
                key.public().verify(b"note", &signature) && !key.public().verify(b"nota", &signature),
                "{algorithm}"
            );
            let again = NoteSigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
            assert_eq!((again.sign(b"note"), again.public()), (signature, key.public()));
            assert_eq!(&NoteVerifyingKey::from_pem(&key.public().to_pem().unwrap()).unwrap(), key.public());
            assert!(!format!("{key:?}").contains("07070707"));
        }
    }

    /// RFC 8032 §7.1, test 2, and RFC 8410 §10.3.
    #[test]
    fn ed25519_is_the_one_of_the_standards() {
        let secret = hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let key = NoteSigningKey::from_secret(Algorithm::Ed25519, &secret.try_into().unwrap()).unwrap();
        assert_eq!(hex::encode(key.public().raw()), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signed = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
                      387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(hex::encode(key.sign(&[0x72])), signed);
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let key = NoteSigningKey::from_pem(pem).unwrap();
        assert_eq!(*key.to_pem().unwrap(), *pem);
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
        assert_eq!(key.public().to_pem().unwrap(), public);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let certificate = "-----BEGIN CERTIFICATE-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END CERTIFICATE-----\n";
        for text in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", certificate] {
            assert!(NoteVerifyingKey::from_pem(text).is_err() && NoteSigningKey::from_pem(text).is_err(), "{text}");
        }
        assert!(NoteVerifyingKey::from_spki(&[&P256_SPKI[..], &[4; 65]].concat()).is_err());
    }
}
