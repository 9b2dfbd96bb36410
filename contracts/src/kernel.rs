//! One input against the state: all or nothing.

use crate::admit;
use crate::engine::Contract;
use crate::registry::{self, By};
use crate::run::Run;
use crate::{Origin, Overlay, Refusal, StateRead, access, accounts, agreements, anchors, book, keys, privacy, records};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tally_evidence::{AnchorBody, CallBody, Event, Hash, KeyId, TriggerBody};
use tally_model::{AgreementId, PartyId, Timestamp};

/// Most compiled contracts kept; a ledger has a dozen. When full the cache is emptied: it only costs compiling again.
const CONTRACTS_MAX: usize = 256;

/// The block in which an input is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which ledger.
    pub ledger: String,
    /// Height from 0.
    pub height: u64,
    /// Block time: the only clock.
    pub time: Timestamp,
}

/// What the kernel executes. Seals are checked before; who signed is passed in.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A trigger statement.
    Trigger {
        /// Index of the entry.
        entry: u64,
        /// The statement's `iss`.
        signer: &'a PartyId,
        /// The key that sealed it.
        key: KeyId,
        /// Its body.
        body: &'a TriggerBody,
    },
    /// A trigger that came in a batch.
    BatchedTrigger {
        /// Its entry and place.
        origin: Origin,
        /// The batch's `iss`.
        signer: &'a PartyId,
        /// The key that sealed it.
        key: KeyId,
        /// Its body.
        body: &'a TriggerBody,
    },
    /// A call statement.
    Call {
        /// Index of the entry.
        entry: u64,
        /// The statement's `iss`.
        signer: &'a PartyId,
        /// The key that sealed it.
        key: KeyId,
        /// Its body.
        body: &'a CallBody,
    },
    /// An anchor statement.
    Anchor {
        /// Index of the entry.
        entry: u64,
        /// The statement's `iss`.
        signer: &'a PartyId,
        /// The key that sealed it.
        key: KeyId,
        /// Its body.
        body: &'a AnchorBody,
    },
    /// A term that ran out, as [`Kernel::due_terms`] gave it.
    Term {
        /// Whose term.
        agreement: &'a AgreementId,
        /// When it was due.
        due: Timestamp,
    },
}

/// The kernel. Keeps compiled contracts by digest, nothing else: the state is the truth.
#[derive(Debug, Default)]
pub struct Kernel {
    contracts: Mutex<BTreeMap<Hash, Arc<Contract>>>,
}

impl Kernel {
    /// A kernel with an empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Executes one input: the events, or a refusal that leaves `state` as it was.
    ///
    /// # Errors
    /// [`Refusal`]. 191 and 192 mean a broken state: the node should stop and rebuild it from the log.
    pub fn execute(&self, state: &mut Overlay<'_>, block: &Block, input: &Input<'_>) -> Result<Vec<Event>, Refusal> {
        let done = attempt(state, block, |run| self.dispatch(run, input));
        match (input, done) {
            // A term nobody asked for cannot be refused to anybody: it is put off, on record.
            (Input::Term { agreement, due }, Err(refusal)) if may_defer(&refusal) => {
                attempt(state, block, |run| agreements::defer(run, agreement, *due, &refusal))
            }
            (_, done) => done,
        }
    }

    fn dispatch(&self, run: &mut Run<'_, '_>, input: &Input<'_>) -> Result<(), Refusal> {
        match input {
            Input::Trigger { entry, signer, key, body } => {
                admit::trigger(run, signer, key, body)?;
                self.trigger(run, Origin::from(*entry), body)
            }
            Input::BatchedTrigger { origin, signer, key, body } => {
                admit::trigger(run, signer, key, body)?;
                self.trigger(run, *origin, body)
            }
            Input::Call { entry, signer, key, body } => self.call(run, *entry, signer, key, body),
            Input::Anchor { entry, signer, key, body } => anchors::anchor(run, *entry, signer, key, body),
            Input::Term { agreement, due } => agreements::term(self, run, agreement, *due),
        }
    }

    fn trigger(&self, run: &mut Run<'_, '_>, origin: Origin, body: &TriggerBody) -> Result<(), Refusal> {
        match &body.call {
            Some(call) => agreements::trigger(self, run, origin, body, call),
            None => {
                agreements::note_trigger(run, body, "it asks for nothing");
                Ok(())
            }
        }
    }

    fn call(
        &self,
        run: &mut Run<'_, '_>,
        entry: u64,
        signer: &PartyId,
        key: &KeyId,
        body: &CallBody,
    ) -> Result<(), Refusal> {
        if body.contract.as_str() == "registry" && body.action.as_str() == "genesis" {
            return registry::genesis(self, run, entry, signer, body);
        }
        run.check_time(body.at)?;
        let party = &run.signer(signer, key)?;
        match body.contract.as_str() {
            "registry" => registry::call(run, By { entry, signer, key, party }, body),
            "access" => access::call(run, By { entry, signer, key, party }, body),
            "accounts" => accounts::call(run, signer, party, body),
            privacy::PRIVACY => privacy::call(run, By { entry, signer, key, party }, body),
            _ => agreements::call(self, run, (entry, signer, party), body),
        }?;
        privacy::hold(run, entry, signer, body);
        Ok(())
    }

    /// The contract with this digest, compiled once.
    pub(crate) fn contract(&self, state: &dyn StateRead, digest: &Hash) -> Result<Arc<Contract>, Refusal> {
        // A poisoned cache is still a cache: its values are whole or absent.
        let mut contracts = self.contracts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(contract) = contracts.get(digest) {
            return Ok(Arc::clone(contract));
        }
        let key = keys::contract_text(digest);
        let text: Option<String> = records::load(state, &key)?;
        let contract = text.and_then(|text| Contract::from_yaml(&text).ok());
        let contract = Arc::new(contract.ok_or_else(|| records::corrupt(&key))?);
        if contracts.len() >= CONTRACTS_MAX {
            contracts.clear();
        }
        contracts.insert(*digest, Arc::clone(&contract));
        Ok(contract)
    }

    /// At most `limit` terms due at or before `until`, in order of due time.
    #[must_use]
    pub fn due_terms(&self, state: &dyn StateRead, until: Timestamp, limit: usize) -> Vec<(AgreementId, Timestamp)> {
        let terms = state.scan(keys::TERMS, limit).into_iter().filter_map(|(key, id)| read_term(&key, &id));
        terms.take_while(|(_, due)| *due <= until).collect()
    }

    /// When the next term is due.
    #[must_use]
    pub fn next_due(&self, state: &dyn StateRead) -> Option<Timestamp> {
        state.scan(keys::TERMS, 1).first().and_then(|(key, _)| keys::due_of(key))
    }
}

fn read_term(key: &[u8], id: &[u8]) -> Option<(AgreementId, Timestamp)> {
    let id = <String as crate::codec::Record>::from_bytes(id)?;
    Some((AgreementId::try_new(id).ok()?, keys::due_of(key)?))
}

/// Runs `work`; what it wrote stays only when it succeeds and no money came or went.
fn attempt(
    state: &mut Overlay<'_>,
    block: &Block,
    work: impl FnOnce(&mut Run<'_, '_>) -> Result<(), Refusal>,
) -> Result<Vec<Event>, Refusal> {
    state.savepoint();
    let mut run = Run { state, block, events: Vec::new() };
    let done = work(&mut run).and_then(|()| book::check_totals(run.state));
    let events = run.events;
    match done {
        Ok(()) => Ok(events),
        Err(refusal) => {
            state.roll_back();
            Err(refusal)
        }
    }
}

/// A term that is not running, or a broken state, is not put off.
const fn may_defer(refusal: &Refusal) -> bool {
    !matches!(
        refusal,
        Refusal::UnknownAgreement { .. }
            | Refusal::TermNotDue { .. }
            | Refusal::StateCorrupt { .. }
            | Refusal::TotalsBroken { .. }
    )
}
