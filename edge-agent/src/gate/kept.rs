//! What the ledger said last about this agent's permits, kept on disk (`data/gate-open.cbor`): so that a gate which is cut off, also one
//! that was restarted meanwhile, still knows what was taken back before the cut.
//!
//! While connected the gate asks, now and then, for a checkpoint and *after* it for the permits that are open, each with its
//! proof. A permit that was granted before that checkpoint and is not among them was used, or taken back: itself, its policy, its
//! requester, its device, its agent. The list is the node's word without a proof, but it only closes: what the node leaves out is
//! refused, and what it adds has no proof. The checkpoint says, under the ledger's seal, of when all this is.
//!
//! ```text
//! { "tallystick-open": 1, "checkpoint": bstr .cbor checkpoint, "open": [* bstr .cbor permit-file] }    permit.cddl
//! ```

use super::Refusal;
use std::path::{Path, PathBuf};
use tally_evidence::cbor::{self, Cbor, CborFault, Fields, bytes, int, map};
use tally_evidence::{Checkpoint, CheckpointFault, Permit, PermitFile, ProvenPermit, VerifyingKey};
use tally_model::Timestamp;

const FILE: &str = "gate-open.cbor";
const MAGIC: &str = "tallystick-open";
const VERSION: u64 = 1;

/// Where it is kept.
pub(super) fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// The permits of this agent that were open, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Kept {
    /// Sealed by the ledger; asked for before the permits.
    pub checkpoint: Vec<u8>,
    /// With their proofs, which are not older.
    pub open: Vec<PermitFile>,
}

/// For people: of when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AsOf {
    pub height: u64,
    pub time: Timestamp,
}

/// Why what the node says is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeptFault {
    #[error("{0}")]
    Cbor(#[from] CborFault),
    #[error("{0}")]
    Checkpoint(#[from] CheckpointFault),
    #[error("version {0}; this program reads version {VERSION}")]
    Version(u64),
    #[error("it is of ledger `{0}`")]
    Ledger(String),
    #[error("a permit in it is none: {0}")]
    Permit(String),
    #[error("it is of height {found}, older than what is known already, of height {known}")]
    Older { found: u64, known: u64 },
}

impl Kept {
    pub(super) fn encode(&self) -> Vec<u8> {
        let open = self.open.iter().map(|file| bytes(file.encode())).collect();
        cbor::encode(&map([
            (MAGIC, int(VERSION)),
            ("checkpoint", bytes(self.checkpoint.clone())),
            ("open", Cbor::Array(open)),
        ]))
    }

    pub(super) fn decode(file: &[u8]) -> Result<Self, KeptFault> {
        let mut fields = Fields::decode(file)?;
        let version = fields.int(MAGIC)?;
        if version != VERSION {
            return Err(KeptFault::Version(version));
        }
        let checkpoint = fields.bytes("checkpoint")?;
        let fault = || CborFault::Type { field: "open".into(), expected: "a list of byte strings" };
        let open = fields.need("open")?.into_array().map_err(|_| fault())?;
        fields.finish()?;
        let read = |file: Cbor| {
            let file = file.into_bytes().map_err(|_| fault())?;
            PermitFile::decode(&file).map_err(|why| KeptFault::Permit(why.to_string()))
        };
        Ok(Self { checkpoint, open: open.into_iter().map(read).collect::<Result<_, KeptFault>>()? })
    }

    /// Of when it is, by the ledger's seal.
    pub(super) fn as_of(&self, ledger: &str, key: &VerifyingKey) -> Result<AsOf, KeptFault> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        if checkpoint.ledger != ledger {
            return Err(KeptFault::Ledger(checkpoint.ledger));
        }
        Ok(AsOf { height: checkpoint.height, time: checkpoint.time })
    }

    /// Whether this may stand in the place of what is known: sealed, of this ledger, not older.
    pub(super) fn check(&self, known: Option<AsOf>, ledger: &str, key: &VerifyingKey) -> Result<AsOf, KeptFault> {
        let as_of = self.as_of(ledger, key)?;
        for file in &self.open {
            file.check(ledger, key).map_err(|fault| KeptFault::Permit(fault.to_string()))?;
        }
        match known {
            Some(known) if as_of.height < known.height => {
                Err(KeptFault::Older { found: as_of.height, known: known.height })
            }
            _ => Ok(as_of),
        }
    }

    /// The latest block time at which the permit is known to have been open: the proof that was brought, or ours. What was open
    /// before our checkpoint and is not among ours was used or taken back.
    ///
    /// # Errors
    /// [`Refusal`]: `revoked`, or `doubtful` when what is kept does not hold.
    pub(super) fn judge(&self, brought: &ProvenPermit, ledger: &str, key: &VerifyingKey) -> Result<Timestamp, Refusal> {
        let id = brought.permit.id;
        let doubtful = |fault: String| {
            let text =
                format!("the ledger cannot be asked, and what this agent kept of its word does not hold: {fault}");
            Refusal::new("doubtful", text)
        };
        let as_of = self.as_of(ledger, key).map_err(|fault| doubtful(fault.to_string()))?;
        let is_it = |file: &&PermitFile| Permit::decode(&file.permit).is_ok_and(|permit| permit.id == id);
        if let Some(ours) = self.open.iter().find(is_it) {
            let ours = ours.check(ledger, key).map_err(|fault| doubtful(fault.to_string()))?;
            return Ok(ours.open_at.max(brought.open_at));
        }
        if brought.height <= as_of.height {
            let text = format!(
                "the ledger cannot be asked; when it last could, at {} (height {}), permit {id} was not open any more: it was used or \
                 revoked, or its policy, its requester `{}`, the device or this agent was cut off",
                as_of.time, as_of.height, brought.permit.requester
            );
            return Err(Refusal::new("revoked", text));
        }
        Ok(brought.open_at)
    }
}

/// Reads what an earlier run kept; none when there is none, or when it cannot be read, which is said.
pub(super) fn read(file: &Path) -> Option<Kept> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return None,
        Err(fault) => {
            tracing::error!(file = %file.display(), %fault, "what is known of permits cannot be read; it is asked for anew");
            return None;
        }
    };
    let kept = Kept::decode(&bytes);
    kept.inspect_err(|fault| {
        tracing::error!(file = %file.display(), %fault, "what is known of permits is damaged; it is asked for anew");
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::samples;
    use proptest::prelude::*;
    use tally_evidence::{SigningKey, StateTree, permit_state_key};

    fn key() -> SigningKey {
        SigningKey::from_secret(&[5; 32]).unwrap()
    }

    fn permit(id: u64) -> Permit {
        Permit { id, carried: true, ..samples::permit() }
    }

    /// What the ledger says at this height when these permits are open; a height is a second.
    fn word(height: u64, open: &[u64]) -> Kept {
        let mut tree = StateTree::default();
        for id in open {
            let (key, value) = (permit_state_key(*id), permit(*id).encode());
            tree.apply([(&key[..], Some(&value[..]))]);
        }
        let checkpoint = Checkpoint {
            ledger: "press-line".into(),
            height,
            size: height,
            root: [1; 32],
            state: tree.root(),
            outcomes: [2; 32],
            outcome_count: 1,
            time: Timestamp::from_micros(i64::try_from(height).unwrap() * 1_000_000),
            previous: [0; 32],
        };
        let checkpoint = checkpoint.seal(&key());
        let file = |id: &u64| PermitFile {
            permit: permit(*id).encode(),
            proof: tree.prove(&permit_state_key(*id)).encode(),
            checkpoint: checkpoint.clone(),
        };
        let open = open.iter().map(file).collect();
        Kept { checkpoint, open }
    }

    fn brought(height: u64, id: u64) -> ProvenPermit {
        word(height, &[id]).open[0].check("press-line", key().public()).unwrap()
    }

    #[test]
    fn what_was_open_and_is_not_among_the_kept_was_taken_back() {
        let kept = word(10, &[3]);
        let judge = |height, id| kept.judge(&brought(height, id), "press-line", key().public());
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        assert_eq!(judge(5, 3), Ok(at(10)), "known to have been open later than the file says");
        assert_eq!(judge(12, 3), Ok(at(12)), "the file is younger");
        for height in [5, 10] {
            let refusal = judge(height, 4).unwrap_err();
            assert!(refusal.code == "revoked" && refusal.text.contains("height 10"), "{refusal}");
        }
        assert_eq!(judge(11, 4), Ok(at(11)), "granted behind what is known");
        let other = kept.judge(&brought(5, 3), "other", key().public());
        assert_eq!(other.unwrap_err().code, "doubtful");
        let thief = SigningKey::from_secret(&[7; 32]).unwrap();
        assert_eq!(kept.judge(&brought(5, 3), "press-line", thief.public()).unwrap_err().code, "doubtful");
    }

    #[test]
    fn only_what_is_sealed_and_not_older_is_kept() {
        let (kept, key) = (word(10, &[3]), key());
        let as_of = kept.check(None, "press-line", key.public()).unwrap();
        assert_eq!((as_of.height, as_of.time), (10, Timestamp::from_micros(10_000_000)));
        let older = word(9, &[]).check(Some(as_of), "press-line", key.public());
        assert_eq!(older, Err(KeptFault::Older { found: 9, known: 10 }));
        let added = Kept { open: word(10, &[4]).open, ..kept.clone() };
        assert!(added.check(None, "press-line", key.public()).is_ok(), "proven under its own checkpoint");
        let mut forged = kept.clone();
        forged.open[0].permit = permit(4).encode();
        assert!(matches!(forged.check(None, "press-line", key.public()), Err(KeptFault::Permit(_))));
    }

    #[test]
    fn it_survives_the_disk_and_damage_is_no_knowledge() {
        let dir = tempfile::tempdir().unwrap();
        let (file, kept) = (path(dir.path()), word(10, &[3, 4]));
        assert_eq!(read(&file), None);
        std::fs::write(&file, kept.encode()).unwrap();
        assert_eq!(read(&file), Some(kept.clone()));
        let whole = kept.encode();
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(read(&file), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Kept::decode(&bytes);
        }
    }
}
