//! The native contract `access`: who may have what read, written or called on a device, once.
//!
//! ```text
//! owner      policy ──▶ who, on which points, what, within which bounds, how often, when
//! requester  request ──▶ a permit: one thing, once, within a time; or a numbered refusal
//! agent      result ──▶ what its gate did with the permit, which is burnt; attempt ──▶ what it turned away
//! owner      revoke a permit, a policy, a party; quarantine a device or an agent; lift
//! ```
//! A permit stands in the state as long as it is open: see [`tally_evidence::Permit`].

mod burn;
mod live;
mod quarantine;
mod records;
mod report;
mod request;
mod views;

use crate::Refusal;
use crate::args::Args;
use crate::engine::bad_argument;
use crate::registry::{self, By, not_allowed};
use crate::run::Run;
use crate::state::StateRead;
use crate::{keys, records as common};
use records::PolicyRow;
use tally_evidence::cbor::{Cbor, text};
use tally_evidence::{CallBody, POLICY_ITEMS_MAX, PartyKind, Policy};
use tally_model::{DeviceId, PartyId, PolicyId};

pub(crate) use burn::{revoke_all_of, revoke_all_on};
pub(crate) use live::entries_in_force;
pub(crate) use quarantine::check_free;
pub use views::{OpenPermit, PolicyView, QuarantineView, permits, policies, quarantines};

const ACTIONS: &str = "policy, request, revoke, result, attempt, quarantine, lift";

pub(crate) fn call(run: &mut Run<'_, '_>, by: By<'_>, body: &CallBody) -> Result<(), Refusal> {
    let mut args = Args::new(&body.args);
    match body.action.as_str() {
        "policy" => set_policy(run, by, &mut args)?,
        "request" => request::request(run, by, &mut args)?,
        "revoke" => burn::revoke(run, by, &mut args)?,
        "result" => report::result(run, by, &mut args)?,
        "attempt" => report::attempt(run, by, &mut args)?,
        "quarantine" => quarantine::quarantine(run, by, &mut args)?,
        "lift" => quarantine::lift(run, by, &mut args)?,
        other => {
            let (contract, known) = ("access".to_owned(), ACTIONS.to_owned());
            return Err(Refusal::UnknownAction { contract, action: other.to_owned(), known });
        }
    }
    args.finish()
}

/// A new policy, or another one in place of the one with its name: open permits of that one are burnt, because they were
/// granted under other words.
fn set_policy(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let value = args.need("policy")?;
    let bytes = value.as_bytes().ok_or_else(|| bad_argument("policy", value, "the bytes of a policy"))?;
    let policy = Policy::decode(bytes).map_err(|fault| bad_argument("policy", value, fault.to_string()))?;
    for device in &policy.devices {
        let owner = registry::device(run, device)?.owner;
        if owner != *by.signer {
            return Err(not_allowed(by, format!("set a policy for device `{device}`"), format!("its owner `{owner}`")));
        }
    }
    remove_policy(run, by, &policy.id)?;
    if !policy.is_empty() {
        store_policy(run, by, &policy, bytes)?;
    }
    let devices = policy.devices.iter().map(|device| text(device.as_str())).collect();
    let data = [("policy", text(policy.id.as_str())), ("devices", Cbor::Array(devices))];
    run.emit("access.policy-set", by.signer.as_str(), data);
    Ok(())
}

fn store_policy(run: &mut Run<'_, '_>, by: By<'_>, policy: &Policy, bytes: &[u8]) -> Result<(), Refusal> {
    for device in &policy.devices {
        if run.state.scan(&keys::device_policies(device), POLICY_ITEMS_MAX).len() >= POLICY_ITEMS_MAX {
            let (what, limit) = (format!("policies for device `{device}`"), POLICY_ITEMS_MAX as u64);
            return Err(Refusal::TooMany { what, limit });
        }
        run.state.put(keys::device_policy(device, &policy.id), bytes.to_vec());
    }
    let row = PolicyRow { entry: by.entry, bytes: bytes.to_vec() };
    run.store(keys::policy(by.signer, &policy.id), &row);
    Ok(())
}

/// Takes a policy away, and burns the permits that were granted under it. Whether there was one.
fn remove_policy(run: &mut Run<'_, '_>, by: By<'_>, id: &PolicyId) -> Result<bool, Refusal> {
    let key = keys::policy(by.signer, id);
    let Some(PolicyRow { bytes, .. }) = run.load(&key)? else { return Ok(false) };
    let policy = Policy::decode(&bytes).map_err(|_| common::corrupt(&key))?;
    for device in &policy.devices {
        // It may be somebody else's by now, with a policy of the same name.
        if registry::device(run, device)?.owner != *by.signer {
            continue;
        }
        burn::revoke_where(run, by, (b'd', device.as_str()), |permit| permit.policy == *id)?;
        run.state.delete(keys::device_policy(device, id));
    }
    run.state.delete(key);
    Ok(true)
}

/// A device changed hands: what the old owner allowed on it, and what was granted under that, ends. Its policies go on for the
/// other devices that they name.
pub(crate) fn end_policies_on(run: &mut Run<'_, '_>, by: By<'_>, device: &DeviceId) -> Result<(), Refusal> {
    burn::revoke_all_on(run, by, device)?;
    for (key, _) in run.state.scan(&keys::device_policies(device), POLICY_ITEMS_MAX) {
        run.state.delete(key);
    }
    Ok(())
}

/// A device's owner, or an admin of the ledger.
fn is_admin(run: &Run<'_, '_>, party: &PartyId) -> Result<bool, Refusal> {
    Ok(registry::admins(run)?.contains(party))
}

/// Only an agent reports what its gate did.
fn needs_agent(by: By<'_>, what: &str) -> Result<(), Refusal> {
    if by.party.kind == PartyKind::Agent { Ok(()) } else { Err(not_allowed(by, what, "an agent")) }
}

/// A permit is named by the entry that requested it.
fn permit_id(args: &mut Args<'_>) -> Result<Option<u64>, Refusal> {
    let read = |value: &Cbor| value.as_integer().and_then(|number| u64::try_from(number).ok());
    let expected = "the number of a permit: the entry that requested it";
    args.take("permit").map(|value| read(value).ok_or_else(|| bad_argument("permit", value, expected))).transpose()
}

/// An optional text of at most so many bytes.
fn short_text<'a>(args: &mut Args<'a>, name: &'static str, bytes_max: usize) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = args.take(name) else { return Ok(None) };
    let found = value.as_text().filter(|text| text.len() <= bytes_max);
    found.map(Some).ok_or_else(|| bad_argument(name, value, format!("a text of at most {bytes_max} bytes")))
}
