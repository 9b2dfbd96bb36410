//! How long ended agreements stay in the state: changed for a ledger that runs, and carried over to what ended before.
//!
//! ```text
//! set-retirement      the word of the genesis is another one from this entry on: what ends behind it is retired by it
//! apply-retirement    a thousand agreements at a time: what ended earlier gets the date that it would have now
//! ```
//! Two calls, because there may be millions of the latter: who wants them dated asks again from where the last call stopped.

use super::{By, admins, not_allowed};
use crate::agreements::{Direction, each_living, keep_term, prefixes, retire_after};
use crate::args::Args;
use crate::engine::bad_argument;
use crate::records::{Agreement, Founding};
use crate::run::Run;
use crate::{Refusal, keys};
use std::ops::ControlFlow;
use tally_evidence::cbor::{Cbor, int, text};
use tally_model::AgreementId;

/// The event of a change.
const SET: &str = "registry.retirement-set";
/// The event of a carrying over.
const APPLIED: &str = "registry.retirement-applied";
/// Agreements that one `apply-retirement` looks at. It stands in the format: every node must stop at the same one.
const AT_ONCE_MAX: usize = 1_000;

/// Whole microseconds, more than 0.
pub(super) fn micros(name: &'static str, value: &Cbor) -> Result<i64, Refusal> {
    let micros = value.as_integer().and_then(|micros| i64::try_from(micros).ok()).filter(|micros| *micros > 0);
    micros.ok_or_else(|| bad_argument(name, value, "whole microseconds, more than 0"))
}

/// Another time, or none: then nothing is retired that ends from now on.
pub(super) fn set(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let after = match args.need("after")? {
        Cbor::Null => None,
        value => Some(micros("after", value)?),
    };
    needs_admin(run, by, "change when ended agreements are retired")?;
    let mut founding: Founding = run.load(keys::GENESIS)?.ok_or_else(|| crate::records::corrupt(keys::GENESIS))?;
    if founding.retire_after == after {
        let what = "this time after which ended agreements are retired";
        return Err(Refusal::AlreadyRegistered { what: what.to_owned() });
    }
    let before = std::mem::replace(&mut founding.retire_after, after);
    run.store(keys::GENESIS.to_vec(), &founding);
    let shown = |after: Option<i64>| after.map_or(Cbor::Null, int);
    let subject = run.block.ledger.clone();
    run.emit(SET, &subject, [("after", shown(after)), ("before", shown(before))]);
    Ok(())
}

/// Dates what ended before, in order of prefix and number.
pub(super) fn apply(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let from = args.take("from").map(first_of).transpose()?;
    needs_admin(run, by, "date ended agreements anew")?;
    let (after, (ended, next)) = (retire_after(run)?, living_from(run, from)?);
    let mut dated: u64 = 0;
    for before in ended {
        // Never behind block time: retention counts from it.
        let due = after.map(|after| before.updated.plus(after).max(run.block.time));
        if due == before.due {
            continue;
        }
        let now = Agreement { due, ..before.clone() };
        keep_term(run, Some(&before), &now);
        run.store(keys::agreement(&now.id), &now);
        dated += 1;
    }
    let mut data = vec![("dated".to_owned(), int(dated))];
    data.extend(next.map(|id| ("next".to_owned(), text(id.as_str()))));
    let subject = run.block.ledger.clone();
    run.emit_map(APPLIED, &subject, data.into_iter().collect());
    Ok(())
}

fn first_of(value: &Cbor) -> Result<(String, u64), Refusal> {
    let id = value.as_text().and_then(|text| AgreementId::try_new(text).ok());
    let parts = id.as_ref().and_then(keys::split_agreement).map(|(prefix, number)| (prefix.to_owned(), number));
    parts.ok_or_else(|| bad_argument("from", value, "the id of an agreement, such as `mo-1001`"))
}

/// The next thousand in the state, of them those that ended, and the one behind them.
fn living_from(
    run: &Run<'_, '_>,
    from: Option<(String, u64)>,
) -> Result<(Vec<Agreement>, Option<AgreementId>), Refusal> {
    let (mut ended, mut seen, mut next) = (Vec::new(), 0_usize, None);
    for read in prefixes(run.state) {
        let (prefix, given) = read?;
        let first = match &from {
            Some((begin, _)) if prefix < *begin => continue,
            Some((begin, number)) if prefix == *begin => *number,
            _ => 1,
        };
        each_living(run.state, &prefix, first..=given, Direction::Rising, |read| {
            let agreement = read?;
            if seen == AT_ONCE_MAX {
                next = Some(agreement.id);
                return Ok(ControlFlow::Break(()));
            }
            seen += 1;
            ended.extend(Some(agreement).filter(|agreement| agreement.ended));
            Ok(ControlFlow::Continue(()))
        })?;
        if next.is_some() {
            break;
        }
    }
    Ok((ended, next))
}

fn needs_admin(run: &Run<'_, '_>, by: By<'_>, what: &str) -> Result<(), Refusal> {
    match admins(run)?.contains(by.signer) {
        true => Ok(()),
        false => Err(not_allowed(by, what, "an admin")),
    }
}
