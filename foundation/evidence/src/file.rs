//! The evidence file: everything needed to check one claim offline. CDDL: `docs/formats/evidence.cddl`.
//!
//! It is deterministic CBOR and holds no byte that a check does not cover: a flipped bit either breaks the form or makes
//! one named link not hold. What the checks are stands in the crate `tally-verifier`.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use crate::{BatchedTrigger, Cosigner, Hash, KeyFault, NoteVerifyingKey, VerifyingKey};

/// Version of the format; a reader refuses others.
const VERSION: u64 = 1;

/// Why bytes are not an evidence file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// The CBOR is not what the CDDL says.
    #[error("not an evidence file: {0}")]
    Cbor(#[from] CborFault),
    /// A later or unknown format.
    #[error("evidence format version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// The ledger key is none.
    #[error("the ledger key in the file: {0}")]
    Key(#[from] KeyFault),
}

/// One entry of the ledger with all its proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceEntry {
    /// The signed statement.
    pub statement: Vec<u8>,
    /// When that is a batch: the trigger of it that this entry is about, and no other.
    pub batched: Option<BatchedTrigger>,
    /// Its receipt.
    pub receipt: Vec<u8>,
    /// Its outcome ([`crate::OutcomeRecord`]).
    pub outcome: Vec<u8>,
    /// Place of the outcome among the block's.
    pub outcome_index: u64,
    /// Inclusion path of the outcome in the block's outcome tree.
    pub outcome_path: Vec<Hash>,
    /// The block's sealed checkpoint.
    pub checkpoint: Vec<u8>,
    /// For triggers: the readings behind it ([`crate::Disclosure`]).
    pub disclosure: Option<Vec<u8>>,
}

/// A term that ran out: an outcome nobody asked for, so it has no statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceTerm {
    /// Its outcome ([`crate::OutcomeRecord`]).
    pub outcome: Vec<u8>,
    /// Place of the outcome among the block's.
    pub outcome_index: u64,
    /// Inclusion path of the outcome in the block's outcome tree.
    pub outcome_path: Vec<Hash>,
    /// The block's sealed checkpoint.
    pub checkpoint: Vec<u8>,
}

/// An evidence file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceFile {
    /// Which ledger.
    pub ledger: String,
    /// Its key. A careful reader compares it with one he got elsewhere.
    pub key: VerifyingKey,
    /// The agreement it is about.
    pub agreement: String,
    /// The entries that made the agreement what it is, in ledger order, with the registrations they rest on.
    pub entries: Vec<EvidenceEntry>,
    /// The terms of the agreement that ran out, in ledger order.
    pub terms: Vec<EvidenceTerm>,
    /// What witnesses say of the tree that all entries are in.
    pub witnessed: Option<WitnessedNote>,
}

/// A cosigned checkpoint that covers all entries of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessedNote {
    /// The signed note, with signatures of the ledger and of the witnesses below and of nobody else.
    pub note: String,
    /// Who cosigned it. A reader compares them with those he knows.
    pub witnesses: Vec<Cosigner>,
    /// For each entry of the file, its inclusion path in the note's tree.
    pub paths: Vec<Vec<Hash>>,
}

impl EvidenceFile {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = vec![
            ("tallystick-evidence", int(VERSION)),
            ("ledger", text(self.ledger.clone())),
            ("key", bytes(self.key.sec1().to_vec())),
            ("agreement", text(self.agreement.clone())),
            ("entries", Cbor::Array(self.entries.iter().map(encode_entry).collect())),
            ("terms", Cbor::Array(self.terms.iter().map(encode_term).collect())),
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
        let version = fields.int("tallystick-evidence")?;
        if version != VERSION {
            return Err(FileFault::Version(version));
        }
        let evidence = Self {
            ledger: fields.text("ledger")?,
            key: VerifyingKey::from_sec1(&fields.bytes("key")?)?,
            agreement: fields.text("agreement")?,
            entries: fields.array("entries")?.into_iter().map(decode_entry).collect::<Result<_, _>>()?,
            terms: fields.array("terms")?.into_iter().map(decode_term).collect::<Result<_, _>>()?,
            witnessed: fields.take("witnessed").map(decode_witnessed).transpose()?,
        };
        fields.finish()?;
        Ok(evidence)
    }
}

pub(crate) fn encode_entry(entry: &EvidenceEntry) -> Cbor {
    let mut fields = vec![
        ("statement", bytes(entry.statement.clone())),
        ("receipt", bytes(entry.receipt.clone())),
        ("outcome", bytes(entry.outcome.clone())),
        ("outcome-index", int(entry.outcome_index)),
        ("outcome-path", encode_path(&entry.outcome_path)),
        ("checkpoint", bytes(entry.checkpoint.clone())),
    ];
    fields.extend(entry.batched.as_ref().map(|batched| ("batched", batched.to_cbor())));
    if let Some(disclosure) = &entry.disclosure {
        fields.push(("disclosure", bytes(disclosure.clone())));
    }
    map(fields)
}

fn encode_term(term: &EvidenceTerm) -> Cbor {
    map([
        ("outcome", bytes(term.outcome.clone())),
        ("outcome-index", int(term.outcome_index)),
        ("outcome-path", encode_path(&term.outcome_path)),
        ("checkpoint", bytes(term.checkpoint.clone())),
    ])
}

fn encode_path(path: &[Hash]) -> Cbor {
    Cbor::Array(path.iter().map(|hash| bytes(*hash)).collect())
}

pub(crate) fn decode_entry(value: Cbor) -> Result<EvidenceEntry, CborFault> {
    let mut fields = Fields::new(value, "entry")?;
    let disclosure = fields.take("disclosure").map(|bytes| bytes.into_bytes().map_err(|_| type_fault("disclosure")));
    let entry = EvidenceEntry {
        outcome_path: fields.hashes("outcome-path")?,
        batched: fields.take("batched").map(BatchedTrigger::from_cbor).transpose()?,
        statement: fields.bytes("statement")?,
        receipt: fields.bytes("receipt")?,
        outcome: fields.bytes("outcome")?,
        outcome_index: fields.int("outcome-index")?,
        checkpoint: fields.bytes("checkpoint")?,
        disclosure: disclosure.transpose()?,
    };
    fields.finish()?;
    Ok(entry)
}

fn decode_term(value: Cbor) -> Result<EvidenceTerm, CborFault> {
    let mut fields = Fields::new(value, "term")?;
    let term = EvidenceTerm {
        outcome_path: fields.hashes("outcome-path")?,
        outcome: fields.bytes("outcome")?,
        outcome_index: fields.int("outcome-index")?,
        checkpoint: fields.bytes("checkpoint")?,
    };
    fields.finish()?;
    Ok(term)
}

pub(crate) fn encode_witnessed(witnessed: &WitnessedNote) -> Cbor {
    let witness = |witness: &Cosigner| map([("name", text(witness.name())), ("key", bytes(witness.key().to_spki()))]);
    map([
        ("note", text(witnessed.note.clone())),
        ("witnesses", Cbor::Array(witnessed.witnesses.iter().map(witness).collect())),
        ("paths", Cbor::Array(witnessed.paths.iter().map(|path| encode_path(path)).collect())),
    ])
}

pub(crate) fn decode_witnessed(value: Cbor) -> Result<WitnessedNote, CborFault> {
    let mut fields = Fields::new(value, "witnessed")?;
    let paths = fields.array("paths")?.into_iter().map(|path| cbor::hashes(path, "paths"));
    let witnessed = WitnessedNote {
        paths: paths.collect::<Result<_, _>>()?,
        witnesses: fields.array("witnesses")?.into_iter().map(decode_witness).collect::<Result<_, _>>()?,
        note: fields.text("note")?,
    };
    fields.finish()?;
    Ok(witnessed)
}

fn decode_witness(value: Cbor) -> Result<Cosigner, CborFault> {
    let fault = || CborFault::Type { field: "witnesses".to_owned(), expected: "names and keys (SPKI) of witnesses" };
    let mut fields = Fields::new(value, "witnesses")?;
    let key = NoteVerifyingKey::from_spki(&fields.bytes("key")?).map_err(|_| fault())?;
    let witness = Cosigner::new(fields.text("name")?, key).map_err(|_| fault())?;
    fields.finish()?;
    Ok(witness)
}

fn type_fault(field: &str) -> CborFault {
    CborFault::Type { field: field.to_owned(), expected: "byte strings" }
}
