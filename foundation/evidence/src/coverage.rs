//! The coverage file: everything needed to check offline that no reading of a device is missing between two times. CDDL:
//! `docs/formats/coverage.cddl`.
//!
//! The question (device and times) is nobody's statement, so it carries a digest of its own against accidents; all else is
//! sealed by the agent or the ledger.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use crate::file::{FileFault, WitnessedNote, decode_entry, decode_witnessed, encode_entry, encode_witnessed};
use crate::{EvidenceEntry, Hash, VerifyingKey, sha256};
use tally_model::{DeviceId, PartyId, Timestamp};

/// Version of the format; a reader refuses others.
const VERSION: u64 = 1;
/// The field that says what file it is.
const MAGIC: &str = "tallystick-coverage";
/// Begins the bytes that the question's digest covers.
const QUESTION: &[u8] = b"tallystick coverage question v1\0";

/// What was asked: is any reading of `device` missing that was received from `from` to `to`?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose readings.
    pub device: DeviceId,
    /// Receive time, inclusive.
    pub from: Timestamp,
    /// Receive time, inclusive.
    pub to: Timestamp,
}

impl Question {
    /// SHA-256 over a prefix and the question as CBOR.
    #[must_use]
    pub fn digest(&self) -> Hash {
        sha256(&[QUESTION, &cbor::encode(&map(self.fields()))].concat())
    }

    fn fields(&self) -> Vec<(&'static str, Cbor)> {
        vec![
            ("device", text(self.device.as_str())),
            ("from", int(self.from.as_micros())),
            ("to", int(self.to.as_micros())),
        ]
    }
}

/// What a key of the ledger's state is, or that it is not there, at the file's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateClaim {
    /// The key.
    pub key: Vec<u8>,
    /// Its value; `None`: it is not there.
    pub value: Option<Vec<u8>>,
    /// The proof ([`crate::StateProof`]).
    pub proof: Vec<u8>,
}

/// A coverage file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverageFile {
    /// Which ledger.
    pub ledger: String,
    /// Its key. A careful reader compares it with one he got elsewhere.
    pub key: VerifyingKey,
    /// What was asked.
    pub question: Question,
    /// The question's digest as written.
    pub digest: Hash,
    /// The device's anchors around the time asked for, in ledger order, with the registrations they rest on.
    pub entries: Vec<EvidenceEntry>,
    /// A sealed checkpoint, not before any of the entries.
    pub checkpoint: Vec<u8>,
    /// What the state says there.
    pub state: Vec<StateClaim>,
    /// What witnesses say of the tree that all entries are in.
    pub witnessed: Option<WitnessedNote>,
}

impl CoverageFile {
    /// Whether `file` says to be one; everything else is left to [`CoverageFile::decode`].
    #[must_use]
    pub fn is_one(file: &[u8]) -> bool {
        Fields::decode(file).is_ok_and(|mut fields| fields.take(MAGIC).is_some())
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut question = self.question.fields();
        question.push(("digest", bytes(self.digest)));
        let mut fields = vec![
            (MAGIC, int(VERSION)),
            ("ledger", text(self.ledger.clone())),
            ("key", bytes(self.key.sec1().to_vec())),
            ("question", map(question)),
            ("entries", Cbor::Array(self.entries.iter().map(encode_entry).collect())),
            ("checkpoint", bytes(self.checkpoint.clone())),
            ("state", Cbor::Array(self.state.iter().map(encode_claim).collect())),
        ];
        fields.extend(self.witnessed.iter().map(|witnessed| ("witnessed", encode_witnessed(witnessed))));
        cbor::encode(&map(fields))
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
        let mut asked = fields.fields("question")?;
        let question = Question {
            device: asked.parse("device", "a device id")?,
            from: Timestamp::from_micros(asked.int("from")?),
            to: Timestamp::from_micros(asked.int("to")?),
        };
        let digest = asked.bytes_exact("digest")?;
        asked.finish()?;
        let coverage = Self {
            ledger: fields.text("ledger")?,
            key: VerifyingKey::from_sec1(&fields.bytes("key")?)?,
            question,
            digest,
            entries: fields.array("entries")?.into_iter().map(decode_entry).collect::<Result<_, _>>()?,
            checkpoint: fields.bytes("checkpoint")?,
            state: fields.array("state")?.into_iter().map(decode_claim).collect::<Result<_, _>>()?,
            witnessed: fields.take("witnessed").map(decode_witnessed).transpose()?,
        };
        fields.finish()?;
        Ok(coverage)
    }
}

fn encode_claim(claim: &StateClaim) -> Cbor {
    let mut fields = vec![("key", bytes(claim.key.clone())), ("proof", bytes(claim.proof.clone()))];
    fields.extend(claim.value.clone().map(|value| ("value", bytes(value))));
    map(fields)
}

fn decode_claim(claim: Cbor) -> Result<StateClaim, CborFault> {
    let mut fields = Fields::new(claim, "state")?;
    let fault = || CborFault::Type { field: "value".to_owned(), expected: "a byte string" };
    let value = fields.take("value").map(|value| value.into_bytes().map_err(|_| fault())).transpose()?;
    let claim = StateClaim { key: fields.bytes("key")?, value, proof: fields.bytes("proof")? };
    fields.finish()?;
    Ok(claim)
}

/// State key of a device's record: `[agent, owner, entry]` (`docs/formats/state.md`).
#[must_use]
pub fn device_state_key(device: &DeviceId) -> Vec<u8> {
    [b"d", device.as_str().as_bytes()].concat()
}

/// State key of a party's revocation: there once it is revoked, absent before.
#[must_use]
pub fn revocation_state_key(party: &PartyId) -> Vec<u8> {
    [b"z", party.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use proptest::prelude::*;

    fn file() -> CoverageFile {
        let question = Question {
            device: DeviceId::try_new("press-01").unwrap(),
            from: Timestamp::from_micros(-1),
            to: Timestamp::from_micros(9),
        };
        let claim = |value: Option<Vec<u8>>| StateClaim { key: vec![1], value, proof: vec![2, 3] };
        CoverageFile {
            ledger: "press-line".into(),
            key: SigningKey::from_secret(&[5; 32]).unwrap().public().clone(),
            digest: question.digest(),
            question,
            entries: Vec::new(),
            checkpoint: vec![7],
            state: vec![claim(None), claim(Some(vec![8]))],
            witnessed: None,
        }
    }

    #[test]
    fn files_round_trip_and_are_told_apart() {
        let bytes = file().encode();
        assert_eq!(CoverageFile::decode(&bytes), Ok(file()));
        assert!(CoverageFile::is_one(&bytes) && !CoverageFile::is_one(b"\xa0") && !CoverageFile::is_one(b"no"));
    }

    #[test]
    fn the_question_has_a_digest_of_its_own() {
        let mut other = file().question;
        other.to = Timestamp::from_micros(10);
        assert_ne!(other.digest(), file().digest);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CoverageFile::decode(&bytes);
        }
    }
}
