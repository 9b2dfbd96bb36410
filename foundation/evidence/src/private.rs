//! Private fields: arguments of a call that are sealed as salted commitments, and shown, or forgotten, one by one.
//! CDDL: `docs/formats/private.cddl`; why it is so: `docs/decisions/025-private-fields.md`.
//!
//! ```text
//! opening     [salt (16 bytes), value, name]                        salted claim of SD-CWT (draft-ietf-spice-sd-cwt §8)
//! commitment  ni:///sha-256;BASE64URL?ct=…opening+cbor              RFC 6920 §3: the name of the opening's bytes
//! presented   18([protected, {17: [+ opening]}, payload, signature])   sd_claims, as SD-CWT carries them
//! ```
//! The commitment is an ordinary text in the call's arguments, so nothing that reads, executes or verifies statements has to know of
//! it. What is presented never enters a ledger: its statement does, with nothing unprotected.

use crate::cbor::{self, Cbor, CborFault, bytes, int, text};
use crate::cursor::Cursor;
use crate::reading::Salt;
use crate::{CallBody, Hash, sha256};
use base64ct::{Base64UrlUnpadded, Encoding};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Media type of an opening.
pub const OPENING_TYPE: &str = "application/vnd.tallystick.opening+cbor";
/// Most bytes of an opening: a page of text or a small picture, not an archive.
pub const OPENING_BYTES_MAX: usize = 1 << 16;
/// Most openings that come with a statement; a call has as many arguments.
const OPENINGS_MAX: usize = 64;
/// How a name by SHA-256 begins (RFC 6920 §3, §9.4), and what stands between digest and media type (§3.1).
const SCHEME: &str = "ni:///sha-256;";
const CONTENT_TYPE: &str = "?ct=";
/// COSE header parameter `sd_claims` (SD-CWT).
const SD_CLAIMS: i64 = 17;
/// Tag of a `COSE_Sign1` (RFC 9052 §2), in its one deterministic form.
const SIGN1: u8 = 6 << 5 | 18;

/// Why something is no opening, or not one of this call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateFault {
    /// Not the CBOR that the CDDL says.
    #[error("private fields: {0}")]
    Cbor(#[from] CborFault),
    /// An opening is not `[salt, value, name]`.
    #[error("an opening is not [salt of 16 bytes, value, name]")]
    Opening,
    /// An opening is too long.
    #[error("an opening has {found} bytes; at most {OPENING_BYTES_MAX} are taken")]
    TooLong {
        /// Its bytes.
        found: usize,
    },
    /// What is presented is no statement with openings in its unprotected header.
    #[error(
        "what is presented is not a COSE_Sign1 with 1 to {OPENINGS_MAX} openings under 17 (sd_claims) in its unprotected header, and nothing else there"
    )]
    Presented,
    /// The statement is no call.
    #[error("only calls have private fields")]
    NotACall,
    /// An opening of something that the call does not commit to.
    #[error("the call does not commit to this `{name}`: argument `{name}` is not the digest of the opening")]
    Foreign {
        /// The name in the opening.
        name: String,
    },
    /// Two openings of one field.
    #[error("two openings of `{name}`")]
    Twice {
        /// The name in both.
        name: String,
    },
}

/// What a private field is in the sealed call: the digest of its opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commitment(pub Hash);

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{CONTENT_TYPE}{OPENING_TYPE}", Base64UrlUnpadded::encode_string(&self.0))
    }
}

/// The text is no commitment; there is one form of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form {SCHEME}DIGEST{CONTENT_TYPE}{OPENING_TYPE}")]
pub struct NoCommitment;

impl FromStr for Commitment {
    type Err = NoCommitment;

    fn from_str(text: &str) -> Result<Self, NoCommitment> {
        let digest = text.strip_prefix(SCHEME).and_then(|rest| rest.strip_suffix(OPENING_TYPE));
        let digest = digest.and_then(|rest| rest.strip_suffix(CONTENT_TYPE)).ok_or(NoCommitment)?;
        let mut hash = [0; 32];
        let read = Base64UrlUnpadded::decode(digest, &mut hash).map_err(|_| NoCommitment)?.len();
        let found = Self(hash);
        if read == hash.len() && found.to_string() == text { Ok(found) } else { Err(NoCommitment) }
    }
}

impl Commitment {
    /// To these bytes of an opening.
    #[must_use]
    pub fn to(opening: &[u8]) -> Self {
        Self(sha256(opening))
    }

    /// What an argument commits to; `None` for one that stands there in clear.
    #[must_use]
    pub fn of_argument(value: &Cbor) -> Option<Self> {
        value.as_text().and_then(|text| text.parse().ok())
    }

    /// As an argument of a call.
    #[must_use]
    pub fn to_argument(self) -> Cbor {
        text(self.to_string())
    }
}

/// The private fields of a call, by name.
pub fn private_fields(call: &CallBody) -> impl Iterator<Item = (&str, Commitment)> {
    call.args.iter().filter_map(|(name, value)| Some((name.as_str(), Commitment::of_argument(value)?)))
}

/// What opens a commitment.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// 16 random bytes: nobody can try out values.
    pub salt: Salt,
    /// The value in clear.
    pub value: Cbor,
    /// The argument it is.
    pub name: String,
}

impl Opening {
    /// Its bytes, whose digest is the commitment.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(&Cbor::Array(vec![bytes(self.salt), self.value.clone(), text(self.name.as_str())]))
    }

    /// Reads its bytes strictly.
    ///
    /// # Errors
    /// [`PrivateFault`].
    pub fn decode(opening: &[u8]) -> Result<Self, PrivateFault> {
        if opening.len() > OPENING_BYTES_MAX {
            return Err(PrivateFault::TooLong { found: opening.len() });
        }
        let parts: Result<[Cbor; 3], _> =
            cbor::decode(opening)?.into_array().map_err(|_| PrivateFault::Opening)?.try_into();
        match parts.map_err(|_| PrivateFault::Opening)? {
            [Cbor::Bytes(salt), value, Cbor::Text(name)] => {
                Ok(Self { salt: salt.try_into().map_err(|_| PrivateFault::Opening)?, value, name })
            }
            _ => Err(PrivateFault::Opening),
        }
    }
}

/// A statement with what opens its private fields beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The signed statement, as the ledger keeps it.
    pub statement: Vec<u8>,
    /// Openings, each of one field.
    pub openings: Vec<Vec<u8>>,
}

impl Presented {
    /// Whether the bytes say to be one: something stands in the unprotected header. Costs next to nothing.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        let unprotected = || {
            let mut from = Cursor(bytes.strip_prefix(&[SIGN1])?);
            (from.array()? == 4).then_some(())?;
            from.bytes()?;
            from.map()
        };
        unprotected().is_some_and(|parameters| parameters > 0)
    }

    /// The bytes as they travel.
    ///
    /// # Errors
    /// [`PrivateFault::Presented`] when the statement is none.
    pub fn encode(&self) -> Result<Vec<u8>, PrivateFault> {
        let mut parts = take_apart(&self.statement)?;
        let openings = self.openings.iter().map(|opening| bytes(opening.clone())).collect();
        parts[1] = Cbor::Map(vec![(int(SD_CLAIMS), Cbor::Array(openings))]);
        Ok(put_together(parts))
    }

    /// Takes such bytes apart. The statement is not read, nor the openings.
    ///
    /// # Errors
    /// [`PrivateFault`].
    pub fn split(presented: &[u8]) -> Result<Self, PrivateFault> {
        let mut parts = take_apart(presented)?;
        let unprotected = std::mem::replace(&mut parts[1], Cbor::Map(Vec::new()));
        let parameters = unprotected.into_map().map_err(|_| PrivateFault::Presented)?;
        let [(label, openings)] = <[_; 1]>::try_from(parameters).map_err(|_| PrivateFault::Presented)?;
        let openings = openings.into_array().map_err(|_| PrivateFault::Presented)?;
        if label != int(SD_CLAIMS) || openings.is_empty() || openings.len() > OPENINGS_MAX {
            return Err(PrivateFault::Presented);
        }
        let opening = |opening: Cbor| opening.into_bytes().map_err(|_| PrivateFault::Presented);
        let openings = openings.into_iter().map(opening).collect::<Result<_, _>>()?;
        Ok(Self { statement: put_together(parts), openings })
    }
}

/// The openings read, each of a field that `call` commits to, none twice.
///
/// # Errors
/// [`PrivateFault`].
pub fn open_fields<'o>(
    call: &CallBody,
    openings: impl IntoIterator<Item = &'o [u8]>,
) -> Result<Vec<(Commitment, Opening)>, PrivateFault> {
    let (mut opened, mut seen) = (Vec::new(), BTreeSet::new());
    for opening in openings {
        let (commitment, opening) = (Commitment::to(opening), Opening::decode(opening)?);
        if call.args.get(&opening.name).and_then(Commitment::of_argument) != Some(commitment) {
            return Err(PrivateFault::Foreign { name: opening.name });
        }
        if !seen.insert(opening.name.clone()) {
            return Err(PrivateFault::Twice { name: opening.name });
        }
        opened.push((commitment, opening));
    }
    Ok(opened)
}

fn take_apart(sign1: &[u8]) -> Result<[Cbor; 4], PrivateFault> {
    let Cbor::Tag(18, parts) = cbor::decode(sign1)? else { return Err(PrivateFault::Presented) };
    let parts = parts.into_array().map_err(|_| PrivateFault::Presented)?;
    parts.try_into().map_err(|_| PrivateFault::Presented)
}

fn put_together(parts: [Cbor; 4]) -> Vec<u8> {
    cbor::encode(&Cbor::Tag(18, Box::new(Cbor::Array(parts.into()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SignedStatement, SigningKey, StatementKind, sign};
    use proptest::prelude::*;
    use tally_model::{ActionName, ContractName, PartyId, Timestamp};

    fn opening(value: &str) -> Opening {
        Opening { salt: [7; 16], value: text(value), name: "remark".into() }
    }

    fn call(private: &Opening) -> CallBody {
        CallBody {
            contract: ContractName::try_new("accounts").unwrap(),
            action: ActionName::try_new("transfer").unwrap(),
            agreement: None,
            args: [("remark".into(), Commitment::to(&private.encode()).to_argument()), ("to".into(), text("fixit"))]
                .into(),
            nonce: [1; 16],
            at: Timestamp::from_micros(0),
        }
    }

    fn presented(openings: &[Opening]) -> Presented {
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        let party = PartyId::try_new("acme").unwrap();
        let body = call(&openings[0]).encode();
        let statement = sign(StatementKind::Call, &key, &party, "accounts", "line", 0, body);
        Presented { statement, openings: openings.iter().map(Opening::encode).collect() }
    }

    #[test]
    fn one_form_and_no_other() {
        // `[h'0707…', "knee", "remark"]` by hand, its name by `sha256sum` and `base64`.
        let bytes = opening("knee").encode();
        assert_eq!(hex::encode(&bytes), "835007070707070707070707070707070707646b6e65656672656d61726b");
        let commitment = Commitment::to(&bytes);
        let shown = commitment.to_string();
        let name = "ni:///sha-256;I_2s9sUv9UOVYbwjQiivQpgcYqgJgFzE3CeS_Nz24N4";
        assert_eq!(shown, format!("{name}?ct=application/vnd.tallystick.opening+cbor"));
        assert!(shown.len() <= 140, "it fits a remark of a transfer: {}", shown.len());
        assert_eq!(shown.parse(), Ok(commitment));
        let digest = &shown[SCHEME.len()..SCHEME.len() + 43];
        for other in [
            shown.replace("sha-256", "sha-512"),
            shown.replace("?ct=", "?CT="),
            shown.replace("opening", "closing"),
            format!("{shown} "),
            format!(" {shown}"),
            shown.replace(digest, &format!("{digest}=")),
            shown.replace(digest, &digest[1..]),
            SCHEME.to_owned() + CONTENT_TYPE + OPENING_TYPE,
            String::new(),
        ] {
            assert_eq!(other.parse::<Commitment>(), Err(NoCommitment), "{other}");
        }
    }

    #[test]
    fn what_is_presented_is_the_statement_and_openings_of_its_fields() {
        let whole = presented(&[opening("knee")]);
        let bytes = whole.encode().unwrap();
        assert!(Presented::is_one(&bytes) && !Presented::is_one(&whole.statement));
        assert!(SignedStatement::parse(&bytes).is_err(), "nothing unprotected enters a ledger");
        assert_eq!(Presented::split(&bytes), Ok(whole.clone()));
        let call = CallBody::decode(&SignedStatement::parse(&whole.statement).unwrap().payload).unwrap();
        let opened = open_fields(&call, whole.openings.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(opened, [(Commitment::to(&whole.openings[0]), opening("knee"))]);
        assert_eq!(private_fields(&call).collect::<Vec<_>>(), [("remark", opened[0].0)]);
        // Another value, another salt, another name, twice, none, something besides.
        let name = || "remark".to_owned();
        let fault = |opening: &Opening| open_fields(&call, [opening.encode().as_slice()]).unwrap_err();
        assert_eq!(fault(&opening("hip")), PrivateFault::Foreign { name: name() });
        assert_eq!(fault(&Opening { salt: [8; 16], ..opening("knee") }), PrivateFault::Foreign { name: name() });
        let other = Opening { name: "to".into(), ..opening("knee") };
        assert_eq!(fault(&other), PrivateFault::Foreign { name: "to".into() });
        let twice = opening("knee").encode();
        assert_eq!(open_fields(&call, [&twice[..], &twice]), Err(PrivateFault::Twice { name: name() }));
        let none = Presented { openings: Vec::new(), ..whole };
        assert_eq!(Presented::split(&none.encode().unwrap()), Err(PrivateFault::Presented));
    }

    #[test]
    fn every_flipped_bit_of_an_opening_is_another_opening() {
        let (whole, bytes) = (call(&opening("knee")), opening("knee").encode());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open_fields(&whole, [flipped.as_slice()]).is_err(), "bit {bit}");
        }
        let long = Opening { value: bytes_of(OPENING_BYTES_MAX), ..opening("") };
        assert!(matches!(Opening::decode(&long.encode()), Err(PrivateFault::TooLong { .. })));
    }

    fn bytes_of(length: usize) -> Cbor {
        bytes(vec![0; length])
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_what_is_read_is_written_again(
            mut given in proptest::collection::vec(any::<u8>(), 0..120), is_near in any::<bool>(),
            at in any::<prop::sample::Index>(), with in any::<u8>(), said in "(ni:///sha-256;)?\\PC{0,60}",
        ) {
            if is_near {
                let near = presented(&[opening("knee")]).encode().unwrap();
                given = near.clone();
                given[at.index(near.len())] = with;
            }
            let _ = Presented::is_one(&given);
            if let Ok(read) = Presented::split(&given) {
                prop_assert_eq!(read.encode(), Ok(given.clone()));
                prop_assert!(Presented::is_one(&given));
            }
            if let Ok(read) = Opening::decode(&given) {
                prop_assert_eq!(read.encode(), given);
            }
            let _ = said.parse::<Commitment>();
        }

        #[test]
        fn commitments_round_trip(hash in any::<[u8; 32]>()) {
            prop_assert_eq!(Commitment(hash).to_string().parse(), Ok(Commitment(hash)));
        }
    }
}
