//! A block through the contracts: terms first, then the statements, each all or nothing.
//!
//! Pure: the state comes in, what changes goes out; time is the block's. The same block on the same state gives the same
//! outcomes on every machine, which is what opening a ledger relies on when it executes the log's tail again.

use crate::admit::{Body, CheckedStatement};
use crate::store::Details;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use tally_contracts::{Block, Changes, Input, Kernel, Origin, Overlay, PRIVACY, Refusal, StateRead, purged_by};
use tally_evidence::cbor::int;
use tally_evidence::{CallBody, Event, OutcomeRecord, Place, StatementId, TriggerBody, private_fields};
use tally_model::{AgreementId, Timestamp};

/// Terms that fire in one block at most; the rest fires in the next. Bounds the time a block takes after a long night.
pub const TERMS_MAX: usize = 1_000;

/// The event in the outcome of a batch itself: `triggers`, and how many of them were `refused`.
pub const BATCH_EXECUTED: &str = "batch.executed";

/// What the contracts made of a block.
#[derive(Debug)]
pub struct Executed {
    /// Terms that ran out, in order.
    pub terms: Vec<(AgreementId, Timestamp)>,
    /// The entries, in order.
    pub entries: Vec<ExecutedEntry>,
    /// Encoded outcomes: of the terms, then of the entries, each batch followed by its triggers.
    pub outcomes: Vec<Vec<u8>>,
    /// Their refusals; 0 for what was done.
    pub refusals: Vec<u16>,
    /// Why exactly, for people.
    pub details: Details,
    /// State keys with their new values; `None` means deleted.
    pub changes: Arc<Changes>,
    /// Whether the registry was called: keys and revocations change only there.
    pub touches_registry: bool,
    /// Whether a call has private fields, or purges one.
    pub is_private: bool,
    /// Private fields that were purged: entry and name.
    pub purged: Vec<(u64, String)>,
}

/// What is left of a statement when it was executed.
#[derive(Debug)]
pub struct ExecutedEntry {
    pub id: StatementId,
    pub subject: String,
    pub bytes: Arc<[u8]>,
    /// 0 when done.
    pub refusal: u16,
    /// When it is a batch: of each trigger 0, or the number of its refusal.
    pub triggers: Vec<u16>,
}

impl Executed {
    /// Whether terms ran out and nothing was done at all: making the next block at once would not help either.
    pub fn is_stuck(&self) -> bool {
        !self.terms.is_empty() && self.refusals.iter().all(|refusal| *refusal != 0)
    }

    /// Executes the triggers of a batch one by one, in order: whatever becomes of one is its own business. Gives their refusals.
    fn batch(
        &mut self,
        kernel: &Kernel,
        overlay: &mut Overlay<'_>,
        block: &Block,
        index: u64,
        batch: &CheckedStatement,
        triggers: &[TriggerBody],
    ) -> Vec<u16> {
        let (statement, signer, key) = (batch.id, &batch.signer, batch.key);
        // Its own outcome goes before theirs, and counts them.
        let own = self.outcomes.len();
        self.outcomes.push(Vec::new());
        self.refusals.push(0);
        let one = |(item, body): (u32, &TriggerBody)| {
            let origin = Origin { entry: index, item: Some(item) };
            let done = kernel.execute(overlay, block, &Input::BatchedTrigger { origin, signer, key, body });
            self.push(Place::Item { index, statement, item }, block.height, done)
        };
        let refusals: Vec<u16> = (0..).zip(triggers).map(one).collect();
        let refused = refusals.iter().filter(|refusal| **refusal != 0).count() as u64;
        let data = [("triggers", int(triggers.len() as u64)), ("refused", int(refused))];
        let data = data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let event = Event { kind: BATCH_EXECUTED.to_owned(), subject: signer.as_str().to_owned(), data };
        let place = Place::Entry { index, statement };
        let outcome = OutcomeRecord { place, height: block.height, refusal: 0, events: vec![event] };
        if let Some(place) = self.outcomes.get_mut(own) {
            *place = outcome.encode();
        }
        refusals
    }

    fn look_for_private(&mut self, body: &Body, done: &Result<Vec<Event>, Refusal>) {
        let Body::Call(call) = body else { return };
        let is_purge = |call: &CallBody| call.contract.as_str() == PRIVACY;
        self.is_private |= is_purge(call) || private_fields(call).next().is_some();
        if let Ok(events) = done {
            let purged = events.iter().filter(|_| is_purge(call)).filter_map(purged_by);
            self.purged.extend(purged.map(|(entry, field)| (entry, field.to_owned())));
        }
    }

    fn push(&mut self, place: Place, height: u64, done: Result<Vec<Event>, Refusal>) -> u16 {
        let (refusal, events) = match done {
            Ok(events) => (0, events),
            Err(refusal) => {
                tracing::debug!(?place, %refusal, "the contracts refused");
                self.details.push(self.outcomes.len(), &refusal);
                (refusal.number(), Vec::new())
            }
        };
        // Encoded at once: the events are still in the processor's cache, and their memory serves the next statement.
        self.outcomes.push(OutcomeRecord { place, height, refusal, events }.encode());
        self.refusals.push(refusal);
        refusal
    }
}

/// New keys that a statement usually writes: agreement, escrow, term, place among the open ones.
const WRITES_USUAL: usize = 5;
/// Bytes of values remembered, with their keys; beyond that all are forgotten and read again.
const VALUE_BYTES_MAX: usize = 8 << 20;
/// What remembering a value takes besides its bytes and those of its key.
const VALUE_BYTES_AROUND: usize = 100;
/// Keys remembered as absent.
const ABSENT_MAX: usize = 32_768;
/// Scans remembered: few, because each is compared with what a block changed. Empty ones are not: they mostly ask for
/// something new.
const SCANS_MAX: usize = 64;
/// Pairs of a remembered scan; longer ones are read again each time.
const PAIRS_MAX: usize = 64;

type Pair = (Vec<u8>, Vec<u8>);

/// What executing reads again and again (parties, devices, rules, terms of business, counters), kept from block to block.
/// Whatever a block changes is put right before the next one, so it never differs from the state.
#[derive(Debug, Default)]
pub struct Memory {
    values: HashMap<Vec<u8>, Vec<u8>>,
    /// Of all values when they were first remembered.
    value_bytes: usize,
    /// Keys that are not there, for one block only: what is new is looked for two or three times, and then it is there.
    absent: HashSet<Vec<u8>>,
    /// Prefix and limit of a scan to what it gave.
    scans: HashMap<(Vec<u8>, usize), Vec<Pair>>,
}

impl Memory {
    /// The state has changed.
    fn put_right(&mut self, changes: &Changes) {
        self.absent.clear();
        for (key, value) in changes {
            match (self.values.get_mut(key), value) {
                (Some(known), Some(value)) => known.clone_from(value),
                (Some(_), None) => drop(self.values.remove(key)),
                (None, _) => {}
            }
        }
        self.scans.retain(|(prefix, _), _| {
            let next = changes.range::<[u8], _>((Bound::Included(prefix.as_slice()), Bound::Unbounded)).next();
            !next.is_some_and(|(key, _)| key.starts_with(prefix))
        });
    }

    fn keep_value(&mut self, key: &[u8], value: &[u8]) {
        if self.value_bytes >= VALUE_BYTES_MAX {
            self.values.clear();
            self.value_bytes = 0;
        }
        self.value_bytes += key.len() + value.len() + VALUE_BYTES_AROUND;
        self.values.insert(key.to_vec(), value.to_vec());
    }

    fn keep_scan(&mut self, asked: (Vec<u8>, usize), pairs: &[Pair]) {
        if pairs.is_empty() || pairs.len() > PAIRS_MAX {
            return;
        }
        if self.scans.len() >= SCANS_MAX {
            self.scans.clear();
        }
        self.scans.insert(asked, pairs.to_vec());
    }
}

/// The state before a block, through the memory.
struct Remembering<'a> {
    state: &'a dyn StateRead,
    memory: RefCell<&'a mut Memory>,
}

impl StateRead for Remembering<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut memory = self.memory.borrow_mut();
        if let Some(value) = memory.values.get(key) {
            return Some(value.clone());
        }
        if memory.absent.contains(key) {
            return None;
        }
        let value = self.state.get(key);
        match &value {
            Some(value) => memory.keep_value(key, value),
            None if memory.absent.len() < ABSENT_MAX => drop(memory.absent.insert(key.to_vec())),
            None => {}
        }
        value
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<Pair> {
        let asked = (prefix.to_vec(), limit);
        if let Some(pairs) = self.memory.borrow().scans.get(&asked) {
            return pairs.clone();
        }
        let pairs = self.state.scan(prefix, limit);
        self.memory.borrow_mut().keep_scan(asked, &pairs);
        pairs
    }
}

/// Executes a block whose first entry gets the index `first_entry`. The block must then be kept, or everything dropped: the
/// memory is ahead of the state until it is. `room` is how many statements are expected: they may be more or fewer, and take their time.
pub fn execute(
    kernel: &Kernel,
    state: &dyn StateRead,
    memory: &mut Memory,
    block: &Block,
    first_entry: u64,
    room: usize,
    statements: impl Iterator<Item = CheckedStatement>,
) -> Executed {
    let state = Remembering { state, memory: RefCell::new(memory) };
    let mut overlay = Overlay::with_room(&state, room * WRITES_USUAL);
    let mut executed = Executed {
        terms: due_terms(kernel, &state, block.time),
        entries: Vec::with_capacity(room),
        outcomes: Vec::with_capacity(room),
        refusals: Vec::with_capacity(room),
        details: Details::default(),
        changes: Arc::default(),
        touches_registry: false,
        is_private: false,
        purged: Vec::new(),
    };
    for place in 0..executed.terms.len() {
        let (agreement, due) = executed.terms[place].clone();
        let done = kernel.execute(&mut overlay, block, &Input::Term { agreement: &agreement, due });
        let place = Place::Term { agreement: agreement.as_str().to_owned(), due: due.as_micros() };
        executed.push(place, block.height, done);
    }
    for (entry, statement) in (first_entry..).zip(statements) {
        let (refusal, triggers) = match input(entry, &statement) {
            Ok(input) => {
                let done = kernel.execute(&mut overlay, block, &input);
                executed.look_for_private(&statement.body, &done);
                (executed.push(Place::Entry { index: entry, statement: statement.id }, block.height, done), Vec::new())
            }
            Err(triggers) => (0, executed.batch(kernel, &mut overlay, block, entry, &statement, triggers)),
        };
        let CheckedStatement { id, subject, bytes, body, .. } = statement;
        executed.touches_registry |= matches!(&body, Body::Call(call) if call.contract.as_str() == "registry");
        executed.entries.push(ExecutedEntry { id, subject, bytes, refusal, triggers });
    }
    executed.changes = Arc::new(overlay.into_changes());
    state.memory.into_inner().put_right(&executed.changes);
    executed
}

/// Looking at the first term is cheap, listing a thousand is not, and mostly none is due.
fn due_terms(kernel: &Kernel, state: &dyn StateRead, now: Timestamp) -> Vec<(AgreementId, Timestamp)> {
    let is_due = kernel.next_due(state).is_some_and(|due| due <= now);
    if is_due { kernel.due_terms(state, now, TERMS_MAX) } else { Vec::new() }
}

/// What the contracts are asked; or the triggers of a batch, each of which is asked for itself.
fn input(entry: u64, statement: &CheckedStatement) -> Result<Input<'_>, &[TriggerBody]> {
    let (signer, key) = (&statement.signer, statement.key);
    match &statement.body {
        Body::Trigger(body) => Ok(Input::Trigger { entry, signer, key, body }),
        Body::Call(body) => Ok(Input::Call { entry, signer, key, body }),
        Body::Anchor(body) => Ok(Input::Anchor { entry, signer, key, body }),
        Body::Batch(triggers) => Err(triggers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..3, 1..3)
    }

    type Changes = Vec<(Vec<u8>, Option<u8>)>;

    fn block() -> impl Strategy<Value = (Vec<Vec<u8>>, Changes)> {
        let changes = proptest::collection::vec((key(), proptest::option::of(any::<u8>())), 0..5);
        (proptest::collection::vec(key(), 0..6), changes)
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_the_state_says(blocks in proptest::collection::vec(block(), 0..12)) {
            let (mut state, mut memory) = (Map::new(), Memory::default());
            for (asked, changes) in blocks {
                let remembering = Remembering { state: &state, memory: RefCell::new(&mut memory) };
                for key in asked {
                    prop_assert_eq!(remembering.get(&key), StateRead::get(&state, &key));
                    for limit in [1, 100] {
                        prop_assert_eq!(remembering.scan(&key, limit), state.scan(&key, limit));
                    }
                }
                let changes: BTreeMap<_, _> =
                    changes.into_iter().map(|(key, value)| (key, value.map(|value| vec![value]))).collect();
                memory.put_right(&changes);
                for (key, value) in changes {
                    match value {
                        Some(value) => drop(state.insert(key, value)),
                        None => drop(state.remove(&key)),
                    }
                }
            }
        }
    }
}
