//! What can be checked later, by anyone, without our programs: statements and their seals, the Merkle tree, receipts,
//! checkpoints, outcomes, disclosed readings, and the evidence file that holds them together.
//!
//! Ground floor: no network, no key files (keys come in as arguments), no clock. Every byte format here is written down
//! as CDDL in `docs/formats/` and frozen by vectors in `tests/formats.rs`.
//!
//! - [`SignedStatement`]: SCITT signed statement (RFC 9943), a `COSE_Sign1` (RFC 9052) with ES256 and CWT claims (RFC 9597)
//! - [`Receipt`]: COSE Receipt (RFC 9942) over a tree of algorithm `RFC9162_SHA256`
//! - [`cbor`]: deterministic CBOR (RFC 8949 §4.2.1), the only encoding that is ever hashed or signed

mod anchor;
mod batch;
mod body;
pub mod cbor;
mod checkpoint;
mod checks;
mod cosignature;
mod coverage;
mod cursor;
mod device_seal;
mod disclosure;
mod field_file;
mod file;
pub mod json;
mod key;
mod key_scheme;
mod key_table;
mod merkle;
mod note;
mod note_key;
mod origin;
mod outcome;
mod permit;
mod policy;
mod private;
mod reading;
mod receipt;
mod registration;
mod rule;
mod sealing_key;
mod split;
mod state_page;
mod state_proof;
mod state_tree;
mod statement;
mod timestamp;

pub use anchor::{ANCHOR_GAPS_MAX, ANCHOR_READINGS_MAX, AnchorBody, AnchorFault, AnchorLink, Gap, GapReason};
pub use batch::{
    BATCH_TRIGGERS_MAX, BatchBody, BatchEnvelope, BatchFault, BatchedTrigger, ShownTrigger, StatementName,
};
pub use body::{BodyFault, CallBody, ReadingsClaim, Transition, TriggerBody, TriggerCall};
pub use checkpoint::{Checkpoint, CheckpointFault};
pub use checks::quality_json;
pub use cosignature::{Cosigner, CosignerFault, Witnessed, cosign, witnessed};
pub use coverage::{CoverageFile, Question, StateClaim, device_state_key, revocation_state_key};
pub use cursor::Cursor;
pub use device_seal::{DEVICE_SEAL_BYTES_MAX, DeviceSealFault, OpenedSeal, SealForm};
pub use disclosure::{Disclosure, DisclosureFault, Part};
pub use field_file::FieldFile;
pub use file::{EvidenceEntry, EvidenceFile, EvidenceTerm, FileFault, WitnessedNote};
pub use key::{KeyFault, KeyId, SIGNATURE_BYTES, SigningKey, VerifyingKey};
pub use key_scheme::{KeyScheme, group_of};
pub use key_table::KeyTable;
pub use merkle::{
    EMPTY_ROOT, Frontier, Hash, Tree, consistency_ranges, inclusion_ranges, leaf_hash, node_hash, range_root,
    root_from_consistency_path, root_from_path, root_of,
};
pub use note::{LogKey, NOTE_BYTES_MAX, NoteFault, SignatureLine, SignedNote, TreeNote, is_key_name};
pub use note_key::{Algorithm, Ed25519Key, NoteSigningKey, NoteVerifyingKey};
pub use origin::{decode_stretch, encode_stretch};
pub use outcome::{Event, OutcomeRecord, Place};
pub use permit::{
    ADDRESS_BYTES_MAX, Permit, PermitFault, PermitFile, ProvenPermit, Right, burnt_state_key, permit_state_key,
};
pub use policy::{
    Allowed, LASTS_MAX, POLICY_ITEMS_MAX, Policy, RATE_MAX, SENDER_BYTES_MAX, Who, is_sender, policy_state_key,
};
pub use private::{
    Commitment, NoCommitment, OPENING_BYTES_MAX, OPENING_TYPE, Opening, Presented, PrivateFault, open_fields,
    private_fields,
};
pub use reading::{ChainHead, ReadingFault, Salt, decode_reading, encode_reading, push_reading, reading_leaf};
pub use receipt::{ConsistencyReceipt, Receipt, ReceiptFault};
pub use registration::{DeviceRecord, PartyKind, PartyRecord, RegistrationFault, RuleRecord, possession};
pub use rule::{RuleFault, decode_rule, encode_rule, rule_digest};
pub use sealing_key::{RemoteKey, SealFault, SealingKey};
pub use split::{Split, SplitFault, SplitFile};
pub use state_page::{PageScratch, PageWay, StateChange, StatePage};
pub use state_proof::{StateProof, StateProofFault};
pub use state_tree::{EMPTY_STATE, StateTree, in_key_order, state_changes, state_root};
pub use statement::{SignedStatement, StatementFault, StatementId, StatementKind, sign, sign_with};
pub use timestamp::{Stamped, TOKEN_BYTES_MAX, TimeStampToken};

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    sha256_of([bytes])
}

/// SHA-256 of parts, one behind the other: a secret among them is not copied to stand beside the rest.
#[must_use]
pub fn sha256_of<const N: usize>(parts: [&[u8]; N]) -> Hash {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}
