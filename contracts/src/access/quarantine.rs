//! Quarantine: a device or agent that misbehaves is cut off by one call. Its triggers and permits are refused until it is
//! lifted; its anchors are still taken, because what it read meanwhile is evidence.

use super::records::Quarantine;
use super::{burn, is_admin, short_text};
use crate::args::Args;
use crate::records::Party;
use crate::registry::{self, By, not_allowed};
use crate::run::Run;
use crate::state::StateRead;
use crate::{Refusal, keys};
use tally_evidence::PartyKind;
use tally_evidence::cbor::text;
use tally_model::{DeviceId, PartyId};

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// What is cut off.
enum Target {
    Device(DeviceId),
    Agent(PartyId),
}

impl Target {
    fn name(&self) -> (u8, &str) {
        match self {
            Self::Device(id) => (b'd', id.as_str()),
            Self::Agent(id) => (b'a', id.as_str()),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Device(id) => format!("device `{id}`"),
            Self::Agent(id) => format!("agent `{id}`"),
        }
    }
}

/// Neither the agent nor the device is in quarantine.
pub(crate) fn check_free(run: &Run<'_, '_>, agent: &PartyId, device: &DeviceId) -> Result<(), Refusal> {
    for (kind, name, what) in [(b'a', agent.as_str(), "agent"), (b'd', device.as_str(), "device")] {
        if let Some(Quarantine { by, reason, .. }) = run.load(&keys::quarantine(kind, name))? {
            return Err(Refusal::Quarantined { what: format!("{what} `{name}`"), by: by.to_string(), reason });
        }
    }
    Ok(())
}

pub(super) fn quarantine(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let target = target(args)?;
    let reason = short_text(args, "reason", REASON_BYTES_MAX)?.unwrap_or("no reason given");
    may(run, by, &target)?;
    let (kind, name) = target.name();
    let key = keys::quarantine(kind, name);
    if run.state.get(&key).is_some() {
        return Err(Refusal::AlreadyRegistered { what: format!("quarantine of {}", target.words()) });
    }
    run.store(key, &Quarantine { entry: by.entry, by: by.signer.clone(), reason: reason.to_owned() });
    burn::revoke_where(run, by, (kind, name), |_| true)?;
    let data = [("what", text(target.words())), ("by", text(by.signer.as_str())), ("reason", text(reason))];
    run.emit("access.quarantined", name, data);
    Ok(())
}

/// Ends a quarantine, or the bar on a party.
pub(super) fn lift(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    if args.take("party").is_some() {
        return unbar(run, by, args);
    }
    let target = target(args)?;
    may(run, by, &target)?;
    let (kind, name) = target.name();
    let key = keys::quarantine(kind, name);
    if run.state.get(&key).is_none() {
        return Err(Refusal::UnknownPermit { what: format!("quarantine of {}", target.words()) });
    }
    run.state.delete(key);
    let data = [("what", text(target.words())), ("by", text(by.signer.as_str()))];
    run.emit("access.lifted", name, data);
    Ok(())
}

fn unbar(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let party: PartyId = args.parse("party", "a party id")?;
    let key = keys::bar(by.signer, &party);
    if run.state.get(&key).is_none() {
        return Err(Refusal::UnknownPermit { what: format!("bar of `{}` on `{party}`", by.signer) });
    }
    run.state.delete(key);
    run.emit("access.party-allowed", party.as_str(), [("owner", text(by.signer.as_str()))]);
    Ok(())
}

fn target(args: &mut Args<'_>) -> Result<Target, Refusal> {
    match (args.take("device").is_some(), args.take("agent").is_some()) {
        (true, false) => Ok(Target::Device(args.parse("device", "a device id")?)),
        (false, true) => Ok(Target::Agent(args.parse("agent", "a party id")?)),
        _ => Err(Refusal::MissingArgument { argument: "device or agent (one of them)".to_owned() }),
    }
}

/// The device's owner, the agent's firm, an admin.
fn may(run: &Run<'_, '_>, by: By<'_>, target: &Target) -> Result<(), Refusal> {
    let (boss, needs) = match target {
        Target::Device(id) => (Some(registry::device(run, id)?.owner), "its owner, or an admin"),
        Target::Agent(id) => {
            let party: Option<Party> = run.load(&keys::party(id))?;
            let agent = party.filter(|party| party.kind == PartyKind::Agent);
            let agent = agent.ok_or_else(|| Refusal::UnknownParty { party: id.to_string(), needs: "an agent" })?;
            (agent.firm, "its firm, or an admin")
        }
    };
    if boss.as_ref() == Some(by.signer) || is_admin(run, by.signer)? {
        return Ok(());
    }
    Err(not_allowed(by, format!("quarantine {} or lift it", target.words()), needs))
}
