use super::*;
use proptest::prelude::*;

#[test]
fn maps_come_out_sorted_and_numbers_short() {
    // {"a": 1.5, "bb": 2}: keys by encoded bytes, 1.5 as half precision.
    let bytes = encode(&map([("bb", int(2)), ("a", Cbor::Float(1.5))]));
    assert_eq!(hex::encode(bytes), "a26161f93e0062626202");
}

#[test]
fn other_spellings_are_refused() {
    for (what, hex) in [
        ("indefinite array", "9f01ff"),
        ("long integer", "1801"),
        ("double that fits a half", "fb3ff8000000000000"),
        ("unsorted map", "a2616201616102"),
        ("key twice", "a2616101616102"),
    ] {
        assert_eq!(decode(&hex::decode(hex).unwrap()), Err(CborFault::NotDeterministic), "{what}");
    }
    assert_eq!(decode(&hex::decode("0102").unwrap()), Err(CborFault::Trailing(1)));
    assert!(matches!(decode(&[0x81; 1000]), Err(CborFault::Syntax(_))));
}

#[test]
fn maps_that_are_keys_of_maps_are_refused_at_once() {
    // Two keys on each level, each a map of two keys: 2^30 comparisons for who looks at them.
    let mut key = int(0);
    for level in 0..DEPTH_MAX - 6 {
        key = Cbor::Map(vec![(key.clone(), int(1)), (Cbor::Array(vec![int(level), int(0)]), int(2))]);
    }
    let mut bytes = Vec::new();
    ciborium::ser::into_writer(&Cbor::Map(vec![(key.clone(), int(1)), (key, int(2))]), &mut bytes).unwrap();
    assert_eq!(decode(&bytes), Err(CborFault::Key));
    for (key, hex) in [("array", "a18001"), ("tag", "a1c00101"), ("float", "a1f93e0001"), ("null", "a1f601")] {
        assert_eq!(decode(&hex::decode(hex).unwrap()), Err(CborFault::Key), "{key}");
    }
    for (key, hex) in [("text", "a1616101"), ("number", "a12001"), ("bytes", "a1410001")] {
        assert!(decode(&hex::decode(hex).unwrap()).is_ok(), "{key}");
    }
}

#[test]
fn numbers_of_every_size_are_written_as_ciborium_does() {
    for shift in 0..64 {
        for number in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
            for number in [i128::from(number), -1 - i128::from(number)] {
                let value = Cbor::Integer(number.try_into().unwrap());
                let mut by_ciborium = Vec::new();
                ciborium::ser::into_writer(&value, &mut by_ciborium).unwrap();
                assert_eq!(encode(&value), by_ciborium, "{number}");
                assert_eq!(decode(&by_ciborium), Ok(value));
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_what_decodes_is_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(value) = decode(&bytes) {
            let mut by_ciborium = Vec::new();
            ciborium::ser::into_writer(&value, &mut by_ciborium).unwrap();
            prop_assert_eq!(&by_ciborium, &bytes);
            prop_assert_eq!(encode(&value), bytes);
        }
    }
}
