//! Terms that ran out.

use super::book_step::{book, keep_term};
use super::people::Registered;
use super::{retire, version};
use crate::engine::{Happening, step};
use crate::records::{Agreement, StepCause};
use crate::run::Run;
use crate::{Kernel, Refusal, keys};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;
use tally_evidence::cbor::int;
use tally_model::{AgreementId, Timestamp};

/// How long a term waits that could not be carried out (an account short of money, an amount out of range). Long enough
/// that a broken agreement costs nothing, short enough that a repaired one goes on the same day.
const RETRY: Duration = Duration::from_secs(3600);

pub(crate) fn term(kernel: &Kernel, run: &mut Run<'_, '_>, id: &AgreementId, due: Timestamp) -> Result<(), Refusal> {
    if super::attest::term(run, id, due)?.is_some() {
        return Ok(());
    }
    let agreement = running(run, id, due)?;
    if agreement.ended {
        return retire::retire(run, &agreement);
    }
    let contract = version(kernel, run, &agreement.contract, agreement.version)?;
    let args = BTreeMap::new();
    let stepped =
        step(&contract, Cow::Borrowed(&agreement), &Happening::Term, &args, run.block.time, &Registered(run.state))?;
    book(run, &contract, Some(&agreement), stepped, StepCause::Term(due))
}

fn running(run: &Run<'_, '_>, id: &AgreementId, due: Timestamp) -> Result<Agreement, Refusal> {
    let agreement: Option<Agreement> = run.load(&keys::agreement(id))?;
    let agreement = agreement.ok_or_else(|| Refusal::UnknownAgreement { agreement: id.to_string() })?;
    if agreement.due != Some(due) || due > run.block.time {
        let found = agreement.due.map_or("no term".to_owned(), |due| format!("a term at {due}"));
        let found = format!("{found}, block time {}", run.block.time);
        return Err(Refusal::TermNotDue { agreement: id.to_string(), due: due.to_string(), found });
    }
    Ok(agreement)
}

/// A term that ran out but could not be carried out is tried again later, and says so; it must not come back at once for ever.
pub(crate) fn defer(run: &mut Run<'_, '_>, id: &AgreementId, due: Timestamp, refusal: &Refusal) -> Result<(), Refusal> {
    let before = running(run, id, due)?;
    let mut agreement = before.clone();
    let until = run.block.time.plus(RETRY);
    agreement.due = Some(until);
    keep_term(run, Some(&before), &agreement);
    run.store(keys::agreement(id), &agreement);
    let data = [("refusal", int(refusal.number())), ("until", int(until.as_micros()))];
    run.emit("term.deferred", id.as_str(), data);
    Ok(())
}
