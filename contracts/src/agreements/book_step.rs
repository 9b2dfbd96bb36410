//! Books a step: events, money, load of people, indexes, terms, history, in this order.

use super::retire;
use crate::datum::Datum;
use crate::engine::{Contract, Effect, NEW, Stepped};
use crate::records::{Agreement, StepCause};
use crate::run::Run;
use crate::{Refusal, keys};
use tally_evidence::cbor::{Cbor, int, text};

pub(super) fn book(
    run: &mut Run<'_, '_>,
    contract: &Contract,
    before: Option<&Agreement>,
    stepped: Stepped,
    cause: StepCause,
) -> Result<(), Refusal> {
    let Stepped { mut agreement, effects, entered, transition } = stepped;
    // The line of the contract's text that was taken: with its digest, what an auditor reads on.
    let line = contract.transitions.get(transition).map_or(0, |way| way.line);
    announce(run, before, &agreement, entered, line);
    for effect in effects {
        carry_out(run, &agreement, effect)?;
    }
    keep_load(run, contract, before, &agreement)?;
    keep_open(run, contract, before, &agreement)?;
    if agreement.ended {
        agreement.due = retire::due(run)?;
    }
    keep_term(run, before, &agreement);
    match cause {
        StepCause::Entry(origin) if before.is_none() => agreement.opened_by = origin,
        _ => run.store(keys::step(&agreement.id, agreement.steps), &cause),
    }
    agreement.steps = agreement.steps.saturating_add(1);
    run.store(keys::agreement(&agreement.id), &agreement);
    Ok(())
}

fn announce(run: &mut Run<'_, '_>, before: Option<&Agreement>, now: &Agreement, entered: bool, line: u64) {
    let id = now.id.as_str();
    match before {
        None => {
            let party = |role: &str| text(now.parties.get(role).cloned().unwrap_or_default());
            let data = [
                ("contract", text(now.contract.as_str())),
                ("version", int(now.version)),
                ("state", text(now.state.as_str())),
                ("device", now.fields.get("device").map_or(Cbor::Null, Datum::to_cbor)),
                ("owner", party("owner")),
                ("line", int(line)),
            ];
            run.emit("agreement.opened", id, data);
        }
        Some(_) if !entered => {
            run.emit("agreement.updated", id, [("state", text(now.state.as_str())), ("line", int(line))]);
        }
        Some(before) => {
            let data = [
                ("from", text(before.state.as_str())),
                ("to", text(now.state.as_str())),
                ("ended", Cbor::Bool(now.ended)),
                ("line", int(line)),
            ];
            run.emit("agreement.moved", id, data);
        }
    }
}

fn carry_out(run: &mut Run<'_, '_>, agreement: &Agreement, effect: Effect) -> Result<(), Refusal> {
    let (id, currency) = (&agreement.id, agreement.currency.as_str());
    let money = |party: &str, role: &'static str, amount: i64| {
        [(role, text(party)), ("amount", int(amount)), ("currency", text(currency))]
    };
    match effect {
        Effect::Hold { amount: 0, .. } | Effect::Pay { amount: 0, .. } => {}
        Effect::Hold { payer, amount } => {
            run.hold(id, &payer, currency, amount)?;
            run.emit("escrow.held", id.as_str(), money(&payer, "from", amount));
        }
        Effect::Pay { payee, amount } => {
            run.pay_out(id, &payee, currency, amount)?;
            run.emit("payment.made", id.as_str(), money(&payee, "to", amount));
        }
        Effect::Release => {
            if let Some(escrow) = run.account(&keys::escrow_id(id))? {
                run.pay_out(id, &escrow.owner, currency, escrow.balance)?;
                run.emit("escrow.released", id.as_str(), money(&escrow.owner, "to", escrow.balance));
            }
        }
        Effect::Chosen { role, person } => {
            let nobody = person.is_none();
            let person = text(person.unwrap_or_default());
            let kind = if nobody { "agreement.undispatched" } else { "agreement.dispatched" };
            run.emit(kind, id.as_str(), [(role.as_str(), person)]);
        }
        Effect::Emit { kind, data } => run.emit_map(&kind, id.as_str(), data),
    }
    Ok(())
}

/// Counts, for each person, the agreements that have not ended and name her.
fn keep_load(
    run: &mut Run<'_, '_>,
    contract: &Contract,
    before: Option<&Agreement>,
    now: &Agreement,
) -> Result<(), Refusal> {
    let holder = |agreement: Option<&Agreement>, role: &str| {
        let open = agreement.filter(|agreement| !agreement.ended && agreement.state != NEW);
        open.and_then(|agreement| agreement.parties.get(role)).filter(|id| !id.is_empty()).cloned()
    };
    for (role, _) in contract.parties.iter().filter(|(_, kind)| *kind == "person") {
        let (was, is) = (holder(before, role), holder(Some(now), role));
        if was == is {
            continue;
        }
        for (person, change) in [(was, -1), (is, 1)] {
            let Some(person) = person else { continue };
            let key = keys::load(&person);
            let load = run.load::<u64>(&key)?.unwrap_or(0);
            match load.saturating_add_signed(change) {
                0 => run.state.delete(key),
                load => run.store(key, &load),
            }
        }
    }
    Ok(())
}

/// At most one agreement per key is open.
fn keep_open(
    run: &mut Run<'_, '_>,
    contract: &Contract,
    before: Option<&Agreement>,
    now: &Agreement,
) -> Result<(), Refusal> {
    if before.is_some() && !now.ended {
        return Ok(());
    }
    let values = contract.key.iter().map(|name| now.fields.get(name).and_then(Datum::as_text).unwrap_or_default());
    let key = keys::open(&contract.name, values.clone());
    if before.is_some() {
        run.state.delete(key);
    } else if let Some(other) = run.load::<String>(&key)? {
        return Err(Refusal::AlreadyOpen { agreement: other, key: values.collect::<Vec<_>>().join(", ") });
    } else if !now.ended {
        run.store(key, &String::from(now.id.clone()));
    }
    Ok(())
}

pub(crate) fn keep_term(run: &mut Run<'_, '_>, before: Option<&Agreement>, now: &Agreement) {
    let was = before.and_then(|before| before.due);
    if was == now.due {
        return;
    }
    if let Some(due) = was {
        run.state.delete(keys::term(due, &now.id));
    }
    if let Some(due) = now.due {
        run.store(keys::term(due, &now.id), &String::from(now.id.clone()));
    }
}
