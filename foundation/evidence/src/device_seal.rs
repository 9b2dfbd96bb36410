//! What a device sealed itself, opened: COSE_Sign1 (RFC 9052 §4.2) or JWS (RFC 7515 §7: compact, or flattened JSON), ES256 in
//! both (RFC 9053 §2.1, RFC 7518 §3.4), over a payload that says which device, which message of it, and when.
//!
//! ```text
//! COSE   18([protected {1: -7}, {…}, payload, signature])      payload: a CBOR map
//! JWS    b64({"alg":"ES256",…}) . b64(payload) . b64(signature)   or {"protected", "payload", "signature"}; payload: a JSON object
//! payload  {"device": text, "seq": uint, "timestamp": ms since 1970 or RFC 3339, … the values}
//! ```
//! The sealed bytes are kept and shown as they came; nothing is derived from the signature. So, other than for our own
//! statements, both signatures that hold for a message (`s` and `n − s`) are taken: half of all devices make the upper one.
//!
//! The writers are others, so the envelope need not be deterministic CBOR; one meaning of it suffices. Bounds:
//! [`DEVICE_SEAL_BYTES_MAX`].

use crate::VerifyingKey;
use base64ct::{Base64UrlUnpadded, Encoding};
use ciborium::Value as Cbor;
use serde_json::Value as Json;
use tally_model::Timestamp;

/// Largest sealed message, in bytes: it stands in the vault beside every value that is taken from it.
pub const DEVICE_SEAL_BYTES_MAX: usize = 4 << 10;
/// ES256 (RFC 9053 table 1).
const ES256: i128 = -7;
/// Header parameters `alg` and `crit` of COSE (RFC 9052 §3.1).
const ALG: i128 = 1;
const CRIT: i128 = 2;
/// CBOR tag of COSE_Sign1.
const SIGN1: u64 = 18;

/// How a device seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealForm {
    /// COSE_Sign1 over CBOR.
    Cose,
    /// JWS over JSON.
    Jws,
}

/// Why a device's seal is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceSealFault {
    /// Larger than [`DEVICE_SEAL_BYTES_MAX`].
    #[error("the sealed message has {0} bytes, allowed are {DEVICE_SEAL_BYTES_MAX}")]
    TooLarge(usize),
    /// Neither of the two forms.
    #[error("this is not sealed: {0}")]
    Form(String),
    /// Another algorithm, or none.
    #[error("sealed with another algorithm than ES256, or the header does not protect it: {0}")]
    Algorithm(String),
    /// The signature does not hold with the device's key.
    #[error("the seal does not hold with the device's key: altered, or sealed with another key")]
    Signature,
    /// The payload does not say what it must.
    #[error(
        "the sealed payload does not say `{0}` as it should: device (text), seq (whole number), timestamp (ms since 1970, or RFC 3339)"
    )]
    Claim(&'static str),
}

/// What stood under a seal that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedSeal {
    /// How it was sealed.
    pub form: SealForm,
    /// The payload: a CBOR map, or a JSON object.
    pub payload: Vec<u8>,
    /// Which device it speaks of, by its own word.
    pub device: String,
    /// Which of its messages; they rise.
    pub seq: u64,
    /// When, by its clock.
    pub at: Timestamp,
}

impl OpenedSeal {
    /// Opens what a device sealed: the signature holds, the payload says what it must.
    ///
    /// # Errors
    /// [`DeviceSealFault`].
    pub fn open(message: &[u8], key: &VerifyingKey) -> Result<Self, DeviceSealFault> {
        if message.len() > DEVICE_SEAL_BYTES_MAX {
            return Err(DeviceSealFault::TooLarge(message.len()));
        }
        let form = match message.first() {
            Some(b'{' | b'e') => SealForm::Jws,
            _ => SealForm::Cose,
        };
        let (signed, payload, signature) = match form {
            SealForm::Cose => cose(message)?,
            SealForm::Jws => jws(message)?,
        };
        if !key.verify_either(&signed, &signature) {
            return Err(DeviceSealFault::Signature);
        }
        let (device, seq, at) = match form {
            SealForm::Cose => cbor_claims(&payload)?,
            SealForm::Jws => json_claims(&payload)?,
        };
        Ok(Self { form, payload, device, seq, at })
    }

    /// Whether a scalar of this value stands anywhere in the payload: true for every value that the agent took as it came; a
    /// value that was scaled, or cut out of a text, stands there otherwise.
    #[must_use]
    pub fn holds(&self, value: &tally_model::Value) -> bool {
        match self.form {
            SealForm::Cose => decode(&self.payload).is_some_and(|payload| cbor_holds(&payload, value)),
            SealForm::Jws => serde_json::from_slice(&self.payload).is_ok_and(|payload| json_holds(&payload, value)),
        }
    }
}

/// What was signed, the payload, the signature.
type Parts = (Vec<u8>, Vec<u8>, Vec<u8>);

fn cose(message: &[u8]) -> Result<Parts, DeviceSealFault> {
    let form = |what: &str| DeviceSealFault::Form(format!("{what} (expected COSE_Sign1, or JWS)"));
    let item = match decode(message).ok_or_else(|| form("not CBOR"))? {
        Cbor::Tag(SIGN1, inner) => *inner,
        other => other,
    };
    let Cbor::Array(items) = item else { return Err(form("not a COSE_Sign1 array")) };
    let [Cbor::Bytes(protected), Cbor::Map(_), Cbor::Bytes(payload), Cbor::Bytes(signature)] = items.as_slice() else {
        return Err(form("not the four parts of COSE_Sign1, payload inside"));
    };
    check_cose_header(protected)?;
    // Sig_structure (RFC 9052 §4.4), without external data.
    let structure = [
        Cbor::Text("Signature1".to_owned()),
        Cbor::Bytes(protected.clone()),
        Cbor::Bytes(Vec::new()),
        Cbor::Bytes(payload.clone()),
    ];
    let mut signed = Vec::with_capacity(message.len() + 16);
    ciborium::into_writer(&structure.as_slice(), &mut signed).map_err(|fault| form(&fault.to_string()))?;
    Ok((signed, payload.clone(), signature.clone()))
}

fn check_cose_header(protected: &[u8]) -> Result<(), DeviceSealFault> {
    let refuse = |why: &str| Err(DeviceSealFault::Algorithm(why.to_owned()));
    let Some(Cbor::Map(header)) = decode(protected) else { return refuse("the protected header is no map") };
    let find = |label: i128| header.iter().filter(move |(name, _)| whole(name) == Some(label));
    if find(CRIT).next().is_some() {
        return refuse("a header that must be understood, and is not");
    }
    match find(ALG).map(|(_, value)| whole(value)).collect::<Vec<_>>().as_slice() {
        [Some(ES256)] => Ok(()),
        found => refuse(&format!("{found:?}")),
    }
}

fn whole(value: &Cbor) -> Option<i128> {
    value.as_integer().map(i128::from)
}

/// One item and nothing behind it.
fn decode(bytes: &[u8]) -> Option<Cbor> {
    let mut rest = bytes;
    let item = ciborium::from_reader(&mut rest).ok()?;
    rest.is_empty().then_some(item)
}

fn jws(message: &[u8]) -> Result<Parts, DeviceSealFault> {
    let form = |what: &str| DeviceSealFault::Form(format!("{what} (expected a JWS, compact or flattened JSON)"));
    let text = std::str::from_utf8(message).map_err(|_| form("not UTF-8"))?.trim_end();
    let parts = if text.starts_with('{') { flattened(text) } else { compact(text) };
    let [protected, payload, signature] = parts.ok_or_else(|| form("not the three parts"))?;
    let read = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| form("not base64url without padding"));
    check_jws_header(&read(&protected)?)?;
    Ok((format!("{protected}.{payload}").into_bytes(), read(&payload)?, read(&signature)?))
}

fn compact(text: &str) -> Option<[String; 3]> {
    let mut parts = text.split('.').map(ToOwned::to_owned);
    let found = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

/// An unprotected `header` is let pass unread: nothing in it counts.
fn flattened(text: &str) -> Option<[String; 3]> {
    let json: Json = serde_json::from_str(text).ok()?;
    let part = |name: &str| json.get(name)?.as_str().map(ToOwned::to_owned);
    Some([part("protected")?, part("payload")?, part("signature")?])
}

fn check_jws_header(header: &[u8]) -> Result<(), DeviceSealFault> {
    let refuse = |why: &str| Err(DeviceSealFault::Algorithm(why.to_owned()));
    let Ok(Json::Object(header)) = serde_json::from_slice(header) else {
        return refuse("the header is no JSON object");
    };
    if header.contains_key("crit") {
        return refuse("a header that must be understood, and is not");
    }
    match header.get("alg") {
        Some(Json::String(alg)) if alg == "ES256" => Ok(()),
        found => refuse(&found.map_or_else(|| "no alg".to_owned(), ToString::to_string)),
    }
}

fn cbor_claims(payload: &[u8]) -> Result<(String, u64, Timestamp), DeviceSealFault> {
    let Some(Cbor::Map(pairs)) = decode(payload) else { return Err(DeviceSealFault::Claim("device")) };
    let take = |name: &str| pairs.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value);
    let device = take("device").and_then(Cbor::as_text).ok_or(DeviceSealFault::Claim("device"))?;
    let seq = take("seq").and_then(whole).and_then(|seq| u64::try_from(seq).ok());
    let at = take("timestamp").and_then(|at| match at {
        Cbor::Text(text) => Timestamp::parse_rfc3339(text),
        at => millis(i64::try_from(whole(at)?).ok()?),
    });
    Ok((device.to_owned(), seq.ok_or(DeviceSealFault::Claim("seq"))?, at.ok_or(DeviceSealFault::Claim("timestamp"))?))
}

fn json_claims(payload: &[u8]) -> Result<(String, u64, Timestamp), DeviceSealFault> {
    let json: Json = serde_json::from_slice(payload).map_err(|_| DeviceSealFault::Claim("device"))?;
    let device = json["device"].as_str().ok_or(DeviceSealFault::Claim("device"))?;
    let seq = json["seq"].as_u64().ok_or(DeviceSealFault::Claim("seq"))?;
    let at = match &json["timestamp"] {
        Json::String(text) => Timestamp::parse_rfc3339(text),
        at => at.as_i64().and_then(millis),
    };
    Ok((device.to_owned(), seq, at.ok_or(DeviceSealFault::Claim("timestamp"))?))
}

fn millis(millis: i64) -> Option<Timestamp> {
    millis.checked_mul(1_000).map(Timestamp::from_micros)
}

fn cbor_holds(item: &Cbor, value: &tally_model::Value) -> bool {
    match item {
        Cbor::Array(items) => items.iter().any(|item| cbor_holds(item, value)),
        Cbor::Map(pairs) => pairs.iter().any(|(_, item)| cbor_holds(item, value)),
        Cbor::Text(text) => matches!(value, tally_model::Value::Text(found) if found == text),
        Cbor::Bool(flag) => *value == tally_model::Value::Bool(*flag),
        Cbor::Float(number) => is_number(value, *number),
        #[allow(clippy::cast_precision_loss)] // compared as the value is: both sides lose the same
        Cbor::Integer(number) => is_number(value, i128::from(*number) as f64),
        _ => false,
    }
}

fn json_holds(item: &Json, value: &tally_model::Value) -> bool {
    match item {
        Json::Array(items) => items.iter().any(|item| json_holds(item, value)),
        Json::Object(pairs) => pairs.values().any(|item| json_holds(item, value)),
        Json::String(text) => matches!(value, tally_model::Value::Text(found) if found == text),
        Json::Bool(flag) => *value == tally_model::Value::Bool(*flag),
        Json::Number(number) => number.as_f64().is_some_and(|number| is_number(value, number)),
        Json::Null => false,
    }
}

fn is_number(value: &tally_model::Value, number: f64) -> bool {
    let is_flag = matches!(value, tally_model::Value::Bool(_));
    !is_flag && value.as_f64().is_some_and(|value| value.to_bits() == number.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use proptest::prelude::*;
    use tally_model::Value;

    fn key() -> SigningKey {
        SigningKey::from_secret(&[7; 32]).unwrap()
    }

    fn sealed_jws(header: &str, payload: &str) -> String {
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let signed = format!("{}.{}", part(header), part(payload));
        format!("{signed}.{}", Base64UrlUnpadded::encode_string(&key().sign(signed.as_bytes())))
    }

    const PAYLOAD: &str = r#"{"device":"press-01","seq":7,"timestamp":1763697906000,"v":{"temp":21.5,"on":true}}"#;

    fn sealed_cose(header: &Cbor, payload: &Cbor) -> Vec<u8> {
        let bytes = |item: &Cbor| {
            let mut bytes = Vec::new();
            ciborium::into_writer(item, &mut bytes).unwrap();
            bytes
        };
        let (protected, payload) = (bytes(header), bytes(payload));
        let parts = [b"".to_vec(), payload.clone()].map(Cbor::Bytes);
        let structure =
            [vec![Cbor::Text("Signature1".into()), Cbor::Bytes(protected.clone())], parts.to_vec()].concat();
        let signature = key().sign(&bytes(&Cbor::Array(structure))).to_vec();
        let empty = Cbor::Map(Vec::new());
        let sign1 = vec![Cbor::Bytes(protected), empty, Cbor::Bytes(payload), Cbor::Bytes(signature)];
        bytes(&Cbor::Tag(18, Box::new(Cbor::Array(sign1))))
    }

    fn alg(number: i64) -> Cbor {
        Cbor::Map(vec![(Cbor::Integer(1.into()), Cbor::Integer(number.into()))])
    }

    fn claims() -> Cbor {
        let text = |text: &str| Cbor::Text(text.into());
        let pairs = [("device", text("press-01")), ("seq", Cbor::Integer(7.into())), ("temp", Cbor::Float(21.5))];
        let mut pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (text(name), value)).collect();
        pairs.push((text("timestamp"), text("2025-11-21T04:05:06Z")));
        Cbor::Map(pairs)
    }

    #[test]
    fn both_forms_open() {
        let jws = sealed_jws(r#"{"alg":"ES256","kid":"x"}"#, PAYLOAD);
        let parts: Vec<_> = jws.split('.').collect();
        let flat = format!(r#"{{"protected":"{}","payload":"{}","signature":"{}"}}"#, parts[0], parts[1], parts[2]);
        for message in [jws.as_bytes(), flat.as_bytes(), &sealed_cose(&alg(-7), &claims())] {
            let opened = OpenedSeal::open(message, key().public()).unwrap();
            assert_eq!((opened.device.as_str(), opened.seq), ("press-01", 7));
            assert_eq!(opened.at.to_string(), "2025-11-21T04:05:06.000000Z");
            assert!(opened.holds(&Value::Float(21.5)) && !opened.holds(&Value::Float(21.6)));
        }
        let opened = OpenedSeal::open(jws.as_bytes(), key().public()).unwrap();
        assert!(
            opened.holds(&Value::Bool(true)) && !opened.holds(&Value::Bool(false)) && opened.holds(&Value::Integer(7))
        );
    }

    #[test]
    fn another_algorithm_key_or_claim_opens_nothing() {
        let open = |message: &[u8]| OpenedSeal::open(message, key().public()).unwrap_err();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, "{}", r#"{"alg":"ES256","crit":["b64"],"b64":false}"#]
        {
            assert!(matches!(open(sealed_jws(header, PAYLOAD).as_bytes()), DeviceSealFault::Algorithm(_)), "{header}");
        }
        assert!(matches!(open(&sealed_cose(&alg(-8), &claims())), DeviceSealFault::Algorithm(_)));
        assert!(matches!(open(&sealed_cose(&alg(5), &claims())), DeviceSealFault::Algorithm(_)), "HMAC");
        for payload in ["7", "{}", r#"{"device":"d","seq":-1,"timestamp":1}"#, r#"{"device":"d","seq":1}"#] {
            let message = sealed_jws(r#"{"alg":"ES256"}"#, payload);
            assert!(matches!(open(message.as_bytes()), DeviceSealFault::Claim(_)), "{payload}");
        }
        let other = SigningKey::from_secret(&[8; 32]).unwrap();
        let jws = sealed_jws(r#"{"alg":"ES256"}"#, PAYLOAD);
        assert_eq!(OpenedSeal::open(jws.as_bytes(), other.public()), Err(DeviceSealFault::Signature));
        assert!(matches!(open(&[b'e'; DEVICE_SEAL_BYTES_MAX + 1]), DeviceSealFault::TooLarge(_)));
        assert!(matches!(open(b""), DeviceSealFault::Form(_)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for message in [sealed_jws(r#"{"alg":"ES256"}"#, PAYLOAD).into_bytes(), sealed_cose(&alg(-7), &claims())] {
            for place in 0..message.len() * 8 {
                let mut forged = message.clone();
                forged[place / 8] ^= 1 << (place % 8);
                assert!(OpenedSeal::open(&forged, key().public()).is_err(), "bit {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), first in 0usize..3) {
            bytes[0] = [bytes[0], b'e', b'{'][first];
            let _ = OpenedSeal::open(&bytes, key().public());
        }
    }
}
