//! Keys among the objects of a token, and what a token says in words.

use crate::TokenUri;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use tally_evidence::{SealFault, VerifyingKey};

/// The curve P-256 as CKA_EC_PARAMS: DER of the object identifier 1.2.840.10045.3.1.7 (RFC 5480 §2.1.1.1).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// DER in front of a point in CKA_EC_POINT: an OCTET STRING of 65 bytes. Some tokens leave it out.
const OCTET_STRING: [u8; 2] = [0x04, 0x41];

/// A key that was made in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The public half.
    pub public: VerifyingKey,
}

/// Why a token was of no use.
pub(super) enum Failure {
    /// Not now.
    Away(String),
    /// Somebody has to do something.
    Refused(String),
}

impl From<Failure> for SealFault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(text) => Self::Away(text),
            Failure::Refused(text) => Self::Refused(text),
        }
    }
}

impl From<Error> for Failure {
    fn from(fault: Error) -> Self {
        Self::Away(words(&fault))
    }
}

/// What a token says, for people.
pub(super) fn words(fault: &Error) -> String {
    let text = match fault {
        Error::Pkcs11(RvError::TokenNotPresent | RvError::DeviceRemoved, _) => "the token was pulled out",
        Error::Pkcs11(RvError::SessionHandleInvalid | RvError::SessionClosed, _) => "the token ended our session",
        Error::Pkcs11(RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid, _) => {
            "the key is gone: the token was pulled out, or the key deleted"
        }
        Error::Pkcs11(RvError::DeviceError | RvError::GeneralError | RvError::FunctionFailed, _) => "the token failed",
        Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _) => "the PIN is wrong",
        Error::Pkcs11(RvError::PinExpired, _) => "the PIN is too old",
        Error::Pkcs11(RvError::PinLocked, _) => "the token has locked its PIN after wrong ones",
        Error::Pkcs11(RvError::KeyFunctionNotPermitted, _) => "the key may not sign (CKA_SIGN)",
        Error::Pkcs11(RvError::MechanismInvalid, _) => "the token does not know ECDSA (CKM_ECDSA)",
        other => return other.to_string(),
    };
    match fault {
        Error::Pkcs11(code, _) => format!("{text} ({code:?})"),
        _ => text.to_owned(),
    }
}

/// Whether another PIN is needed.
pub(super) fn is_about_the_pin(fault: &Error) -> bool {
    use RvError::{PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked};
    matches!(fault, Error::Pkcs11(PinIncorrect | PinInvalid | PinLenRange | PinExpired | PinLocked, _))
}

fn named(uri: &TokenUri, class: ObjectClass) -> Vec<Attribute> {
    let mut wanted = vec![Attribute::Class(class), Attribute::KeyType(KeyType::EC)];
    wanted.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    wanted.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    wanted
}

/// The private key that is meant, and its public half.
pub(super) fn find(session: &Session, uri: &TokenUri) -> Result<(ObjectHandle, VerifyingKey), Failure> {
    let found = session.find_objects(&named(uri, ObjectClass::PRIVATE_KEY))?;
    match found[..] {
        [] => {
            Err(Failure::Refused("the token is there, but has no private elliptic-curve key of this name".to_owned()))
        }
        [key] => Ok((key, public(session, uri, key)?)),
        _ => Err(Failure::Refused(format!("{} private keys fit; add `id` to the URI", found.len()))),
    }
}

/// CKA_EC_POINT of the public key with the same CKA_ID, or of the private one: some tokens keep it there.
fn public(session: &Session, uri: &TokenUri, key: ObjectHandle) -> Result<VerifyingKey, Failure> {
    let id = session.get_attributes(key, &[AttributeType::Id])?.into_iter().next();
    let wanted = match id {
        Some(Attribute::Id(id)) if !id.is_empty() => {
            vec![Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::EC), Attribute::Id(id)]
        }
        _ => named(uri, ObjectClass::PUBLIC_KEY),
    };
    let mut halves = session.find_objects(&wanted)?;
    halves.push(key);
    for half in halves {
        let Ok(attributes) = session.get_attributes(half, &[AttributeType::EcPoint]) else { continue };
        let Some(Attribute::EcPoint(point)) = attributes.into_iter().next() else { continue };
        let bare = point.strip_prefix(&OCTET_STRING).unwrap_or(&point);
        if let Ok(public) = VerifyingKey::from_sec1(bare).or_else(|_| VerifyingKey::from_sec1(&point)) {
            return Ok(public);
        }
    }
    let text = "the token shows no public P-256 key with the same id; store the public key beside the private one";
    Err(Failure::Refused(text.to_owned()))
}

/// Whether there is a key of this name.
pub(super) fn exists(session: &Session, uri: &TokenUri) -> Result<bool, Failure> {
    Ok(!session.find_objects(&named(uri, ObjectClass::PRIVATE_KEY))?.is_empty())
}

/// Makes a key that signs and never leaves the token.
pub(super) fn generate(session: &Session, uri: &TokenUri) -> Result<Generated, Failure> {
    let id = match &uri.id {
        Some(id) => id.clone(),
        None => session.generate_random_vec(16)?,
    };
    let mut names = vec![Attribute::Token(true), Attribute::Id(id)];
    names.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    let mut public_half = vec![Attribute::EcParams(P256.to_vec()), Attribute::Verify(true)];
    let mut private_half = vec![
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    public_half.extend(names.clone());
    private_half.extend(names);
    let (_, key) = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public_half, &private_half)?;
    // What the token made of our wish, not what we wished.
    let kept = session.get_attributes(key, &[AttributeType::Sensitive, AttributeType::Extractable])?;
    if kept != [Attribute::Sensitive(true), Attribute::Extractable(false)] {
        let text = "the token made a key that can leave it; delete it, this is no token to trust";
        return Err(Failure::Refused(text.to_owned()));
    }
    Ok(Generated { public: public(session, uri, key)? })
}
