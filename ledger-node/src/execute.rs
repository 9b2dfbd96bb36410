//! A block through the contracts: terms first, then the statements, each all or nothing.
//!
//! Pure: the state comes in, what changes goes out; time is the block's. The same block on the same state gives the same
//! outcomes on every machine, which is what opening a ledger relies on when it executes the log's tail again.

use crate::admit::{Body, CheckedStatement};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tally_contracts::{Block, Input, Kernel, Overlay, Refusal, StateRead};
use tally_evidence::{Event, OutcomeRecord, Place, StatementId};
use tally_model::{AgreementId, Timestamp};

/// Terms that fire in one block at most; the rest fires in the next. Bounds the time a block takes after a long night.
pub const TERMS_MAX: usize = 1_000;

/// What the contracts made of a block.
#[derive(Debug)]
pub struct Executed {
    /// Terms that ran out, in order.
    pub terms: Vec<(AgreementId, Timestamp)>,
    /// The entries, in order.
    pub entries: Vec<ExecutedEntry>,
    /// Encoded outcomes: of the terms, then of the entries.
    pub outcomes: Vec<Vec<u8>>,
    /// Their refusals; 0 for what was done.
    pub refusals: Vec<u16>,
    /// State keys with their new values; `None` means deleted.
    pub changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Whether the registry was called: keys and revocations change only there.
    pub touches_registry: bool,
}

/// What is left of a statement when it was executed.
#[derive(Debug)]
pub struct ExecutedEntry {
    pub id: StatementId,
    pub subject: String,
    pub bytes: Arc<[u8]>,
    /// 0 when done.
    pub refusal: u16,
}

impl Executed {
    /// Whether terms ran out and nothing was done at all: making the next block at once would not help either.
    pub fn is_stuck(&self) -> bool {
        !self.terms.is_empty() && self.refusals.iter().all(|refusal| *refusal != 0)
    }

    fn push(&mut self, place: Place, height: u64, done: Result<Vec<Event>, Refusal>) -> u16 {
        let (refusal, events) = match done {
            Ok(events) => (0, events),
            Err(refusal) => {
                tracing::debug!(?place, %refusal, "the contracts refused");
                (refusal.number(), Vec::new())
            }
        };
        // Encoded at once: the events are still in the processor's cache, and their memory serves the next statement.
        self.outcomes.push(OutcomeRecord { place, height, refusal, events }.encode());
        self.refusals.push(refusal);
        refusal
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
    statements: Vec<CheckedStatement>,
) -> Executed {
    let count = statements.len();
    let state = Remembering { state, values: RefCell::default(), scans: RefCell::default() };
    let mut overlay = Overlay::new(&state);
    let mut executed = Executed {
        terms: due_terms(kernel, &state, block.time),
        entries: Vec::with_capacity(count),
        outcomes: Vec::with_capacity(count),
        refusals: Vec::with_capacity(count),
        changes: BTreeMap::new(),
        touches_registry: false,
    };
    for place in 0..executed.terms.len() {
        let (agreement, due) = executed.terms[place].clone();
        let done = kernel.execute(&mut overlay, block, &Input::Term { agreement: &agreement, due });
        let place = Place::Term { agreement: agreement.as_str().to_owned(), due: due.as_micros() };
        executed.push(place, block.height, done);
    }
    for (entry, statement) in (first_entry..).zip(statements) {
        let done = kernel.execute(&mut overlay, block, &input(entry, &statement));
        let CheckedStatement { id, subject, bytes, body, .. } = statement;
        executed.touches_registry |= matches!(&body, Body::Call(call) if call.contract.as_str() == "registry");
        let refusal = executed.push(Place::Entry { index: entry, statement: id }, block.height, done);
        executed.entries.push(ExecutedEntry { id, subject, bytes, refusal });
    }
    executed.changes = overlay.into_changes();
    executed
}

/// Looking at the first term is cheap, listing a thousand is not, and mostly none is due.
fn due_terms(kernel: &Kernel, state: &dyn StateRead, now: Timestamp) -> Vec<(AgreementId, Timestamp)> {
    let is_due = kernel.next_due(state).is_some_and(|due| due <= now);
    if is_due { kernel.due_terms(state, now, TERMS_MAX) } else { Vec::new() }
}

fn input(entry: u64, statement: &CheckedStatement) -> Input<'_> {
    let (signer, key) = (&statement.signer, statement.key);
    match &statement.body {
        Body::Trigger(body) => Input::Trigger { entry, signer, key, body },
        Body::Call(body) => Input::Call { entry, signer, key, body },
    }
}
