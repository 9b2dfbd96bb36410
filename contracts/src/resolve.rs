//! Who somebody was: every version of a party or a device, and which of them held at an entry or at a height. Read only.

use crate::codec::Record;
use crate::records::{self, Device, Party, Registered};
use crate::registry::fingerprints::{Fingerprint, Latest};
use crate::registry::history::Past;
use crate::registry::recovery::Recovery;
use crate::registry::visibility::{Audience, Visibility};
use crate::{StateRead, keys};
use tally_evidence::{DeviceRecord, Hash, KeyId, PartyKind, PartyRecord, VerifyingKey, cbor};
use tally_model::{DeviceId, Grade, PartyId, Timestamp};

/// One version of a party or a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version<T> {
    /// Its number among those that ended, from 1; `None` for the one in force.
    pub number: Option<u64>,
    /// The entry that put it in force.
    pub entry: u64,
    /// The entry that ended it.
    pub ended_by: Option<u64>,
    /// The first height at which it was no longer so.
    pub ended_at: Option<u64>,
    /// Of a party: block time until which its key spoke beside the next one.
    pub key_until: Option<Timestamp>,
    /// What it said.
    pub record: T,
}

impl<T> Version<T> {
    fn past(number: u64, past: &Past, record: T) -> Self {
        let Past { entry, ended_by, ended_at, key_until, .. } = past;
        let (ended_by, ended_at) = (Some(*ended_by), Some(*ended_at));
        Self { number: Some(number), entry: *entry, ended_by, ended_at, key_until: *key_until, record }
    }

    fn current(entry: u64, record: T) -> Self {
        Self { number: None, entry, ended_by: None, ended_at: None, key_until: None, record }
    }

    /// Whether it was in force when entry `entry` was executed.
    #[must_use]
    pub fn held_at_entry(&self, entry: u64) -> bool {
        self.entry <= entry && self.ended_by.is_none_or(|end| entry <= end)
    }
}

fn read<T: Record>(state: &dyn StateRead, key: &[u8]) -> Option<T> {
    records::load(state, key).ok().flatten()
}

fn past_of<T>(
    state: &dyn StateRead,
    (kind, name): (u8, &str),
    decode: impl Fn(cbor::Cbor) -> Option<T>,
) -> Vec<Version<T>> {
    let count = read::<u64>(state, &keys::history(kind, name)).unwrap_or(0);
    let one = |number| {
        let past: Past = read(state, &keys::past(kind, name, number))?;
        let record = decode(cbor::decode(&past.bytes).ok()?)?;
        Some(Version::past(number, &past, record))
    };
    (1..=count).filter_map(one).collect()
}

/// Every version of a party, the oldest first; none when it never was registered.
#[must_use]
pub fn party_versions(state: &dyn StateRead, id: &PartyId) -> Vec<Version<PartyRecord>> {
    let mut versions = past_of(state, (b'p', id.as_str()), |record| PartyRecord::from_cbor(record).ok());
    let current = crate::views::party(state, id).map(|(record, entry)| Version::current(entry, record));
    versions.extend(current);
    versions
}

/// Every version of a device's binding, the oldest first; none when it never was registered.
#[must_use]
pub fn device_versions(state: &dyn StateRead, id: &DeviceId) -> Vec<Version<DeviceRecord>> {
    let mut versions = past_of(state, (b'd', id.as_str()), |record| DeviceRecord::from_cbor(record).ok());
    let Some(Device { agent, owner, entry, site }) = read(state, &keys::device(id)) else { return versions };
    versions.push(Version::current(entry, DeviceRecord { id: id.clone(), agent, owner, site }));
    versions
}

/// The state keys that prove which of `versions` held at a height: the version's own, and for the one in force that of the
/// first version that is not there. `kind` is `p` or `d`.
#[must_use]
pub fn version_keys<T>(kind: u8, name: &str, versions: &[Version<T>], held: &Version<T>) -> Vec<Vec<u8>> {
    let current = match kind {
        b'p' => [b"P", name.as_bytes()].concat(),
        _ => [b"d", name.as_bytes()].concat(),
    };
    let ended = versions.iter().filter_map(|version| version.number).max().unwrap_or(0);
    match held.number {
        Some(1) => vec![keys::past(kind, name, 1)],
        Some(number) => vec![keys::past(kind, name, number - 1), keys::past(kind, name, number)],
        None if ended == 0 => vec![current, keys::past(kind, name, 1)],
        None => vec![current, keys::past(kind, name, ended), keys::past(kind, name, ended + 1)],
    }
}

/// The entry that revoked a party, when it stands among the first `size` entries.
#[must_use]
pub fn revoked_by(state: &dyn StateRead, id: &PartyId, size: u64) -> Option<u64> {
    read(state, &keys::revocation(id)).filter(|entry| *entry < size)
}

/// The most that triggers of a device could say when the ledger had `size` entries: a device that was registered as a party, with
/// a key of its own, and not revoked by then, seals for itself. What is registered once keeps its kind, so the first version of the
/// party and its revocation say it for every height.
#[must_use]
pub fn grade(state: &dyn StateRead, device: &DeviceId, size: u64) -> Grade {
    let Ok(party) = PartyId::try_new(device.as_str()) else { return Grade::Agent };
    let versions = party_versions(state, &party);
    let is_device = |first: &Version<PartyRecord>| first.record.kind == PartyKind::Device && first.entry < size;
    let seals = versions.first().is_some_and(is_device) && revoked_by(state, &party, size).is_none();
    if seals { Grade::Device } else { Grade::Agent }
}

/// The state keys that prove [`revoked_by`], and with them [`grade`]: a party's first version that ended, its record and its
/// revocation. A sealed checkpoint says how many entries there were at its height.
#[must_use]
pub fn grade_keys(party: &PartyId) -> Vec<Vec<u8>> {
    vec![keys::past(b'p', party.as_str(), 1), keys::party_record(party), keys::revocation(party)]
}

/// The entries that show with which right `key` spoke for `party` in entry `entry`: the one that put it in force, and the one
/// that ended it, when that was before.
#[must_use]
pub fn key_entries(state: &dyn StateRead, party: &PartyId, key: &KeyId, entry: u64) -> Vec<u64> {
    let number: Option<u64> = read(state, &keys::past_key(party, &key.0));
    let past = number.and_then(|number| read::<Past>(state, &keys::past(b'p', party.as_str(), number)));
    match past {
        Some(past) => [past.entry].into_iter().chain(Some(past.ended_by).filter(|end| *end < entry)).collect(),
        None => read(state, &keys::party_record(party)).map(|Registered { entry, .. }| entry).into_iter().collect(),
    }
}

/// The entry by which a device was bound as it was when entry `entry` was executed.
#[must_use]
pub fn binding_at(state: &dyn StateRead, device: &DeviceId, entry: u64) -> Option<u64> {
    let versions = device_versions(state, device);
    versions.iter().find(|version| version.held_at_entry(entry)).map(|version| version.entry)
}

/// The key of a party before its last rotation, and until when (block time, inclusive) it still speaks.
#[must_use]
pub fn previous_key(state: &dyn StateRead, id: &PartyId) -> Option<(VerifyingKey, Timestamp)> {
    let party: Party = read(state, &keys::party(id))?;
    let (key, until) = party.previous?;
    let number: u64 = read(state, &keys::past_key(id, &key.0))?;
    let past: Past = read(state, &keys::past(b'p', id.as_str(), number))?;
    let record = PartyRecord::from_cbor(cbor::decode(&past.bytes).ok()?).ok()?;
    Some((record.key, until))
}

/// Who recovers an organisation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RecoveryView {
    /// Those who may approve.
    pub admins: Vec<String>,
    /// How many of them it takes.
    pub needed: u64,
    /// How long a change of this waits, in seconds.
    pub delay_seconds: u64,
    /// From when a change that waits holds.
    pub changes_at: Option<Timestamp>,
}

/// Who recovers an organisation at a block time; `None` when it named nobody.
#[must_use]
pub fn recovery(state: &dyn StateRead, id: &PartyId, time: Timestamp) -> Option<RecoveryView> {
    let recovery: Recovery = read(state, &keys::recovery(id))?;
    let quorum = recovery.at(time);
    let waits = recovery.next.as_ref().map(|(from, _)| *from).filter(|from| *from > time);
    Some(RecoveryView {
        admins: quorum.admins.iter().map(ToString::to_string).collect(),
        needed: quorum.needed,
        delay_seconds: quorum.delay.as_secs(),
        changes_at: waits,
    })
}

/// Who may see a party or a device.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VisibilityView {
    /// Whether everyone may.
    pub everyone: bool,
    /// Otherwise: which parties, besides itself and its firm or owner.
    pub parties: Vec<String>,
    /// And which roles at a node's interface, besides operators.
    pub roles: Vec<String>,
    /// Who said so; nobody when it is so because nobody said anything.
    pub by: Option<String>,
    /// In which entry.
    pub entry: Option<u64>,
}

/// Who might see a party (`p`) or a device (`d`) when the ledger had `size` entries.
#[must_use]
pub fn visibility(state: &dyn StateRead, (kind, name): (u8, &str), size: u64) -> VisibilityView {
    let mut said: Option<Visibility> = read(state, &keys::visibility(kind, name));
    while let Some(later) = said.take_if(|said| said.entry >= size) {
        said = read(state, &keys::past_visibility(kind, name, later.number.saturating_sub(1)));
    }
    let (by, entry) = (said.as_ref().map(|said| said.by.to_string()), said.as_ref().map(|said| said.entry));
    let audience = said.and_then(|said| said.audience);
    let everyone = audience.is_none();
    let Audience { parties, roles } = audience.unwrap_or_default();
    VisibilityView { everyone, parties: parties.iter().map(ToString::to_string).collect(), roles, by, entry }
}

/// The state keys that prove [`visibility`]: of the rule in force, and of those before it down to the one that held then.
#[must_use]
pub fn visibility_keys(state: &dyn StateRead, (kind, name): (u8, &str), size: u64) -> Vec<Vec<u8>> {
    let mut found = vec![keys::visibility(kind, name)];
    let mut said: Option<Visibility> = read(state, &keys::visibility(kind, name));
    while let Some(later) = said.take_if(|said| said.entry >= size && said.number > 1) {
        let place = keys::past_visibility(kind, name, later.number - 1);
        said = read(state, &place);
        found.push(place);
    }
    found
}

/// A fingerprint of a device's firmware or mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FingerprintView {
    /// `firmware` or `mapping`.
    pub kind: &'static str,
    /// Its number among those of the kind, from 1.
    pub number: u64,
    /// The entry that reported it.
    pub entry: u64,
    /// SHA-256.
    pub digest: Hash,
    /// Who reported it.
    pub by: PartyId,
    /// Block time.
    pub at: Timestamp,
    /// The version's name; may be empty.
    pub version: String,
    /// Whether it is what triggers are held against.
    pub is_expected: bool,
}

/// The fingerprints of a device, of each kind the newest first, at most `limit` of each.
#[must_use]
pub fn fingerprints(state: &dyn StateRead, device: &DeviceId, limit: u64) -> Vec<FingerprintView> {
    let mut found = Vec::new();
    for kind in crate::registry::fingerprints::KINDS {
        let Some(latest) = read::<Latest>(state, &keys::fingerprint(device, kind)) else { continue };
        let expected = *latest.expected();
        let numbers = (1..=latest.number).rev().take(usize::try_from(limit).unwrap_or(usize::MAX));
        found.extend(numbers.filter_map(|number| {
            let Fingerprint { entry, digest, by, at, version } =
                read(state, &keys::reported_fingerprint(device, kind, number))?;
            Some(FingerprintView { kind, number, entry, digest, by, at, version, is_expected: digest == expected })
        }));
    }
    found
}
