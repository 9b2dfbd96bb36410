//! The published vectors, decoded without any socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{vectors, word};
use std::collections::BTreeSet;
use tally_connector_modbus::{decode, encode};
use tally_model::{ByteOrder, Encoding};

#[test]
fn every_vector_is_decoded_as_published() {
    let vectors = vectors();
    for vector in &vectors {
        let found = word(&decode(&vector.spec, &vector.registers));
        assert_eq!(found, vector.value, "{:?} {:?} {:04x?}", vector.spec.encoding, vector.spec.order, vector.registers);
    }
    let covered: BTreeSet<String> =
        vectors.iter().map(|vector| format!("{} {}", vector.spec.encoding.word(), vector.spec.order.word())).collect();
    let of_all = |encodings: &[&str], orders: &[ByteOrder]| {
        for (encoding, order) in encodings.iter().flat_map(|encoding| orders.iter().map(move |order| (encoding, order)))
        {
            assert!(covered.contains(&format!("{encoding} {}", order.word())), "no vector for {encoding} {order:?}");
        }
    };
    of_all(&["u8", "i8", "u16", "i16", "f16", "bcd16", "text"], &[ByteOrder::Abcd, ByteOrder::Badc]);
    of_all(&["u32", "i32", "f32", "bcd32"], &ByteOrder::ALL[..4]);
    of_all(&["u64", "i64", "f64", "bcd64"], &ByteOrder::ALL);
    of_all(&["text-low", "text-high", "bool"], &[ByteOrder::Abcd]);
    assert!(vectors.iter().any(|vector| vector.spec.options.bits.is_some()));
}

/// What has a value can be written, and is read back as the same value.
#[test]
fn every_vector_with_a_value_is_encoded_again() {
    let mut same = 0;
    for vector in vectors() {
        let Ok(value) = decode(&vector.spec, &vector.registers) else { continue };
        if vector.spec.options.bits.is_some() {
            assert!(encode(&vector.spec, &value).is_err(), "a part is not written");
            continue;
        }
        let registers = encode(&vector.spec, &value).unwrap();
        assert_eq!(decode(&vector.spec, &registers), Ok(value), "{:?}", vector.spec);
        let has_spare_bits = vector.spec.encoding.is_text() || vector.spec.encoding == Encoding::Bool;
        if !has_spare_bits {
            assert_eq!(registers, vector.registers, "{:?}", vector.spec);
            same += 1;
        }
    }
    assert!(same > 150, "{same}");
}
