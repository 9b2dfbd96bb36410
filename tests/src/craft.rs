//! Statements made by hand, wrong in one place each.

use tally_evidence::cbor::{self, Cbor, int, text};
use tally_evidence::{SigningKey, StatementKind};

/// The parts of a `COSE_Sign1` before they are put together.
#[derive(Debug, Clone)]
pub struct Craft {
    /// Label and value, in the order they are written.
    pub protected: Vec<(Cbor, Cbor)>,
    /// The map that must be empty.
    pub unprotected: Vec<(Cbor, Cbor)>,
    /// The body.
    pub payload: Vec<u8>,
    /// Who seals.
    pub key: SigningKey,
}

impl Craft {
    /// A good one.
    #[must_use]
    pub fn new(key: &SigningKey, issuer: &str, subject: &str, audience: &str, payload: Vec<u8>) -> Self {
        let claims = vec![
            (int(1), text(issuer)),
            (int(2), text(subject)),
            (int(3), text(audience)),
            (int(6), int(1_790_000_000)),
        ];
        let protected = vec![
            (int(1), int(-7)),
            (int(3), text(StatementKind::Call.content_type())),
            (int(4), cbor::bytes(key.public().id().0.to_vec())),
            (int(15), Cbor::Map(claims)),
        ];
        Self { protected, unprotected: Vec::new(), payload, key: key.clone() }
    }

    /// The same with the value of a protected label replaced.
    #[must_use]
    pub fn with(mut self, label: i64, value: Cbor) -> Self {
        match self.protected.iter_mut().find(|(key, _)| *key == int(label)) {
            Some(pair) => pair.1 = value,
            None => self.protected.push((int(label), value)),
        }
        self
    }

    /// The same with a claim replaced.
    ///
    /// # Panics
    /// When there are no claims.
    #[must_use]
    pub fn with_claim(mut self, label: i64, value: Cbor) -> Self {
        let claims = self.protected.iter_mut().find(|(key, _)| *key == int(15)).unwrap();
        let Cbor::Map(claims) = &mut claims.1 else { panic!("no claims") };
        claims.iter_mut().find(|(key, _)| *key == int(label)).unwrap().1 = value;
        self
    }

    /// The same without a protected label.
    #[must_use]
    pub fn without(mut self, label: i64) -> Self {
        self.protected.retain(|(key, _)| *key != int(label));
        self
    }

    /// The protected header as written: in the order given, not sorted.
    #[must_use]
    pub fn protected_bytes(&self) -> Vec<u8> {
        raw_map(&self.protected)
    }

    /// Signed and put together.
    #[must_use]
    pub fn seal(&self) -> Vec<u8> {
        let protected = self.protected_bytes();
        let signature = self.key.sign(&sig_structure(&protected, &self.payload));
        sign1(&protected, &raw_map(&self.unprotected), &self.payload, &signature)
    }
}

/// A map of these pairs, in this order.
fn raw_map(pairs: &[(Cbor, Cbor)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    cbor::write_head(5, pairs.len() as u64, &mut bytes);
    for (key, value) in pairs {
        bytes.extend(cbor::encode(key));
        match value {
            Cbor::Map(inner) => bytes.extend(raw_map(inner)),
            value => bytes.extend(cbor::encode(value)),
        }
    }
    bytes
}

/// What ES256 signs (RFC 9052 §4.4).
#[must_use]
pub fn sig_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x84];
    cbor::write_text("Signature1", &mut bytes);
    for part in [protected, b"", payload] {
        cbor::write_head(2, part.len() as u64, &mut bytes);
        bytes.extend_from_slice(part);
    }
    bytes
}

/// `18([protected, unprotected, payload, signature])`; `unprotected` is CBOR already.
#[must_use]
pub fn sign1(protected: &[u8], unprotected: &[u8], payload: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xd2, 0x84];
    cbor::write_head(2, protected.len() as u64, &mut bytes);
    bytes.extend_from_slice(protected);
    bytes.extend_from_slice(unprotected);
    for part in [payload, signature] {
        cbor::write_head(2, part.len() as u64, &mut bytes);
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The same signature in its other form, (r, n − s), which any ECDSA library accepts.
///
/// # Panics
/// When there is no signature at the end.
#[must_use]
pub fn twin(good: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut forged = good.to_vec();
    let s = forged.len() - 32;
    let mut borrow = 0_i16;
    for place in (0..32).rev() {
        let difference = i16::from(ORDER[place]) - i16::from(good[s + place]) - borrow;
        borrow = i16::from(difference < 0);
        forged[s + place] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    forged
}
