//! Whether an anchor that was refused tells readings twice: the same agent and device, and either the number of one that stands
//! with another body, or readings that one covers under a number of its own.
//!
//! The ledger refuses every anchor whose number was given before (104), and every one over readings that are covered (105). The first is
//! mostly the same anchor in a new envelope; when it is not, and always with the second, its agent has told the readings of a
//! device twice, and both words are in the log, sealed.

use super::list::{AlarmKind, News};
use crate::engine::{Engine, ReadError, logged};
use tally_contracts::{StateRead, views};
use tally_evidence::{AnchorBody, SignedStatement, StatementKind};
use tally_model::PartyId;

/// Anchors read to find the one that a refused one contradicts. Each gap that the agent declared since may move a number by one
/// (`docs/decisions/013`); of readings told again that lie farther back the newest anchor is named.
const LOOK_MAX: u64 = 64;

/// What the ledger had against an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twice {
    /// Its number was given before.
    Number,
    /// Its readings were covered before.
    Readings,
}

/// An anchor in an entry.
#[derive(Debug, Clone)]
struct Told {
    entry: u64,
    agent: PartyId,
    body: AnchorBody,
}

/// The alarm that the refused `entry` is worth, if it is.
pub fn contradiction(engine: &Engine, entry: u64, twice: Twice) -> Result<Option<News>, ReadError> {
    let Some(told) = anchor(engine, entry)? else { return Ok(None) };
    let state = engine.store().state()?;
    let found = match twice {
        Twice::Number => with_number(engine, &state, &told.body)?,
        Twice::Readings => with_readings(engine, &state, &told.body)?,
    };
    state.check()?;
    let contradicts = |stands: &Told| stands.body.digest() != told.body.digest() && stands.agent == told.agent;
    Ok(found.filter(contradicts).map(|stands| news(twice, &stands, &told)))
}

fn news(twice: Twice, stands: &Told, told: &Told) -> News {
    let (device, agent) = (&told.body.device, &told.agent);
    let range =
        |told: &Told| format!("anchor {} over readings {} to {}", told.body.number, told.body.first, told.body.last);
    let (kind, which) = match twice {
        Twice::Number => (AlarmKind::AnchorTwice, "another"),
        Twice::Readings if same_readings(&stands.body, &told.body) => {
            (AlarmKind::ReadingsTwice, "the same readings once more,")
        }
        Twice::Readings => (AlarmKind::ReadingsTwice, "readings that were told before,"),
    };
    let text = format!(
        "agent `{agent}` told readings of `{device}` twice: entry {} is its {}, and entry {}, which was refused, is {which} {}. Its vault \
         was restored from an older copy, or two agents run with one key, or readings were written anew",
        stands.entry,
        range(stands),
        told.entry,
        range(told),
    );
    News { kind, subject: device.to_string(), text, proof: None, entries: vec![stands.entry, told.entry] }
}

/// Whether both commit to the very same readings.
fn same_readings(stands: &AnchorBody, told: &AnchorBody) -> bool {
    (stands.first, stands.last, stands.root) == (told.first, told.last, told.root)
}

/// `None` when there is none in the entry, or it was pruned.
fn anchor(engine: &Engine, entry: u64) -> Result<Option<Told>, ReadError> {
    let bytes = match engine.entry(entry) {
        Ok(Some((_, bytes))) => bytes,
        Ok(None) => return Ok(None),
        Err(ReadError::Store(crate::store::CommitError::Pruned(_))) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let statement: SignedStatement = logged(entry, &bytes)?;
    if statement.kind != StatementKind::Anchor {
        return Ok(None);
    }
    let body = AnchorBody::decode(&statement.payload).map_err(|_| ReadError::Entry(entry))?;
    Ok(Some(Told { entry, agent: statement.issuer, body }))
}

/// The accepted anchor with the number that `told` has, among the newest of its device.
fn with_number(engine: &Engine, state: &dyn StateRead, told: &AnchorBody) -> Result<Option<Told>, ReadError> {
    let Some(last) = views::last_anchor(state, &told.device) else { return Ok(None) };
    // Numbers grow by at least one from anchor to anchor, so it cannot stand before this place.
    let from = last.count.saturating_sub(last.number.saturating_sub(told.number)).max(1);
    for place in (from..=last.count).take(usize::try_from(LOOK_MAX).unwrap_or(usize::MAX)) {
        let Some(view) = views::anchor_at(state, &told.device, place) else { continue };
        match anchor(engine, view.entry)? {
            Some(stands) if stands.body.number == told.number => return Ok(Some(stands)),
            // Behind it already, in one run of numbers.
            Some(stands) if stands.body.number > told.number && place > from => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

/// The first accepted anchor that covers some of the readings that `told` does; the newest of all when it lies farther back than is
/// looked. None when they lie in a gap that the agent declared: then they were told once, late.
fn with_readings(engine: &Engine, state: &dyn StateRead, told: &AnchorBody) -> Result<Option<Told>, ReadError> {
    let Some(last) = views::last_anchor(state, &told.device) else { return Ok(None) };
    let (mut found, mut newest) = (None, None);
    let oldest = last.count.saturating_sub(LOOK_MAX) + 1;
    for place in (oldest..=last.count).rev() {
        let stands = views::anchor_at(state, &told.device, place).map(|view| anchor(engine, view.entry)).transpose()?;
        // Pruned: what lies before it is, too.
        let Some(stands) = stands.flatten() else { return Ok(found.or(newest)) };
        let (begins, is_before) = (stands.body.begins(), stands.body.last < told.first);
        newest = newest.or_else(|| Some(stands.clone()));
        if !is_before && stands.body.first <= told.last {
            found = Some(stands);
        }
        if begins || is_before {
            return Ok(found);
        }
    }
    Ok(if oldest == 1 { found } else { found.or(newest) })
}
