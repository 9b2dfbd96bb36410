//! `GET /agreements/{id}/evidence`: everything the ledger has to say about an agreement, in one file that anyone can check.
//!
//! It holds the entries that made the agreement what it is, the registrations they rest on (signers, devices, rules, and the
//! signers of those), and the terms that ran out. What the readings were stays with the agent, which adds its disclosures.

use super::problem::Problem;
use super::sight::{Caller, Sight};
use super::views::{agreement_id, no_agreement};
use super::{Api, on_disk};
use crate::engine::{Committed, Engine, ReadError, logged};
use crate::retain::KeptBlock;
use crate::store::{BlockRow, IndexFault};
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tally_contracts::views::AgreementView;
use tally_contracts::{Contract, Origin, StateRead, resolve, views};
use tally_evidence::{
    BatchEnvelope, BatchedTrigger, EvidenceEntry, EvidenceFile, EvidenceTerm, Hash, SignedStatement, StatementKind,
    Tree, TreeNote, TriggerBody, WitnessedNote, leaf_hash,
};
use tally_model::{AgreementId, ContractName, Grade, PartyId, Timestamp};

/// The handler.
pub async fn evidence(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = agreement_id(&id)?;
    let missing = no_agreement(&id);
    let shown = api.cosigning.witnesses.as_ref().and_then(|witnesses| witnesses.shown());
    let file = on_disk(&api.engine, move |engine| collect(engine, &caller.sight(engine)?, &id, shown)).await?;
    let file = file.ok_or(missing)?;
    let name = format!("attachment; filename=\"{}.evidence\"", file.agreement);
    let headers = [(header::CONTENT_TYPE, "application/cbor".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, file.encode()).into_response())
}

/// The evidence of an agreement; `None` for one there is not. Refused to whom a statement of it is hidden from: a file without it
/// would prove nothing.
pub(crate) fn collect(
    engine: &Engine,
    sight: &Sight,
    id: &AgreementId,
    shown: Option<Shown>,
) -> Result<Option<EvidenceFile>, Problem> {
    let Some(agreement) = engine.store().agreement(id).map_err(ReadError::from)? else { return Ok(None) };
    let state = engine.store().state()?;
    let mut blocks = Blocks::new(engine);
    let mut steps = agreement.steps.clone();
    steps.extend(text_of_many(&state, &agreement));
    let statements = with_registrations(engine, sight, &state, &steps)?;
    state.check()?;
    let witnessed = shown.and_then(|shown| witnessed(engine, &statements, shown));
    let entries = statements.into_iter().map(|(origin, (subject, bytes))| blocks.entry(origin, subject, &bytes));
    let entries = entries.collect::<Result<_, _>>()?;
    // Its retirement is the last term: from it everybody sees that nothing of it is missing.
    let retirement = agreement.retires_at.filter(|_| agreement.retired);
    let terms = agreement.terms.iter().chain(&retirement);
    let terms = terms.map(|due| blocks.term(id, *due)).collect::<Result<_, _>>()?;
    Ok(Some(EvidenceFile {
        ledger: engine.ledger().to_owned(),
        key: engine.key().clone(),
        agreement: id.as_str().to_owned(),
        entries,
        terms,
        witnessed,
    }))
}

/// Where the text of a contract stands that asks for the word of several: whoever counts again needs it.
fn text_of_many(state: &dyn StateRead, agreement: &AgreementView) -> Option<Origin> {
    let name = ContractName::try_new(&agreement.contract).ok()?;
    let contract = Contract::from_yaml(&views::contract_text(state, &name, Some(agreement.version))?).ok()?;
    let entry = views::contract_entry(state, &name, agreement.version)?;
    (!contract.attest.is_empty()).then(|| Origin::from(entry))
}

/// What witnesses signed: the tree, and the note.
pub(super) type Shown = (TreeNote, WitnessedNote);

/// The witnesses' word on these entries; none when it does not cover all of them.
pub(super) fn witnessed(engine: &Engine, statements: &Statements, (tree, note): Shown) -> Option<WitnessedNote> {
    let inclusion = |(origin, _): (&Origin, _)| {
        let proof = engine.store().inclusion_of(origin.entry, tree.size).ok().flatten();
        proof.map(|(path, _)| path)
    };
    let paths = statements.iter().map(inclusion).collect::<Option<_>>()?;
    Some(WitnessedNote { paths, ..note })
}

/// Where a statement or trigger stands, to subject and bytes as the log has them.
pub(super) type Statements = BTreeMap<Origin, (String, Arc<[u8]>)>;

/// The entries of `history` and everything they rest on, and what that rests on.
pub(super) fn with_registrations(
    engine: &Engine,
    sight: &Sight,
    state: &dyn StateRead,
    history: &[Origin],
) -> Result<Statements, Problem> {
    let (mut found, mut wanted) = (Statements::new(), history.iter().copied().collect::<BTreeSet<_>>());
    while let Some(origin) = wanted.pop_first() {
        let entry = origin.entry;
        let (committed, bytes) = engine.entry(entry)?.ok_or(ReadError::Entry(entry))?;
        let parsed = logged(entry, &bytes)?;
        sight.needs_statement(entry, &parsed)?;
        let trigger = match (parsed.kind, origin.item) {
            (StatementKind::Trigger, None) => Some(parsed.payload.clone()),
            (StatementKind::Batch, Some(item)) => shown(entry, &bytes, item).map(|batched| batched.body).ok(),
            _ => None,
        };
        let rests_on = rests_on(state, entry, &parsed, trigger.as_deref());
        found.insert(origin, (committed.subject, bytes.into()));
        wanted.extend(rests_on.into_iter().map(Origin::from).filter(|origin| !found.contains_key(origin)));
    }
    Ok(found)
}

/// One trigger of the batch that is entry `entry`, whose bytes these are.
pub(super) fn shown(entry: u64, bytes: &[u8], item: u32) -> Result<BatchedTrigger, ReadError> {
    let batch = BatchEnvelope::split(bytes).ok();
    batch.and_then(|batch| batch.show(item)).ok_or(ReadError::Entry(entry))
}

fn rests_on(state: &dyn StateRead, entry: u64, statement: &SignedStatement, trigger: Option<&[u8]>) -> Vec<u64> {
    // As they were then: since, the party may have another key, and the device another agent.
    let mut entries = resolve::key_entries(state, &statement.issuer, &statement.key, entry);
    if let Some(trigger) = trigger
        && let Ok(trigger) = TriggerBody::decode(trigger)
    {
        entries.extend(resolve::binding_at(state, &trigger.device, entry));
        // A device that seals its payloads itself has keys of its own, under its own id.
        let own = PartyId::try_new(trigger.device.as_str()).ok().filter(|_| trigger.grade == Grade::Device);
        let keys = own.map(|id| resolve::party_versions(state, &id)).unwrap_or_default();
        entries.extend(keys.iter().map(|version| version.entry));
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
    outcomes: Outcomes,
}

/// All outcomes of a block with their tree, or those that were kept with their paths.
enum Outcomes {
    All(Vec<Vec<u8>>, Tree),
    Kept(KeptBlock),
}

impl<'a> Blocks<'a> {
    pub(super) const fn new(engine: &'a Engine) -> Self {
        Self { engine, known: BTreeMap::new() }
    }

    pub(super) fn entry(&mut self, origin: Origin, subject: String, bytes: &[u8]) -> Result<EvidenceEntry, Problem> {
        let entry = origin.entry;
        let statement = BatchEnvelope::statement_in(bytes).map_err(|_| ReadError::Entry(entry))?.to_vec();
        let batched = origin.item.map(|item| shown(entry, bytes, item)).transpose()?;
        let damaged = || ReadError::Entry(entry);
        let place = self.engine.store().place_of(entry)?.ok_or_else(damaged)?;
        let block = self.block(place.height)?;
        let size = block.row.size();
        // The outcomes of a batch's triggers stand behind its own.
        let behind = origin.item.map_or(0, |item| u64::from(item) + 1);
        let index = block.row.outcome_of(place.place) as u64 + behind;
        let (outcome, outcome_path) = block.outcome(index).ok_or_else(damaged)?;
        let checkpoint = block.row.checkpoint.clone();
        let (_, id) = *place.row.entries.get(place.place).ok_or_else(damaged)?;
        let committed = Committed { id, subject, entry, height: place.height, size, refusal: 0, refused: 0 };
        let receipt = self.engine.receipt(&committed)?;
        Ok(EvidenceEntry {
            statement,
            batched,
            receipt,
            outcome,
            outcome_index: index,
            outcome_path,
            checkpoint,
            disclosure: None,
        })
    }

    pub(super) fn term(&mut self, agreement: &AgreementId, due: Timestamp) -> Result<EvidenceTerm, Problem> {
        let missing = || IndexFault::Damaged(format!("the term of {agreement} due {due} has no outcome"));
        let (height, place) = self.engine.store().term(agreement, due)?.ok_or_else(missing)?;
        let block = self.block(height)?;
        let left = block.outcome(u64::from(place));
        let Some((outcome, outcome_path)) = left else {
            let what = format!("the outcome of the term of {agreement} due {due}");
            return Err(ReadError::from(self.engine.store().pruned(height, what)).into());
        };
        let checkpoint = block.row.checkpoint.clone();
        Ok(EvidenceTerm { outcome, outcome_index: u64::from(place), outcome_path, checkpoint })
    }

    fn block(&mut self, height: u64) -> Result<&Known, Problem> {
        if !self.known.contains_key(&height) {
            let missing = || IndexFault::Damaged(format!("block {height} is not complete"));
            let row = self.engine.store().block(height)?.ok_or_else(missing)?;
            let outcomes = match self.engine.store().outcomes(height)? {
                Some(all) => {
                    let mut tree = Tree::default();
                    all.iter().for_each(|outcome| tree.push(leaf_hash(outcome)));
                    Outcomes::All(all, tree)
                }
                None => Outcomes::Kept(self.engine.store().kept(height)?.ok_or_else(missing)?),
            };
            self.known.insert(height, Known { row, outcomes });
        }
        self.known.get(&height).ok_or_else(|| IndexFault::Damaged(format!("block {height}")).into())
    }
}

impl Known {
    fn outcome(&self, index: u64) -> Option<(Vec<u8>, Vec<Hash>)> {
        match &self.outcomes {
            Outcomes::All(all, tree) => {
                let outcome = all.get(usize::try_from(index).ok()?)?;
                Some((outcome.clone(), tree.inclusion_path(index, all.len() as u64)?))
            }
            Outcomes::Kept(block) => block.outcome(index).map(|kept| (kept.outcome.clone(), kept.path.clone())),
        }
    }
}
