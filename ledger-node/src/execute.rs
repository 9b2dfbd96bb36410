//! A block through the contracts: terms first, then the statements, each all or nothing.
//!
//! Pure: the state comes in, what changes goes out; time is the block's. The same block on the same state gives the same
//! outcomes on every machine, which is what opening a ledger relies on when it executes the log's tail again.

use crate::admit::{Body, CheckedStatement};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use tally_contracts::{Block, Input, Kernel, Overlay, StateRead};
use tally_evidence::{Event, OutcomeRecord, Place};
use tally_model::{AgreementId, Timestamp};

/// Terms that fire in one block at most; the rest fires in the next. Bounds the time a block takes after a long night.
pub const TERMS_MAX: usize = 1_000;

/// What the contracts made of a block.
#[derive(Debug)]
pub struct Executed {
    /// Terms that ran out, in order.
    pub terms: Vec<(AgreementId, Timestamp)>,
    /// Outcomes: of the terms, then of the entries.
    pub outcomes: Vec<OutcomeRecord>,
    /// State keys with their new values; `None` means deleted.
    pub changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Executed {
    /// The outcomes of the entries.
    pub fn entry_outcomes(&self) -> &[OutcomeRecord] {
        self.outcomes.get(self.terms.len()..).unwrap_or_default()
    }

    /// Whether terms ran out and none of them did anything: making the next block at once would not help either.
    pub fn is_stuck(&self) -> bool {
        !self.terms.is_empty() && self.outcomes.iter().all(|outcome| !outcome.is_done())
    }
}

/// Keys and prefixes remembered for one block: what all its statements share (parties, devices, rules, terms of business).
const REMEMBERED_MAX: usize = 16_384;
/// Pairs of a remembered scan; longer ones are read again.
const PAIRS_MAX: usize = 64;

type Pair = (Vec<u8>, Vec<u8>);
/// Prefix and limit of a scan to what it gave.
type Scans = HashMap<(Vec<u8>, usize), Vec<Pair>>;

/// The state before a block, remembering what was read: the statements of a block ask for the same few records again and
/// again, and the state does not change under them (what they write goes into the overlay).
struct Remembering<'a> {
    state: &'a dyn StateRead,
    values: RefCell<HashMap<Vec<u8>, Vec<u8>>>,
    scans: RefCell<Scans>,
}

impl StateRead for Remembering<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.values.borrow().get(key) {
            return Some(value.clone());
        }
        // What is not there is mostly the id of something new, which nobody asks for twice.
        let value = self.state.get(key)?;
        let mut values = self.values.borrow_mut();
        if values.len() < REMEMBERED_MAX {
            values.insert(key.to_vec(), value.clone());
        }
        Some(value)
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<Pair> {
        let asked = (prefix.to_vec(), limit);
        if let Some(pairs) = self.scans.borrow().get(&asked) {
            return pairs.clone();
        }
        let pairs = self.state.scan(prefix, limit);
        let mut scans = self.scans.borrow_mut();
        if scans.len() < REMEMBERED_MAX && pairs.len() <= PAIRS_MAX {
            scans.insert(asked, pairs.clone());
        }
        pairs
    }
}

/// Executes a block whose first entry gets the index `first_entry`.
pub fn execute(
    kernel: &Kernel,
    state: &dyn StateRead,
    block: &Block,
    first_entry: u64,
    statements: &[CheckedStatement],
) -> Executed {
    // Looking at the first term is cheap, listing a thousand is not, and mostly none is due.
    let is_due = kernel.next_due(state).is_some_and(|due| due <= block.time);
    let terms = if is_due { kernel.due_terms(state, block.time, TERMS_MAX) } else { Vec::new() };
    let state = Remembering { state, values: RefCell::default(), scans: RefCell::default() };
    let mut overlay = Overlay::new(&state);
    let mut outcomes = Vec::with_capacity(terms.len() + statements.len());
    for (agreement, due) in &terms {
        let input = Input::Term { agreement, due: *due };
        let place = Place::Term { agreement: agreement.as_str().to_owned(), due: due.as_micros() };
        outcomes.push(outcome(place, block.height, kernel.execute(&mut overlay, block, &input)));
    }
    for (entry, statement) in (first_entry..).zip(statements) {
        let place = Place::Entry { index: entry, statement: statement.id };
        let done = kernel.execute(&mut overlay, block, &input(entry, statement));
        outcomes.push(outcome(place, block.height, done));
    }
    Executed { terms, outcomes, changes: overlay.into_changes() }
}

fn input(entry: u64, statement: &CheckedStatement) -> Input<'_> {
    let (signer, key) = (&statement.signer, statement.key);
    match &statement.body {
        Body::Trigger(body) => Input::Trigger { entry, signer, key, body },
        Body::Call(body) => Input::Call { entry, signer, key, body },
    }
}

fn outcome(place: Place, height: u64, done: Result<Vec<Event>, tally_contracts::Refusal>) -> OutcomeRecord {
    match done {
        Ok(events) => OutcomeRecord { place, height, refusal: 0, events },
        Err(refusal) => {
            tracing::debug!(?place, %refusal, "the contracts refused");
            OutcomeRecord { place, height, refusal: refusal.number(), events: Vec::new() }
        }
    }
}
