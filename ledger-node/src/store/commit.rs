//! A block into the log, and into what is made of the log.

use super::block;
use super::pending::PendingBlock;
use super::state_tree::Commit;
use super::version;
use super::{BlockRow, Details, FORMAT_GROUPED, FORMAT_PARTIAL, FORMAT_PRIVATE, Head, IndexFault, Span, Store};
use std::sync::Arc;
use tally_contracts::Changes;
use tally_evidence::{StateChange, StatementId, leaf_hash};
use tally_journal::JournalError;
use tally_model::{AgreementId, Timestamp};

/// Why a block is not committed. The node stops: what is on disk is certain only after opening it again.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The log could not be written.
    #[error("the log cannot be written")]
    Log(#[from] JournalError),
    /// `FORMAT` could not be raised for what the block holds; the block is not written.
    #[error("the file FORMAT of the data folder cannot be written")]
    Mark(#[source] std::io::Error),
    /// The index could not be read or written.
    #[error(transparent)]
    Index(#[from] IndexFault),
    /// The node follows another one: it has no key to seal a block with.
    #[error("this node has no key of the ledger, and orders nothing")]
    NoKey,
    /// What was asked for was pruned.
    #[error("{0}")]
    Pruned(Pruned),
    /// A private field was purged and could not be erased; opening the ledger again does it.
    #[error("a private field that was purged cannot be erased: {0}")]
    Erase(String),
    /// The contracts found the state broken; the block is not written.
    #[error("the state is broken (refusal {number}: {text})")]
    Broken {
        /// Number of the refusal.
        number: u16,
        /// What it means.
        text: &'static str,
    },
}

/// Something that the operator's retention no longer keeps. Its receipt and its place in the tree stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} was pruned with segment {segment} of the log, as the node's retention says; archives have that file")]
pub struct Pruned {
    /// What was asked for.
    pub what: String,
    /// The segment that went: the name of its file, as archives have it.
    pub segment: String,
}

/// A block ready to be kept.
pub struct NewBlock {
    /// What it says about the ledger.
    pub head: Arc<Head>,
    /// Statement bytes and ids, in ledger order.
    pub statements: Vec<(Arc<[u8]>, StatementId)>,
    /// Those of them that are batches: place, and number of triggers.
    pub batches: Vec<(u32, u32)>,
    /// Whether any of them has to do with private fields.
    pub is_private: bool,
    /// Whether the ledger's state is hashed in groups.
    pub is_grouped: bool,
    /// Terms that ran out in it, in order.
    pub terms: Vec<(AgreementId, Timestamp)>,
    /// Encoded outcomes: of the terms, then of the entries, each batch followed by its triggers.
    pub outcomes: Vec<Vec<u8>>,
    /// What there is to say of the refusals among them.
    pub details: Details,
    /// What it changes in the state.
    pub changes: Arc<Changes>,
    /// The same for the state tree: hashed, sorted, no key twice.
    pub tree: Vec<StateChange>,
    /// What makes the state tree durable behind this block, when that is due.
    pub commit: Option<Commit>,
}

impl Store {
    /// Appends and syncs: the first half of a commit. On `Ok` the block is there for ever. Gives where its statements lie.
    pub(crate) fn log(&self, block: &NewBlock) -> Result<Vec<Span>, CommitError> {
        self.mark(block)?;
        let checkpoint = &block.head.checkpoint;
        let statements = block.statements.iter().map(|(bytes, _)| bytes.as_ref());
        let (record, spans) = block::encode(checkpoint.height, checkpoint.time, &block.head.sealed, statements);
        self.log.append(checkpoint.height, &record)?;
        Ok(spans)
    }

    /// Before something that not every version knows is in the log the folder says so: a program that knows none of it refuses the folder
    /// by rule, and does not call it damaged. How the state is hashed is said with the first block.
    pub(crate) fn mark(&self, block: &NewBlock) -> Result<(), CommitError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let needs = [
            (block.is_grouped && block.head.checkpoint.height == 0, FORMAT_GROUPED),
            (block.is_private, FORMAT_PRIVATE),
            (!block.batches.is_empty(), FORMAT_PARTIAL),
        ];
        match needs.iter().find(|(is_needed, _)| *is_needed) {
            Some((_, version)) => version::raise(folder, *version).map_err(CommitError::Mark),
            None => Ok(()),
        }
    }

    /// Index and publish: the second half of a commit, and what opening does with the log's tail.
    pub(crate) fn apply(&self, block: NewBlock, spans: Vec<Span>) -> Result<(), CommitError> {
        let NewBlock { head, statements, batches, terms, outcomes, details, changes, tree, commit, .. } = block;
        let ids = statements.iter().map(|(_, id)| *id);
        let row = BlockRow {
            first_entry: head.checkpoint.size - statements.len() as u64,
            time: head.checkpoint.time,
            terms: u32::try_from(terms.len()).unwrap_or(u32::MAX),
            checkpoint: head.sealed.clone(),
            entries: spans.into_iter().zip(ids).collect(),
            batches,
        };
        self.entries.append(row.entries.iter().map(|(_, id)| leaf_hash(&id.0)).collect())?;
        let (height, digest) = (head.checkpoint.height, head.checkpoint.digest());
        let block = PendingBlock { height, row, outcomes, details, terms, state: changes, tree, digest };
        self.writer.give(block, commit)?;
        self.head.send_replace(Some(head));
        Ok(())
    }

    /// Whether the index can be written, as far as is known.
    pub(crate) fn check(&self) -> Result<(), IndexFault> {
        self.index.pending.check()
    }

    /// Makes the index durable with all that was applied.
    pub(crate) fn flush_index(&self) -> Result<(), IndexFault> {
        self.writer.flush()
    }

    /// Makes index and state tree durable, so that the next opening has nothing to do again. Everything logged must be applied.
    pub(crate) fn flush(&self) -> Result<(), IndexFault> {
        self.flush_index()?;
        let mut proven = self.proven_state();
        let Some(height) = proven.head.as_ref().map(|head| head.checkpoint.height) else { return Ok(()) };
        if !proven.tree.is_changed() {
            return Ok(());
        }
        proven.tree.commit(height)?.write()?;
        self.index.forget_tree_changes(height)
    }
}
