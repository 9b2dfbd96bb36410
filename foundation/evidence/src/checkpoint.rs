//! A checkpoint: the ledger's signed word on tree, state and outcomes at a height. CDDL: `docs/formats/checkpoint.cddl`.

use crate::cbor::{self, CborFault, Fields, bytes, int, map, text};
use crate::statement::seal;
use crate::{Hash, KeyId, SigningKey, VerifyingKey, sha256};
use coset::{CoseSign1, HeaderBuilder, TaggedCborSerializable, iana};
use tally_model::Timestamp;

/// Content type of the payload.
const CONTENT_TYPE: &str = "application/vnd.tallystick.checkpoint+cbor";

/// Why a checkpoint does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFault {
    /// Not a checkpoint.
    #[error("checkpoint: {0}")]
    Shape(&'static str),
    /// The CBOR is not what the CDDL says.
    #[error("checkpoint: {0}")]
    Cbor(#[from] CborFault),
    /// A checkpoint, sealed by another key.
    #[error("checkpoint: sealed by the key {found}, the one to check it with is {asked}")]
    OtherKey {
        /// Whose id stands in it.
        found: KeyId,
        /// The id of the key it was checked with.
        asked: KeyId,
    },
    /// The ledger's seal does not hold.
    #[error("checkpoint: the ledger's seal does not hold")]
    Seal,
}

/// What the ledger says about itself after a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which ledger.
    pub ledger: String,
    /// Height of the block, from 0.
    pub height: u64,
    /// Entries in the tree after the block.
    pub size: u64,
    /// RFC 9162 root over the entries.
    pub root: Hash,
    /// Root of the authenticated state after the block.
    pub state: Hash,
    /// RFC 9162 root over the block's outcomes.
    pub outcomes: Hash,
    /// How many outcomes the block has.
    pub outcome_count: u64,
    /// Block time, never falling.
    pub time: Timestamp,
    /// SHA-256 of the previous checkpoint's payload; zeros before the first.
    pub previous: Hash,
}

impl Checkpoint {
    /// The payload's bytes.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        cbor::encode(&map([
            ("ledger", text(self.ledger.clone())),
            ("height", int(self.height)),
            ("size", int(self.size)),
            ("root", bytes(self.root)),
            ("state", bytes(self.state)),
            ("outcomes", bytes(self.outcomes)),
            ("outcome-count", int(self.outcome_count)),
            ("time", int(self.time.as_micros())),
            ("previous", bytes(self.previous)),
        ]))
    }

    /// What the next checkpoint names as `previous`.
    #[must_use]
    pub fn digest(&self) -> Hash {
        sha256(&self.payload())
    }

    /// Signs it (deterministic).
    #[must_use]
    pub fn seal(&self, key: &SigningKey) -> Vec<u8> {
        let protected = HeaderBuilder::new()
            .algorithm(iana::Algorithm::ES256)
            .content_type(CONTENT_TYPE.to_owned())
            .key_id(key.public().id().0.to_vec())
            .build();
        seal(protected, self.payload(), key)
    }

    /// Reads a sealed checkpoint and checks the ledger's seal.
    ///
    /// # Errors
    /// [`CheckpointFault`].
    pub fn open(sealed: &[u8], key: &VerifyingKey) -> Result<Self, CheckpointFault> {
        cbor::decode(sealed)?;
        let sign1 = CoseSign1::from_tagged_slice(sealed).map_err(|_| CheckpointFault::Shape("not a COSE_Sign1"))?;
        let header = &sign1.protected.header;
        let sealed_by = |id: &KeyId| {
            let header = HeaderBuilder::new().algorithm(iana::Algorithm::ES256).content_type(CONTENT_TYPE.to_owned());
            header.key_id(id.0.to_vec()).build()
        };
        if !sign1.unprotected.is_empty() || *header != sealed_by(&key.id()) {
            let found = header.key_id.as_slice().try_into().ok().map(KeyId);
            return Err(match found.filter(|found| sign1.unprotected.is_empty() && *header == sealed_by(found)) {
                Some(found) => CheckpointFault::OtherKey { found, asked: key.id() },
                None => {
                    CheckpointFault::Shape("headers must be exactly ES256, our content type and the ledger's key id")
                }
            });
        }
        if !key.verify(&sign1.tbs_data(&[]), &sign1.signature) {
            return Err(CheckpointFault::Seal);
        }
        Self::decode(sign1.payload.as_deref().unwrap_or_default())
    }

    fn decode(payload: &[u8]) -> Result<Self, CheckpointFault> {
        let mut fields = Fields::decode(payload)?;
        let checkpoint = Self {
            ledger: fields.text("ledger")?,
            height: fields.int("height")?,
            size: fields.int("size")?,
            root: fields.bytes_exact("root")?,
            state: fields.bytes_exact("state")?,
            outcomes: fields.bytes_exact("outcomes")?,
            outcome_count: fields.int("outcome-count")?,
            time: Timestamp::from_micros(fields.int("time")?),
            previous: fields.bytes_exact("previous")?,
        };
        fields.finish()?;
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        let checkpoint = Checkpoint {
            ledger: "press-line".into(),
            height: 3,
            size: 9,
            root: [1; 32],
            state: [2; 32],
            outcomes: [3; 32],
            outcome_count: 4,
            time: Timestamp::from_micros(1_790_000_000_000_000),
            previous: [4; 32],
        };
        let sealed = checkpoint.seal(&key);
        assert_eq!(Checkpoint::open(&sealed, key.public()), Ok(checkpoint));
        for place in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[place / 8] ^= 1 << (place % 8);
            assert!(Checkpoint::open(&forged, key.public()).is_err(), "bit {place}");
        }
    }
}
