//! Agreements that ended leave the state, some time after their end, as a term does: in every copy of the ledger at the same
//! input, with an outcome that says what they were.
//!
//! What stays is the counter of their contract's prefix: a number that was given out and has no agreement was retired. So no
//! id is given twice, a late call is told so (170), and the state does not grow with what is over.

use crate::codec::Record;
use crate::origin::Origin;
use crate::records::{Agreement, Founding, StepCause};
use crate::run::Run;
use crate::{Refusal, StateRead, keys, records};
use std::time::Duration;
use tally_evidence::Event;
use tally_evidence::cbor::{Cbor, bytes, int, text};
use tally_model::{AgreementId, Timestamp};

/// The event of it.
const RETIRED: &str = "agreement.retired";

/// How long behind its end an agreement is retired; `None` on a ledger that keeps everything.
pub(crate) fn retire_after(run: &Run<'_, '_>) -> Result<Option<Duration>, Refusal> {
    let founding: Option<Founding> = run.load(keys::GENESIS)?;
    let after = founding.and_then(|founding| founding.retire_after);
    Ok(after.map(|after| Duration::from_micros(after.unsigned_abs())))
}

/// When an agreement that ends now is.
pub(super) fn due(run: &Run<'_, '_>) -> Result<Option<Timestamp>, Refusal> {
    Ok(retire_after(run)?.map(|after| run.block.time.plus(after)))
}

/// Takes it out of the state and says what it was.
pub(super) fn retire(run: &mut Run<'_, '_>, agreement: &Agreement) -> Result<(), Refusal> {
    let id = &agreement.id;
    let (mut entries, mut terms) = (vec![agreement.opened_by], Vec::new());
    for (key, value) in run.state.scan(&keys::steps(id), usize::MAX) {
        match StepCause::from_bytes(&value).ok_or_else(|| records::corrupt(&key))? {
            StepCause::Entry(origin) => entries.push(origin),
            StepCause::Term(due) => terms.push(int(due.as_micros())),
        }
        run.state.delete(key);
    }
    entries.sort_unstable();
    run.state.delete(keys::agreement(id));
    if let Some(due) = agreement.due {
        run.state.delete(keys::term(due, id));
    }
    let data = [
        ("contract", text(agreement.contract.as_str())),
        ("state", text(agreement.state.as_str())),
        ("agreement", bytes(agreement.to_bytes())),
        ("entries", Cbor::Array(entries.into_iter().map(origin_to_cbor).collect())),
        ("terms", Cbor::Array(terms)),
    ];
    run.emit(RETIRED, id.as_str(), data);
    Ok(())
}

/// Whether the id was given out, and its agreement is in the state no more.
pub(crate) fn is_retired(state: &dyn StateRead, id: &AgreementId) -> Result<bool, Refusal> {
    let Some((prefix, number)) = keys::split_agreement(id) else { return Ok(false) };
    let given = records::load::<u64>(state, &keys::counter(prefix))?.unwrap_or(0);
    Ok((1..=given).contains(&number) && state.get(&keys::agreement(id)).is_none())
}

/// What the outcome of a retirement says.
pub(crate) struct Retired {
    pub agreement: Agreement,
    /// Where the statements of its steps stand, in ledger order.
    pub steps: Vec<Origin>,
    /// Terms of it that ran out before.
    pub terms: Vec<Timestamp>,
}

impl Retired {
    /// `None` when the event is no retirement.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        if event.kind != RETIRED {
            return None;
        }
        let agreement = Agreement::from_bytes(event.data.get("agreement")?.as_bytes()?)?;
        let each = |name: &str| event.data.get(name).and_then(Cbor::as_array);
        let steps = each("entries")?.iter().map(origin_of_cbor).collect::<Option<_>>()?;
        let micros = |due: &Cbor| due.as_integer().and_then(|due| i64::try_from(due).ok()).map(Timestamp::from_micros);
        let terms = each("terms")?.iter().map(micros).collect::<Option<_>>()?;
        Some(Self { agreement, steps, terms })
    }
}

fn origin_to_cbor(origin: Origin) -> Cbor {
    match origin.item {
        Some(item) => Cbor::Array(vec![int(origin.entry), int(item)]),
        None => int(origin.entry),
    }
}

fn origin_of_cbor(value: &Cbor) -> Option<Origin> {
    let number = |value: &Cbor| value.as_integer().and_then(|number| u64::try_from(number).ok());
    match value {
        Cbor::Array(parts) => match parts.as_slice() {
            [entry, item] => Some(Origin { entry: number(entry)?, item: Some(u32::try_from(number(item)?).ok()?) }),
            _ => None,
        },
        other => number(other).map(Origin::from),
    }
}
