//! A statement taken apart. Everything the contracts need, and the bytes the log keeps.

use super::Refused;
use std::sync::Arc;
use tally_evidence::{
    AnchorBody, BatchEnvelope, BatchFault, CallBody, KeyId, SignedStatement, StatementId, StatementKind, TriggerBody,
};
use tally_model::{PartyId, Priority};

/// What a statement says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A rule fired.
    Trigger(TriggerBody),
    /// A contract is asked for something.
    Call(CallBody),
    /// An agent vouches for all readings of a range.
    Anchor(AnchorBody),
    /// Rules fired, many at once.
    Batch(Vec<TriggerBody>),
}

/// A statement of the right form whose seal holds (or that came out of the log, which vouches for it).
#[derive(Debug, Clone)]
pub struct CheckedStatement {
    /// Its name.
    pub id: StatementId,
    /// Who sealed it.
    pub signer: PartyId,
    /// With which key.
    pub key: KeyId,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub body: Body,
    /// As it came.
    pub bytes: Arc<[u8]>,
}

impl CheckedStatement {
    /// Takes the body of a parsed statement apart. Who calls this has checked the seal.
    ///
    /// # Errors
    /// [`Refused::Body`], [`Refused::Batch`], [`Refused::Subject`].
    pub fn new(parsed: SignedStatement, bytes: Arc<[u8]>) -> Result<Self, Refused> {
        if BatchEnvelope::is_one(&bytes) {
            return Self::batch(parsed, bytes);
        }
        let body = match parsed.kind {
            StatementKind::Trigger => TriggerBody::decode(&parsed.payload).map(Body::Trigger),
            StatementKind::Call => CallBody::decode(&parsed.payload).map(Body::Call),
            StatementKind::Anchor => AnchorBody::decode(&parsed.payload).map(Body::Anchor),
            StatementKind::Batch => return Err(Refused::Batch(BatchFault::Bare)),
        };
        Self::about(parsed, body.map_err(Refused::Body)?, bytes)
    }

    /// `sub` must be what the body is about.
    fn about(parsed: SignedStatement, body: Body, bytes: Arc<[u8]>) -> Result<Self, Refused> {
        let about = match &body {
            Body::Trigger(trigger) => trigger.device.as_str(),
            Body::Call(call) => call.subject(),
            Body::Anchor(anchor) => anchor.device.as_str(),
            Body::Batch(_) => parsed.issuer.as_str(),
        };
        if about != parsed.subject {
            return Err(Refused::Subject { body: about.to_owned(), header: parsed.subject });
        }
        let SignedStatement { id, issuer: signer, key, subject, .. } = parsed;
        Ok(Self { id, signer, key, subject, body, bytes })
    }

    /// Reads all triggers of a batch: here, beside the order thread and not on it.
    fn batch(parsed: SignedStatement, bytes: Arc<[u8]>) -> Result<Self, Refused> {
        let (_, triggers) =
            BatchEnvelope::split(&bytes).and_then(|batch| batch.open(&parsed)).map_err(Refused::Batch)?;
        Self::about(parsed, Body::Batch(triggers), bytes)
    }

    /// From a block of the log.
    ///
    /// # Errors
    /// [`Refused`], when the log was not written by a node.
    pub fn from_log(bytes: &[u8]) -> Result<Self, Refused> {
        Self::new(parse_any(bytes)?, bytes.into())
    }

    /// Whether it goes first: a trigger that is about safety (ISA-18.2 priority `critical`), or a batch with one.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        match &self.body {
            Body::Trigger(trigger) => trigger.priority == Priority::Critical,
            Body::Batch(triggers) => triggers.iter().any(|trigger| trigger.priority == Priority::Critical),
            Body::Call(_) | Body::Anchor(_) => false,
        }
    }

    /// What it counts for in every limit: the triggers of a batch, else one.
    #[must_use]
    pub fn weight(&self) -> usize {
        if let Body::Batch(triggers) = &self.body { triggers.len() } else { 1 }
    }
}

/// Parses and checks that the statement is meant for `ledger`.
pub fn parse(bytes: &[u8], ledger: &str, bytes_max: usize) -> Result<SignedStatement, Refused> {
    if bytes.len() > bytes_max {
        return Err(Refused::TooLarge { bytes: bytes.len(), bytes_max });
    }
    let parsed = parse_any(bytes)?;
    if parsed.audience != ledger {
        return Err(Refused::WrongLedger { found: parsed.audience, here: ledger.to_owned() });
    }
    Ok(parsed)
}

/// The statement, which may stand in an envelope with its triggers.
pub fn parse_any(bytes: &[u8]) -> Result<SignedStatement, Refused> {
    let statement = BatchEnvelope::statement_in(bytes).map_err(Refused::Batch)?;
    SignedStatement::parse(statement).map_err(Refused::Malformed)
}

/// Checks that the seal is by the registered key with this id, and that it `holds` under it.
pub fn check_seal(parsed: &SignedStatement, id: KeyId, holds: impl FnOnce() -> bool) -> Result<(), Refused> {
    let signer = || parsed.issuer.as_str().to_owned();
    if parsed.key != id {
        return Err(Refused::UnknownKey { signer: signer(), key: parsed.key.to_string() });
    }
    if holds() { Ok(()) } else { Err(Refused::Seal { signer: signer() }) }
}
