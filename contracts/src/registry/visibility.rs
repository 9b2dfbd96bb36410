//! `registry/set-visibility`: who may see the key and the metadata of a party, or where a device stands. Why it is made so, and what it
//! cannot do: `docs/decisions/039-who-may-see-a-key.md`. What a node shows to whom: [`crate::sight`].

use super::{By, needs_owner, not_allowed, rotation};
use crate::args::{Args, as_args};
use crate::codec::{Reader, Record, Writer};
use crate::engine::bad_argument;
use crate::records::Party;
use crate::run::Run;
use crate::{Refusal, keys};
use std::collections::BTreeSet;
use tally_evidence::PartyKind;
use tally_evidence::cbor::{Cbor, text};
use tally_model::{DeviceId, PartyId};

/// Most parties that one rule names.
const PARTIES_MAX: usize = 64;
/// Roles at a node's interface that a rule can name. An operator sees everything: he holds the log.
const ROLES: [&str; 3] = ["agent", "auditor", "regulator"];

/// Who may see it besides itself, its firm or owner, and operators.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Audience {
    pub parties: Vec<PartyId>,
    pub roles: Vec<String>,
}

/// What was said last, or before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visibility {
    /// From 1.
    pub number: u64,
    /// The entry that says so.
    pub entry: u64,
    /// Who sealed it.
    pub by: PartyId,
    /// `None`: everyone.
    pub audience: Option<Audience>,
}

impl Record for Visibility {
    fn write(&self, to: &mut Writer) {
        to.array(4).uint(self.number).uint(self.entry).text(self.by.as_str());
        match &self.audience {
            Some(Audience { parties, roles }) => drop(to.array(2).texts(parties).texts(roles)),
            None => drop(to.null()),
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(4)?;
        let (number, entry, by) = (from.uint()?, from.uint()?, from.parse()?);
        let audience = from.or_null(|from| {
            from.array_of(2)?;
            let parties = from.texts()?.into_iter().map(|id| PartyId::try_new(id).ok()).collect::<Option<_>>()?;
            Some(Audience { parties, roles: from.texts()? })
        })?;
        Some(Self { number, entry, by, audience })
    }
}

/// Of a party or of a device, by whoever decides about it; each time the whole rule.
pub(super) fn set(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    rotation::needs_current_key(by)?;
    let of = args.need("of")?;
    let (kind, name) = match of.as_text() {
        Some("party") => {
            let id: PartyId = args.parse("id", "a party id")?;
            may_decide(run, by, &id)?;
            (b'p', id.to_string())
        }
        Some("device") => {
            let id: DeviceId = args.parse("id", "a device id")?;
            needs_owner(run, by, &id, "say who sees it")?;
            (b'd', id.to_string())
        }
        _ => return Err(bad_argument("of", of, "`party` or `device`")),
    };
    let audience = audience(run, args.need("to")?)?;
    put(run, by, kind, &name, audience)
}

/// An organisation or a regulator for itself, a person or its firm, the firm of an agent or of a device with a key.
fn may_decide(run: &Run<'_, '_>, by: By<'_>, id: &PartyId) -> Result<(), Refusal> {
    // Also of one that is revoked: what it sealed is there for ever.
    let party: Option<Party> = run.load(&keys::party(id))?;
    let party = party.ok_or_else(|| Refusal::UnknownParty { party: id.to_string(), needs: "a party" })?;
    let (is_self, is_firm) = (id == by.signer, party.firm.as_ref() == Some(by.signer));
    let (may, needs) = match party.kind {
        PartyKind::Organisation | PartyKind::Regulator => (is_self, "itself"),
        PartyKind::Person => (is_self || is_firm, "itself, or its firm"),
        PartyKind::Agent | PartyKind::Device => (is_firm || is_self && party.firm.is_none(), "its firm"),
    };
    if may { Ok(()) } else { Err(not_allowed(by, format!("say who sees the key of `{id}`"), needs)) }
}

/// `everyone`, or lists of parties and roles; empty lists are nobody else.
fn audience(run: &Run<'_, '_>, value: &Cbor) -> Result<Option<Audience>, Refusal> {
    if let Some(word) = value.as_text() {
        let wrong = || bad_argument("to", value, "`everyone`, or a map with `parties` and `roles`");
        return if word == "everyone" { Ok(None) } else { Err(wrong()) };
    }
    let lists = as_args("to", value)?;
    let mut lists = Args::new(&lists);
    lists.need("parties").and_then(|_| lists.need("roles"))?;
    let (mut parties, mut roles) = (BTreeSet::new(), BTreeSet::new());
    for value in lists.array("parties")? {
        let id = value.as_text().and_then(|id| PartyId::try_new(id).ok());
        let id = id.ok_or_else(|| bad_argument("to.parties", value, "party ids"))?;
        run.named(&id, &[], "a party")?;
        parties.insert(id);
    }
    for value in lists.array("roles")? {
        let role = value.as_text().filter(|role| ROLES.contains(role));
        let expected = || format!("one of {} (operators see everything: they hold the log)", ROLES.join(", "));
        roles.insert(role.ok_or_else(|| bad_argument("to.roles", value, expected()))?.to_owned());
    }
    lists.finish()?;
    if parties.len() > PARTIES_MAX {
        return Err(Refusal::TooMany { what: "parties in one rule".to_owned(), limit: PARTIES_MAX as u64 });
    }
    Ok(Some(Audience { parties: parties.into_iter().collect(), roles: roles.into_iter().collect() }))
}

/// The rule before goes into the history; what is hidden from anybody is also in a list of its own, which is short.
fn put(run: &mut Run<'_, '_>, by: By<'_>, kind: u8, name: &str, audience: Option<Audience>) -> Result<(), Refusal> {
    let place = keys::visibility(kind, name);
    let before: Option<Visibility> = run.load(&place)?;
    if before.as_ref().and_then(|before| before.audience.as_ref()) == audience.as_ref() {
        return Err(Refusal::AlreadyRegistered { what: format!("this rule of who sees `{name}`") });
    }
    let number = before.as_ref().map_or(0, |before| before.number).saturating_add(1);
    if let Some(before) = before {
        run.store(keys::past_visibility(kind, name, before.number), &before);
    }
    match &audience {
        Some(_) => run.store(keys::hidden(kind, name), &by.entry),
        None => run.state.delete(keys::hidden(kind, name)),
    }
    let list = |items: Vec<&str>| Cbor::Array(items.into_iter().map(text).collect());
    let (word, to) = (if kind == b'p' { "party" } else { "device" }, audience.as_ref());
    let mut data = vec![("of", text(word)), ("by", text(by.signer.as_str()))];
    data.push(("everyone", Cbor::Bool(to.is_none())));
    data.extend(to.map(|to| ("parties", list(to.parties.iter().map(PartyId::as_str).collect()))));
    data.extend(to.map(|to| ("roles", list(to.roles.iter().map(String::as_str).collect()))));
    run.store(place, &Visibility { number, entry: by.entry, by: by.signer.clone(), audience });
    let data = data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    run.emit_map("registry.visibility-set", name, data);
    Ok(())
}
