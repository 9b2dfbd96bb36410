//! The published vectors, decoded without any socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{vectors, word};
use std::collections::BTreeSet;
use tally_connector_modbus::decode;

#[test]
fn every_vector_is_decoded_as_published() {
    let vectors = vectors();
    for vector in &vectors {
        let found = word(&decode(&vector.spec, &vector.registers));
        assert_eq!(found, vector.value, "{:?} {:?} {:04x?}", vector.spec.encoding, vector.spec.order, vector.registers);
    }
    let covered: BTreeSet<String> =
        vectors.iter().map(|vector| format!("{:?} {:?}", vector.spec.encoding, vector.spec.order)).collect();
    for encoding in ["U32", "I32", "U64", "I64", "F32", "F64"] {
        for order in ["Abcd", "Cdab", "Badc", "Dcba"] {
            assert!(covered.contains(&format!("{encoding} {order}")), "no vector for {encoding} {order}");
        }
    }
}
