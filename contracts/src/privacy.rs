//! The native contract `privacy`: private fields of calls, and that one is purged.
//!
//! ```text
//! any call    an argument is a commitment ──▶ the state knows whose field it is, and that it may be kept
//! submitter   purge ──▶ the state knows that it must not be kept any more; the node erases it
//! or admin
//! ```
//! Here a commitment is a text like any other: what it opens to never comes near a contract, so a state can be computed again when
//! it is gone.

use crate::args::Args;
use crate::codec::{Reader, Record, Writer};
use crate::engine::bad_argument;
use crate::records;
use crate::registry::{self, By};
use crate::run::Run;
use crate::state::StateRead;
use crate::{Refusal, keys};
use serde::Serialize;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{CallBody, Commitment, Event, Hash, private_fields};
use tally_model::PartyId;

/// The contract's name.
pub const PRIVACY: &str = "privacy";
/// The event of a purge: `entry` and `field` of what is purged, `by`, `reason`.
pub const PURGED: &str = "privacy.purged";
const ACTIONS: &str = "purge";
/// Longest reason, in bytes. It stays for ever: it must not say what was purged.
const REASON_BYTES_MAX: usize = 512;

/// A private field that may be kept.
struct Held {
    submitter: PartyId,
    digest: Hash,
}

impl Record for Held {
    fn write(&self, to: &mut Writer) {
        to.array(2).text(self.submitter.as_str()).bytes(&self.digest);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(2)?;
        Some(Self { submitter: from.parse()?, digest: from.hash()? })
    }
}

/// One that must not be kept any more.
struct Purged {
    submitter: PartyId,
    digest: Hash,
    entry: u64,
    by: PartyId,
    reason: String,
}

impl Record for Purged {
    fn write(&self, to: &mut Writer) {
        to.array(5).text(self.submitter.as_str()).bytes(&self.digest);
        to.uint(self.entry).text(self.by.as_str()).text(&self.reason);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(5)?;
        let (submitter, digest) = (from.parse()?, from.hash()?);
        Some(Self { submitter, digest, entry: from.uint()?, by: from.parse()?, reason: from.text()?.to_owned() })
    }
}

/// Remembers the private fields of a call that was done.
pub(crate) fn hold(run: &mut Run<'_, '_>, entry: u64, signer: &PartyId, body: &CallBody) {
    for (name, commitment) in private_fields(body) {
        let held = Held { submitter: signer.clone(), digest: commitment.0 };
        run.store(keys::private_field(entry, name), &held);
    }
}

pub(crate) fn call(run: &mut Run<'_, '_>, by: By<'_>, body: &CallBody) -> Result<(), Refusal> {
    let mut args = Args::new(&body.args);
    match body.action.as_str() {
        "purge" => purge(run, by, &mut args)?,
        other => {
            let (contract, known) = (PRIVACY.to_owned(), ACTIONS.to_owned());
            return Err(Refusal::UnknownAction { contract, action: other.to_owned(), known });
        }
    }
    args.finish()
}

fn purge(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let value = args.need("entry")?;
    let entry = value.as_integer().and_then(|number| u64::try_from(number).ok());
    let entry = entry.ok_or_else(|| bad_argument("entry", value, "the index of the call that has the field"))?;
    let field = short(args, "field")?.to_owned();
    let reason = short(args, "reason")?.to_owned();
    let key = keys::private_field(entry, &field);
    let Some(Held { submitter, digest }) = run.load(&key)? else {
        let purged: Option<Purged> = run.load(&keys::purged_field(entry, &field))?;
        return Err(match purged {
            Some(purged) => Refusal::FieldPurged { entry, field, purge: purged.entry },
            None => Refusal::UnknownField { entry, field },
        });
    };
    if submitter != *by.signer && !registry::admins(run)?.contains(by.signer) {
        let needs = format!("`{submitter}`, who submitted it, or an admin");
        return Err(registry::not_allowed(by, format!("purge `{field}` of entry {entry}"), needs));
    }
    run.state.delete(key);
    let purged = Purged { submitter, digest, entry: by.entry, by: by.signer.clone(), reason: reason.clone() };
    run.store(keys::purged_field(entry, &field), &purged);
    let subject = format!("{entry}/{field}");
    let data =
        [("entry", int(entry)), ("field", text(field)), ("by", text(by.signer.as_str())), ("reason", text(reason))];
    run.emit(PURGED, &subject, data);
    Ok(())
}

/// A text that says something.
fn short<'a>(args: &mut Args<'a>, name: &'static str) -> Result<&'a str, Refusal> {
    let value = args.need(name)?;
    let found = value.as_text().filter(|text| (1..=REASON_BYTES_MAX).contains(&text.len()));
    found.ok_or_else(|| bad_argument(name, value, format!("a text of 1 to {REASON_BYTES_MAX} bytes")))
}

/// What an event says was purged: entry and field.
#[must_use]
pub fn purged_by(event: &Event) -> Option<(u64, &str)> {
    let entry = event.data.get("entry").and_then(Cbor::as_integer)?;
    let field = event.data.get("field").and_then(Cbor::as_text)?;
    (event.kind == PURGED).then_some((u64::try_from(entry).ok()?, field))
}

/// A private field, as the state knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrivateField {
    /// The entry of its call.
    pub entry: u64,
    /// Its name: the argument.
    pub field: String,
    /// Who submitted it.
    pub submitter: String,
    /// SHA-256 of its opening.
    #[serde(skip)]
    pub commitment: Commitment,
    /// How it was purged, if it was.
    pub purged: Option<Purge>,
}

/// How a private field was purged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Purge {
    /// The entry of the purge.
    pub entry: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// The private fields of an entry, by name; none for a call that was refused.
///
/// # Errors
/// [`Refusal::StateCorrupt`].
pub fn fields_of(state: &dyn StateRead, entry: u64) -> Result<Vec<PrivateField>, Refusal> {
    let mut fields = Vec::new();
    for prefix in [keys::private_field(entry, ""), keys::purged_field(entry, "")] {
        fields.extend(read(state, &prefix)?);
    }
    fields.sort_by(|a, b| a.field.cmp(&b.field));
    Ok(fields)
}

/// All fields that were purged.
///
/// # Errors
/// [`Refusal::StateCorrupt`].
pub fn all_purged(state: &dyn StateRead) -> Result<Vec<PrivateField>, Refusal> {
    read(state, keys::PURGED_FIELDS)
}

fn read(state: &dyn StateRead, prefix: &[u8]) -> Result<Vec<PrivateField>, Refusal> {
    let row = |(key, value): (Vec<u8>, Vec<u8>)| shown(&key, &value).ok_or_else(|| records::corrupt(&key));
    state.scan(prefix, usize::MAX).into_iter().map(row).collect()
}

fn shown(key: &[u8], value: &[u8]) -> Option<PrivateField> {
    let entry = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    let field = String::from_utf8(key.get(10..)?.to_vec()).ok()?;
    if key.first() == keys::PURGED_FIELDS.first() {
        let Purged { submitter, digest, entry: purge, by, reason } = Purged::from_bytes(value)?;
        let purged = Some(Purge { entry: purge, by: by.to_string(), reason });
        return Some(PrivateField {
            entry,
            field,
            submitter: submitter.into(),
            commitment: Commitment(digest),
            purged,
        });
    }
    let Held { submitter, digest } = Held::from_bytes(value)?;
    Some(PrivateField { entry, field, submitter: submitter.into(), commitment: Commitment(digest), purged: None })
}
