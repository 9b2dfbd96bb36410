//! Recovery: an organisation that lost its key, or whose key was stolen, gets a new one when enough of those it named beforehand
//! seal the same. Why it is made so, and what an attacker could do: `docs/decisions/027-identity.md`.

use super::rotation::{duration, needs_current_key, new_key, replace};
use super::{By, not_allowed};
use crate::args::Args;
use crate::codec::{Reader, Record, Writer};
use crate::engine::bad_argument;
use crate::run::Run;
use crate::state::StateRead;
use crate::{Refusal, access, keys};
use std::time::Duration;
use tally_evidence::cbor::{Cbor, bytes, int};
use tally_evidence::{PartyKind, VerifyingKey};
use tally_model::{PartyId, Timestamp};

/// Most parties that can recover one organisation.
const ADMINS_MAX: usize = 16;
/// Longest time that a change of them can be made to wait.
const DELAY_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// An approval counts for so long: what was gathered over months is not one decision.
const APPROVAL_LASTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Who recovers an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quorum {
    pub admins: Vec<PartyId>,
    pub needed: u64,
    /// How long a change of this must wait.
    pub delay: Duration,
}

impl Record for Quorum {
    fn write(&self, to: &mut Writer) {
        let delay = u64::try_from(self.delay.as_micros()).unwrap_or(u64::MAX);
        to.array(3).texts(&self.admins).uint(self.needed).uint(delay);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(3)?;
        let admins = from.texts()?.into_iter().map(|id| PartyId::try_new(id).ok()).collect::<Option<_>>()?;
        Some(Self { admins, needed: from.uint()?, delay: Duration::from_micros(from.uint()?) })
    }
}

/// The quorum, and the one that takes its place when its delay is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recovery {
    pub entry: u64,
    pub now: Quorum,
    pub next: Option<(Timestamp, Quorum)>,
}

impl Recovery {
    /// Who recovers at this block time.
    pub(crate) fn at(&self, time: Timestamp) -> &Quorum {
        match &self.next {
            Some((from, next)) if *from <= time => next,
            _ => &self.now,
        }
    }
}

impl Record for Recovery {
    fn write(&self, to: &mut Writer) {
        self.now.write(to.array(3).uint(self.entry));
        match &self.next {
            Some((from, next)) => next.write(to.array(2).int(from.as_micros())),
            None => drop(to.null()),
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(3)?;
        let (entry, now) = (from.uint()?, Quorum::read(from)?);
        let next = from.or_null(|from| {
            from.array_of(2)?;
            Some((Timestamp::from_micros(from.int()?), Quorum::read(from)?))
        });
        Some(Self { entry, now, next: next? })
    }
}

/// Who approved one new key, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Approvals(Vec<(PartyId, Timestamp)>);

impl Record for Approvals {
    fn write(&self, to: &mut Writer) {
        to.array(self.0.len());
        for (party, at) in &self.0 {
            to.array(2).text(party.as_str()).int(at.as_micros());
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let count = from.array()?;
        let one = |from: &mut Reader<'_>| {
            from.array_of(2)?;
            Some((from.parse()?, Timestamp::from_micros(from.int()?)))
        };
        (0..count).map(|_| one(from)).collect::<Option<_>>().map(Self)
    }
}

/// The organisation names who may give it another key. The first time at once; a change waits for the delay of what holds
/// before, so that a thief of the key cannot lock out those who could take it from him.
pub(super) fn set(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    if by.party.kind != PartyKind::Organisation {
        return Err(not_allowed(
            by,
            "name who recovers its key",
            "an organisation (a firm rotates the keys of its own)",
        ));
    }
    needs_current_key(by)?;
    let quorum = read_quorum(run, by, args)?;
    let key = keys::recovery(by.signer);
    let before: Option<Recovery> = run.load(&key)?;
    let time = run.block.time;
    let (recovery, from) = match before {
        None => (Recovery { entry: by.entry, now: quorum, next: None }, time),
        Some(before) => {
            let now = before.at(time).clone();
            let from = time.plus(now.delay);
            let is_at_once = from <= time;
            let (now, next) = if is_at_once { (quorum, None) } else { (now, Some((from, quorum))) };
            (Recovery { entry: by.entry, now, next }, from)
        }
    };
    let said = recovery.next.as_ref().map_or(&recovery.now, |(_, next)| next);
    let data = [
        ("admins", Cbor::Array(said.admins.iter().map(|id| Cbor::Text(id.to_string())).collect())),
        ("needed", int(said.needed)),
        ("from", int(from.as_micros())),
    ];
    run.store(key, &recovery);
    run.emit("registry.recovery-set", by.signer.as_str(), data);
    Ok(())
}

fn read_quorum(run: &Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<Quorum, Refusal> {
    let value = args.need("admins")?;
    let ids = value.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let read = |id: &Cbor| id.as_text().and_then(|id| PartyId::try_new(id).ok());
    let admins: Option<Vec<PartyId>> = ids.map(read).collect();
    let expected = "1 to 16 different party ids, not your own";
    let admins = admins.filter(|admins| (1..=ADMINS_MAX).contains(&admins.len()) && !admins.contains(by.signer));
    let admins = admins.ok_or_else(|| bad_argument("admins", value, expected))?;
    if admins.iter().enumerate().any(|(place, id)| admins[..place].contains(id)) {
        return Err(bad_argument("admins", value, expected));
    }
    for id in &admins {
        let kinds = [PartyKind::Person, PartyKind::Organisation, PartyKind::Regulator];
        run.named(id, &kinds, "a person, organisation or regulator")?;
    }
    let value = args.need("needed")?;
    let needed = value.as_integer().and_then(|number| u64::try_from(number).ok());
    let needed = needed.filter(|needed| (1..=admins.len() as u64).contains(needed));
    let needed = needed.ok_or_else(|| bad_argument("needed", value, "how many of them it takes, at least 1"))?;
    let delay = duration(args, "delay", DELAY_MAX)?.unwrap_or(Duration::from_secs(7 * 24 * 3600));
    Ok(Quorum { admins, needed, delay })
}

/// One of those named seals the new key. The one that completes the number puts it in force; the old key ends at once.
pub(super) fn approve(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let id: PartyId = args.parse("party", "a party id")?;
    let party = run.named(&id, &[PartyKind::Organisation], "an organisation")?;
    let recovery: Option<Recovery> = run.load(&keys::recovery(&id))?;
    let recovery = recovery.ok_or_else(|| Refusal::NoRecovery { party: id.to_string() })?;
    let quorum = recovery.at(run.block.time).clone();
    if !quorum.admins.contains(by.signer) {
        return Err(not_allowed(by, format!("recover `{id}`"), "one of those whom it named for that"));
    }
    needs_current_key(by)?;
    let key = new_key(run, &id, &party, args)?;
    let approvals = add_approval(run, by, &id, &key, &quorum)?;
    let data = [("key", bytes(key.id().0)), ("approvals", int(approvals)), ("needed", int(quorum.needed))];
    if approvals < quorum.needed {
        run.emit("registry.recovery-approved", id.as_str(), data);
        return Ok(());
    }
    replace(run, by, &id, party, &key, None)?;
    for (place, _) in run.state.scan(&keys::all_approvals(&id), usize::MAX) {
        run.state.delete(place);
    }
    // What a thief of the old key had set up for later does not come.
    run.store(keys::recovery(&id), &Recovery { entry: by.entry, now: quorum, next: None });
    access::revoke_all_of(run, by, &id)?;
    run.emit("registry.key-recovered", id.as_str(), data);
    Ok(())
}

/// How many now approve this key. An admin stands behind one key: approving another takes the first approval back.
fn add_approval(
    run: &mut Run<'_, '_>,
    by: By<'_>,
    id: &PartyId,
    key: &VerifyingKey,
    quorum: &Quorum,
) -> Result<u64, Refusal> {
    let mine = keys::approvals(id, &key.id().0);
    for (place, value) in run.state.scan(&keys::all_approvals(id), usize::MAX) {
        let Approvals(mut others) = Approvals::from_bytes(&value).ok_or_else(|| crate::records::corrupt(&place))?;
        others.retain(|(party, _)| party != by.signer);
        match others.is_empty() {
            true => run.state.delete(place),
            false => run.store(place, &Approvals(others)),
        }
    }
    let Approvals(mut approvals) = run.load(&mine)?.unwrap_or_default();
    let since = run.block.time.minus(APPROVAL_LASTS);
    approvals.retain(|(party, at)| *at > since && quorum.admins.contains(party));
    approvals.push((by.signer.clone(), run.block.time));
    let mut count = 0;
    for (party, _) in &approvals {
        count += u64::from(run.named(party, &[], "a party").is_ok());
    }
    run.store(mine, &Approvals(approvals));
    Ok(count)
}
