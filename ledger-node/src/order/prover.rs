//! The second half of making a block: hash it into the trees, seal its checkpoint, log it.

use super::executor::ExecutedBlock;
use crate::engine::LedgerKey;
use crate::execute::{Executed, ExecutedEntry};
use crate::store::{CommitError, Head, IndexFault, NewBlock, ProvenState, Span, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tally_contracts::{Layer, views};
use tally_evidence::{Checkpoint, Hash, KeyScheme, StateChange, StatementId, leaf_hash, root_of};

/// The one who proves. Its last block is the last one of the log.
pub(crate) struct Prover {
    store: Arc<Store>,
    key: LedgerKey,
    ledger: String,
    last: Option<Arc<Head>>,
}

/// A block that is in the log for ever, on its way into the index.
pub(crate) struct Logged {
    pub block: NewBlock,
    /// Where its statements lie in the log record.
    pub spans: Vec<Span>,
    pub entries: Vec<ExecutedEntry>,
    pub touches_registry: bool,
    /// Private fields that were purged: entry and name.
    pub purged: Vec<(u64, String)>,
    pub seconds: Phases,
    /// When it was begun.
    pub began: Instant,
}

impl Logged {
    /// The names of its statements.
    pub fn ids(&self) -> Vec<StatementId> {
        self.entries.iter().map(|entry| entry.id).collect()
    }
}

/// Where the time of a block went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Phases {
    /// The contracts. Waiting for more statements, while the block before is being kept, is not counted.
    pub execute: f64,
    /// Outcomes, trees, checkpoint.
    pub prove: f64,
    /// Append and sync.
    pub log: f64,
    /// To where readers of the index find it, and publishing.
    pub index: f64,
}

/// What a block came to, before it is kept.
pub(super) struct Draft {
    pub checkpoint: Checkpoint,
    pub executed: Executed,
    /// What it changes in the state tree.
    tree: Vec<StateChange>,
    seconds: Phases,
    began: Instant,
}

/// Whether a block that is executed again is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InLog {
    Already,
    NotYet,
}

impl Prover {
    /// Goes on behind the last block of the index.
    pub fn new(store: Arc<Store>, key: LedgerKey, ledger: String) -> Self {
        let last = store.head();
        Self { store, key, ledger, last }
    }

    pub const fn key(&self) -> &LedgerKey {
        &self.key
    }

    /// The last block of the log.
    pub fn last(&self) -> Option<&Checkpoint> {
        self.last.as_ref().map(|head| &head.checkpoint)
    }

    /// Proves, seals and logs the next block. On `Ok` it is there for ever, and [`Store::apply`] is due.
    ///
    /// # Errors
    /// [`CommitError`]; the node stops.
    pub fn make(&mut self, block: ExecutedBlock) -> Result<Logged, CommitError> {
        let store = Arc::clone(&self.store);
        let mut proven = store.proven_state();
        let draft = self.prove(block, &mut proven)?;
        self.log(draft, &mut proven)
    }

    /// Hashes a block into the trees.
    pub(super) fn prove(&self, block: ExecutedBlock, proven: &mut ProvenState) -> Result<Draft, IndexFault> {
        let ExecutedBlock { height, time, executed, began, seconds: execute } = block;
        let proving = Instant::now();
        let leaves: Vec<Hash> = executed.outcomes.iter().map(|outcome| leaf_hash(outcome)).collect();
        if height == 0 {
            proven.tree.begin(scheme_of(&executed)?);
        }
        let tree = proven.tree.changes(executed.changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
        proven.tree.apply(&tree)?;
        executed.entries.iter().for_each(|entry| proven.edge.push(leaf_hash(&entry.id.0)));
        let checkpoint = Checkpoint {
            ledger: self.ledger.clone(),
            height,
            size: proven.edge.count(),
            root: proven.edge.root(),
            state: proven.tree.root(),
            outcomes: root_of(&leaves),
            outcome_count: executed.outcomes.len() as u64,
            time,
            previous: self.last().map_or([0; 32], Checkpoint::digest),
        };
        let seconds = Phases { execute, prove: proving.elapsed().as_secs_f64(), ..Phases::default() };
        Ok(Draft { checkpoint, executed, tree, seconds, began })
    }

    /// Seals a block and logs it.
    pub(super) fn log(&mut self, draft: Draft, proven: &mut ProvenState) -> Result<Logged, CommitError> {
        let Draft { checkpoint, mut executed, tree, mut seconds, began } = draft;
        let (touches_registry, purged) = (executed.touches_registry, std::mem::take(&mut executed.purged));
        let key = self.key.secret().ok_or(CommitError::NoKey)?;
        let head = Arc::new(Head { sealed: checkpoint.seal(key), checkpoint });
        let (mut block, entries) = new_block(executed, tree, proven.tree.scheme(), head);
        let logging = Instant::now();
        let spans = self.store.log(&block)?;
        seconds.log = logging.elapsed().as_secs_f64();
        self.logged(&mut block, proven)?;
        Ok(Logged { block, spans, entries, touches_registry, purged, seconds, began })
    }

    /// Takes a block as it was sealed before, by this node or another one.
    pub(super) fn take(
        &mut self,
        draft: Draft,
        head: Head,
        in_log: InLog,
        proven: &mut ProvenState,
    ) -> Result<NewBlock, CommitError> {
        let mut block = new_block(draft.executed, draft.tree, proven.tree.scheme(), Arc::new(head)).0;
        match in_log {
            // In a log that came from a copy, or from a program that did not do it yet.
            InLog::Already => self.store.mark(&block)?,
            InLog::NotYet => drop(self.store.log(&block)?),
        }
        self.logged(&mut block, proven)?;
        Ok(block)
    }

    fn logged(&mut self, block: &mut NewBlock, proven: &mut ProvenState) -> Result<(), CommitError> {
        proven.head = Some(Arc::clone(&block.head));
        self.last = Some(Arc::clone(&block.head));
        block.commit = proven.tree.commit_if_due(block.head.checkpoint.height)?;
        Ok(())
    }
}

/// How the state is hashed of a ledger that begins with this.
fn scheme_of(genesis: &Executed) -> Result<KeyScheme, IndexFault> {
    let nothing = BTreeMap::new();
    let scheme = views::key_scheme(&Layer::new(&nothing, &genesis.changes));
    scheme.ok_or_else(|| IndexFault::Damaged("the record of the genesis".to_owned()))
}

fn new_block(
    executed: Executed,
    tree: Vec<StateChange>,
    scheme: KeyScheme,
    head: Arc<Head>,
) -> (NewBlock, Vec<ExecutedEntry>) {
    let Executed { terms, entries, outcomes, details, changes, is_private, .. } = executed;
    let statements = entries.iter().map(|entry| (Arc::clone(&entry.bytes), entry.id)).collect();
    let triggers = |entry: &ExecutedEntry| u32::try_from(entry.triggers.len()).unwrap_or(u32::MAX);
    let batches = (0..).zip(entries.iter().map(triggers)).filter(|(_, triggers)| *triggers > 0).collect();
    let (commit, is_grouped) = (None, scheme == KeyScheme::Grouped);
    let block =
        NewBlock { head, statements, batches, is_private, is_grouped, terms, outcomes, details, changes, tree, commit };
    (block, entries)
}
