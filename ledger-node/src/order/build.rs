//! Making a block: execute, hash, seal, keep. And the same once more on opening, compared with what was sealed then.

use super::fault::{DivergedIn, OpenLedgerError};
use super::genesis::GenesisEntry;
use super::seals::SealCheck;
use crate::admit::CheckedStatement;
use crate::clock::Clock;
use crate::engine::LedgerKey;
use crate::execute::{Executed, ExecutedEntry, Memory, execute};
use crate::order::behind::Behind;
use crate::store::{
    BlockRecord, CommitError, Head, IndexFault, NewBlock, ProvenState, Span, Store, WriterState, open_block,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tally_contracts::{Block, Kernel, Layer, Refusal, StateRead, views};
use tally_evidence::{Checkpoint, Hash, KeyScheme, StateChange, StatementId, leaf_hash, root_of};
use tally_model::Timestamp;

/// The one who makes blocks. Lives on the order thread.
pub(crate) struct Builder {
    store: Arc<Store>,
    kernel: Kernel,
    memory: Memory,
    key: LedgerKey,
    ledger: String,
    clock: Arc<dyn Clock>,
    behind: Behind,
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
    /// The contracts.
    pub execute: f64,
    /// Outcomes, trees, checkpoint.
    pub prove: f64,
    /// Append and sync.
    pub log: f64,
    /// State and indexes, and what is published.
    pub index: f64,
}

/// What a block came to, before it is kept.
struct Draft {
    seconds: Phases,
    checkpoint: Checkpoint,
    executed: Executed,
    /// What it changes in the state tree.
    tree: Vec<StateChange>,
}

/// What a block that is executed again needs besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// It is in the log.
    Logged,
    /// It is not.
    Log,
}

impl Builder {
    pub fn new(store: Arc<Store>, key: LedgerKey, ledger: String, clock: Arc<dyn Clock>) -> Self {
        let behind = Behind::at(store.head());
        Self { store, kernel: Kernel::new(), memory: Memory::default(), key, ledger, clock, behind }
    }

    /// The clock's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When the next term is due.
    pub fn next_due(&mut self) -> Result<Option<Timestamp>, CommitError> {
        Ok(self.behind.read(&self.store, |state| self.kernel.next_due(state))?)
    }

    /// Makes the block of these statements and logs it. On `Ok` it is there for ever, and [`Store::apply`] is due. Says also
    /// whether its terms are stuck.
    pub fn make(&mut self, statements: Vec<CheckedStatement>) -> Result<(Logged, bool), CommitError> {
        let began = Instant::now();
        let store = Arc::clone(&self.store);
        let mut proven = store.proven_state();
        let draft = self.draft(self.block_time(), statements, &mut proven)?;
        if let Some(broken) = draft.executed.refusals.iter().find(|refusal| Refusal::is_broken_state(**refusal)) {
            // Nothing of this block is on the disk. Opening checks the whole state against the log, or rebuilds it.
            return Err(CommitError::Broken { number: *broken, text: Refusal::describe(*broken) });
        }
        let is_stuck = draft.executed.is_stuck();
        Ok((self.log(draft, &mut proven, began)?, is_stuck))
    }

    /// Makes block 0; refuses a genesis that the contracts refuse, before anything is written.
    pub fn begin(&mut self, genesis: GenesisEntry, at: Timestamp) -> Result<(), OpenLedgerError> {
        let store = Arc::clone(&self.store);
        let mut proven = store.proven_state();
        let draft = self.draft(self.now().max(at), vec![genesis.statement()], &mut proven)?;
        if let Some(refused) = draft.executed.refusals.iter().find(|refusal| **refusal != 0) {
            let detail = draft.executed.details.at(0).unwrap_or(Refusal::describe(*refused));
            let text = detail.to_owned();
            return Err(OpenLedgerError::GenesisRefused { number: *refused, text });
        }
        let Logged { block, spans, .. } = self.log(draft, &mut proven, Instant::now())?;
        drop(proven);
        self.store.apply(block, spans, &mut WriterState::default())?;
        // So that a ledger that was only begun opens without executing anything.
        self.flush().map_err(OpenLedgerError::from)
    }

    /// Executes the log from block `tail` on and compares each block with what was sealed; `told` is given each height.
    pub fn catch_up(&mut self, tail: u64, told: &mut dyn FnMut(u64)) -> Result<(), OpenLedgerError> {
        let end = self.store.blocks_in_log();
        if tail == end {
            return Ok(());
        }
        tracing::info!(from = tail, to = end - 1, "executing the end of the log again");
        let mut writer = WriterState::default();
        for height in tail..end {
            let (record, head) = self.store.logged_block(height, self.key.public())?;
            self.repeat(record, head, &mut writer, Keep::Logged)?;
            told(height);
        }
        self.flush().map_err(OpenLedgerError::from)
    }

    /// Executes the next block as another node logged it, compares it with what was sealed, and only then logs it and brings it into
    /// the index.
    ///
    /// When its bytes are not what they should be ([`OpenLedgerError::Store`], [`OpenLedgerError::NotNext`],
    /// [`OpenLedgerError::Statement`], the chain) nothing was touched. After any other error this must not be used any more.
    /// Gives the private fields that were purged in it.
    pub fn follow(&mut self, record: &[u8], writer: &mut WriterState) -> Result<Vec<(u64, String)>, OpenLedgerError> {
        let last = self.behind.last().map(|head| &head.checkpoint);
        let expected = last.map_or(0, |last| last.height + 1);
        let (record, head) = open_block(record, expected, self.key.public())?;
        if record.height != expected {
            return Err(OpenLedgerError::NotNext { expected, found: record.height });
        }
        let sealed = &head.checkpoint;
        let previous = last.map_or([0; 32], Checkpoint::digest);
        if (sealed.height, sealed.previous, &sealed.ledger) != (expected, previous, &self.ledger) {
            return Err(OpenLedgerError::Diverged { height: expected, what: DivergedIn::Chain });
        }
        self.repeat(record, head, writer, Keep::Log)
    }

    /// Makes the index durable.
    pub fn flush(&self) -> Result<(), CommitError> {
        Ok(self.store.flush()?)
    }

    fn repeat(
        &mut self,
        record: BlockRecord,
        head: Head,
        writer: &mut WriterState,
        keep: Keep,
    ) -> Result<Vec<(u64, String)>, OpenLedgerError> {
        let BlockRecord { height, time, statements, checkpoint } = record;
        let checked = statements_of(height, &statements)?;
        let seals = self.seals_before(height, &checked)?;
        let store = Arc::clone(&self.store);
        let mut proven = store.proven_state();
        let mut draft = self.draft(time, checked, &mut proven)?;
        if let Some(what) = difference(&draft.checkpoint, &head.checkpoint) {
            return Err(OpenLedgerError::Diverged { height, what });
        }
        if let Some(seals) = seals {
            self.check_seals(seals, &draft.executed)?;
        }
        let purged = std::mem::take(&mut draft.executed.purged);
        let bytes = statements.iter().map(Vec::as_slice);
        let (_, spans) = crate::store::encode_block(height, time, &checkpoint, bytes);
        let mut block = new_block(draft.executed, draft.tree, proven.tree.scheme(), Arc::new(head)).0;
        match keep {
            // In a log that came from a copy, or from a program that did not do it yet.
            Keep::Logged => self.store.mark(&block)?,
            Keep::Log => drop(self.store.log(&block)?),
        }
        self.logged(&mut block, &mut proven)?;
        self.store.apply(block, spans, writer)?;
        Ok(purged)
    }

    /// What must be looked at before the block is executed. Who orders has checked seals at its door; who only follows believes
    /// nobody.
    fn seals_before(
        &mut self,
        height: u64,
        checked: &[CheckedStatement],
    ) -> Result<Option<SealCheck>, OpenLedgerError> {
        let LedgerKey::Follows(key) = &self.key else { return Ok(None) };
        let before = |state: &dyn StateRead| SealCheck::before(height, checked, state, key);
        Ok(Some(self.behind.read(&self.store, before).map_err(CommitError::from)??))
    }

    fn check_seals(&mut self, seals: SealCheck, executed: &Executed) -> Result<(), OpenLedgerError> {
        let after = |state: &dyn StateRead| seals.after(&executed.entries, &Layer::new(state, &executed.changes));
        self.behind.read(&self.store, after).map_err(CommitError::from)?
    }

    fn draft(
        &mut self,
        time: Timestamp,
        statements: Vec<CheckedStatement>,
        proven: &mut ProvenState,
    ) -> Result<Draft, CommitError> {
        let began = Instant::now();
        let previous = self.behind.last().map(|head| &head.checkpoint);
        let height = previous.map_or(0, |previous| previous.height + 1);
        let first_entry = previous.map_or(0, |previous| previous.size);
        let previous = previous.map_or([0; 32], Checkpoint::digest);
        let block = Block { ledger: self.ledger.clone(), height, time };
        let executed = self.behind.read(&self.store, |state| {
            execute(&self.kernel, state, &mut self.memory, &block, first_entry, statements)
        })?;
        let execute = began.elapsed().as_secs_f64();
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
            previous,
        };
        let prove = began.elapsed().as_secs_f64() - execute;
        let seconds = Phases { execute, prove, ..Phases::default() };
        Ok(Draft { seconds, checkpoint, executed, tree })
    }

    fn log(&mut self, draft: Draft, proven: &mut ProvenState, began: Instant) -> Result<Logged, CommitError> {
        let Draft { mut seconds, checkpoint, mut executed, tree } = draft;
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

    fn logged(&mut self, block: &mut NewBlock, proven: &mut ProvenState) -> Result<(), CommitError> {
        proven.head = Some(Arc::clone(&block.head));
        self.behind.push(Arc::clone(&block.head), Arc::clone(&block.changes));
        block.commit = proven.tree.commit_if_due(block.head.checkpoint.height)?;
        Ok(())
    }

    fn block_time(&self) -> Timestamp {
        let now = self.now();
        match self.behind.last() {
            Some(head) if now <= head.checkpoint.time => {
                Timestamp::from_micros(head.checkpoint.time.as_micros().saturating_add(1))
            }
            _ => now,
        }
    }
}

/// The statements of a logged block.
fn statements_of(height: u64, logged: &[Vec<u8>]) -> Result<Vec<CheckedStatement>, OpenLedgerError> {
    let parse = |(place, bytes): (usize, &Vec<u8>)| {
        let statement = CheckedStatement::from_log(bytes);
        statement.map_err(|source| OpenLedgerError::Statement { height, place, source })
    };
    logged.iter().enumerate().map(parse).collect()
}

/// How the state is hashed of a ledger that begins with this.
fn scheme_of(genesis: &Executed) -> Result<KeyScheme, CommitError> {
    let nothing = BTreeMap::new();
    let scheme = views::key_scheme(&Layer::new(&nothing, &genesis.changes));
    scheme.ok_or_else(|| IndexFault::Damaged("the record of the genesis".to_owned()).into())
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
    let changes = Arc::new(changes);
    let (commit, is_grouped) = (None, scheme == KeyScheme::Grouped);
    let block =
        NewBlock { head, statements, batches, is_private, is_grouped, terms, outcomes, details, changes, tree, commit };
    (block, entries)
}

fn difference(found: &Checkpoint, sealed: &Checkpoint) -> Option<DivergedIn> {
    if (found.size, found.root) != (sealed.size, sealed.root) {
        Some(DivergedIn::Entries)
    } else if (found.outcome_count, found.outcomes) != (sealed.outcome_count, sealed.outcomes) {
        Some(DivergedIn::Outcomes)
    } else if found.state != sealed.state {
        Some(DivergedIn::State)
    } else {
        (found != sealed).then_some(DivergedIn::Chain)
    }
}
