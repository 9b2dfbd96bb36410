//! What stays of one block.

use crate::admit::{Body, CheckedStatement};
use crate::engine::refused_of_batch;
use crate::store::BlockRow;
use tally_contracts::live::Live;
use tally_evidence::cbor::{self, Cbor, CborFault, Fields};
use tally_evidence::{Hash, OutcomeRecord, Place, StatementId, Tree, leaf_hash};

/// What stays of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEntry {
    /// Its statement's id: the leaf of the tree.
    pub id: StatementId,
    /// What it is about: its receipt says so.
    pub subject: String,
    /// 0 when done, otherwise the number of the refusal.
    pub refusal: u16,
    /// Of a batch: how many triggers came in it, and how many of them were refused.
    pub batch: Option<(u32, u32)>,
}

/// An outcome that stays, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOutcome {
    /// Its place among the block's outcomes.
    pub index: u64,
    /// Its bytes.
    pub outcome: Vec<u8>,
    /// From it to the checkpoint's outcome root.
    pub path: Vec<Hash>,
    /// The statement it is of; none for a term.
    pub statement: Option<Vec<u8>>,
}

/// What stays of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBlock {
    /// The sealed checkpoint.
    pub checkpoint: Vec<u8>,
    /// How many terms ran out in it.
    pub terms: u64,
    /// All entries, in ledger order.
    pub entries: Vec<KeptEntry>,
    /// What is still needed, by rising index.
    pub kept: Vec<KeptOutcome>,
}

impl KeptBlock {
    /// What is to stay of a block. `None` when row, outcomes and statements do not belong together.
    #[must_use]
    pub fn of(row: &BlockRow, outcomes: &[Vec<u8>], statements: Vec<Vec<u8>>, live: &Live) -> Option<Self> {
        let mut tree = Tree::default();
        outcomes.iter().for_each(|outcome| tree.push(leaf_hash(outcome)));
        let terms = u64::from(row.terms);
        let mut block = Self { checkpoint: row.checkpoint.clone(), terms, entries: Vec::new(), kept: Vec::new() };
        let mut kept_statements = Vec::with_capacity(statements.len());
        for ((_, id), statement) in row.entries.iter().zip(statements) {
            let parsed = CheckedStatement::from_log(&statement).ok().filter(|parsed| parsed.id == *id)?;
            let entry = row.first_entry + block.entries.len() as u64;
            let is_kept = live.entries.contains(&entry) || is_registration(&parsed);
            kept_statements.push(is_kept.then_some(statement));
            block.entries.push(KeptEntry { id: *id, subject: parsed.subject, refusal: 0, batch: None });
        }
        for (index, outcome) in (0u64..).zip(outcomes) {
            let decoded = OutcomeRecord::decode(outcome).ok()?;
            let (is_kept, statement) = match &decoded.place {
                Place::Term { agreement, .. } => (live.agreements.contains(agreement), None),
                Place::Entry { index, .. } => {
                    let place = place_in(row, *index)?;
                    let entry = block.entries.get_mut(place)?;
                    entry.refusal = decoded.refusal;
                    entry.batch = row.triggers_of(place).map(|triggers| (triggers, refused_of_batch(&decoded)));
                    let statement = kept_statements.get_mut(place)?.take();
                    (statement.is_some(), statement)
                }
                Place::Item { index, .. } => (live.entries.contains(index), None),
            };
            if is_kept {
                let path = tree.inclusion_path(index, outcomes.len() as u64)?;
                block.kept.push(KeptOutcome { index, outcome: outcome.clone(), path, statement });
            }
        }
        (block.entries.len() == row.entries.len()).then_some(block)
    }

    /// The statement of the entry at `place` of the block, if it stays.
    #[must_use]
    pub fn statement(&self, place: usize) -> Option<&[u8]> {
        self.of_entry(place)?.statement.as_deref()
    }

    /// The outcome of the entry at `place` of the block, if it stays.
    #[must_use]
    pub fn of_entry(&self, place: usize) -> Option<&KeptOutcome> {
        let id = self.entries.get(place)?.id;
        self.kept.iter().filter(|kept| kept.statement.is_some()).find(|kept| {
            let place = OutcomeRecord::decode(&kept.outcome).ok().map(|outcome| outcome.place);
            matches!(place, Some(Place::Entry { statement, .. }) if statement == id)
        })
    }

    /// The outcome at `index`, if it stays.
    #[must_use]
    pub fn outcome(&self, index: u64) -> Option<&KeptOutcome> {
        self.kept.iter().find(|kept| kept.index == index)
    }

    /// As deterministic CBOR (`docs/formats/retention.cddl`).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let entry = |entry: &KeptEntry| {
            let mut parts = vec![cbor::bytes(entry.id.0), cbor::text(&entry.subject), cbor::int(entry.refusal)];
            parts.extend(
                entry.batch.into_iter().flat_map(|(triggers, refused)| [cbor::int(triggers), cbor::int(refused)]),
            );
            Cbor::Array(parts)
        };
        let outcome = |kept: &KeptOutcome| {
            let path = Cbor::Array(kept.path.iter().map(|hash| cbor::bytes(*hash)).collect());
            let mut parts = vec![cbor::int(kept.index), cbor::bytes(kept.outcome.clone()), path];
            parts.extend(kept.statement.clone().map(cbor::bytes));
            Cbor::Array(parts)
        };
        cbor::encode(&cbor::map([
            ("checkpoint", cbor::bytes(self.checkpoint.clone())),
            ("terms", cbor::int(self.terms)),
            ("entries", Cbor::Array(self.entries.iter().map(entry).collect())),
            ("kept", Cbor::Array(self.kept.iter().map(outcome).collect())),
        ]))
    }

    /// Reads it strictly.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CborFault> {
        let wrong =
            |field: &str| CborFault::Type { field: field.to_owned(), expected: "as docs/formats/retention.cddl says" };
        let mut fields = Fields::decode(bytes)?;
        let entries = fields.array("entries")?.into_iter().map(|item| entry(item).ok_or_else(|| wrong("entries")));
        let entries = entries.collect::<Result<_, _>>()?;
        let kept = fields.array("kept")?.into_iter().map(|item| outcome(item).ok_or_else(|| wrong("kept")));
        let kept = kept.collect::<Result<_, _>>()?;
        let block = Self { entries, kept, terms: fields.int("terms")?, checkpoint: fields.bytes("checkpoint")? };
        fields.finish()?;
        Ok(block)
    }
}

/// The batches of a block, as its row has them.
#[must_use]
pub fn batches(entries: &[KeptEntry]) -> Vec<(u32, u32)> {
    let batches = (0u32..).zip(entries).filter_map(|(place, entry)| Some((place, entry.batch?.0)));
    batches.collect()
}

/// Whether `block` is what is kept of the block with this row: checkpoint, entries and their order.
#[must_use]
pub fn is_of(block: &KeptBlock, row: &BlockRow) -> bool {
    block.checkpoint == row.checkpoint
        && block.entries.iter().map(|entry| entry.id).eq(row.entries.iter().map(|(_, id)| *id))
}

/// The place of an entry in its block.
fn place_in(row: &BlockRow, entry: u64) -> Option<usize> {
    usize::try_from(entry.checked_sub(row.first_entry)?).ok()
}

fn is_registration(statement: &CheckedStatement) -> bool {
    matches!(&statement.body, Body::Call(call) if call.contract.as_str() == "registry")
}

fn entry(item: Cbor) -> Option<KeptEntry> {
    let mut parts = item.into_array().ok()?.into_iter();
    let id = StatementId(parts.next()?.into_bytes().ok()?.try_into().ok()?);
    let subject = parts.next()?.into_text().ok()?;
    let refusal = u16::try_from(parts.next()?.into_integer().ok()?).ok()?;
    let rest = parts.map(|part| u32::try_from(part.into_integer().ok()?).ok()).collect::<Option<Vec<_>>>()?;
    let batch = match rest[..] {
        [] => None,
        [triggers, refused] => Some((triggers, refused)),
        _ => return None,
    };
    Some(KeptEntry { id, subject, refusal, batch })
}

fn outcome(item: Cbor) -> Option<KeptOutcome> {
    let mut parts = item.into_array().ok()?.into_iter();
    let index = u64::try_from(parts.next()?.into_integer().ok()?).ok()?;
    let outcome = parts.next()?.into_bytes().ok()?;
    let path = parts.next()?.into_array().ok()?.into_iter().map(|hash| hash.into_bytes().ok()?.try_into().ok());
    let path = path.collect::<Option<_>>()?;
    let statement = parts.next().map(|item| item.into_bytes().map_err(|_| ())).transpose().ok()?;
    parts.next().is_none().then_some(KeptOutcome { index, outcome, path, statement })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_round_trip(
            checkpoint in proptest::collection::vec(any::<u8>(), 0..50),
            entries in proptest::collection::vec((any::<[u8; 32]>(), "[a-z]{0,9}", any::<u16>(), any::<Option<(u32, u32)>>()), 0..9),
            kept in proptest::collection::vec((any::<u64>(), any::<[u8; 9]>(), proptest::option::of(any::<[u8; 5]>())), 0..5),
        ) {
            let entry = |(id, subject, refusal, batch)| KeptEntry { id: StatementId(id), subject, refusal, batch };
            let outcome = |(index, bytes, statement): (u64, [u8; 9], Option<[u8; 5]>)| KeptOutcome {
                index, outcome: bytes.to_vec(), path: vec![[bytes[0]; 32]], statement: statement.map(Vec::from),
            };
            let block = KeptBlock {
                checkpoint,
                terms: 3,
                entries: entries.into_iter().map(entry).collect(),
                kept: kept.into_iter().map(outcome).collect(),
            };
            prop_assert_eq!(KeptBlock::decode(&block.encode()), Ok(block));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = KeptBlock::decode(&bytes);
        }
    }
}
