//! Many triggers under one seal. CDDL: `docs/formats/batch.cddl`; why it is so: `docs/decisions/016-signed-batches.md`.
//!
//! What is sealed is small: how many triggers, the number of the first, and the root of an RFC 9162 tree over their bodies. The
//! bodies travel beside it in an envelope. So one trigger can be shown, with its path of at most ten hashes, without any other:
//! [`BatchedTrigger`].
//!
//! A trigger of a batch is named by its batch and its place in it: `ID.N`, [`StatementName`].

use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map};
use crate::cursor::Cursor;
use crate::{BodyFault, Frontier, Hash, SignedStatement, StatementId, StatementKind, Tree, TriggerBody, leaf_hash};
use crate::{StatementFault, root_from_path};
use std::fmt;
use std::str::FromStr;

/// Most triggers of a batch: a path of ten hashes, half a megabyte of bodies, some milliseconds of the order thread.
pub const BATCH_TRIGGERS_MAX: u32 = 1_000;

/// First byte of an envelope: an array of two. A signed statement begins with its tag (0xd2).
const ENVELOPE: u8 = 0x82;

/// What a batch seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchBody {
    /// Number of its first trigger; the others follow without gaps ([`TriggerBody::number`]).
    pub first: u64,
    /// How many there are, from 1 to [`BATCH_TRIGGERS_MAX`].
    pub count: u32,
    /// RFC 9162 root over their bodies.
    pub root: Hash,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchFault {
    /// The envelope is not `[statement, [trigger, …]]`.
    #[error("the batch is not an array of a signed statement and its triggers, in deterministic CBOR")]
    Envelope,
    /// Its statement is none.
    #[error("the batch: {0}")]
    Statement(StatementFault),
    /// The body of another statement.
    #[error("{0}")]
    Payload(BodyFault),
    /// Triggers around a statement that is no batch.
    #[error("the statement in the envelope is no batch")]
    NotABatch,
    /// A batch without its triggers.
    #[error("a batch comes with its triggers, in one envelope")]
    Bare,
    /// What is sealed is not what the CDDL says.
    #[error("what the batch seals: {0}")]
    Body(CborFault),
    /// None, or too many.
    #[error("a batch has 1 to {BATCH_TRIGGERS_MAX} triggers, this one has {found}")]
    Size {
        /// How many.
        found: u64,
    },
    /// Not as many as were sealed.
    #[error("the batch seals {sealed} triggers, {found} came with it")]
    Count {
        /// As sealed.
        sealed: u32,
        /// As they came.
        found: u64,
    },
    /// Other ones than were sealed.
    #[error("the triggers are not those that the batch seals: their root is another")]
    Root,
    /// One of them is none.
    #[error("trigger {item} of the batch: {fault}")]
    Trigger {
        /// Its place, from 0.
        item: u32,
        /// What is wrong.
        fault: BodyFault,
    },
    /// A number that does not follow: a trigger twice, one left out, or in another order.
    #[error("trigger {item} of the batch has number {found}, the batch says {expected}")]
    Number {
        /// Its place, from 0.
        item: u32,
        /// Its number.
        found: u64,
        /// `first` and its place.
        expected: u64,
    },
}

impl BatchFault {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Envelope | Self::Statement(_) | Self::Body(_) | Self::Payload(_) => "batch-malformed",
            Self::NotABatch => "batch-kind",
            Self::Bare => "batch-bare",
            Self::Size { .. } => "batch-size",
            Self::Count { .. } => "batch-count",
            Self::Root => "batch-root",
            Self::Trigger { .. } => "batch-trigger",
            Self::Number { .. } => "batch-number",
        }
    }
}

impl BatchBody {
    /// Over these bodies, whose first has the number `first`.
    ///
    /// # Errors
    /// [`BatchFault::Size`].
    pub fn over<B: AsRef<[u8]>>(first: u64, bodies: &[B]) -> Result<Self, BatchFault> {
        let found = bodies.len() as u64;
        let count = u32::try_from(found).ok().filter(|count| (1..=BATCH_TRIGGERS_MAX).contains(count));
        let count = count.ok_or(BatchFault::Size { found })?;
        Ok(Self { first, count, root: root_over(bodies.iter().map(AsRef::as_ref)) })
    }

    /// The body's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(&map([("root", bytes(self.root)), ("count", int(self.count)), ("first", int(self.first))]))
    }

    /// Reads a body strictly.
    ///
    /// # Errors
    /// [`BatchFault::Body`], [`BatchFault::Size`].
    pub fn decode(body: &[u8]) -> Result<Self, BatchFault> {
        let read = || {
            let mut fields = Fields::decode(body)?;
            let read = (fields.int::<u64>("count")?, fields.int("first")?, fields.bytes_exact("root")?);
            fields.finish()?;
            Ok(read)
        };
        let (found, first, root) = read().map_err(BatchFault::Body)?;
        let count = u32::try_from(found).ok().filter(|count| (1..=BATCH_TRIGGERS_MAX).contains(count));
        Ok(Self { first, count: count.ok_or(BatchFault::Size { found })?, root })
    }
}

/// The field `item`, if there is one: a place in a batch.
pub(crate) fn item_in(fields: &mut Fields) -> Result<Option<u32>, CborFault> {
    let expected = "a place in a batch, below 1000";
    match fields.int_opt("item")? {
        Some(item) if item >= BATCH_TRIGGERS_MAX => Err(CborFault::Type { field: "item".to_owned(), expected }),
        item => Ok(item),
    }
}

fn root_over<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> Hash {
    let mut tree = Frontier::default();
    bodies.for_each(|body| tree.push(leaf_hash(body)));
    tree.root()
}

/// A sealed batch and the bodies of its triggers, as one submission and as the ledger's log keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchEnvelope<'a> {
    /// The signed statement.
    pub statement: &'a [u8],
    /// The bodies ([`TriggerBody::encode`]), in order.
    pub triggers: Vec<&'a [u8]>,
}

impl<'a> BatchEnvelope<'a> {
    /// Whether these bytes are an envelope rather than a bare statement. Says nothing about the rest of them.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.first() == Some(&ENVELOPE)
    }

    /// The envelope's bytes: `[statement: bstr, [* trigger: bstr]]`.
    #[must_use]
    pub fn encode<B: AsRef<[u8]>>(statement: &[u8], triggers: &[B]) -> Vec<u8> {
        let size: usize = triggers.iter().map(|body| body.as_ref().len() + 3).sum();
        let mut to = Vec::with_capacity(statement.len() + size + 16);
        cbor::write_head(4, 2, &mut to);
        cbor::write_head(2, statement.len() as u64, &mut to);
        to.extend_from_slice(statement);
        cbor::write_head(4, triggers.len() as u64, &mut to);
        for body in triggers {
            cbor::write_head(2, body.as_ref().len() as u64, &mut to);
            to.extend_from_slice(body.as_ref());
        }
        to
    }

    /// Takes the envelope apart without copying; strict as all our CBOR.
    ///
    /// # Errors
    /// [`BatchFault::Envelope`], [`BatchFault::Size`].
    pub fn split(envelope: &'a [u8]) -> Result<Self, BatchFault> {
        let mut cursor = Cursor(envelope);
        let mut head = || {
            let statement = (cursor.array()? == 2).then(|| cursor.bytes())??;
            Some((statement, cursor.array()?))
        };
        let (statement, found) = head().ok_or(BatchFault::Envelope)?;
        if found == 0 || found > u64::from(BATCH_TRIGGERS_MAX) {
            return Err(BatchFault::Size { found });
        }
        let triggers = (0..found).map(|_| cursor.bytes()).collect::<Option<Vec<_>>>().ok_or(BatchFault::Envelope)?;
        cursor.end().ok_or(BatchFault::Envelope)?;
        Ok(Self { statement, triggers })
    }

    /// The signed statement in these bytes: all of them, or those an envelope begins with.
    ///
    /// # Errors
    /// As [`BatchEnvelope::split`].
    pub fn statement_in(bytes: &'a [u8]) -> Result<&'a [u8], BatchFault> {
        if Self::is_one(bytes) { Self::split(bytes).map(|envelope| envelope.statement) } else { Ok(bytes) }
    }

    /// Reads the triggers that `statement`, parsed from this envelope, seals; the seal itself is checked elsewhere.
    ///
    /// # Errors
    /// [`BatchFault`].
    pub fn open(&self, statement: &SignedStatement) -> Result<(BatchBody, Vec<TriggerBody>), BatchFault> {
        if statement.kind != StatementKind::Batch {
            return Err(BatchFault::NotABatch);
        }
        let body = BatchBody::decode(&statement.payload)?;
        let found = self.triggers.len() as u64;
        if found != u64::from(body.count) {
            return Err(BatchFault::Count { sealed: body.count, found });
        }
        if root_over(self.triggers.iter().copied()) != body.root {
            return Err(BatchFault::Root);
        }
        let triggers = (0..).zip(&self.triggers).map(|(item, bytes)| read_trigger(&body, item, bytes));
        Ok((body, triggers.collect::<Result<_, _>>()?))
    }

    /// Trigger `item` with its path; `None` when there is none.
    #[must_use]
    pub fn show(&self, item: u32) -> Option<BatchedTrigger> {
        let body = self.triggers.get(item as usize)?.to_vec();
        let mut tree = Tree::default();
        self.triggers.iter().for_each(|body| tree.push(leaf_hash(body)));
        let path = tree.inclusion_path(u64::from(item), tree.size())?;
        Some(BatchedTrigger { item, body, path })
    }
}

fn read_trigger(batch: &BatchBody, item: u32, bytes: &[u8]) -> Result<TriggerBody, BatchFault> {
    let trigger = TriggerBody::decode(bytes).map_err(|fault| BatchFault::Trigger { item, fault })?;
    // Beyond 2⁶⁴ no number can be the right one.
    let expected = batch.first.saturating_add(u64::from(item));
    if trigger.number != expected || expected == u64::MAX {
        return Err(BatchFault::Number { item, found: trigger.number, expected });
    }
    Ok(trigger)
}

/// One trigger of a batch, and the proof that the batch seals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchedTrigger {
    /// Its place in the batch, from 0.
    pub item: u32,
    /// The body ([`TriggerBody::encode`]).
    pub body: Vec<u8>,
    /// RFC 9162 inclusion path to the batch's root.
    pub path: Vec<Hash>,
}

impl BatchedTrigger {
    pub(crate) fn to_cbor(&self) -> Cbor {
        let path = self.path.iter().map(|hash| bytes(*hash)).collect();
        map([("item", int(self.item)), ("body", bytes(self.body.clone())), ("path", Cbor::Array(path))])
    }

    pub(crate) fn from_cbor(value: Cbor) -> Result<Self, CborFault> {
        let mut fields = Fields::new(value, "batched")?;
        let item = item_in(&mut fields)?.ok_or(CborFault::Missing("item"))?;
        let batched = Self { item, body: fields.bytes("body")?, path: fields.hashes("path")? };
        fields.finish()?;
        Ok(batched)
    }

    /// Whether `batch` seals this body at this place under this number.
    ///
    /// # Errors
    /// [`BatchFault::Root`], [`BatchFault::Trigger`], [`BatchFault::Number`].
    pub fn check(&self, batch: &BatchBody) -> Result<TriggerBody, BatchFault> {
        let root = root_from_path(leaf_hash(&self.body), u64::from(self.item), u64::from(batch.count), &self.path);
        if root != Some(batch.root) {
            return Err(BatchFault::Root);
        }
        read_trigger(batch, self.item, &self.body)
    }
}

/// Everything that shows one trigger of a batch, without the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownTrigger {
    /// The batch's signed statement.
    pub statement: Vec<u8>,
    /// Its receipt ([`crate::Receipt`]).
    pub receipt: Vec<u8>,
    /// The trigger with its path.
    pub batched: BatchedTrigger,
}

impl ShownTrigger {
    /// As CBOR bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(&map([
            ("statement", bytes(self.statement.clone())),
            ("receipt", bytes(self.receipt.clone())),
            ("batched", self.batched.to_cbor()),
        ]))
    }

    /// From CBOR bytes, strictly.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn decode(shown: &[u8]) -> Result<Self, CborFault> {
        let mut fields = Fields::decode(shown)?;
        let shown = Self {
            statement: fields.bytes("statement")?,
            receipt: fields.bytes("receipt")?,
            batched: BatchedTrigger::from_cbor(fields.need("batched")?)?,
        };
        fields.finish()?;
        Ok(shown)
    }
}

/// Names a statement, or one trigger of a batch: `ID` or `ID.N`, with 64 hexadecimal digits and the place from 0.
///
/// A trigger of a batch has no hash of its own as a name, so that a ledger needs no index of them: its batch's id finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementName {
    /// The statement that was sealed.
    pub statement: StatementId,
    /// The place in it, when it is a batch.
    pub item: Option<u32>,
}

impl From<StatementId> for StatementName {
    fn from(statement: StatementId) -> Self {
        Self { statement, item: None }
    }
}

impl From<&StatementId> for StatementName {
    fn from(statement: &StatementId) -> Self {
        Self::from(*statement)
    }
}

impl fmt::Display for StatementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item {
            Some(item) => write!(f, "{}.{item}", self.statement),
            None => self.statement.fmt(f),
        }
    }
}

impl FromStr for StatementName {
    type Err = StatementFault;

    fn from_str(text: &str) -> Result<Self, StatementFault> {
        let (statement, item) = text.split_once('.').map_or((text, None), |(id, item)| (id, Some(item)));
        // One form only: no sign, no leading zeros.
        let read = |item: &str| item.parse::<u32>().ok().filter(|number| number.to_string() == item);
        let item = item.map(|item| read(item).ok_or(StatementFault::Id)).transpose()?;
        Ok(Self { statement: statement.parse()?, item })
    }
}

#[cfg(test)]
mod tests;
