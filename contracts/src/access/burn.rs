//! How permits end: revoked one by one or all of somebody's, or swept away when their time is over.

use super::records::Burnt;
use super::{is_admin, permit_id, remove_policy};
use crate::args::Args;
use crate::records::corrupt;
use crate::registry::{self, By, not_allowed};
use crate::run::Run;
use crate::state::StateRead;
use crate::{Refusal, keys};
use tally_evidence::cbor::{int, text};
use tally_evidence::{PartyKind, Permit};
use tally_model::{DeviceId, PartyId, PolicyId};

/// More than a request leaves open ([`super::request`]): a scan finds them all.
const SCAN_MAX: usize = 1_024;

/// Whose open permits are listed: requester, device and agent.
pub(super) fn indexes(permit: &Permit) -> [(u8, &str); 3] {
    [(b'p', permit.requester.as_str()), (b'd', permit.device.as_str()), (b'a', permit.agent.as_str())]
}

/// An open permit.
pub(super) fn open(run: &Run<'_, '_>, id: u64) -> Result<Option<Permit>, Refusal> {
    let key = keys::permit(id);
    run.state.get(&key).map(|bytes| Permit::decode(&bytes).map_err(|_| corrupt(&key))).transpose()
}

/// A permit is open no more.
pub(super) fn burn(run: &mut Run<'_, '_>, entry: u64, permit: &Permit, how: &str, is_reported: bool) {
    run.state.delete(keys::permit(permit.id));
    for (kind, name) in indexes(permit) {
        run.state.delete(keys::open_permit(kind, name, permit.id));
    }
    let burnt = Burnt { how: how.to_owned(), entry, is_reported, permit: permit.encode() };
    run.store(keys::burnt(permit.id), &burnt);
}

fn tell(run: &mut Run<'_, '_>, by: By<'_>, permit: &Permit, how: &str) {
    let data = [
        ("permit", int(permit.id)),
        ("agent", text(permit.agent.as_str())),
        ("by", text(by.signer.as_str())),
        ("how", text(how)),
    ];
    run.emit("access.permit-revoked", permit.device.as_str(), data);
}

fn listed(run: &Run<'_, '_>, (kind, name): (u8, &str)) -> Result<Vec<Permit>, Refusal> {
    let mut permits = Vec::new();
    for (key, id) in run.state.scan(&keys::open_permits(kind, name), SCAN_MAX) {
        let id = <u64 as crate::codec::Record>::from_bytes(&id).ok_or_else(|| corrupt(&key))?;
        permits.push(open(run, id)?.ok_or_else(|| corrupt(&key))?);
    }
    Ok(permits)
}

/// Burns what ran out. Nobody need be told: its time stands in the permit.
pub(super) fn sweep(run: &mut Run<'_, '_>, by: By<'_>, whose: (u8, &str)) -> Result<(), Refusal> {
    for permit in listed(run, whose)? {
        if permit.until < run.block.time {
            burn(run, by.entry, &permit, "expired", false);
        }
    }
    Ok(())
}

/// Revokes open permits of a requester (`p`), a device (`d`) or an agent (`a`).
pub(super) fn revoke_where(
    run: &mut Run<'_, '_>,
    by: By<'_>,
    whose: (u8, &str),
    is_meant: impl Fn(&Permit) -> bool,
) -> Result<(), Refusal> {
    for permit in listed(run, whose)?.iter().filter(|permit| is_meant(permit)) {
        burn(run, by.entry, permit, "revoked", false);
        tell(run, by, permit, "revoked");
    }
    Ok(())
}

/// A party is no more: what it requested, and what it should have carried out.
pub(crate) fn revoke_all_of(run: &mut Run<'_, '_>, by: By<'_>, party: &PartyId) -> Result<(), Refusal> {
    revoke_where(run, by, (b'p', party.as_str()), |_| true)?;
    revoke_where(run, by, (b'a', party.as_str()), |_| true)
}

/// A device is cut off, or has another agent.
pub(crate) fn revoke_all_on(run: &mut Run<'_, '_>, by: By<'_>, device: &DeviceId) -> Result<(), Refusal> {
    revoke_where(run, by, (b'd', device.as_str()), |_| true)
}

/// A permit, a policy with its permits, or a party at all devices of the owner.
pub(super) fn revoke(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    if let Some(id) = permit_id(args)? {
        return revoke_one(run, by, id);
    }
    if args.take("policy").is_some() {
        let id: PolicyId = args.parse("policy", "a policy id")?;
        if !remove_policy(run, by, &id)? {
            return Err(Refusal::UnknownPermit { what: format!("policy `{id}` of `{}`", by.signer) });
        }
        run.emit("access.policy-revoked", by.signer.as_str(), [("policy", text(id.as_str()))]);
        return Ok(());
    }
    if args.take("party").is_some() {
        return bar(run, by, args);
    }
    Err(Refusal::MissingArgument { argument: "permit, policy or party".to_owned() })
}

fn revoke_one(run: &mut Run<'_, '_>, by: By<'_>, id: u64) -> Result<(), Refusal> {
    let Some(permit) = open(run, id)? else {
        let burnt: Option<Burnt> = run.load(&keys::burnt(id))?;
        return Err(match burnt {
            Some(burnt) => Refusal::PermitBurnt { permit: id, how: burnt.how },
            None => Refusal::UnknownPermit { what: format!("permit {id}") },
        });
    };
    let owner = registry::device(run, &permit.device)?.owner;
    if owner != *by.signer && permit.requester != *by.signer && !is_admin(run, by.signer)? {
        let needs = format!("the device's owner `{owner}`, who requested it, or an admin");
        return Err(not_allowed(by, format!("revoke permit {id}"), needs));
    }
    burn(run, by.entry, &permit, "revoked", false);
    tell(run, by, &permit, "revoked");
    Ok(())
}

/// From now on the party gets nothing on devices of the owner, and what it has is burnt.
fn bar(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let party: PartyId = args.parse("party", "a party id")?;
    if by.party.kind != PartyKind::Organisation {
        return Err(not_allowed(by, format!("bar `{party}`"), "an organisation that owns devices"));
    }
    run.named(&party, &[], "a party")?;
    let mut ours = Vec::new();
    for permit in listed(run, (b'p', party.as_str()))? {
        if registry::device(run, &permit.device)?.owner == *by.signer {
            ours.push(permit.id);
        }
    }
    revoke_where(run, by, (b'p', party.as_str()), |permit| ours.contains(&permit.id))?;
    run.store(keys::bar(by.signer, &party), &by.entry);
    run.emit("access.party-barred", party.as_str(), [("owner", text(by.signer.as_str()))]);
    Ok(())
}
