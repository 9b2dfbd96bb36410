//! `access/request`: a permit against the policies in force.

use super::quarantine::check_free;
use super::records::Grants;
use super::{burn, short_text};
use crate::args::Args;
use crate::engine::bad_argument;
use crate::records::{Device, Skills, corrupt};
use crate::registry::{self, By};
use crate::run::Run;
use crate::state::StateRead;
use crate::{Refusal, keys};
use std::time::Duration;
use tally_evidence::cbor::{Cbor, from_value, int, text, to_value};
use tally_evidence::{Allowed, POLICY_ITEMS_MAX, PartyKind, Permit, Policy, Right, Who, is_sender};
use tally_model::{DeviceId, PointId, Timestamp, Value};

/// Most open permits of one requester, one device, one agent.
const OPEN_MAX: usize = 256;
/// Longest text that may be written, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;
/// Longest account of how a command came, in bytes.
const SAID_BYTES_MAX: usize = 1_024;

/// What is asked for.
struct Asked {
    device: DeviceId,
    point: PointId,
    right: Right,
    value: Option<Value>,
    from: Timestamp,
    lasts: Option<Duration>,
    carried: bool,
    /// For whom, when the agent asks because it was told to by somebody without a key.
    sender: Option<String>,
}

pub(super) fn request(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let asked = read(run, args)?;
    let device = registry::device(run, &asked.device)?;
    check_free(run, &device.agent, &asked.device)?;
    // Who is revoked neither allows anything any more nor carries anything out.
    run.named(&device.agent, &[PartyKind::Agent], "the device's agent, unrevoked and")?;
    run.named(&device.owner, &[PartyKind::Organisation], "the device's owner, unrevoked and")?;
    if run.state.get(&keys::bar(&device.owner, by.signer)).is_some() {
        return Err(Refusal::PartyBarred { party: by.signer.to_string(), owner: device.owner.to_string() });
    }
    check_speaks_for(by, &device, &asked)?;
    let (policy, allowed) = find_policy(run, by, &device, &asked)?;
    let permit = permit(run, by, &device, &asked, &policy, &allowed)?;
    count_open(run, by, &permit)?;
    note_grant(run, rate_key(by, &device, &asked, &policy), &policy)?;
    store(run, &permit);
    Ok(())
}

/// Only the device's agent hears those who have no key; anybody else's word about them would be hearsay.
fn check_speaks_for(by: By<'_>, device: &Device, asked: &Asked) -> Result<(), Refusal> {
    if asked.sender.is_none() || device.agent == *by.signer {
        return Ok(());
    }
    let (signer, device, agent) = (by.signer.to_string(), asked.device.to_string(), device.agent.to_string());
    Err(Refusal::NotTheAgent { signer, device, agent })
}

fn read(run: &Run<'_, '_>, args: &mut Args<'_>) -> Result<Asked, Refusal> {
    let device = args.parse("device", "a device id")?;
    let point = args.parse("point", "a point id")?;
    let word = args.need("right")?;
    let right = word.as_text().and_then(Right::from_word);
    let right = right.ok_or_else(|| bad_argument("right", word, "read, write or call"))?;
    let value = read_value(args, right)?;
    let micros = |value: &Cbor| value.as_integer().and_then(|number| i64::try_from(number).ok());
    let from = args.take("from").map(|value| micros(value).ok_or_else(|| bad_argument("from", value, "a time in µs")));
    let lasts = args.take("lasts").map(|value| {
        let positive = micros(value).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
        positive.map(Duration::from_micros).ok_or_else(|| bad_argument("lasts", value, "a duration in µs, above zero"))
    });
    let carried = args.take("carried").map(|value| {
        value.as_bool().ok_or_else(|| bad_argument("carried", value, "true (you bring it to the agent) or false"))
    });
    let sender = read_sender(args)?;
    // Nobody is allowed anything in the past: the permit begins now at the earliest.
    let from = from.transpose()?.map_or(run.block.time, Timestamp::from_micros).max(run.block.time);
    Ok(Asked {
        device,
        point,
        right,
        value,
        from,
        lasts: lasts.transpose()?,
        carried: carried.transpose()?.unwrap_or(false),
        sender,
    })
}

/// `sender`, with `said`: how it came (broker, topic, id, time), for whoever reads the entry.
fn read_sender(args: &mut Args<'_>) -> Result<Option<String>, Refusal> {
    let said = short_text(args, "said", SAID_BYTES_MAX)?;
    let Some(value) = args.take("sender") else {
        return if said.is_some() { Err(Refusal::MissingArgument { argument: "sender".to_owned() }) } else { Ok(None) };
    };
    let sender = value.as_text().filter(|name| is_sender(name));
    let sender = sender.ok_or_else(|| bad_argument("sender", value, "a name of 1 to 256 bytes"))?;
    Ok(Some(sender.to_owned()))
}

/// A write says what, a read says nothing, a call may.
fn read_value(args: &mut Args<'_>, right: Right) -> Result<Option<Value>, Refusal> {
    let Some(value) = args.take("value") else {
        let missing = Refusal::MissingArgument { argument: "value".to_owned() };
        return if right == Right::Write { Err(missing) } else { Ok(None) };
    };
    if right == Right::Read {
        return Err(bad_argument("value", value, "none: a read has no value"));
    }
    let fits = |value: &Value| !matches!(value, Value::Text(text) if text.len() > TEXT_BYTES_MAX);
    let read = to_value(value).filter(fits);
    read.map(Some).ok_or_else(|| bad_argument("value", value, "a flag, a number or a text of at most 1024 bytes"))
}

/// The first policy, by name, that allows it. When none does, the refusal of the one that came nearest.
fn find_policy(run: &Run<'_, '_>, by: By<'_>, device: &Device, asked: &Asked) -> Result<(Policy, Allowed), Refusal> {
    let mut nearest = Refusal::NoPolicy {
        signer: asked.sender.clone().unwrap_or_else(|| by.signer.to_string()),
        right: asked.right.word(),
        device: asked.device.to_string(),
        point: asked.point.to_string(),
        owner: device.owner.to_string(),
    };
    for (key, bytes) in run.state.scan(&keys::device_policies(&asked.device), POLICY_ITEMS_MAX) {
        let policy = Policy::decode(&bytes).map_err(|_| corrupt(&key))?;
        let allowed = policy.points.get(&asked.point).filter(|allowed| allowed.rights.contains(&asked.right)).cloned();
        let Some(allowed) = allowed else { continue };
        if !is_meant(run, by, asked, &policy)? {
            continue;
        }
        match check(run, by, device, asked, &policy, &allowed) {
            Ok(()) => return Ok((policy, allowed)),
            Err(refusal) if !is_of_policy(&refusal) => return Err(refusal),
            Err(refusal) if refusal.number() > nearest.number() => nearest = refusal,
            Err(_) => {}
        }
    }
    Err(nearest)
}

/// A no of one policy, after which another may still say yes. Everything else, a broken state above all, is the answer.
const fn is_of_policy(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::OutOfBounds { .. } | Refusal::OutOfHours { .. } | Refusal::TooMany { .. })
}

fn is_meant(run: &Run<'_, '_>, by: By<'_>, asked: &Asked, policy: &Policy) -> Result<bool, Refusal> {
    for who in &policy.who {
        // A clause for a sender is for nobody else, and one for parties is for no sender.
        if who.sender == asked.sender && fits(run, by, who)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn fits(run: &Run<'_, '_>, by: By<'_>, who: &Who) -> Result<bool, Refusal> {
    let is_party = who.party.as_ref().is_none_or(|party| party == by.signer);
    let is_of = |firm| by.signer == firm || by.party.firm.as_ref() == Some(firm);
    if !is_party || !who.firm.as_ref().is_none_or(is_of) {
        return Ok(false);
    }
    let Some(skill) = &who.skill else { return Ok(true) };
    let Some(firm) = &by.party.firm else { return Ok(false) };
    let skills: Option<Skills> = run.load(&keys::person(firm, by.signer))?;
    Ok(skills.is_some_and(|Skills(skills)| skills.contains(skill)))
}

/// What of it the range of a policy is about: whatever is written, and the one number that something is called with, also as a list of
/// one. The words for an alarm are no number, and neither are several arguments: those the mapping bounds, one by one.
fn bounded(right: Right, value: &Value) -> Option<Value> {
    match (right, value) {
        (Right::Write, value) => Some(value.clone()),
        (Right::Call, Value::Integer(_) | Value::Unsigned(_) | Value::Float(_)) => Some(value.clone()),
        (Right::Call, Value::Text(list)) => {
            let one = list.trim().strip_prefix('[')?.strip_suffix(']')?;
            one.trim().parse().ok().map(Value::Float)
        }
        (Right::Call, Value::Bool(_)) | (Right::Read, _) => None,
    }
}

/// In the order of the refusal numbers.
fn check(
    run: &Run<'_, '_>,
    by: By<'_>,
    device: &Device,
    asked: &Asked,
    policy: &Policy,
    allowed: &Allowed,
) -> Result<(), Refusal> {
    if let Some(value) = &asked.value
        && let Some(number) = bounded(asked.right, value)
        && !allowed.takes(&number)
    {
        let words = allowed.range.map_or_else(String::new, |(low, high)| format!("{low} to {high}"));
        let (point, policy) = (asked.point.to_string(), policy.id.to_string());
        return Err(Refusal::OutOfBounds { point, found: value.to_string(), allowed: words, policy });
    }
    let is_dated = policy.from.is_none_or(|from| asked.from >= from) && policy.until.is_none_or(|to| asked.from < to);
    // Asked outside of the shift, and asked for a time outside of it, are both outside.
    let in_shift = policy.shift_end(asked.from).is_some() && policy.shift_end(run.block.time).is_some();
    if !is_dated || !in_shift {
        return Err(Refusal::OutOfHours { policy: policy.id.to_string(), at: asked.from.to_string() });
    }
    let Some((count, period)) = policy.rate else { return Ok(()) };
    let recent = recent(run, &rate_key(by, device, asked, policy), period)?;
    if recent.len() as u64 >= count {
        let who = asked.sender.as_deref().unwrap_or(by.signer.as_str());
        let what = format!("permits of policy `{}` for `{who}` within {} s", policy.id, period.as_secs());
        return Err(Refusal::TooMany { what, limit: count });
    }
    Ok(())
}

/// Each who asks has a rate of his own; so has each sender behind an agent.
fn rate_key(by: By<'_>, device: &Device, asked: &Asked, policy: &Policy) -> Vec<u8> {
    let mut key = keys::rate(&device.owner, &policy.id, by.signer);
    if let Some(sender) = &asked.sender {
        key.push(0);
        key.extend_from_slice(sender.as_bytes());
    }
    key
}

fn recent(run: &Run<'_, '_>, key: &[u8], period: Duration) -> Result<Vec<Timestamp>, Refusal> {
    let grants: Option<Grants> = run.load(key)?;
    let since = run.block.time.minus(period);
    Ok(grants.unwrap_or_default().0.into_iter().filter(|at| *at > since).collect())
}

fn note_grant(run: &mut Run<'_, '_>, key: Vec<u8>, policy: &Policy) -> Result<(), Refusal> {
    let Some((_, period)) = policy.rate else { return Ok(()) };
    let mut recent = recent(run, &key, period)?;
    recent.push(run.block.time);
    run.store(key, &Grants(recent));
    Ok(())
}

fn permit(
    run: &Run<'_, '_>,
    by: By<'_>,
    device: &Device,
    asked: &Asked,
    policy: &Policy,
    allowed: &Allowed,
) -> Result<Permit, Refusal> {
    let lasts = asked.lasts.map_or(policy.lasts, |lasts| lasts.min(policy.lasts));
    let ends = [policy.until, policy.shift_end(asked.from)];
    let until = ends.into_iter().flatten().fold(asked.from.plus(lasts), Timestamp::min);
    if until <= asked.from {
        return Err(Refusal::OutOfHours { policy: policy.id.to_string(), at: asked.from.to_string() });
    }
    Ok(Permit {
        id: by.entry,
        ledger: run.block.ledger.clone(),
        requester: by.signer.clone(),
        sender: asked.sender.clone(),
        agent: device.agent.clone(),
        device: asked.device.clone(),
        point: asked.point.clone(),
        address: allowed.address.clone(),
        right: asked.right,
        value: asked.value.clone(),
        from: asked.from,
        until,
        policy: policy.id.clone(),
        carried: asked.carried,
    })
}

/// What ran out is swept away first: it is in nobody's way.
fn count_open(run: &mut Run<'_, '_>, by: By<'_>, permit: &Permit) -> Result<(), Refusal> {
    for whose in burn::indexes(permit) {
        burn::sweep(run, by, whose)?;
        if run.state.scan(&keys::open_permits(whose.0, whose.1), OPEN_MAX).len() >= OPEN_MAX {
            return Err(Refusal::TooMany { what: format!("open permits of `{}`", whose.1), limit: OPEN_MAX as u64 });
        }
    }
    Ok(())
}

fn store(run: &mut Run<'_, '_>, permit: &Permit) {
    run.state.put(keys::permit(permit.id), permit.encode());
    for (kind, name) in burn::indexes(permit) {
        run.store(keys::open_permit(kind, name, permit.id), &permit.id);
    }
    let mut data = vec![
        ("permit", int(permit.id)),
        ("agent", text(permit.agent.as_str())),
        ("requester", text(permit.requester.as_str())),
        ("policy", text(permit.policy.as_str())),
        ("point", text(permit.point.as_str())),
        ("right", text(permit.right.word())),
        ("from", int(permit.from.as_micros())),
        ("until", int(permit.until.as_micros())),
        ("carried", Cbor::Bool(permit.carried)),
    ];
    data.extend(permit.value.as_ref().map(|value| ("value", from_value(value))));
    data.extend(permit.sender.as_ref().map(|sender| ("sender", text(sender.clone()))));
    let data = data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    run.emit_map("access.permit-granted", permit.device.as_str(), data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_about_what_is_written_and_the_one_number_of_a_call() {
        let allowed = Allowed { address: String::new(), rights: Vec::new(), range: Some((0.0, 80.0)) };
        let refuses = |right, value: Value| bounded(right, &value).is_some_and(|value| !allowed.takes(&value));
        for (value, is_refused) in [
            (Value::Integer(80), false),
            (Value::Integer(81), true),
            (Value::Integer(-1), true),
            (Value::Float(80.000_001), true),
            (Value::Float(f64::NAN), true),
            (Value::Float(f64::INFINITY), true),
            (Value::Unsigned(u64::MAX), true),
            (Value::Text("[80]".to_owned()), false),
            (Value::Text(" [ 8.1e1 ] ".to_owned()), true),
            (Value::Text("[nan]".to_owned()), true),
            // The mapping bounds these, argument by argument.
            (Value::Text("[81, 1]".to_owned()), false),
            (Value::Text("seen".to_owned()), false),
            (Value::Bool(true), false),
        ] {
            assert_eq!(refuses(Right::Call, value.clone()), is_refused, "called with {value:?}");
        }
        assert!(refuses(Right::Write, Value::Text("5".to_owned())) && refuses(Right::Write, Value::Float(f64::NAN)));
        assert!(!refuses(Right::Read, Value::Integer(81)));
    }
}
