//! Whether an anchor that was refused contradicts one that stands: the same agent, device and number, and another body.
//!
//! The ledger refuses every anchor whose number was given before. Mostly it is the same anchor in a new envelope; when it is not, its
//! agent has told the readings of a device twice, and both words are in the log, sealed.

use super::list::{AlarmKind, News};
use crate::engine::{Engine, ReadError, logged};
use tally_contracts::{StateRead, views};
use tally_evidence::{AnchorBody, SignedStatement, StatementKind};

/// Anchors read to find one by its number. Each gap that the agent declared since may move it by one (`docs/decisions/013`).
const LOOK_MAX: u64 = 64;

/// The alarm that the refused `entry` is worth, if it is.
pub fn contradiction(engine: &Engine, entry: u64) -> Result<Option<News>, ReadError> {
    let Some((refused, told)) = anchor(engine, entry)? else { return Ok(None) };
    let state = engine.store().state()?;
    let found = standing(engine, &state, &told)?;
    state.check()?;
    let Some((first, (taken, stands))) = found else { return Ok(None) };
    if stands.digest() == told.digest() || taken.issuer != refused.issuer {
        return Ok(None);
    }
    let (agent, device, number) = (&told_by(&refused), &told.device, told.number);
    let text = format!(
        "agent `{agent}` told readings of `{device}` twice: entry {first} is its anchor {number} over readings {} to {}, and entry \
         {entry}, which was refused, is another anchor {number} over {} to {}. Its vault was restored from an older copy, or two \
         agents run with one key, or readings were written anew",
        stands.first, stands.last, told.first, told.last,
    );
    Ok(Some(News {
        kind: AlarmKind::AnchorTwice,
        subject: device.to_string(),
        text,
        proof: None,
        entries: vec![first, entry],
    }))
}

fn told_by(statement: &SignedStatement) -> String {
    statement.issuer.to_string()
}

/// The anchor in an entry; `None` when it is none, or was pruned.
fn anchor(engine: &Engine, entry: u64) -> Result<Option<(SignedStatement, AnchorBody)>, ReadError> {
    let bytes = match engine.entry(entry) {
        Ok(Some((_, bytes))) => bytes,
        Ok(None) => return Ok(None),
        Err(ReadError::Store(crate::store::CommitError::Pruned(_))) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let statement = logged(entry, &bytes)?;
    if statement.kind != StatementKind::Anchor {
        return Ok(None);
    }
    let body = AnchorBody::decode(&statement.payload).map_err(|_| ReadError::Entry(entry))?;
    Ok(Some((statement, body)))
}

type Found = (u64, (SignedStatement, AnchorBody));

/// The accepted anchor with the number that `told` has, among the newest of its device.
fn standing(engine: &Engine, state: &dyn StateRead, told: &AnchorBody) -> Result<Option<Found>, ReadError> {
    let Some(last) = views::last_anchor(state, &told.device) else { return Ok(None) };
    // Numbers grow by at least one from anchor to anchor, so it cannot stand before this place.
    let from = last.count.saturating_sub(last.number.saturating_sub(told.number)).max(1);
    for place in (from..=last.count).take(usize::try_from(LOOK_MAX).unwrap_or(usize::MAX)) {
        let Some(view) = views::anchor_at(state, &told.device, place) else { continue };
        match anchor(engine, view.entry)? {
            Some((statement, body)) if body.number == told.number => return Ok(Some((view.entry, (statement, body)))),
            // Behind it already, in one run of numbers.
            Some((_, body)) if body.number > told.number && place > from => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}
