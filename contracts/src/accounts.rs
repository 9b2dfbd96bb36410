//! The native contract `accounts`: open, issue, transfer.

use crate::args::Args;
use crate::records::{Founding, Party};
use crate::run::Run;
use crate::{Refusal, keys};
use tally_evidence::cbor::{int, text};
use tally_evidence::{CallBody, PartyKind};
use tally_model::PartyId;

/// Longest remark on a transfer, bytes.
const REMARK_BYTES_MAX: usize = 140;
const ACTIONS: &str = "open, issue, transfer";

pub(crate) fn call(run: &mut Run<'_, '_>, signer: &PartyId, party: &Party, body: &CallBody) -> Result<(), Refusal> {
    let mut args = Args::new(&body.args);
    match body.action.as_str() {
        "open" => open(run, signer, party, &mut args)?,
        "issue" => issue(run, signer, &mut args)?,
        "transfer" => transfer(run, signer, party, &mut args)?,
        other => {
            let (contract, known) = ("accounts".to_owned(), ACTIONS.to_owned());
            return Err(Refusal::UnknownAction { contract, action: other.to_owned(), known });
        }
    }
    args.finish()
}

/// Only organisations have accounts; people and agents work for one.
fn needs_organisation(signer: &PartyId, party: &Party, what: &str) -> Result<(), Refusal> {
    if party.kind == PartyKind::Organisation {
        return Ok(());
    }
    let needs = "an organisation, which signs for its own account".to_owned();
    Err(Refusal::NotAllowed { signer: signer.to_string(), what: what.to_owned(), needs })
}

fn open(run: &mut Run<'_, '_>, signer: &PartyId, party: &Party, args: &mut Args<'_>) -> Result<(), Refusal> {
    let currency = args.currency()?;
    needs_organisation(signer, party, "open an account")?;
    let id = keys::account_id(signer.as_str(), currency);
    if run.account(&id)?.is_some() {
        return Err(Refusal::AlreadyRegistered { what: format!("account `{id}`") });
    }
    run.open_account(signer.as_str(), currency)
}

fn issue(run: &mut Run<'_, '_>, signer: &PartyId, args: &mut Args<'_>) -> Result<(), Refusal> {
    let owner: PartyId = args.parse("owner", "a party id")?;
    let (currency, amount) = (args.currency()?, args.amount()?);
    let founding: Option<Founding> = run.load(keys::GENESIS)?;
    let issuer = founding.and_then(|founding| founding.issuer);
    if issuer.as_ref() != Some(signer) {
        let needs = issuer.map_or("an issuer, and the genesis named none".into(), |id| format!("the issuer `{id}`"));
        return Err(Refusal::NotAllowed { signer: signer.to_string(), what: "issue money".into(), needs });
    }
    issue_to(run, owner.as_str(), currency, amount)
}

/// Also how the genesis issues.
pub(crate) fn issue_to(run: &mut Run<'_, '_>, owner: &str, currency: &str, amount: i64) -> Result<(), Refusal> {
    run.issue(owner, currency, amount)?;
    let account = keys::account_id(owner, currency);
    run.emit("accounts.issued", &account, [("amount", int(amount)), ("currency", text(currency))]);
    Ok(())
}

fn transfer(run: &mut Run<'_, '_>, signer: &PartyId, party: &Party, args: &mut Args<'_>) -> Result<(), Refusal> {
    let to: PartyId = args.parse("to", "a party id")?;
    let (currency, amount) = (args.currency()?, args.amount()?);
    let remark = args.take("remark");
    let short = |value: &tally_evidence::cbor::Cbor| value.as_text().is_some_and(|text| text.len() <= REMARK_BYTES_MAX);
    if let Some(value) = remark.filter(|value| !short(value)) {
        return Err(crate::engine::bad_argument("remark", value, "a text of at most 140 bytes"));
    }
    needs_organisation(signer, party, "transfer money")?;
    let (from, to) = (keys::account_id(signer.as_str(), currency), keys::account_id(to.as_str(), currency));
    run.post(&from, &to, amount)?;
    let data = [("to", text(to)), ("amount", int(amount)), ("currency", text(currency))];
    run.emit("accounts.transferred", &from, data);
    Ok(())
}
