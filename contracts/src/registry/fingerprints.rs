//! `registry/report-fingerprint`: what runs on a device, by which mapping it is read, and what it calls itself, as digests with their
//! history.

use super::{By, device, not_allowed};
use crate::args::Args;
use crate::codec::{Reader, Record, Writer};
use crate::engine::bad_argument;
use crate::records::Device;
use crate::run::Run;
use crate::{Refusal, keys};
use tally_evidence::cbor::{Cbor, bytes, int, text};
use tally_evidence::{Hash, TriggerBody, sha256};
use tally_model::{DeviceId, PartyId, Timestamp};

/// What can be told by a fingerprint.
pub(crate) const KINDS: [&str; 3] = ["firmware", "mapping", "identity"];
/// Longest name of a version, in bytes.
const VERSION_BYTES_MAX: usize = 128;

/// One fingerprint as it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub entry: u64,
    pub digest: Hash,
    pub by: PartyId,
    /// Block time.
    pub at: Timestamp,
    /// The name of the version, for people.
    pub version: String,
}

impl Fingerprint {
    fn write_into(&self, to: &mut Writer) {
        to.uint(self.entry).bytes(&self.digest).text(self.by.as_str()).int(self.at.as_micros()).text(&self.version);
    }

    fn read_from(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            entry: from.uint()?,
            digest: from.hash()?,
            by: from.parse()?,
            at: Timestamp::from_micros(from.int()?),
            version: from.text()?.to_owned(),
        })
    }
}

impl Record for Fingerprint {
    fn write(&self, to: &mut Writer) {
        self.write_into(to.array(5));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(5)?;
        Self::read_from(from)
    }
}

/// The latest, its number, and what the owner said last: that one is the measure when there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Latest {
    pub last: Fingerprint,
    pub number: u64,
    pub owners: Option<Hash>,
}

impl Latest {
    /// What the device should show.
    pub(crate) fn expected(&self) -> &Hash {
        self.owners.as_ref().unwrap_or(&self.last.digest)
    }
}

impl Record for Latest {
    fn write(&self, to: &mut Writer) {
        self.last.write_into(to.array(7));
        to.uint(self.number);
        match &self.owners {
            Some(digest) => to.bytes(digest),
            None => to.null(),
        };
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(7)?;
        let last = Fingerprint::read_from(from)?;
        Some(Self { last, number: from.uint()?, owners: from.or_null(|from| from.hash())? })
    }
}

/// The device's agent or its owner says what it found. A thief of the agent can report what he likes, but not in the owner's
/// name: what the owner reported is what triggers are held against.
pub(super) fn report(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let id: DeviceId = args.parse("device", "a device id")?;
    let value = args.need("kind")?;
    let kind = value.as_text().filter(|kind| KINDS.contains(kind));
    let kind = kind.ok_or_else(|| bad_argument("kind", value, "firmware, mapping or identity"))?;
    let value = args.need("digest")?;
    let digest: Option<Hash> = value.as_bytes().and_then(|digest| digest.as_slice().try_into().ok());
    let digest = digest.ok_or_else(|| bad_argument("digest", value, "32 bytes, a SHA-256"))?;
    let version = match args.take("version") {
        Some(value) => {
            let version = value.as_text().filter(|text| text.len() <= VERSION_BYTES_MAX);
            version.ok_or_else(|| bad_argument("version", value, "a text of at most 128 bytes"))?
        }
        None => "",
    };
    let Device { agent, owner, .. } = device(run, &id)?;
    let is_owner = owner == *by.signer;
    if !is_owner && agent != *by.signer {
        return Err(not_allowed(by, format!("report a fingerprint of `{id}`"), "its agent or its owner"));
    }
    let key = keys::fingerprint(&id, kind);
    let before: Option<Latest> = run.load(&key)?;
    let is_news = before.as_ref().is_none_or(|before| before.last.digest != digest || before.last.by != *by.signer);
    if !is_news {
        return Err(Refusal::AlreadyRegistered { what: format!("this fingerprint of the {kind} of `{id}`") });
    }
    let last =
        Fingerprint { entry: by.entry, digest, by: by.signer.clone(), at: run.block.time, version: version.to_owned() };
    let number = before.as_ref().map_or(0, |before| before.number).saturating_add(1);
    let owners = if is_owner { Some(digest) } else { before.as_ref().and_then(|before| before.owners) };
    run.store(keys::reported_fingerprint(&id, kind, number), &last);
    run.store(key, &Latest { last, number, owners });
    let shown = |digest: Option<Hash>| digest.map_or(Cbor::Null, bytes);
    let data = [
        ("kind", text(kind)),
        ("digest", bytes(digest)),
        ("before", shown(before.map(|before| before.last.digest))),
        ("by", text(by.signer.as_str())),
        ("version", text(version)),
        ("number", int(number)),
    ];
    run.emit("device.fingerprint", id.as_str(), data);
    Ok(())
}

/// A trigger read by another mapping than the one that is known, or of a device that calls itself something else, is taken, and says so
/// for ever.
pub(crate) fn check_fingerprints(run: &mut Run<'_, '_>, body: &TriggerBody) -> Result<(), Refusal> {
    if let Some(expected) = other_mapping(run, body)? {
        let found = body.mapping.map_or(Cbor::Null, bytes);
        let data = [("number", int(body.number)), ("found", found), ("registered", bytes(expected))];
        run.emit("device.mapping-differs", body.device.as_str(), data);
    }
    if let Some((said, expected)) = other_identity(run, body)? {
        let (found, said) = (bytes(sha256(said.as_bytes())), text(said));
        let data = [("number", int(body.number)), ("found", found), ("said", said), ("registered", bytes(expected))];
        run.emit("device.identity-differs", body.device.as_str(), data);
    }
    Ok(())
}

/// Why the readings of a trigger cannot be true of the device that was agreed on: by what the registry knows of it.
pub(crate) fn differs(run: &Run<'_, '_>, body: &TriggerBody) -> Result<Option<&'static str>, Refusal> {
    if other_mapping(run, body)?.is_some() {
        return Ok(Some("it was read by another mapping than the registered one"));
    }
    let is_other = other_identity(run, body)?.is_some();
    Ok(is_other.then_some("the device calls itself something else than is registered"))
}

/// What the device called itself, and the fingerprint that is known of that, when they differ. A device that says nothing of itself
/// contradicts nothing.
fn other_identity<'b>(run: &Run<'_, '_>, body: &'b TriggerBody) -> Result<Option<(&'b str, Hash)>, Refusal> {
    let known: Option<Latest> = run.load(&keys::fingerprint(&body.device, "identity"))?;
    let Some(expected) = known.map(|known| *known.expected()) else { return Ok(None) };
    let mut said = body.origins.iter().filter_map(|stretch| stretch.origin.identity.as_deref());
    Ok(said.find(|said| sha256(said.as_bytes()) != expected).map(|said| (said, expected)))
}

/// The fingerprint that is known of the mapping, when the trigger names another one, or none.
fn other_mapping(run: &Run<'_, '_>, body: &TriggerBody) -> Result<Option<Hash>, Refusal> {
    let known: Option<Latest> = run.load(&keys::fingerprint(&body.device, "mapping"))?;
    Ok(known.map(|known| *known.expected()).filter(|expected| body.mapping != Some(*expected)))
}
