//! Making blocks one after the other: the first one, and those that are executed once more, on opening or as another node sealed them,
//! and compared with what was sealed then. Where the node orders, the two halves work side by side ([`Builder::split`]).

use super::executor::Executor;
use super::fault::{DivergedIn, OpenLedgerError};
use super::genesis::GenesisEntry;
use super::prover::{InLog, Logged, Prover};
use super::seals::SealCheck;
use crate::admit::CheckedStatement;
use crate::clock::Clock;
use crate::engine::LedgerKey;
use crate::execute::Executed;
use crate::store::{BlockRecord, CommitError, Head, Store, open_block};
use std::sync::Arc;
use tally_contracts::{Refusal, StateRead};
use tally_evidence::Checkpoint;
use tally_model::Timestamp;

/// The one who makes blocks.
pub(crate) struct Builder {
    store: Arc<Store>,
    ledger: String,
    executor: Executor,
    prover: Prover,
}

impl Builder {
    pub fn new(store: Arc<Store>, key: LedgerKey, ledger: String, clock: Arc<dyn Clock>) -> Self {
        let executor = Executor::new(Arc::clone(&store), ledger.clone(), clock);
        let prover = Prover::new(Arc::clone(&store), key, ledger.clone());
        Self { store, ledger, executor, prover }
    }

    /// The two halves, each for a thread of its own.
    pub fn split(self) -> (Executor, Prover) {
        (self.executor, self.prover)
    }

    /// Makes block 0; refuses a genesis that the contracts refuse, before anything is written.
    pub fn begin(&mut self, genesis: GenesisEntry, at: Timestamp) -> Result<(), OpenLedgerError> {
        let time = self.executor.now().max(at);
        let block = self.executor.execute(time, 1, std::iter::once(genesis.statement()));
        let block = block.map_err(CommitError::from)?;
        if let Some(refused) = block.executed.refusals.iter().find(|refusal| **refusal != 0) {
            let detail = block.executed.details.at(0).unwrap_or(Refusal::describe(*refused));
            let text = detail.to_owned();
            return Err(OpenLedgerError::GenesisRefused { number: *refused, text });
        }
        let Logged { block, spans, .. } = self.prover.make(block)?;
        self.store.apply(block, spans)?;
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
        for height in tail..end {
            let (record, head) = self.store.logged_block(height, self.prover.key().public())?;
            self.repeat(record, head, InLog::Already)?;
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
    pub fn follow(&mut self, record: &[u8]) -> Result<Vec<(u64, String)>, OpenLedgerError> {
        let last = self.prover.last();
        let expected = last.map_or(0, |last| last.height + 1);
        let (record, head) = open_block(record, expected, self.prover.key().public())?;
        if record.height != expected {
            return Err(OpenLedgerError::NotNext { expected, found: record.height });
        }
        let sealed = &head.checkpoint;
        let previous = last.map_or([0; 32], Checkpoint::digest);
        if (sealed.height, sealed.previous, &sealed.ledger) != (expected, previous, &self.ledger) {
            return Err(OpenLedgerError::Diverged { height: expected, what: DivergedIn::Chain });
        }
        self.repeat(record, head, InLog::NotYet)
    }

    /// Makes the index durable.
    pub fn flush(&self) -> Result<(), CommitError> {
        Ok(self.store.flush()?)
    }

    fn repeat(
        &mut self,
        record: BlockRecord,
        head: Head,
        in_log: InLog,
    ) -> Result<Vec<(u64, String)>, OpenLedgerError> {
        let BlockRecord { height, time, statements, checkpoint } = record;
        let checked = statements_of(height, &statements)?;
        let seals = self.seals_before(height, &checked)?;
        let room = checked.iter().map(CheckedStatement::weight).sum();
        let block = self.executor.execute(time, room, checked.into_iter()).map_err(CommitError::from)?;
        let store = Arc::clone(&self.store);
        let mut proven = store.proven_state();
        let mut draft = self.prover.prove(block, &mut proven).map_err(CommitError::from)?;
        if let Some(what) = difference(&draft.checkpoint, &head.checkpoint) {
            return Err(OpenLedgerError::Diverged { height, what });
        }
        if let Some(seals) = seals {
            self.check_seals(seals, &draft.executed)?;
        }
        let purged = std::mem::take(&mut draft.executed.purged);
        let bytes = statements.iter().map(Vec::as_slice);
        let (_, spans) = crate::store::encode_block(height, time, &checkpoint, bytes);
        let block = self.prover.take(draft, head, in_log, &mut proven)?;
        self.store.apply(block, spans)?;
        Ok(purged)
    }

    /// What must be looked at before the block is executed. Who orders has checked seals at its door; who only follows believes
    /// nobody.
    fn seals_before(
        &mut self,
        height: u64,
        checked: &[CheckedStatement],
    ) -> Result<Option<SealCheck>, OpenLedgerError> {
        let LedgerKey::Follows(key) = self.prover.key() else { return Ok(None) };
        let before = |state: &dyn StateRead| SealCheck::before(height, checked, state, key);
        Ok(Some(self.executor.read(before).map_err(CommitError::from)??))
    }

    /// The rest, behind the block.
    fn check_seals(&mut self, seals: SealCheck, executed: &Executed) -> Result<(), OpenLedgerError> {
        let after = |state: &dyn StateRead| seals.after(&executed.entries, state);
        self.executor.read(after).map_err(CommitError::from)?
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
