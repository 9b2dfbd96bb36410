//! Standing terms: what the owner of a device agrees to beforehand, so that a trigger can open an agreement and put the
//! owner's money in escrow without asking again.

use super::{Contract, Datum, current};
use crate::args::Args;
use crate::datum::FieldType;
use crate::engine::{Scope, bad_argument};
use crate::records::{Agreement, Standing};
use crate::run::Run;
use crate::{Kernel, Refusal, keys, registry};
use std::collections::BTreeMap;
use tally_evidence::PartyKind;
use tally_evidence::cbor::{Cbor, text};
use tally_model::{AgreementId, ContractName, DeviceId, PartyId};

/// The owner of a device agrees, or agrees anew; agreements that are open keep the terms they began with.
pub(super) fn agree(
    run: &mut Run<'_, '_>,
    entry: u64,
    signer: &PartyId,
    contract: &Contract,
    args: &BTreeMap<String, Cbor>,
) -> Result<(), Refusal> {
    let (device, standing) = read(run, entry, contract, args)?;
    if standing.owner != *signer {
        let what = format!("agree to standing terms for device `{device}`");
        let needs = format!("its owner `{}`", standing.owner);
        return Err(Refusal::NotAllowed { signer: signer.to_string(), what, needs });
    }
    for party in payees(contract, &standing) {
        let account = keys::account_id(party, &standing.currency);
        if run.account(&account)?.is_none() {
            return Err(Refusal::UnknownAccount { account });
        }
    }
    put(run, contract, &device, &standing)
}

/// As part of the genesis; the accounts that the terms need are opened.
pub(crate) fn found_standing(
    kernel: &Kernel,
    run: &mut Run<'_, '_>,
    name: &ContractName,
    args: &BTreeMap<String, Cbor>,
) -> Result<(), Refusal> {
    let contract = current(kernel, run, name)?;
    let (device, standing) = read(run, 0, &contract, args)?;
    for party in payees(&contract, &standing) {
        run.open_account(party, &standing.currency)?;
    }
    put(run, &contract, &device, &standing)
}

/// The organisations of the terms: they pay or are paid, so they need accounts now, not when the money is due.
fn payees<'a>(contract: &'a Contract, standing: &'a Standing) -> impl Iterator<Item = &'a str> {
    let organisations = standing
        .parties
        .iter()
        .filter(|(role, id)| !id.is_empty() && contract.parties.get(*role).is_some_and(|kind| kind == "organisation"));
    [standing.owner.as_str()].into_iter().chain(organisations.map(|(_, id)| id.as_str()))
}

fn put(run: &mut Run<'_, '_>, contract: &Contract, device: &DeviceId, standing: &Standing) -> Result<(), Refusal> {
    check_requirements(run, contract, device, standing)?;
    let before: Option<Standing> = run.load(&keys::standing(&contract.name, device))?;
    super::attest::list(run, contract, device, before.as_ref(), standing)?;
    run.store(keys::standing(&contract.name, device), standing);
    let data = [("contract", text(contract.name.as_str())), ("owner", text(standing.owner.as_str()))];
    run.emit("standing.agreed", device.as_str(), data);
    Ok(())
}

fn read(
    run: &Run<'_, '_>,
    entry: u64,
    contract: &Contract,
    args: &BTreeMap<String, Cbor>,
) -> Result<(DeviceId, Standing), Refusal> {
    let mut native = Args::new(args);
    let device: DeviceId = native.parse("device", "a device id")?;
    let currency = native.currency()?.to_owned();
    let owner = registry::device(run, &device)?.owner;
    let mut standing = Standing { entry, owner, currency, parties: BTreeMap::new(), fields: BTreeMap::new() };
    let terms = &contract.standing;
    for (name, value) in args.iter().filter(|(name, _)| !["device", "currency"].contains(&name.as_str())) {
        if !terms.required.contains(name) && !terms.optional.contains_key(name) {
            let known = terms.required.iter().chain(terms.optional.keys()).cloned().collect::<Vec<_>>().join(", ");
            return Err(Refusal::UnknownArgument {
                argument: name.clone(),
                known: format!("device, currency, {known}"),
            });
        }
        read_term(run, contract, name, value, &mut standing)?;
    }
    let given = |name: &&String| args.contains_key(*name);
    if let Some(missing) = terms.required.iter().find(|name| !given(name)) {
        return Err(Refusal::MissingArgument { argument: missing.clone() });
    }
    Ok((device, standing))
}

fn read_term(
    run: &Run<'_, '_>,
    contract: &Contract,
    name: &str,
    value: &Cbor,
    standing: &mut Standing,
) -> Result<(), Refusal> {
    let kind = match contract.parties.get(name) {
        Some(_) => FieldType::Party,
        None => contract.fields.get(name).copied().unwrap_or(FieldType::Text),
    };
    let datum = kind.read(value).ok_or_else(|| bad_argument(name, value, kind.expected()))?;
    match (contract.parties.get(name), datum) {
        (Some(role_kind), Datum::Text(id)) => {
            check_kind(run, &id, role_kind)?;
            standing.parties.insert(name.to_owned(), id);
        }
        (_, datum) => {
            standing.fields.insert(name.to_owned(), datum);
        }
    }
    Ok(())
}

fn check_kind(run: &Run<'_, '_>, id: &str, role_kind: &str) -> Result<(), Refusal> {
    let (kinds, needs): (&[PartyKind], _) = match role_kind {
        "organisation" => (&[PartyKind::Organisation], "an organisation"),
        "person" => (&[PartyKind::Person], "a person"),
        "agent" => (&[PartyKind::Agent], "an agent"),
        "regulator" => (&[PartyKind::Regulator], "a regulator"),
        _ => (
            &[PartyKind::Organisation, PartyKind::Person, PartyKind::Regulator],
            "an organisation, person or regulator",
        ),
    };
    let party = PartyId::try_new(id).map_err(|_| Refusal::UnknownParty { party: id.to_owned(), needs })?;
    run.named(&party, kinds, needs).map(|_| ())
}

/// The conditions of the contract among the terms, defaults filled in.
fn check_requirements(
    run: &Run<'_, '_>,
    contract: &Contract,
    device: &DeviceId,
    standing: &Standing,
) -> Result<(), Refusal> {
    let stand_in = AgreementId::try_new(format!("{}-0", contract.prefix));
    let id = stand_in.map_err(|_| crate::records::corrupt(contract.prefix.as_bytes()))?;
    let agreement: Agreement = super::blank(contract, id, device, standing.clone(), run);
    let args = BTreeMap::new();
    let now = run.block.time;
    let scope = Scope { agreement: &agreement, args: &args, trigger: None, caller: None, candidate: None, now };
    for requirement in &contract.standing.require {
        let what = || format!("`{}`", requirement.source());
        let holds = requirement.holds(&scope).map_err(|reason| Refusal::Arithmetic { what: what(), reason })?;
        if !holds {
            let subject = format!("{} for {device}", contract.name);
            return Err(Refusal::GuardRefused { subject, action: "standing".to_owned(), guard: what() });
        }
    }
    Ok(())
}

/// The terms under which an agreement about `device` opens now. Terms made for an earlier version of the contract hold as
/// long as they still say everything the version in force asks for.
pub(super) fn terms_for(run: &Run<'_, '_>, contract: &Contract, device: &DeviceId) -> Result<Standing, Refusal> {
    let none = || Refusal::NoStandingTerms { contract: contract.name.to_string(), device: device.to_string() };
    let terms: Standing = run.load(&keys::standing(&contract.name, device))?.ok_or_else(none)?;
    let says = |name: &String| match contract.fields.get(name) {
        Some(kind) => terms.fields.get(name).is_some_and(|datum| same_shape(datum, &kind.zero())),
        None => terms.parties.contains_key(name),
    };
    let still_typed =
        |(name, datum): (&String, &Datum)| contract.fields.get(name).is_none_or(|kind| same_shape(datum, &kind.zero()));
    if !contract.standing.required.iter().all(says) || !terms.fields.iter().all(still_typed) {
        return Err(none());
    }
    Ok(terms)
}

fn same_shape(a: &Datum, b: &Datum) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}
