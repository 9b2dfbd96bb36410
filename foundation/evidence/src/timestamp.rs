//! The time-stamp of an evidence or coverage file (RFC 3161): the token of somebody else's clock around the whole file.
//! CDDL: `docs/formats/evidence.cddl`, *timestamp*.
//!
//! What is time-stamped is the SHA-256 of the file as it is without the field `timestamp`: the very bytes that `sha256sum`
//! and `openssl ts -query -data` see before it is added. Whether the token holds is checked in the crate `tally-verifier`.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, map};
use crate::{Hash, sha256};

/// The field of a file.
const FIELD: &str = "timestamp";
/// Largest token in bytes; those of public authorities have 2 to 10 kB.
pub const TOKEN_BYTES_MAX: usize = 1 << 18;

/// A TimeStampToken (RFC 3161 §2.4.2) as a file keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStampToken {
    /// The token, DER.
    pub der: Vec<u8>,
    /// Its SHA-256 as written: a token has bytes that its signature does not cover; against accidents they are covered here.
    pub digest: Hash,
}

impl TimeStampToken {
    /// A token with its digest.
    #[must_use]
    pub fn new(der: Vec<u8>) -> Self {
        Self { digest: sha256(&der), der }
    }

    /// Whether the token is the one whose digest stands beside it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        sha256(&self.der) == self.digest
    }
}

/// A file taken apart: what is time-stamped, and the token when there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// The file without the field, deterministic CBOR.
    pub content: Vec<u8>,
    /// Its time-stamp.
    pub token: Option<TimeStampToken>,
}

impl Stamped {
    /// Takes a file (CBOR) apart.
    ///
    /// # Errors
    /// [`CborFault`] when it is no deterministic CBOR, or its field is not what the CDDL says. Whether the token is
    /// whole is left to [`TimeStampToken::is_whole`].
    pub fn split(file: &[u8]) -> Result<Self, CborFault> {
        let Cbor::Map(mut pairs) = cbor::decode(file)? else { return Err(no_map()) };
        let Some(place) = pairs.iter().position(|(key, _)| key.as_text() == Some(FIELD)) else {
            return Ok(Self { content: file.to_vec(), token: None });
        };
        let token = decode_token(pairs.remove(place).1)?;
        Ok(Self { content: cbor::encode(&Cbor::Map(pairs)), token: Some(token) })
    }

    /// The digest that the authority signs.
    #[must_use]
    pub fn digest(&self) -> Hash {
        sha256(&self.content)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`CborFault`] when the content is no map in deterministic CBOR.
    pub fn encode(&self) -> Result<Vec<u8>, CborFault> {
        let Some(token) = &self.token else { return Ok(self.content.clone()) };
        let Cbor::Map(mut pairs) = cbor::decode(&self.content)? else { return Err(no_map()) };
        let field = map([("token", bytes(token.der.clone())), ("digest", bytes(token.digest))]);
        pairs.push((Cbor::Text(FIELD.to_owned()), field));
        Ok(cbor::encode(&Cbor::Map(pairs)))
    }
}

fn decode_token(value: Cbor) -> Result<TimeStampToken, CborFault> {
    let mut fields = Fields::new(value, FIELD)?;
    let token = TimeStampToken { der: fields.bytes("token")?, digest: fields.bytes_exact("digest")? };
    fields.finish()?;
    if token.der.len() > TOKEN_BYTES_MAX {
        return Err(CborFault::Type { field: "token".to_owned(), expected: "at most 256 KiB long" });
    }
    Ok(token)
}

fn no_map() -> CborFault {
    CborFault::Type { field: "file".to_owned(), expected: "a map" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::{int, text};
    use proptest::prelude::*;

    fn plain() -> Vec<u8> {
        cbor::encode(&map([("tallystick-evidence", int(1)), ("agreement", text("mo-1")), ("witnessed", int(2))]))
    }

    fn stamped(token: &[u8]) -> Vec<u8> {
        Stamped { content: plain(), token: Some(TimeStampToken::new(token.to_vec())) }.encode().unwrap()
    }

    #[test]
    fn what_is_stamped_is_the_file_before() {
        assert_eq!(Stamped::split(&plain()), Ok(Stamped { content: plain(), token: None }));
        let read = Stamped::split(&stamped(b"\x30\x03abc")).unwrap();
        assert_eq!(read, Stamped { content: plain(), token: Some(TimeStampToken::new(b"\x30\x03abc".to_vec())) });
        assert_eq!(read.digest(), sha256(&plain()));
        assert_eq!(read.encode().unwrap(), stamped(b"\x30\x03abc"));
    }

    #[test]
    fn every_flipped_byte_of_the_field_is_noticed() {
        let file = stamped(b"\x30\x03abc");
        let good = Stamped::split(&file).unwrap();
        for place in 0..file.len() {
            let mut flipped = file.clone();
            flipped[place] ^= 1;
            let read = Stamped::split(&flipped);
            // In the content or in the field's own name: then it is another content.
            let is_noticed = |read: Stamped| {
                read.content != good.content || read.token.as_ref().is_some_and(|token| !token.is_whole())
            };
            assert!(read.map_or(true, is_noticed), "byte {place}");
        }
    }

    #[test]
    fn too_large_a_token_is_refused() {
        assert!(Stamped::split(&stamped(&vec![0; TOKEN_BYTES_MAX])).is_ok());
        assert!(Stamped::split(&stamped(&vec![0; TOKEN_BYTES_MAX + 1])).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_an_error(bytes: Vec<u8>, token: Vec<u8>, place: prop::sample::Index, byte: u8) {
            let _ = Stamped::split(&bytes);
            let mut file = stamped(&token);
            let place = place.index(file.len());
            file[place] = byte;
            if let Ok(read) = Stamped::split(&file) {
                prop_assert_eq!(read.encode().unwrap(), file);
            }
        }
    }
}
