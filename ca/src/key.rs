//! A private key for certificates.

use crate::CaFault;
use rcgen::{Error, KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

/// The library's key, whose PKCS#8 bytes are wiped when it is dropped; by itself it leaves them.
pub(crate) struct Key(Zeroizing<KeyPair>);

impl Key {
    /// A fresh P-256 key.
    pub(crate) fn generate() -> Result<Self, CaFault> {
        Ok(Self::of(KeyPair::generate()?))
    }

    /// Of PKCS#8 PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, CaFault> {
        Ok(Self::of(KeyPair::from_pem(pem)?))
    }

    pub(crate) fn of(key: KeyPair) -> Self {
        Self(Zeroizing::new(key))
    }

    /// PKCS#8 PEM.
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message)
    }
}
