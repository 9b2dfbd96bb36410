//! Entry 0: parties, devices, rules, accounts, money, contracts and standing terms in one call, sealed by the ledger.

use super::{put_contract, put_device, put_party, put_rule, retirement};
use crate::args::{Args, as_args};
use crate::engine::bad_argument;
use crate::records::Founding;
use crate::run::Run;
use crate::{Kernel, Refusal, StateRead, accounts, agreements, keys};
use tally_evidence::cbor::{Cbor, int};
use tally_evidence::{CallBody, DeviceRecord, KeyScheme, PartyRecord, RuleRecord};
use tally_model::{ContractName, PartyId};

/// Executes the genesis. `signer` must be the ledger itself; its seal was checked with the ledger's key.
pub(crate) fn genesis(
    kernel: &Kernel,
    run: &mut Run<'_, '_>,
    entry: u64,
    signer: &PartyId,
    body: &CallBody,
) -> Result<(), Refusal> {
    if entry != 0 || signer.as_str() != run.block.ledger || run.state.get(keys::GENESIS).is_some() {
        return Err(Refusal::GenesisOutOfPlace { entry, signer: signer.to_string() });
    }
    let mut args = Args::new(&body.args);
    parties(run, args.array("parties")?)?;
    for value in args.array("devices")? {
        put_device(run, entry, &Args::record("devices", value, DeviceRecord::from_cbor)?)?;
    }
    for value in args.array("rules")? {
        put_rule(run, entry, &Args::record("rules", value, RuleRecord::from_cbor)?)?;
    }
    let founding = founders(run, &mut args)?;
    run.store(keys::GENESIS.to_vec(), &founding);
    money(run, &mut args)?;
    for value in args.array("contracts")? {
        let yaml = value.as_text().ok_or_else(|| bad_argument("contracts", value, "YAML texts"))?;
        put_contract(run, entry, yaml)?;
    }
    for value in args.array("standing")? {
        standing(kernel, run, value)?;
    }
    args.finish()?;
    let count = run.events.len() as u64;
    run.emit("registry.genesis", signer.as_str(), [("events", int(count))]);
    Ok(())
}

/// Firms first, for people and agents name theirs.
fn parties(run: &mut Run<'_, '_>, values: &[Cbor]) -> Result<(), Refusal> {
    let records = values.iter().map(|value| Args::record("parties", value, PartyRecord::from_cbor));
    let records = records.collect::<Result<Vec<_>, _>>()?;
    let (firms, others): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.firm.is_none());
    firms.into_iter().chain(others).try_for_each(|record| put_party(run, 0, record))
}

fn founders(run: &Run<'_, '_>, args: &mut Args<'_>) -> Result<Founding, Refusal> {
    let party = |name: &str, value: &Cbor| {
        let id = value.as_text().and_then(|text| PartyId::try_new(text).ok());
        let id = id.ok_or_else(|| bad_argument(name, value, "a party id"))?;
        run.named(&id, &[], "a party")?;
        Ok(id)
    };
    let admins = args.array("admins")?.iter().map(|value| party("admins", value)).collect::<Result<_, _>>()?;
    let issuer = args.take("issuer").map(|value| party("issuer", value)).transpose()?;
    Ok(Founding { issuer, admins, retire_after: retire_after(args)?, keys: state_keys(args)? })
}

/// Ledgers from before retiring do not say, and keep everything.
fn retire_after(args: &mut Args<'_>) -> Result<Option<i64>, Refusal> {
    args.take("retire-after").map(|value| retirement::micros("retire-after", value)).transpose()
}

/// Ledgers from before there were two schemes do not say, and have the first. It is not said in so many words, so that there is one
/// form of it.
fn state_keys(args: &mut Args<'_>) -> Result<KeyScheme, Refusal> {
    let Some(value) = args.take("state-keys") else { return Ok(KeyScheme::Scattered) };
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    let scheme = number.and_then(KeyScheme::from_number).filter(|scheme| *scheme != KeyScheme::Scattered);
    scheme.ok_or_else(|| bad_argument("state-keys", value, "2, or nothing"))
}

fn money(run: &mut Run<'_, '_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    for value in args.array("accounts")? {
        let account = as_args("accounts", value)?;
        let mut account = Args::new(&account);
        let (owner, currency) = (account.parse::<PartyId>("owner", "a party id")?, account.currency()?);
        account.finish()?;
        open(run, &owner, currency)?;
    }
    for value in args.array("issue")? {
        let issue = as_args("issue", value)?;
        let mut issue = Args::new(&issue);
        let owner: PartyId = issue.parse("owner", "a party id")?;
        let (currency, amount) = (issue.currency()?, issue.amount()?);
        issue.finish()?;
        open(run, &owner, currency)?;
        accounts::issue_to(run, owner.as_str(), currency, amount)?;
    }
    Ok(())
}

fn open(run: &mut Run<'_, '_>, owner: &PartyId, currency: &str) -> Result<(), Refusal> {
    run.named(owner, &[tally_evidence::PartyKind::Organisation], "an organisation")?;
    run.open_account(owner.as_str(), currency)
}

/// As if the owner of the device had sealed them; accounts that the terms need are opened.
fn standing(kernel: &Kernel, run: &mut Run<'_, '_>, value: &Cbor) -> Result<(), Refusal> {
    let mut terms = as_args("standing", value)?;
    let contract = terms.remove("contract").unwrap_or(Cbor::Null);
    let name = contract.as_text().and_then(|text| ContractName::try_new(text).ok());
    let name = name.ok_or_else(|| bad_argument("standing.contract", &contract, "the name of a contract"))?;
    agreements::found_standing(kernel, run, &name, &terms)
}
