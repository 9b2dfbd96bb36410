//! Readings as they are kept, and what a sensor sealed itself: `foundation/evidence`.

use crate::golden::{NOON, device, key};
use crate::said::{plain, round};
use crate::targets::Seeds;
use base64ct::{Base64UrlUnpadded, Encoding};
use tally_evidence::cbor::{self, Cbor, int};
use tally_evidence::{OpenedSeal, decode_reading, encode_reading};
use tally_model::{NoValue, PointId, Quality, Reading, Sample, Unit, Value};

pub fn reading(bytes: &[u8]) -> String {
    let write = |(reading, number): &(Reading, u64)| encode_reading(reading, *number);
    round(decode_reading(&device(), bytes), bytes, write)
}

pub fn readings() -> Seeds {
    let outcomes = [
        Ok(Value::Float(7.25)),
        Ok(Value::Integer(-3)),
        Ok(Value::Unsigned(u64::MAX)),
        Ok(Value::Bool(true)),
        Ok(Value::Text("running".to_owned())),
        Err(NoValue::Timeout),
    ];
    let reading = |outcome: Result<Value, NoValue>| {
        let quality = if outcome.is_ok() { Quality::Good } else { Quality::Bad };
        let (point, unit) = (PointId::try_new("vibration").unwrap(), Unit::try_new("mm/s").unwrap());
        let sample = Sample { seal: None, point, outcome, unit, quality, source_time: NOON, received: NOON };
        encode_reading(&Reading { device: device(), number: 5, sample }, 2)
    };
    outcomes.map(reading).into()
}

/// What a sensor sealed itself: COSE or JWS.
pub fn sensor_seal(bytes: &[u8]) -> String {
    let opened = OpenedSeal::open(bytes, key().public());
    if let Ok(opened) = &opened {
        let _ = opened.holds(&Value::Float(7.25));
    }
    plain(opened)
}

/// What stands under such a seal: sealed here, because nobody guesses signatures. The first byte chooses the form.
pub fn sensor_claims(bytes: &[u8]) -> String {
    let Some((form, payload)) = bytes.split_first() else { return "too short".to_owned() };
    sensor_seal(&if form % 2 == 0 { cose(payload) } else { jws(payload) })
}

/// COSE_Sign1 (RFC 9052 §4.4).
fn cose(payload: &[u8]) -> Vec<u8> {
    let protected = cbor::encode(&Cbor::Map(vec![(int(1), int(-7))]));
    let [protected, payload] = [protected, payload.to_vec()].map(Cbor::Bytes);
    let parts = vec![Cbor::Text("Signature1".to_owned()), protected.clone(), Cbor::Bytes(Vec::new()), payload.clone()];
    let signature = Cbor::Bytes(key().sign(&cbor::encode(&Cbor::Array(parts))).to_vec());
    cbor::encode(&Cbor::Tag(18, Box::new(Cbor::Array(vec![protected, Cbor::Map(Vec::new()), payload, signature]))))
}

/// JWS, compact (RFC 7515 §7.1).
fn jws(payload: &[u8]) -> Vec<u8> {
    let [header, payload] = [br#"{"alg":"ES256"}"#, payload].map(Base64UrlUnpadded::encode_string);
    let signed = format!("{header}.{payload}");
    let signature = Base64UrlUnpadded::encode_string(&key().sign(signed.as_bytes()));
    format!("{signed}.{signature}").into_bytes()
}

const JSON_CLAIMS: &[u8] =
    br#"{"device":"press-01","seq":7,"timestamp":"2026-11-21T00:00:00Z","temp":7.25,"more":[true,"on"]}"#;

fn cbor_claims() -> Vec<u8> {
    let word = |word: &str| Cbor::Text(word.to_owned());
    let claims = [
        ("device", word("press-01")),
        ("seq", int(7)),
        ("timestamp", int(1_790_000_000_000_i64)),
        ("temp", Cbor::Float(7.25)),
        ("more", Cbor::Array(vec![Cbor::Bool(true), word("on")])),
    ];
    cbor::encode(&cbor::map(claims))
}

pub fn sensor_seals() -> Seeds {
    let jws = jws(JSON_CLAIMS);
    let parts: Vec<_> = std::str::from_utf8(&jws).unwrap().split('.').collect();
    let [protected, payload, signature] = parts[..] else { unreachable!() };
    let flattened = format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#);
    vec![cose(&cbor_claims()), flattened.into_bytes(), jws]
}

pub fn sensor_claim_seeds() -> Seeds {
    vec![[&[0][..], &cbor_claims()].concat(), [&[1][..], JSON_CLAIMS].concat()]
}
