//! Kept files one after the other, checked as far as they prove themselves.

use super::block::{KeptBlock, KeptOutcome};
use super::file::{KeptName, read};
use crate::admit::CheckedStatement;
use crate::engine::refused_of_batch;
use crate::retain::container::FileFault;
use std::path::Path;
use tally_evidence::{Checkpoint, Frontier, OutcomeRecord, Place, VerifyingKey, leaf_hash, root_from_path};

/// Reads kept files one after the other from block 0 on and checks what they say as far as it proves itself.
pub struct KeptChain<'a> {
    ledger: &'a str,
    key: &'a VerifyingKey,
    tree: Frontier,
    last: Option<Checkpoint>,
}

/// A block of a kept file that holds.
pub struct CheckedKept {
    /// Its checkpoint, opened.
    pub checkpoint: Checkpoint,
    /// Index of its first entry.
    pub first_entry: u64,
    /// The block.
    pub block: KeptBlock,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl<'a> KeptChain<'a> {
    /// Nothing read yet.
    #[must_use]
    pub fn new(ledger: &'a str, key: &'a VerifyingKey) -> Self {
        Self::behind(ledger, key, Default::default())
    }

    /// Goes on behind what another one read.
    #[must_use]
    pub fn behind(ledger: &'a str, key: &'a VerifyingKey, (tree, last): (Frontier, Option<Checkpoint>)) -> Self {
        Self { ledger, key, tree, last }
    }

    /// The tree and the last checkpoint behind everything read.
    #[must_use]
    pub fn end(self) -> (Frontier, Option<Checkpoint>) {
        (self.tree, self.last)
    }

    /// Reads the next file and gives its blocks.
    ///
    /// # Errors
    /// [`FileFault`], naming the file and the block.
    pub fn file(
        &mut self,
        file: &Path,
        name: &KeptName,
        mut take: impl FnMut(CheckedKept) -> Result<(), FileFault>,
    ) -> Result<(), FileFault> {
        let ledger = self.ledger;
        read(file, name, ledger, |height, block, bytes| {
            take(self.block(height, block, bytes)?).map_err(|fault| fault.to_string())
        })
    }

    fn block(&mut self, height: u64, block: KeptBlock, bytes: Vec<u8>) -> Result<CheckedKept, String> {
        let checkpoint = Checkpoint::open(&block.checkpoint, self.key).map_err(|fault| fault.to_string())?;
        let previous = self.last.as_ref().map_or([0; 32], Checkpoint::digest);
        if (checkpoint.height, checkpoint.previous) != (height, previous) || checkpoint.ledger != self.ledger {
            return Err("its checkpoint does not follow the one before".to_owned());
        }
        block.entries.iter().for_each(|entry| self.tree.push(leaf_hash(&entry.id.0)));
        let first_entry = checkpoint.size.saturating_sub(block.entries.len() as u64);
        if (checkpoint.size, checkpoint.root) != (self.tree.count(), self.tree.root()) {
            return Err("its entries do not give the root that its checkpoint seals".to_owned());
        }
        block.kept.iter().try_for_each(|kept| check_kept(&block, kept, &checkpoint))?;
        self.last = Some(checkpoint.clone());
        Ok(CheckedKept { checkpoint, first_entry, block, bytes })
    }
}

/// A kept outcome is one of the block, and its statement is the entry's.
fn check_kept(block: &KeptBlock, kept: &KeptOutcome, checkpoint: &Checkpoint) -> Result<(), String> {
    let root = root_from_path(leaf_hash(&kept.outcome), kept.index, checkpoint.outcome_count, &kept.path);
    if root != Some(checkpoint.outcomes) {
        return Err(format!("outcome {} does not lead to the outcome root", kept.index));
    }
    let wrong = || format!("what is kept of outcome {} is not that of the entry", kept.index);
    let outcome = OutcomeRecord::decode(&kept.outcome).map_err(|_| wrong())?;
    let first_entry = checkpoint.size.saturating_sub(block.entries.len() as u64);
    let entry = |index: u64| {
        let place = usize::try_from(index.checked_sub(first_entry)?).ok()?;
        block.entries.get(place)
    };
    let is_right = match (outcome.place.clone(), &kept.statement) {
        (Place::Term { .. }, None) => true,
        (Place::Item { index, statement, .. }, None) => entry(index).is_some_and(|entry| entry.id == statement),
        (Place::Entry { index, .. }, Some(statement)) => {
            let parsed = CheckedStatement::from_log(statement).map_err(|_| wrong())?;
            entry(index).is_some_and(|entry| {
                (parsed.id, &parsed.subject, outcome.refusal) == (entry.id, &entry.subject, entry.refusal)
                    && entry.batch.is_none_or(|(_, refused)| refused == refused_of_batch(&outcome))
            })
        }
        _ => false,
    };
    if is_right { Ok(()) } else { Err(wrong()) }
}
