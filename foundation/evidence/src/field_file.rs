//! The field file: one private field of a call in clear, with everything needed to check offline that it is what was sealed, and
//! nothing of the call's other private fields. CDDL: `docs/formats/private.cddl`.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use crate::file::{FileFault, decode_entry, encode_entry};
use crate::{EvidenceEntry, VerifyingKey};

/// Version of the format; a reader refuses others.
const VERSION: u64 = 1;
/// The field that says what file it is.
const MAGIC: &str = "tallystick-field";

/// A field file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFile {
    /// Which ledger.
    pub ledger: String,
    /// Its key. A careful reader compares it with one he got elsewhere.
    pub key: VerifyingKey,
    /// The registrations that the call rests on, in ledger order, and last the call.
    pub entries: Vec<EvidenceEntry>,
    /// Openings of private fields of the call ([`crate::Opening`]).
    pub openings: Vec<Vec<u8>>,
}

impl FieldFile {
    /// Whether `file` says to be one; everything else is left to [`FieldFile::decode`].
    #[must_use]
    pub fn is_one(file: &[u8]) -> bool {
        Fields::decode(file).is_ok_and(|mut fields| fields.take(MAGIC).is_some())
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let openings = self.openings.iter().map(|opening| bytes(opening.clone()));
        cbor::encode(&map([
            (MAGIC, int(VERSION)),
            ("ledger", text(self.ledger.clone())),
            ("key", bytes(self.key.sec1().to_vec())),
            ("entries", Cbor::Array(self.entries.iter().map(encode_entry).collect())),
            ("openings", Cbor::Array(openings.collect())),
        ]))
    }

    /// Reads a file strictly.
    ///
    /// # Errors
    /// [`FileFault`].
    pub fn decode(file: &[u8]) -> Result<Self, FileFault> {
        let mut fields = Fields::decode(file)?;
        let version = fields.int(MAGIC)?;
        if version != VERSION {
            return Err(FileFault::Version(version));
        }
        let wrong = || CborFault::Type { field: "openings".to_owned(), expected: "byte strings" };
        let openings = fields.array("openings")?.into_iter().map(|item| item.into_bytes().map_err(|_| wrong()));
        let file = Self {
            openings: openings.collect::<Result<_, _>>()?,
            ledger: fields.text("ledger")?,
            key: VerifyingKey::from_sec1(&fields.bytes("key")?)?,
            entries: fields.array("entries")?.into_iter().map(decode_entry).collect::<Result<_, _>>()?,
        };
        fields.finish()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use proptest::prelude::*;

    #[test]
    fn files_round_trip_and_are_told_apart() {
        let key = SigningKey::from_secret(&[5; 32]).unwrap().public().clone();
        let file = FieldFile { ledger: "line".into(), key, entries: Vec::new(), openings: vec![vec![1], vec![]] };
        let bytes = file.encode();
        assert_eq!(FieldFile::decode(&bytes), Ok(file));
        assert!(FieldFile::is_one(&bytes) && !FieldFile::is_one(b"\xa0") && !FieldFile::is_one(b"no"));
    }

    /// What an argument may be: also what JSON has no word for.
    fn value() -> impl Strategy<Value = Cbor> {
        let leaf = prop_oneof![
            ".{0,20}".prop_map(text),
            any::<u64>().prop_map(int),
            any::<i64>().prop_map(int),
            any::<bool>().prop_map(Cbor::Bool),
            Just(Cbor::Null),
            (-1e9f64..1e9).prop_map(Cbor::Float),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(bytes),
        ];
        leaf.prop_recursive(2, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Cbor::Array),
                proptest::collection::btree_map("[a-z]{1,5}|hex|reads", inner, 0..4).prop_map(map),
            ]
        })
    }

    fn entry() -> impl Strategy<Value = EvidenceEntry> {
        let some = || proptest::collection::vec(any::<u8>(), 0..90);
        let path = proptest::collection::vec(any::<[u8; 32]>(), 0..3);
        (some(), some(), some(), any::<u64>(), path, some()).prop_map(
            |(statement, receipt, outcome, outcome_index, outcome_path, checkpoint)| EvidenceEntry {
                statement,
                batched: None,
                receipt,
                outcome,
                outcome_index,
                outcome_path,
                checkpoint,
                disclosure: None,
            },
        )
    }

    proptest! {
        /// As JSON and back: the same bytes, and nothing is shown that they do not say.
        #[test]
        fn the_form_for_people_loses_nothing(
            ledger in ".{0,12}",
            entries in proptest::collection::vec(entry(), 0..3),
            fields in proptest::collection::vec((any::<[u8; 16]>(), value(), "[a-z-]{1,12}"), 0..4),
        ) {
            let openings = fields.into_iter().map(|(salt, value, name)| crate::Opening { salt, value, name }.encode());
            let key = SigningKey::from_secret(&[5; 32]).unwrap().public().clone();
            let file = FieldFile { ledger, key, entries, openings: openings.collect() };
            let shown = crate::json::to_json(&file.encode()).unwrap();
            prop_assert!(crate::json::is_json(shown.as_bytes()));
            let back = crate::json::from_json(shown.as_bytes()).unwrap();
            prop_assert_eq!(back.mismatches, vec![]);
            prop_assert_eq!(&back.cbor, &file.encode());
            prop_assert_eq!(FieldFile::decode(&back.cbor), Ok(file));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = FieldFile::decode(&bytes);
        }
    }
}
