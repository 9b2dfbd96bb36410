//! A key that seals statements: here in memory, or elsewhere, as in a token that can be pulled out.
//!
//! [`SigningKey`] is always there and signs the same message the same way; receipts and checkpoints are made with it, and made again
//! instead of being stored. A [`SealingKey`] promises neither: signing may fail, and a token draws a fresh nonce for each signature.
//! Ids do not hang on that: they hash what is signed (`docs/decisions/002-ids-from-what-is-signed.md`), so a statement sealed
//! again is the same statement.

use crate::{Hash, SIGNATURE_BYTES, SigningKey, VerifyingKey, sha256};
use std::fmt;
use std::sync::Arc;

/// Why nothing could be sealed. Carries neither key nor PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// Where the key lies cannot be reached now; it is tried again.
    #[error("{0}")]
    Away(String),
    /// Somebody has to do something first: another PIN, another key.
    #[error("{0}")]
    Refused(String),
}

/// A private key that never comes here, such as one in a PKCS#11 token. Calls may wait for the hardware.
pub trait RemoteKey: Send + Sync {
    /// The public half.
    ///
    /// # Errors
    /// [`SealFault`], as long as it was never seen.
    fn public(&self) -> Result<VerifyingKey, SealFault>;

    /// Whether it can be used now, without a signature.
    ///
    /// # Errors
    /// [`SealFault`].
    fn look(&self) -> Result<(), SealFault>;

    /// ECDSA on P-256 over a SHA-256 digest: `r ‖ s`, 32 bytes each, big-endian; `s` in either half.
    ///
    /// # Errors
    /// [`SealFault`].
    fn sign_digest(&self, digest: &Hash) -> Result<[u8; SIGNATURE_BYTES], SealFault>;
}

/// A key that seals statements. Cheap to clone; has no `Debug` that shows a secret.
#[derive(Clone)]
pub struct SealingKey(Place);

#[derive(Clone)]
enum Place {
    Here(SigningKey),
    Elsewhere(Arc<dyn RemoteKey>),
}

impl SealingKey {
    /// A key that lies elsewhere.
    #[must_use]
    pub fn remote(key: Arc<dyn RemoteKey>) -> Self {
        Self(Place::Elsewhere(key))
    }

    /// The public half.
    ///
    /// # Errors
    /// [`SealFault`], when it lies elsewhere and was never seen.
    pub fn public(&self) -> Result<VerifyingKey, SealFault> {
        match &self.0 {
            Place::Here(key) => Ok(key.public().clone()),
            Place::Elsewhere(key) => key.public(),
        }
    }

    /// Whether it can be used now, without a signature.
    ///
    /// # Errors
    /// [`SealFault`].
    pub fn look(&self) -> Result<(), SealFault> {
        match &self.0 {
            Place::Here(_) => Ok(()),
            Place::Elsewhere(key) => key.look(),
        }
    }

    /// Signs `message` (hashed with SHA-256), `s` in the low half. What a token gives is checked before anybody sees it.
    ///
    /// # Errors
    /// [`SealFault`].
    pub fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SealFault> {
        let key = match &self.0 {
            Place::Here(key) => return Ok(key.sign(message)),
            Place::Elsewhere(key) => key,
        };
        let (digest, public) = (sha256(message), key.public()?);
        let signature = low(&key.sign_digest(&digest)?).filter(|signature| public.verify_digest(&digest, signature));
        signature.ok_or_else(|| {
            let text = "what the token signs does not hold under its public key: the two halves do not belong together";
            SealFault::Refused(text.to_owned())
        })
    }
}

/// The form with `s` in the low half; `None` for what is no signature.
fn low(signature: &[u8; SIGNATURE_BYTES]) -> Option<[u8; SIGNATURE_BYTES]> {
    let signature = p256::ecdsa::Signature::from_slice(signature).ok()?;
    Some(signature.normalize_s().to_bytes().into())
}

impl From<SigningKey> for SealingKey {
    fn from(key: SigningKey) -> Self {
        Self(Place::Here(key))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.public() {
            Ok(public) => write!(f, "SealingKey(of {:?})", public.id()),
            Err(_) => f.write_str("SealingKey(never seen)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SignedStatement, StatementKind, sign, sign_with};
    use tally_model::PartyId;

    /// Signs with the high `s`, as about every second signature of a token has it; or with another key than it shows.
    struct Elsewhere {
        shown: SigningKey,
        used: SigningKey,
        is_away: bool,
    }

    impl RemoteKey for Elsewhere {
        fn public(&self) -> Result<VerifyingKey, SealFault> {
            Ok(self.shown.public().clone())
        }

        fn look(&self) -> Result<(), SealFault> {
            if self.is_away { Err(SealFault::Away("pulled".to_owned())) } else { Ok(()) }
        }

        fn sign_digest(&self, digest: &Hash) -> Result<[u8; SIGNATURE_BYTES], SealFault> {
            self.look()?;
            let low = p256::ecdsa::Signature::from_slice(&self.used.sign_digest(digest).unwrap()).unwrap();
            Ok(p256::ecdsa::Signature::from_scalars(*low.r(), -*low.s()).unwrap().to_bytes().into())
        }
    }

    fn key(secret: u8) -> SigningKey {
        SigningKey::from_secret(&[secret; 32]).unwrap()
    }

    fn elsewhere(shown: u8, used: u8, is_away: bool) -> SealingKey {
        SealingKey::remote(Arc::new(Elsewhere { shown: key(shown), used: key(used), is_away }))
    }

    #[test]
    fn a_high_s_becomes_low_and_the_statement_is_the_one_of_a_file() {
        let issuer = PartyId::try_new("agent-01").unwrap();
        let (kind, body) = (StatementKind::Call, vec![0xa0]);
        let there = sign_with(kind, &elsewhere(7, 7, false), &issuer, "s", "l", 5, body.clone()).unwrap();
        let here = sign(kind, &key(7), &issuer, "s", "l", 5, body);
        let (there, here) = (SignedStatement::parse(&there).unwrap(), SignedStatement::parse(&here).unwrap());
        assert_eq!(there.id, here.id);
        assert!(there.seal_holds_under(key(7).public()));
    }

    #[test]
    fn a_signature_of_another_key_is_never_shown_and_what_is_away_says_so() {
        assert!(matches!(elsewhere(7, 8, false).sign(b"x"), Err(SealFault::Refused(_))));
        assert_eq!(elsewhere(7, 7, true).sign(b"x"), Err(SealFault::Away("pulled".to_owned())));
        assert!(!format!("{:?}", SealingKey::from(key(7))).contains("07070707"));
    }
}
