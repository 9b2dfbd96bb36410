//! The signed statement: everything that ever enters the ledger.
//!
//! Layout (RFC 9943 §5, RFC 9052 §4.2; CDDL in `docs/formats/statement.cddl`):
//! ```text
//! 18([ protected: bstr .cbor {1: -7, 3: content type, 4: kid, 15: {1: iss, 2: sub, 3: aud, 6: iat}},
//!      unprotected: {},  payload: bstr .cbor body,  signature: bstr .size 64 ])
//! ```
//! The id of a statement is SHA-256 over its `Sig_structure` (RFC 9052 §4.4): it covers all that is signed and nothing
//! of the signature, so a malleated or repeated signature cannot make a second statement out of one.

use crate::cursor::Cursor;
use crate::{KeyId, KeyTable, SIGNATURE_BYTES, SealFault, SealingKey, SigningKey, VerifyingKey, cbor};
use cbor::{Cbor, CborFault, int, text};
use coset::{CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};
use sha2::{Digest, Sha256};
use std::fmt;
use tally_model::PartyId;

/// COSE header label of the CWT claims (RFC 9597 §2).
const CWT_CLAIMS: i64 = 15;
/// CWT claim labels (RFC 8392 §3.1).
const ISS: i64 = 1;
const SUB: i64 = 2;
const AUD: i64 = 3;
const IAT: i64 = 6;

/// What kind of body a statement carries; written as the COSE content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// An agent says what a rule said about readings ([`crate::TriggerBody`]).
    Trigger,
    /// A party asks a contract for something ([`crate::CallBody`]).
    Call,
    /// An agent vouches for all readings of a device in a range ([`crate::AnchorBody`]).
    Anchor,
    /// An agent seals many triggers at once ([`crate::BatchBody`]).
    Batch,
}

impl StatementKind {
    /// The media type in the protected header (label 3).
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Trigger => "application/vnd.tallystick.trigger+cbor",
            Self::Call => "application/vnd.tallystick.call+cbor",
            Self::Anchor => "application/vnd.tallystick.anchor+cbor",
            Self::Batch => "application/vnd.tallystick.batch+cbor",
        }
    }

    fn from_content_type(found: &str) -> Option<Self> {
        [Self::Trigger, Self::Call, Self::Anchor, Self::Batch].into_iter().find(|kind| kind.content_type() == found)
    }
}

/// SHA-256 of the `Sig_structure`: the name of a statement, and its leaf entry in the ledger's tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementId(pub [u8; 32]);

impl fmt::Display for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatementId({})", hex::encode(&self.0[..6]))
    }
}

impl std::str::FromStr for StatementId {
    type Err = StatementFault;
    fn from_str(text: &str) -> Result<Self, StatementFault> {
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(StatementFault::Id)
    }
}

/// Why bytes are not a statement, or its seal does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementFault {
    /// Not strict deterministic CBOR.
    #[error("statement is not deterministic CBOR")]
    Cbor(#[from] CborFault),
    /// Not a tagged COSE_Sign1 of four elements.
    #[error("statement is not a COSE_Sign1 (RFC 9052 §4.2): {0}")]
    NotSign1(String),
    /// A protected header is missing or wrong.
    #[error("protected header: {0}")]
    Header(&'static str),
    /// The seal does not hold under the key.
    #[error("the seal does not hold")]
    Seal,
    /// Not 64 hexadecimal digits.
    #[error("a statement id is 64 hexadecimal digits")]
    Id,
}

/// A statement as parsed: well-formed, but trusted only after [`SignedStatement::check_seal`].
#[derive(Debug, Clone, PartialEq)]
pub struct SignedStatement {
    /// Its name.
    pub id: StatementId,
    /// What its body is.
    pub kind: StatementKind,
    /// Who sealed it (CWT `iss`).
    pub issuer: PartyId,
    /// What it is about (CWT `sub`): a device, an agreement, a contract; of a batch the agent.
    pub subject: String,
    /// The ledger it is meant for (CWT `aud`); another ledger refuses it.
    pub audience: String,
    /// When it was sealed, by the signer's clock, in seconds since the epoch (CWT `iat`).
    pub issued_at: i64,
    /// Which key sealed it.
    pub key: KeyId,
    /// The body: deterministic CBOR of the kind.
    pub payload: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
}

impl SignedStatement {
    /// Reads a statement strictly: deterministic CBOR, exactly our headers, nothing unprotected.
    ///
    /// # Errors
    /// [`StatementFault`], never [`StatementFault::Seal`]: the seal is checked separately.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementFault> {
        // The usual way is ten times as fast and says nothing about faults; the slow one says all.
        match read_parts(bytes).and_then(|parts| Some((parts, read_headers(parts.protected)?))) {
            Some((parts, headers)) => Ok(Self::new(parts, headers)),
            None => Self::parse_slowly(bytes),
        }
    }

    fn parse_slowly(bytes: &[u8]) -> Result<Self, StatementFault> {
        let [protected, payload, signature] = take_apart(cbor::decode(bytes)?)?;
        let signature = signature.try_into().map_err(|_| StatementFault::Header("an ES256 signature has 64 bytes"))?;
        let headers = Headers::read(&cbor::decode(&protected)?)?;
        Ok(Self::new(Parts { protected: &protected, payload: &payload, signature }, headers))
    }

    fn new(parts: Parts<'_>, headers: Headers) -> Self {
        let Headers { kind, issuer, subject, audience, issued_at, key } = headers;
        let (id, payload, signature) = (parts.id(), parts.payload.to_vec(), parts.signature);
        Self { id, kind, issuer, subject, audience, issued_at, key, payload, signature }
    }

    /// Checks the seal under `key`, which must be the one the statement names.
    ///
    /// # Errors
    /// [`StatementFault::Seal`].
    pub fn check_seal(&self, key: &VerifyingKey) -> Result<(), StatementFault> {
        if key.id() == self.key && self.seal_holds_under(key) { Ok(()) } else { Err(StatementFault::Seal) }
    }

    /// Checks the signature alone, for callers that looked the key up by its id.
    #[must_use]
    pub fn seal_holds_under(&self, key: &VerifyingKey) -> bool {
        // The id is the very digest that ES256 signs (RFC 9053 §2.1).
        key.verify_digest(&self.id.0, &self.signature)
    }

    /// The same by the key's table.
    #[must_use]
    pub fn seal_holds_by(&self, table: &KeyTable) -> bool {
        table.verify_digest(&self.id.0, &self.signature)
    }
}

/// Protected header, payload and signature of a `COSE_Sign1` (RFC 9052 §4.2) with its tag, attached payload, and nothing
/// unprotected.
fn take_apart(value: Cbor) -> Result<[Vec<u8>; 3], StatementFault> {
    let not_sign1 = |reason: &str| StatementFault::NotSign1(reason.to_owned());
    let Cbor::Tag(18, sign1) = value else { return Err(not_sign1("the tag 18 is missing")) };
    let items = sign1.into_array().map_err(|_| not_sign1("it is no array"))?;
    let items: [Cbor; 4] = items.try_into().map_err(|_| not_sign1("it has not four elements"))?;
    match items {
        [_, Cbor::Map(unprotected), ..] if !unprotected.is_empty() => {
            Err(StatementFault::Header("nothing may stand in the unprotected header"))
        }
        [_, _, Cbor::Null, _] => Err(StatementFault::Header("the payload must be attached")),
        [Cbor::Bytes(protected), Cbor::Map(_), Cbor::Bytes(payload), Cbor::Bytes(signature)] => {
            Ok([protected, payload, signature])
        }
        _ => Err(not_sign1("its elements are not bstr, map, bstr, bstr")),
    }
}

/// What a statement is made of, in place.
#[derive(Clone, Copy)]
struct Parts<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: [u8; SIGNATURE_BYTES],
}

impl Parts<'_> {
    /// SHA-256 of what is signed (RFC 9052 §4.4): `["Signature1", protected, external_aad = h'', payload]`.
    fn id(&self) -> StatementId {
        let mut head = Vec::with_capacity(32 + self.protected.len());
        cbor::write_head(4, 4, &mut head);
        cbor::write_text("Signature1", &mut head);
        cbor::write_head(2, self.protected.len() as u64, &mut head);
        head.extend_from_slice(self.protected);
        cbor::write_head(2, 0, &mut head);
        cbor::write_head(2, self.payload.len() as u64, &mut head);
        StatementId(Sha256::new().chain_update(&head).chain_update(self.payload).finalize().into())
    }
}

/// `18([protected, {}, payload, signature])` straight off the bytes; `None` for everything else.
fn read_parts(bytes: &[u8]) -> Option<Parts<'_>> {
    // Tag 18 has one deterministic form.
    let mut from = Cursor(bytes.strip_prefix(&[6 << 5 | 18])?);
    (from.array()? == 4).then_some(())?;
    let protected = from.bytes()?;
    (from.map()? == 0).then_some(())?;
    let parts = Parts { protected, payload: from.bytes()?, signature: from.bytes()?.try_into().ok()? };
    from.end()?;
    Some(parts)
}

/// A protected header as [`Headers::read`] takes it, straight off the bytes; `None` for everything else.
fn read_headers(protected: &[u8]) -> Option<Headers> {
    let mut from = Cursor(protected);
    (from.map()? == 4 && from.int()? == 1 && from.int()? == -7).then_some(())?;
    (from.int()? == 3).then_some(())?;
    let kind = StatementKind::from_content_type(from.text()?)?;
    (from.int()? == 4).then_some(())?;
    let key = KeyId(from.hash()?);
    (from.int()? == CWT_CLAIMS && from.map()? == 4 && from.int()? == ISS).then_some(())?;
    let issuer = from.parse()?;
    (from.int()? == SUB).then_some(())?;
    let subject = from.text()?.to_owned();
    (from.int()? == AUD).then_some(())?;
    let audience = from.text()?.to_owned();
    (from.int()? == IAT).then_some(())?;
    let issued_at = from.int()?;
    from.end()?;
    Some(Headers { kind, issuer, subject, audience, issued_at, key })
}

/// The protected header, taken apart.
struct Headers {
    kind: StatementKind,
    issuer: PartyId,
    subject: String,
    audience: String,
    issued_at: i64,
    key: KeyId,
}

impl Headers {
    fn read(protected: &Cbor) -> Result<Self, StatementFault> {
        let [alg, content_type, kid, claims] = labelled(protected, [1, 3, 4, CWT_CLAIMS])
            .ok_or(StatementFault::Header("must hold exactly alg (1), content type (3), kid (4), CWT claims (15)"))?;
        // ES256 = -7 (RFC 9053 §2.1); any other algorithm is refused, never guessed from the key.
        if *alg != int(-7) {
            return Err(StatementFault::Header("alg must be ES256 (-7)"));
        }
        let kind = content_type.as_text().and_then(StatementKind::from_content_type);
        let key = kid.as_bytes().and_then(|kid| kid.as_slice().try_into().ok()).map(KeyId);
        let [issuer, subject, audience, issued_at] = labelled(claims, [ISS, SUB, AUD, IAT])
            .ok_or(StatementFault::Header("CWT claims must be exactly iss (1), sub (2), aud (3), iat (6)"))?;
        let word = |claim: &Cbor, what| claim.as_text().map(str::to_owned).ok_or(StatementFault::Header(what));
        Ok(Self {
            kind: kind.ok_or(StatementFault::Header("content type is no statement kind of ours"))?,
            key: key.ok_or(StatementFault::Header("kid must be a 32-byte COSE key thumbprint (RFC 9679)"))?,
            issuer: PartyId::try_new(word(issuer, "iss must be a text")?)
                .map_err(|_| StatementFault::Header("iss must be a party id"))?,
            subject: word(subject, "sub must be a text")?,
            audience: word(audience, "aud must be a text")?,
            issued_at: issued_at
                .as_integer()
                .and_then(|seconds| i64::try_from(seconds).ok())
                .ok_or(StatementFault::Header("iat must be whole seconds"))?,
        })
    }
}

/// The values of a map that has exactly these integer labels.
pub(crate) fn labelled<const N: usize>(map: &Cbor, labels: [i64; N]) -> Option<[&Cbor; N]> {
    let pairs = map.as_map()?;
    if pairs.len() != N {
        return None;
    }
    let mut found = [&Cbor::Null; N];
    for (place, label) in labels.iter().enumerate() {
        found[place] = &pairs.iter().find(|(key, _)| *key == int(*label))?.1;
    }
    Some(found)
}

/// Seals a body: gives the bytes of the signed statement.
///
/// `issued_at` is in seconds since the epoch. Deterministic: the same arguments give the same bytes.
#[must_use]
pub fn sign(
    kind: StatementKind,
    key: &SigningKey,
    issuer: &PartyId,
    subject: &str,
    audience: &str,
    issued_at: i64,
    payload: Vec<u8>,
) -> Vec<u8> {
    seal(protected(kind, &key.public().id(), issuer, subject, audience, issued_at), payload, key)
}

/// The same with a key that may be away. With a token the signature differs each time, the statement's id does not.
///
/// # Errors
/// [`SealFault`].
pub fn sign_with(
    kind: StatementKind,
    key: &SealingKey,
    issuer: &PartyId,
    subject: &str,
    audience: &str,
    issued_at: i64,
    payload: Vec<u8>,
) -> Result<Vec<u8>, SealFault> {
    let sign1 = CoseSign1Builder::new()
        .protected(protected(kind, &key.public()?.id(), issuer, subject, audience, issued_at))
        .payload(payload)
        .try_create_signature(&[], |message| key.sign(message).map(|signature| signature.to_vec()))?
        .build();
    // As in `seal`.
    Ok(sign1.to_tagged_vec().unwrap_or_default())
}

fn protected(
    kind: StatementKind,
    key: &KeyId,
    issuer: &PartyId,
    subject: &str,
    audience: &str,
    issued_at: i64,
) -> coset::Header {
    let claims = Cbor::Map(vec![
        (int(ISS), text(issuer.as_str())),
        (int(SUB), text(subject)),
        (int(AUD), text(audience)),
        (int(IAT), int(issued_at)),
    ]);
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::ES256)
        .content_type(kind.content_type().to_owned())
        .key_id(key.0.to_vec())
        .value(CWT_CLAIMS, claims)
        .build()
}

/// Signs with these protected headers and encodes with the COSE_Sign1 tag (18).
pub(crate) fn seal(protected: coset::Header, payload: Vec<u8>, key: &SigningKey) -> Vec<u8> {
    let sign1 = CoseSign1Builder::new()
        .protected(protected)
        .payload(payload)
        .create_signature(&[], |message| key.sign(message).to_vec())
        .build();
    // Encoding fails only for values a header cannot hold; ours are built here from texts, integers and byte strings.
    sign1.to_tagged_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests;
