//! The permit: the ledger's leave to do one thing to one point of one device, once, within a time. CDDL:
//! `docs/formats/permit.cddl`; why it looks like this: `docs/decisions/022-access.md`.
//!
//! A permit carries no seal of its own. It is a value of the ledger's authenticated state, which stands there only as long as
//! it is neither used nor revoked; a [`PermitFile`] is that value with the proof that leads to a sealed checkpoint. One proof
//! says at once that the permit was granted, what it allows, and that it was open at the checkpoint's time.

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, from_value, int, map, text};
use crate::{Checkpoint, CheckpointFault, StateProof, StateProofFault, VerifyingKey};
use tally_model::{DeviceId, PartyId, PointId, PolicyId, Timestamp, Value};

/// Version of the file; a reader refuses others.
const VERSION: u64 = 1;
/// The field that says what file it is.
const MAGIC: &str = "tallystick-permit";

/// Longest address in a permit or policy, in bytes: an OPC UA node id may be long, a page of text is none.
pub const ADDRESS_BYTES_MAX: usize = 512;

/// What may be done to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Have its value read now and told.
    Read,
    /// Have a value written.
    Write,
    /// Have a method called; for an alarm: have it acknowledged.
    Call,
}

impl Right {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Call];

    /// The word in records and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Call => "call",
        }
    }

    /// The right with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.word() == word)
    }
}

/// One thing that may be done once.
#[derive(Debug, Clone, PartialEq)]
pub struct Permit {
    /// Index of the entry that requested it: its name.
    pub id: u64,
    /// Which ledger granted it.
    pub ledger: String,
    /// Who requested it.
    pub requester: PartyId,
    /// For whom the agent requested it, when somebody without a key told it to (a command of SCADA).
    pub sender: Option<String>,
    /// The only agent that may carry it out.
    pub agent: PartyId,
    /// On which device.
    pub device: DeviceId,
    /// On which point.
    pub point: PointId,
    /// Where the owner says that the point is: OPC UA node id, Modbus register range or MQTT topic, as in the mapping. An
    /// agent whose mapping says otherwise does nothing.
    pub address: String,
    /// What may be done.
    pub right: Right,
    /// What is written; for a call its argument. Absent for a read.
    pub value: Option<Value>,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub until: Timestamp,
    /// The owner's policy that allows it.
    pub policy: PolicyId,
    /// The agent waits until somebody brings the permit; else it does it as soon as it hears of it.
    pub carried: bool,
}

impl Permit {
    /// The permit's bytes: the state's value under [`permit_state_key`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = vec![
            ("permit", int(self.id)),
            ("ledger", text(self.ledger.clone())),
            ("requester", text(self.requester.as_str())),
            ("agent", text(self.agent.as_str())),
            ("device", text(self.device.as_str())),
            ("point", text(self.point.as_str())),
            ("address", text(self.address.clone())),
            ("right", text(self.right.word())),
            ("from", int(self.from.as_micros())),
            ("until", int(self.until.as_micros())),
            ("policy", text(self.policy.as_str())),
            ("carried", Cbor::Bool(self.carried)),
        ];
        fields.extend(self.value.as_ref().map(|value| ("value", from_value(value))));
        fields.extend(self.sender.as_ref().map(|sender| ("sender", text(sender.clone()))));
        cbor::encode(&map(fields))
    }

    /// Reads a permit strictly.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn decode(permit: &[u8]) -> Result<Self, CborFault> {
        let mut fields = Fields::decode(permit)?;
        let permit = Self {
            id: fields.int("permit")?,
            ledger: fields.text("ledger")?,
            requester: fields.parse("requester", "a party id")?,
            sender: fields.text_opt("sender")?,
            agent: fields.parse("agent", "a party id")?,
            device: fields.parse("device", "a device id")?,
            point: fields.parse("point", "a point id")?,
            address: fields.text("address")?,
            right: right(&fields.text("right")?)?,
            value: fields.take("value").map(|value| scalar(&value)).transpose()?,
            from: Timestamp::from_micros(fields.int("from")?),
            until: Timestamp::from_micros(fields.int("until")?),
            policy: fields.parse("policy", "a policy id")?,
            carried: flag(&mut fields, "carried")?,
        };
        fields.finish()?;
        Ok(permit)
    }
}

pub(crate) fn right(word: &str) -> Result<Right, CborFault> {
    Right::from_word(word).ok_or_else(|| fault("right", "read, write or call"))
}

fn scalar(value: &Cbor) -> Result<Value, CborFault> {
    cbor::to_value(value).ok_or_else(|| fault("value", "a flag, a number or a text"))
}

fn flag(fields: &mut Fields, name: &'static str) -> Result<bool, CborFault> {
    fields.need(name)?.into_bool().map_err(|_| fault(name, "true or false"))
}

pub(crate) fn fault(field: &str, expected: &'static str) -> CborFault {
    CborFault::Type { field: field.to_owned(), expected }
}

/// State key of an open permit: there from its grant until it is used, revoked or swept away after its time.
#[must_use]
pub fn permit_state_key(id: u64) -> Vec<u8> {
    [&b"y"[..], &id.to_be_bytes()].concat()
}

/// State key of a burnt permit: there once it was used or revoked. Absent: not burnt.
#[must_use]
pub fn burnt_state_key(id: u64) -> Vec<u8> {
    [&b"Y"[..], &id.to_be_bytes()].concat()
}

/// Why a permit file proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermitFault {
    /// The CBOR is not what the CDDL says.
    #[error("not a permit file: {0}")]
    Cbor(#[from] CborFault),
    /// A later or unknown format.
    #[error("permit format version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// The checkpoint is not sealed by the ledger.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointFault),
    /// The permit is of another ledger.
    #[error("the permit is of ledger `{0}`")]
    Ledger(String),
    /// The permit does not stand in the state that the ledger sealed: altered, or never granted.
    #[error("the ledger never granted these words: {0}")]
    Proof(#[from] StateProofFault),
}

/// A permit with the proof that the ledger granted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermitFile {
    /// The permit ([`Permit::encode`]).
    pub permit: Vec<u8>,
    /// Leads from the permit to the state root ([`StateProof`]).
    pub proof: Vec<u8>,
    /// Binds the state root: sealed by the ledger.
    pub checkpoint: Vec<u8>,
}

/// What a permit file proves.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvenPermit {
    /// The permit.
    pub permit: Permit,
    /// Block time at which it was open.
    pub open_at: Timestamp,
    /// Height of that block.
    pub height: u64,
}

impl PermitFile {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(&map([
            (MAGIC, int(VERSION)),
            ("permit", bytes(self.permit.clone())),
            ("proof", bytes(self.proof.clone())),
            ("checkpoint", bytes(self.checkpoint.clone())),
        ]))
    }

    /// Reads a file strictly; believe it after [`PermitFile::check`].
    ///
    /// # Errors
    /// [`PermitFault`].
    pub fn decode(file: &[u8]) -> Result<Self, PermitFault> {
        let mut fields = Fields::decode(file)?;
        let version = fields.int(MAGIC)?;
        if version != VERSION {
            return Err(PermitFault::Version(version));
        }
        let file = Self {
            permit: fields.bytes("permit")?,
            proof: fields.bytes("proof")?,
            checkpoint: fields.bytes("checkpoint")?,
        };
        fields.finish()?;
        Ok(file)
    }

    /// From the node's answer about [`permit_state_key`] (`state-answer` in `docs/formats/block.cddl`); `None` when the permit
    /// is not open.
    ///
    /// # Errors
    /// [`PermitFault`].
    pub fn from_state_answer(answer: &[u8]) -> Result<Option<Self>, PermitFault> {
        let mut fields = Fields::decode(answer)?;
        let value = fields.take("value");
        let (proof, checkpoint) = (fields.bytes("proof")?, fields.bytes("checkpoint")?);
        fields.finish()?;
        let Some(value) = value else { return Ok(None) };
        let permit = value.into_bytes().map_err(|_| fault("value", "a byte string"))?;
        Ok(Some(Self { permit, proof, checkpoint }))
    }

    /// Follows the proof to the ledger's seal.
    ///
    /// # Errors
    /// [`PermitFault`]; nothing in the file may be believed then.
    pub fn check(&self, ledger: &str, key: &VerifyingKey) -> Result<ProvenPermit, PermitFault> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        let permit = Permit::decode(&self.permit)?;
        for found in [&checkpoint.ledger, &permit.ledger] {
            if found != ledger {
                return Err(PermitFault::Ledger(found.clone()));
            }
        }
        let proof = StateProof::decode(&self.proof)?;
        proof.verify(&checkpoint.state, &permit_state_key(permit.id), Some(&self.permit))?;
        Ok(ProvenPermit { permit, open_at: checkpoint.time, height: checkpoint.height })
    }
}

#[cfg(test)]
mod tests;
