//! Blocks and entries as lists, for people who look around.

use super::problem::Problem;
use super::sight::{Caller, Sight};
use super::{Api, on_disk};
use crate::engine::{Engine, ReadError, logged, refused_of_batch};
use crate::retain::KeptBlock;
use crate::store::{BlockRow, CommitError, IndexFault};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use tally_evidence::{Checkpoint, OutcomeRecord, StatementKind};

/// Entries of an answer when the question does not say how many.
const LIMIT: u64 = 20;
/// Most entries of an answer.
const LIMIT_MAX: u64 = 1_000;

/// Which entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The newest one wanted; the last one there is when not said.
    from: Option<u64>,
    limit: Option<u64>,
}

/// `GET /entries?from=&limit=`: entries, newest first.
pub async fn entries(State(api): State<Api>, Query(wanted): Query<Wanted>) -> Result<Json<Value>, Problem> {
    let limit = wanted.limit.unwrap_or(LIMIT);
    if limit == 0 || limit > LIMIT_MAX {
        let hint = "limit is from 1 to 1000; go on with `from` one below the last entry shown";
        return Err(Problem::bad_request("query", format!("limit={limit}"), hint));
    }
    on_disk(&api.engine, move |engine| {
        let size = engine.store().head().map_or(0, |head| head.checkpoint.size);
        let newest = wanted.from.unwrap_or(u64::MAX).min(size.saturating_sub(1));
        let mut shown = Vec::new();
        let mut next = (size > 0).then_some(newest);
        while let Some(entry) = next.filter(|_| (shown.len() as u64) < limit) {
            let place = engine.store().place_of(entry)?.ok_or(ReadError::Entry(entry))?;
            let block = Block::read(engine, place.height, place.row)?;
            let wanted = usize::try_from(limit).unwrap_or(usize::MAX) - shown.len();
            let first = (place.place + 1).saturating_sub(wanted);
            for place in (first..=place.place).rev() {
                shown.push(block.entry(place)?);
            }
            next = (block.row.first_entry + first as u64).checked_sub(1);
        }
        Ok(json!({"size": size, "entries": shown}))
    })
    .await
    .map(Json)
}

/// `GET /blocks/{height}`: a block with its entries and the terms that ran out in it.
pub async fn block(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(height): Path<String>,
) -> Result<Json<Value>, Problem> {
    let hint = "heights are numbers from 0 to the one /status says";
    let number: u64 = height.parse().map_err(|_| Problem::bad_request("height", format!("`{height}`"), hint))?;
    on_disk(&api.engine, move |engine| {
        let row = engine.store().block(number)?;
        let row = row.ok_or_else(|| Problem::not_found("height", format!("there is no block {number} yet"), hint))?;
        let block = Block::read(engine, number, row)?;
        let sealed =
            Checkpoint::open(&block.row.checkpoint, engine.key()).map_err(|fault| Problem::internal(&fault))?;
        let entries = (0..block.row.entries.len()).map(|place| block.entry(place)).collect::<Result<Vec<_>, _>>()?;
        let terms = (0..u64::from(block.row.terms)).zip(&block.outcomes);
        let sight = caller.sight(engine)?;
        let terms = terms.map(|(place, outcome)| outcome_json(engine, &sight, (number, place), outcome));
        let terms = terms.collect::<Result<Vec<_>, _>>()?;
        Ok(json!({
            "height": number, "time": sealed.time.to_string(), "size": sealed.size, "root": hex::encode(sealed.root),
            "state": hex::encode(sealed.state), "outcomes": hex::encode(sealed.outcomes),
            "previous": hex::encode(sealed.previous), "terms": terms, "entries": entries,
        }))
    })
    .await
    .map(Json)
}

fn outcome_json(engine: &Engine, sight: &Sight, (height, place): (u64, u64), outcome: &[u8]) -> Result<Value, Problem> {
    let damaged = || IndexFault::Damaged(format!("the outcomes of block {height}"));
    let outcome = OutcomeRecord::decode(outcome).map_err(|_| damaged())?;
    let detail = engine.store().detail(height, place)?;
    super::entries::outcome_json(sight, &outcome, detail.as_deref())
}

/// A block with what lies in the log for it.
struct Block {
    height: u64,
    row: BlockRow,
    statements: Vec<Vec<u8>>,
    outcomes: Vec<Vec<u8>>,
    /// What is left when it was pruned.
    kept: Option<KeptBlock>,
}

impl Block {
    fn read(engine: &Engine, height: u64, row: BlockRow) -> Result<Self, Problem> {
        let statements = match engine.store().statements(height, &row) {
            Err(CommitError::Pruned(_)) => {
                let kept = engine.store().kept(height)?;
                return Ok(Self { height, row, statements: Vec::new(), outcomes: Vec::new(), kept });
            }
            statements => statements.map_err(ReadError::from)?,
        };
        let outcomes = engine.store().outcomes(height)?.unwrap_or_default();
        Ok(Self { height, row, statements, outcomes, kept: None })
    }

    /// One line about an entry.
    fn entry(&self, place: usize) -> Result<Value, Problem> {
        let entry = self.row.first_entry + place as u64;
        let damaged = || Problem::from(ReadError::Entry(entry));
        if let Some(kept) = &self.kept {
            let entry = kept.entries.get(place).ok_or_else(damaged)?;
            return Ok(json!({
                "entry": self.row.first_entry + place as u64, "height": self.height, "statement": entry.id.to_string(),
                "kind": "pruned", "subject": entry.subject, "refusal": entry.refusal, "events": [],
            }));
        }
        let bytes = self.statements.get(place).ok_or_else(damaged)?;
        let statement = logged(entry, bytes)?;
        let outcome = self.outcomes.get(self.row.outcome_of(place)).ok_or_else(damaged)?;
        let outcome = OutcomeRecord::decode(outcome).map_err(|_| damaged())?;
        let kind = match statement.kind {
            StatementKind::Trigger => "trigger",
            StatementKind::Call => "call",
            StatementKind::Anchor => "anchor",
            StatementKind::Batch => "batch",
        };
        let mut line = json!({
            "entry": entry, "height": self.height, "statement": statement.id.to_string(), "kind": kind,
            "signer": statement.issuer, "subject": statement.subject, "issued_at": statement.issued_at,
            "bytes": bytes.len(), "refusal": outcome.refusal,
            "events": outcome.events.iter().map(|event| &event.kind).collect::<Vec<_>>(),
        });
        if let Some(triggers) = self.row.triggers_of(place) {
            line["triggers"] = triggers.into();
            line["refused"] = refused_of_batch(&outcome).into();
        }
        Ok(line)
    }
}
