//! Who may see what the registry knows: keys, names and skills of parties, places of devices. The rules stand on the ledger
//! (`registry/set-visibility`); these functions say what they mean for one reader. Read only.
//!
//! **What shows a key.** The record, the calls that brought it, and everything it has sealed: whoever has a signature and the bytes under it
//! computes the public key (SEC 1 v2, section 4.1.6), and the key's id in the header says which of the two solutions it is.

use crate::records::{self, Device, Party};
use crate::registry::visibility::{Audience, Visibility};
use crate::{StateRead, keys};
use std::collections::BTreeSet;
use std::fmt;
use tally_evidence::cbor::Cbor;
use tally_evidence::{CallBody, PartyKind, SignedStatement, StatementKind};
use tally_model::{DeviceId, PartyId};

/// The role that sees everything: whoever has the log has what is in it.
const OPERATOR: &str = "operator";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reader {
    /// The party he is known as, when his name is the id of one.
    pub party: Option<PartyId>,
    /// His role at the node: `agent`, `operator`, `auditor`, `regulator`.
    pub role: Option<&'static str>,
}

impl Reader {
    /// Whoever runs the node.
    #[must_use]
    pub const fn operator() -> Self {
        Self { party: None, role: Some(OPERATOR) }
    }

    /// Whether no rule holds for him.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.role == Some(OPERATOR)
    }
}

/// Of what something is shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A party: key, name, skills.
    Party(PartyId),
    /// A device: its site, and the key under its name if it seals itself.
    Device(DeviceId),
}

/// Why something is not shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Withheld {
    /// The party or device; empty when the statement does not say of which it is.
    pub of: String,
    /// Who said so.
    pub by: String,
    /// In which entry.
    pub entry: u64,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, by, entry } = self;
        write!(f, "what is known of `{of}` is withheld by the policy of `{by}`, entry {entry}")
    }
}

/// Whether anything at all is hidden from anybody: one look, and usually the only one.
#[must_use]
pub fn hides_anything(state: &dyn StateRead) -> bool {
    !state.scan(keys::HIDDEN, 1).is_empty()
}

/// Whether `reader` may see everything there is.
///
/// # Errors
/// The first rule that says no.
pub fn everything(state: &dyn StateRead, reader: &Reader) -> Result<(), Withheld> {
    if reader.is_operator() {
        return Ok(());
    }
    for (key, _) in state.scan(keys::HIDDEN, usize::MAX) {
        let name = std::str::from_utf8(key.get(2..).unwrap_or_default()).unwrap_or_default();
        rule(state, reader, key.get(1).copied().unwrap_or_default(), name)?;
    }
    Ok(())
}

/// Whether `reader` may see what is known of `subject`.
///
/// # Errors
/// The rule that says no.
pub fn of(state: &dyn StateRead, reader: &Reader, subject: &Subject) -> Result<(), Withheld> {
    if reader.is_operator() {
        return Ok(());
    }
    match subject {
        Subject::Device(id) => rule(state, reader, b'd', id.as_str()),
        Subject::Party(id) => {
            rule(state, reader, b'p', id.as_str())?;
            // A device that seals itself is a party of the same name: its key is its owner's business, too.
            let party: Result<Option<Party>, _> = records::load(state, &keys::party(id));
            let is_other = party.is_ok_and(|party| party.is_none_or(|party| party.kind != PartyKind::Device));
            if is_other { Ok(()) } else { rule(state, reader, b'd', id.as_str()) }
        }
    }
}

/// Whether `reader` may see a statement: it shows its signer's key, and what it registers.
///
/// # Errors
/// The first rule that says no.
pub fn statement(state: &dyn StateRead, reader: &Reader, statement: &SignedStatement) -> Result<(), Withheld> {
    of(state, reader, &Subject::Party(statement.issuer.clone()))?;
    match registered_in(statement) {
        Some(subjects) => subjects.iter().try_for_each(|subject| of(state, reader, subject)),
        // It carries what cannot be read, so it may carry anybody's.
        None => everything(state, reader),
    }
}

/// Whether `reader` may see the value of a state key.
///
/// # Errors
/// The rule that says no.
pub fn state_key(state: &dyn StateRead, reader: &Reader, key: &[u8]) -> Result<(), Withheld> {
    match subject_of_key(key) {
        Some(subject) => of(state, reader, &subject),
        None => Ok(()),
    }
}

/// The subject of a state value that holds a key or metadata; `docs/formats/state.md`.
fn subject_of_key(key: &[u8]) -> Option<Subject> {
    let (kind, rest) = key.split_first()?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let party = |bytes: &[u8]| PartyId::try_new(text(bytes)?).ok().map(Subject::Party);
    let device = |bytes: &[u8]| DeviceId::try_new(text(bytes)?).ok().map(Subject::Device);
    match kind {
        b'P' => party(rest),
        b'd' => device(rest),
        // A person's skills, under its firm.
        b'f' => party(rest.rsplit(|byte| *byte == 0).next()?),
        b'H' => {
            let (kind, name) = rest.split_first()?;
            let name = name.split(|byte| *byte == 0).next()?;
            if *kind == b'p' { party(name) } else { device(name) }
        }
        _ => None,
    }
}

/// Whose keys or metadata a call of the registry brings; `None` when it does not let itself be read.
fn registered_in(statement: &SignedStatement) -> Option<BTreeSet<Subject>> {
    let mut found = BTreeSet::new();
    if statement.kind != StatementKind::Call {
        return Some(found);
    }
    let body = CallBody::decode(&statement.payload).ok()?;
    if body.contract.as_str() != "registry" {
        return Some(found);
    }
    for (name, value) in &body.args {
        let (read, is_list): (fn(&Cbor) -> Option<Subject>, _) = match name.as_str() {
            "party" => (party_in, false),
            "parties" => (party_in, true),
            "device" => (device_in, false),
            "devices" => (device_in, true),
            _ => continue,
        };
        let records = if is_list { value.as_array()?.as_slice() } else { std::slice::from_ref(value) };
        for record in records {
            found.insert(read(record)?);
        }
    }
    Some(found)
}

/// An id, or the `id` of a record.
fn id_in(value: &Cbor) -> Option<&str> {
    match value {
        Cbor::Map(record) => record.iter().find(|(name, _)| name.as_text() == Some("id"))?.1.as_text(),
        other => other.as_text(),
    }
}

fn party_in(value: &Cbor) -> Option<Subject> {
    PartyId::try_new(id_in(value)?).ok().map(Subject::Party)
}

fn device_in(value: &Cbor) -> Option<Subject> {
    DeviceId::try_new(id_in(value)?).ok().map(Subject::Device)
}

/// What the rule in force says to this reader.
fn rule(state: &dyn StateRead, reader: &Reader, kind: u8, name: &str) -> Result<(), Withheld> {
    let said = records::load::<Visibility>(state, &keys::visibility(kind, name));
    // What cannot be read opens nothing.
    let Ok(said) = said else {
        return Err(Withheld { of: name.to_owned(), by: "(unreadable)".to_owned(), entry: 0 });
    };
    let Some(Visibility { entry, by, audience: Some(audience), .. }) = said else { return Ok(()) };
    if admits(state, reader, &audience, &own(state, kind, name)) {
        return Ok(());
    }
    Err(Withheld { of: name.to_owned(), by: by.to_string(), entry })
}

/// Who always sees it: a party itself and its firm, of a device its owner of today.
fn own(state: &dyn StateRead, kind: u8, name: &str) -> Vec<PartyId> {
    if kind == b'd' {
        let device = DeviceId::try_new(name).ok();
        let device = device.and_then(|id| records::load::<Device>(state, &keys::device(&id)).ok().flatten());
        return device.map(|device| device.owner).into_iter().collect();
    }
    let Ok(itself) = PartyId::try_new(name) else { return Vec::new() };
    let party: Option<Party> = records::load(state, &keys::party(&itself)).unwrap_or_default();
    let firm = party.and_then(|party| party.firm);
    [itself].into_iter().chain(firm).collect()
}

fn admits(state: &dyn StateRead, reader: &Reader, audience: &Audience, own: &[PartyId]) -> bool {
    if reader.role.is_some_and(|role| audience.roles.iter().any(|named| named == role)) {
        return true;
    }
    let Some(party) = &reader.party else { return false };
    let is_named = audience.parties.contains(party) || own.contains(party);
    // Who is revoked is nobody any more.
    is_named && records::load::<Party>(state, &keys::party(party)).ok().flatten().is_some_and(|party| !party.revoked)
}
