//! Where a device stands, who reads it, and whose it is: `bind-device`, and a transfer of ownership that both sides seal.

use super::{By, check_binding, device, history, needs_owner, not_allowed, store_device};
use crate::args::Args;
use crate::codec::{Reader, Record, Writer};
use crate::datum::Datum;
use crate::engine::bad_argument;
use crate::records::{Device, Standing};
use crate::run::Run;
use crate::state::StateRead;
use crate::{Refusal, access, keys};
use std::time::Duration;
use tally_evidence::cbor::{int, text};
use tally_evidence::{DeviceRecord, PartyKind};
use tally_model::{ContractName, DeviceId, PartyId, Timestamp};

/// An offer holds for so long.
const OFFER_LASTS: Duration = Duration::from_secs(30 * 24 * 3600);

/// An owner offers a device to another organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub entry: u64,
    pub from: PartyId,
    pub to: PartyId,
    pub until: Timestamp,
}

impl Record for Offer {
    fn write(&self, to: &mut Writer) {
        to.array(4).uint(self.entry).text(self.from.as_str()).text(self.to.as_str()).int(self.until.as_micros());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(4)?;
        let (entry, owner, to) = (from.uint()?, from.parse()?, from.parse()?);
        Some(Self { entry, from: owner, to, until: Timestamp::from_micros(from.int()?) })
    }
}

/// The owner binds a device otherwise: to another agent, another site, or both.
pub(super) fn bind(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let value = args.need("device")?;
    let record = Args::record("device", value, DeviceRecord::from_cbor)?;
    let before = device(run, &record.id)?;
    needs_owner(run, by, &record.id, "bind")?;
    if record.owner != before.owner {
        let expected = format!("the owner `{}`; a device changes hands with `registry/offer-transfer`", before.owner);
        return Err(bad_argument("device", value, expected));
    }
    check_binding(run, &record)?;
    if before.agent == record.agent && before.site == record.site {
        return Err(Refusal::AlreadyRegistered { what: format!("this binding of `{}`", record.id) });
    }
    rebind(run, by, &before, &record, "registry.device-bound")
}

/// The device is as `record` says from now on.
fn rebind(
    run: &mut Run<'_, '_>,
    by: By<'_>,
    before: &Device,
    record: &DeviceRecord,
    event: &str,
) -> Result<(), Refusal> {
    history::end_device(run, by.entry, &record.id, before)?;
    if before.agent != record.agent {
        history::forget_readings(run, &record.id);
        // Permits name the agent of before.
        access::revoke_all_on(run, by, &record.id)?;
    }
    store_device(run, by.entry, record, event);
    Ok(())
}

/// The owner offers; a later offer takes the place of an earlier one.
pub(super) fn offer(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let id: DeviceId = args.parse("device", "a device id")?;
    let to: PartyId = args.parse("to", "a party id")?;
    needs_owner(run, by, &id, "offer a transfer")?;
    run.named(&to, &[PartyKind::Organisation], "an organisation")?;
    if to == *by.signer {
        return Err(bad_argument("to", &text(to.as_str()), "another organisation than the owner"));
    }
    let until = run.block.time.plus(OFFER_LASTS);
    let data = [("to", text(to.as_str())), ("from", text(by.signer.as_str())), ("until", int(until.as_micros()))];
    run.store(keys::offer(&id), &Offer { entry: by.entry, from: by.signer.clone(), to, until });
    run.emit("registry.transfer-offered", id.as_str(), data);
    Ok(())
}

pub(super) fn withdraw(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let id: DeviceId = args.parse("device", "a device id")?;
    needs_owner(run, by, &id, "withdraw an offer")?;
    let Some(Offer { to, .. }) = run.load(&keys::offer(&id))? else {
        return Err(Refusal::NotOffered { device: id.to_string(), to: "anybody".to_owned() });
    };
    run.state.delete(keys::offer(&id));
    run.emit("registry.offer-withdrawn", id.as_str(), [("to", text(to.as_str()))]);
    Ok(())
}

/// The new owner accepts, and says which agent reads the device and where it stands from now on. What rested on the word of
/// the old owner ends: rules, policies with their permits, standing terms. No agreement about it may be open: its parties and
/// its money are the old owner's.
pub(super) fn accept(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let record = Args::record("device", args.need("device")?, DeviceRecord::from_cbor)?;
    let before = device(run, &record.id)?;
    if record.owner != *by.signer {
        let what = format!("accept `{}` for `{}`", record.id, record.owner);
        return Err(not_allowed(by, what, "the new owner itself"));
    }
    check_binding(run, &record)?;
    check_no_agreement(run, &record.id)?;
    let offer: Option<Offer> = run.load(&keys::offer(&record.id))?;
    let holds = |offer: &Offer| offer.to == *by.signer && offer.from == before.owner && run.block.time <= offer.until;
    if !offer.as_ref().is_some_and(holds) {
        return Err(Refusal::NotOffered { device: record.id.to_string(), to: by.signer.to_string() });
    }
    run.state.delete(keys::offer(&record.id));
    access::end_policies_on(run, by, &record.id)?;
    end_terms_of(run, &record.id)?;
    for (key, _) in run.state.scan(&keys::device_rules(&record.id), usize::MAX) {
        run.state.delete(key);
    }
    rebind(run, by, &before, &record, "registry.device-transferred")
}

fn end_lists_of(
    run: &mut Run<'_, '_>,
    contract: &ContractName,
    id: &DeviceId,
    terms: &Standing,
) -> Result<(), Refusal> {
    let lists =
        terms.fields.values().filter_map(|field| if let Datum::List(names) = field { Some(names) } else { None });
    for listed in lists.flatten().filter_map(|name| DeviceId::try_new(name).ok()) {
        let key = keys::watched(contract, &listed);
        if run.load::<String>(&key)?.is_some_and(|about| about == id.as_str()) {
            run.state.delete(key);
        }
    }
    Ok(())
}

/// Names of all contracts.
fn contracts(run: &Run<'_, '_>) -> Result<Vec<ContractName>, Refusal> {
    let read = |key: &[u8]| ContractName::try_new(std::str::from_utf8(key.get(1..)?).ok()?).ok();
    let found = run.state.scan(keys::CONTRACTS, usize::MAX).into_iter();
    found.map(|(key, _)| read(&key).ok_or_else(|| crate::records::corrupt(&key))).collect()
}

fn check_no_agreement(run: &Run<'_, '_>, id: &DeviceId) -> Result<(), Refusal> {
    for contract in contracts(run)? {
        // Every contract's key begins with the device.
        if let Some((key, agreement)) = run.state.scan(&keys::open(&contract, [id.as_str()]), 1).pop() {
            let agreement = String::from_bytes(&agreement).ok_or_else(|| crate::records::corrupt(&key))?;
            return Err(Refusal::AlreadyOpen { agreement, key: format!("device `{id}`") });
        }
    }
    Ok(())
}

fn end_terms_of(run: &mut Run<'_, '_>, id: &DeviceId) -> Result<(), Refusal> {
    for contract in contracts(run)? {
        // What it says, it says about itself again; and whom the old owner listed speaks about it no more.
        run.state.delete(keys::watched(&contract, id));
        let key = keys::standing(&contract, id);
        if let Some(terms) = run.load::<Standing>(&key)? {
            end_lists_of(run, &contract, id, &terms)?;
            run.state.delete(key);
            run.emit("standing.ended", id.as_str(), [("contract", text(contract.as_str()))]);
        }
    }
    Ok(())
}
