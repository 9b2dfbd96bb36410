//! `GET /agreements/{id}/evidence`: everything the ledger has to say about an agreement, in one file that anyone can check.
//!
//! It holds the entries that made the agreement what it is, the registrations they rest on (signers, devices, rules, and the
//! signers of those), and the terms that ran out. What the readings were stays with the agent, which adds its disclosures.

use super::problem::Problem;
use super::views::{agreement_id, no_agreement};
use super::{Api, on_disk};
use crate::engine::{Engine, ReadError};
use crate::store::{BlockRow, IndexFault};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::collections::{BTreeMap, BTreeSet};
use tally_contracts::{StateRead, views};
use tally_evidence::{
    EvidenceEntry, EvidenceFile, EvidenceTerm, Hash, SignedStatement, StatementKind, Tree, TriggerBody, leaf_hash,
};
use tally_model::{AgreementId, Timestamp};

/// The handler.
pub async fn evidence(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = agreement_id(&id)?;
    let missing = no_agreement(&id);
    let file = on_disk(&api.engine, move |engine| collect(engine, &id)).await?.ok_or(missing)?;
    let name = format!("attachment; filename=\"{}.evidence\"", file.agreement);
    let headers = [(header::CONTENT_TYPE, "application/cbor".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, file.encode()).into_response())
}

fn collect(engine: &Engine, id: &AgreementId) -> Result<Option<EvidenceFile>, Problem> {
    let state = engine.store().state()?;
    let Some(agreement) = views::agreement(&state, id) else {
        state.check()?;
        return Ok(None);
    };
    let mut blocks = Blocks::new(engine);
    let statements = with_registrations(engine, &state, &agreement.history)?;
    state.check()?;
    let entries = statements.into_iter().map(|(entry, (subject, statement))| blocks.entry(entry, &subject, statement));
    let entries = entries.collect::<Result<_, _>>()?;
    let terms = agreement.terms.iter().map(|due| blocks.term(id, *due)).collect::<Result<_, _>>()?;
    Ok(Some(EvidenceFile {
        ledger: engine.ledger().to_owned(),
        key: engine.key().clone(),
        agreement: id.as_str().to_owned(),
        entries,
        terms,
        witnessed: None,
    }))
}

/// Entry to subject and statement.
pub(super) type Statements = BTreeMap<u64, (String, Vec<u8>)>;

/// The entries of `history` and everything they rest on, and what that rests on.
pub(super) fn with_registrations(
    engine: &Engine,
    state: &dyn StateRead,
    history: &[u64],
) -> Result<Statements, Problem> {
    let (mut found, mut wanted) = (Statements::new(), history.iter().copied().collect::<BTreeSet<_>>());
    while let Some(entry) = wanted.pop_first() {
        let (committed, bytes) = engine.entry(entry)?.ok_or(ReadError::Entry(entry))?;
        let parsed = SignedStatement::parse(&bytes).map_err(|_| ReadError::Entry(entry))?;
        let rests_on = rests_on(state, &parsed);
        found.insert(entry, (committed.subject, bytes));
        wanted.extend(rests_on.into_iter().filter(|entry| !found.contains_key(entry)));
    }
    Ok(found)
}

fn rests_on(state: &dyn StateRead, statement: &SignedStatement) -> Vec<u64> {
    let mut entries = Vec::new();
    entries.extend(views::party(state, &statement.issuer).map(|(_, entry)| entry));
    if statement.kind == StatementKind::Trigger
        && let Ok(trigger) = TriggerBody::decode(&statement.payload)
    {
        entries.extend(views::device(state, &trigger.device).map(|(_, entry)| entry));
        entries.extend(views::rule(state, &trigger.device, &trigger.rule).map(|(_, entry)| entry));
    }
    // What an anchor rests on besides its signer stands beside its place: the device may have another agent by now.
    entries
}

/// Rows, outcomes and outcome trees of the blocks in question, each read once.
pub(super) struct Blocks<'a> {
    engine: &'a Engine,
    known: BTreeMap<u64, Known>,
}

struct Known {
    row: BlockRow,
    outcomes: Vec<Vec<u8>>,
    tree: Tree,
}

impl<'a> Blocks<'a> {
    pub(super) const fn new(engine: &'a Engine) -> Self {
        Self { engine, known: BTreeMap::new() }
    }

    pub(super) fn entry(&mut self, entry: u64, subject: &str, statement: Vec<u8>) -> Result<EvidenceEntry, Problem> {
        let damaged = || ReadError::Entry(entry);
        let place = self.engine.store().place_of(entry)?.ok_or_else(damaged)?;
        let block = self.block(place.height)?;
        let size = block.row.size();
        let index = u64::from(block.row.terms) + place.place as u64;
        let (outcome, outcome_path) = block.outcome(index).ok_or_else(damaged)?;
        let checkpoint = block.row.checkpoint.clone();
        let (_, id) = *place.row.entries.get(place.place).ok_or_else(damaged)?;
        let committed =
            crate::engine::Committed { id, subject: subject.to_owned(), entry, height: place.height, size, refusal: 0 };
        let receipt = self.engine.receipt(&committed)?;
        Ok(EvidenceEntry {
            statement,
            batched: None,
            receipt,
            outcome,
            outcome_index: index,
            outcome_path,
            checkpoint,
            disclosure: None,
        })
    }

    fn term(&mut self, agreement: &AgreementId, due: Timestamp) -> Result<EvidenceTerm, Problem> {
        let missing = || IndexFault::Damaged(format!("the term of {agreement} due {due} has no outcome"));
        let (height, place) = self.engine.store().term(agreement, due)?.ok_or_else(missing)?;
        let block = self.block(height)?;
        let (outcome, outcome_path) = block.outcome(u64::from(place)).ok_or_else(missing)?;
        let checkpoint = block.row.checkpoint.clone();
        Ok(EvidenceTerm { outcome, outcome_index: u64::from(place), outcome_path, checkpoint })
    }

    fn block(&mut self, height: u64) -> Result<&Known, Problem> {
        if !self.known.contains_key(&height) {
            let missing = || IndexFault::Damaged(format!("block {height} is not complete"));
            let row = self.engine.store().block(height)?.ok_or_else(missing)?;
            let outcomes = self.engine.store().outcomes(height)?.ok_or_else(missing)?;
            let mut tree = Tree::default();
            outcomes.iter().for_each(|outcome| tree.push(leaf_hash(outcome)));
            self.known.insert(height, Known { row, outcomes, tree });
        }
        self.known.get(&height).ok_or_else(|| IndexFault::Damaged(format!("block {height}")).into())
    }
}

impl Known {
    fn outcome(&self, index: u64) -> Option<(Vec<u8>, Vec<Hash>)> {
        let outcome = self.outcomes.get(usize::try_from(index).ok()?)?;
        Some((outcome.clone(), self.tree.inclusion_path(index, self.outcomes.len() as u64)?))
    }
}
