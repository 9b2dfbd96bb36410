use super::*;
use proptest::prelude::*;

fn statement() -> (SigningKey, Vec<u8>) {
    let key = SigningKey::from_secret(&[9; 32]).unwrap();
    let issuer = PartyId::try_new("agent-01").unwrap();
    let payload = cbor::encode(&cbor::map([("a", int(1))]));
    let bytes = sign(StatementKind::Trigger, &key, &issuer, "press-01", "press-line", 1_790_000_000, payload);
    (key, bytes)
}

#[test]
fn what_is_sealed_is_read_back() {
    let (key, bytes) = statement();
    let parsed = SignedStatement::parse(&bytes).unwrap();
    assert_eq!((parsed.issuer.as_str(), parsed.subject.as_str()), ("agent-01", "press-01"));
    assert_eq!(parsed.check_seal(key.public()), Ok(()));
    let other = SigningKey::from_secret(&[1; 32]).unwrap();
    assert_eq!(parsed.check_seal(other.public()), Err(StatementFault::Seal));
}

#[test]
fn what_is_signed_is_what_a_cose_library_says() {
    let (_, bytes) = statement();
    let sign1 = coset::CoseSign1::from_tagged_slice(&bytes).unwrap();
    let parsed = SignedStatement::parse(&bytes).unwrap();
    assert_eq!(parsed.id, StatementId(crate::sha256(&sign1.tbs_data(&[]))));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (key, bytes) = statement();
    for place in 0..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[place / 8] ^= 1 << (place % 8);
        let accepted = SignedStatement::parse(&forged).and_then(|parsed| parsed.check_seal(key.public()));
        assert!(accepted.is_err(), "bit {place}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = SignedStatement::parse(&bytes);
    }

    #[test]
    fn both_ways_read_the_same_and_refuse_the_same(
        subject in "[a-z]{0,30}", issued_at in any::<i64>(), payload in proptest::collection::vec(any::<u8>(), 0..300),
        place: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let key = SigningKey::from_secret(&[9; 32]).unwrap();
        let issuer = PartyId::try_new("agent-01").unwrap();
        let bytes = sign(StatementKind::Call, &key, &issuer, &subject, "press-line", issued_at, payload);
        let mut altered = bytes.clone();
        altered[place.index(bytes.len())] = byte;
        for bytes in [&bytes[..], &altered, &bytes[..cut.index(bytes.len())]] {
            let quickly = read_parts(bytes).and_then(|parts| Some(SignedStatement::new(parts, read_headers(parts.protected)?)));
            prop_assert_eq!(quickly, SignedStatement::parse_slowly(bytes).ok());
        }
    }
}
