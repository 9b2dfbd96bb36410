//! Where everything lives in the state. One byte says what it is; names follow, separated by 0x00, which no id contains;
//! numbers are eight big-endian bytes, so that key order is number order.
//!
//! ```text
//! g                                      genesis: issuer, admins, how long behind its end an agreement stays, scheme of the state's keys
//! p party                                what admission needs of a party: kind, key id, firm, revoked
//! P party                                its full record and the entry that registered it
//! f firm 00 person                       the people of a firm: skills
//! l person                               agreements that have not ended and name the person
//! d device                               agent, owner, entry
//! r device 00 trigger 00 digest          a rule in force: its call template
//! R device 00 digest                     the rule's bytes and the entry that registered it
//! n agent                                number of the agent's last trigger
//! u device 00 trigger                    last reading used
//! v device                               its last anchor: number, digest, last reading, receive time, count, entry
//! w device 00 count                      where its first, second … anchor stands: entry, receive time, entry of the device
//! z party                                the entry that revoked it
//! a account                              owner, currency, balance
//! C contract                             version in force and its digest
//! c contract 00 version                  digest of a version, entry
//! x digest                               text of a contract
//! s contract 00 device                   standing terms
//! k prefix                               last agreement number given out
//! m prefix 00 number                     agreement
//! h prefix 00 number step                step of an agreement behind the first: the entry, or the term that ran out
//! o contract 00 device 00 key values     the open agreement for these key values
//! t due prefix 00 number                 a running term
//! W contract 00 device                   the device that this one speaks about, by the owner's list
//! N prefix                               last number of a round of attesting
//! S prefix.attest 00 number              a round: who said what, and who agreed
//! V contract 00 action 00 device 00 …    the round that runs for these key values
//! h prefix 00 number step place          who else attested a step: the entry
//! y permit                               an open permit
//! Y permit                               a burnt one: how, entry, whether its agent reported, its bytes
//! i kind name 00 permit                  open permits of a requester (p), a device (d), an agent (a)
//! A owner 00 policy                      a policy: entry, bytes
//! q device 00 policy                     the same for each of its devices: bytes
//! j owner 00 policy 00 requester [00 sender]  times of its latest permits, for the rate
//! B owner 00 party                       a party that the owner barred: entry
//! H kind name                            how many earlier versions there are of a party (p) or a device (d)
//! H kind name 00 number                  one of them, from 1: entry, ended by entry, ended at height, its key until, its record
//! K party 00 key id                      number of the version with which a key ended
//! E kind name                            who may see a party (p) or a device (d): number, entry, by whom, null or [parties, roles]
//! E kind name 00 number                  one that held before, from 1: the same
//! L kind name                            present while not everyone may see it: the entry that says so
//! U party                                who recovers an organisation: entry, parties, how many, delay, what comes next
//! T party 00 key id                      approvals of a recovery: the key, by whom and when
//! O device                               offer of a transfer: entry, from, to, until
//! F device 00 kind                       latest fingerprint (firmware, mapping): entry, digest, by, time, version, number, the owner's
//! G device 00 kind 00 number             one that was reported, from 1: the same without the last two
//! Q kind name                            quarantine of a device (d) or an agent (a): entry, by whom, why
//! I entry 00 field                       a private field of a call: who submitted it, digest
//! X entry 00 field                       a purged one: the same, entry of the purge, by whom, why
//! ```

use tally_evidence::Hash;
use tally_model::{AgreementId, ContractName, DeviceId, PartyId, PolicyId, Timestamp, TriggerId};

fn join(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len() + 1).sum::<usize>());
    key.push(kind);
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            key.push(0);
        }
        key.extend_from_slice(part);
    }
    key
}

macro_rules! keys {
    ($($name:ident($($part:ident: $kind:ty),*) = $byte:literal;)*) => {
        $(pub(crate) fn $name($($part: $kind),*) -> Vec<u8> {
            join($byte, &[$($part.as_key().as_ref()),*])
        })*
    };
}

trait AsKey {
    fn as_key(&self) -> impl AsRef<[u8]>;
}

macro_rules! text_keys {
    ($($id:ty),*) => { $(impl AsKey for &$id { fn as_key(&self) -> impl AsRef<[u8]> { self.as_str().as_bytes() } })* };
}
text_keys!(PartyId, DeviceId, TriggerId, ContractName, PolicyId);

impl AsKey for &str {
    fn as_key(&self) -> impl AsRef<[u8]> {
        self.as_bytes()
    }
}

impl AsKey for &Hash {
    fn as_key(&self) -> impl AsRef<[u8]> {
        self
    }
}

impl AsKey for u64 {
    fn as_key(&self) -> impl AsRef<[u8]> {
        self.to_be_bytes()
    }
}

keys! {
    party(id: &PartyId) = b'p';
    party_record(id: &PartyId) = b'P';
    person(firm: &PartyId, person: &PartyId) = b'f';
    load(person: &str) = b'l';
    device(id: &DeviceId) = b'd';
    rule(device: &DeviceId, trigger: &TriggerId, digest: &Hash) = b'r';
    rule_record(device: &DeviceId, digest: &Hash) = b'R';
    last_trigger(agent: &PartyId) = b'n';
    last_reading(device: &DeviceId, trigger: &TriggerId) = b'u';
    last_anchor(device: &DeviceId) = b'v';
    anchor(device: &DeviceId, count: u64) = b'w';
    revocation(party: &PartyId) = b'z';
    account(id: &str) = b'a';
    contract(name: &ContractName) = b'C';
    contract_version(name: &ContractName, version: u64) = b'c';
    contract_text(digest: &Hash) = b'x';
    standing(contract: &ContractName, device: &DeviceId) = b's';
    watched(contract: &ContractName, device: &DeviceId) = b'W';
    attestation_counter(prefix: &str) = b'N';
    counter(prefix: &str) = b'k';
    permit(id: u64) = b'y';
    burnt(id: u64) = b'Y';
    policy(owner: &PartyId, policy: &PolicyId) = b'A';
    device_policy(device: &DeviceId, policy: &PolicyId) = b'q';
    rate(owner: &PartyId, policy: &PolicyId, requester: &PartyId) = b'j';
    bar(owner: &PartyId, party: &PartyId) = b'B';
    past_key(party: &PartyId, key: &Hash) = b'K';
    recovery(party: &PartyId) = b'U';
    approvals(party: &PartyId, key: &Hash) = b'T';
    offer(device: &DeviceId) = b'O';
    fingerprint(device: &DeviceId, kind: &str) = b'F';
    reported_fingerprint(device: &DeviceId, kind: &str, number: u64) = b'G';
    private_field(entry: u64, field: &str) = b'I';
    purged_field(entry: u64, field: &str) = b'X';
}

/// State key of the one record of the genesis.
pub const GENESIS: &[u8] = b"g";
/// All parties' full records.
pub(crate) const PARTIES: &[u8] = b"P";
/// All contracts in force.
pub(crate) const CONTRACTS: &[u8] = b"C";
/// All devices.
pub(crate) const DEVICES: &[u8] = b"d";
/// All accounts.
pub(crate) const ACCOUNTS: &[u8] = b"a";
/// All agreement counters.
pub(crate) const COUNTERS: &[u8] = b"k";
/// All running terms, soonest first.
pub(crate) const TERMS: &[u8] = b"t";

/// All people of a firm.
pub(crate) fn people(firm: &str) -> Vec<u8> {
    let mut key = join(b'f', &[firm.as_bytes()]);
    key.push(0);
    key
}

/// All policies of a device.
pub(crate) fn device_policies(device: &DeviceId) -> Vec<u8> {
    let mut key = join(b'q', &[device.as_str().as_bytes()]);
    key.push(0);
    key
}

/// What begins with this kind and this name and goes on.
fn all_of(kind: u8, name: &str) -> Vec<u8> {
    let mut key = join(kind, &[name.as_bytes()]);
    key.push(0);
    key
}

/// Approvals of every recovery of a party that is under way.
pub(crate) fn all_approvals(party: &PartyId) -> Vec<u8> {
    all_of(b'T', party.as_str())
}

/// All rules of a device in force.
pub(crate) fn device_rules(device: &DeviceId) -> Vec<u8> {
    all_of(b'r', device.as_str())
}

/// The last reading used of each trigger of a device.
pub(crate) fn last_readings(device: &DeviceId) -> Vec<u8> {
    all_of(b'u', device.as_str())
}

/// How many earlier versions there are of a party (`p`) or a device (`d`).
pub(crate) fn history(kind: u8, name: &str) -> Vec<u8> {
    [&[b'H', kind], name.as_bytes()].concat()
}

/// One of them, from 1.
pub(crate) fn past(kind: u8, name: &str, number: u64) -> Vec<u8> {
    numbered(history(kind, name), number)
}

fn numbered(mut key: Vec<u8>, number: u64) -> Vec<u8> {
    key.push(0);
    key.extend(number.to_be_bytes());
    key
}

/// Who may see a party (`p`) or a device (`d`).
pub(crate) fn visibility(kind: u8, name: &str) -> Vec<u8> {
    [&[b'E', kind], name.as_bytes()].concat()
}

/// Who might before, from 1.
pub(crate) fn past_visibility(kind: u8, name: &str, number: u64) -> Vec<u8> {
    numbered(visibility(kind, name), number)
}

/// Whether not everyone may.
pub(crate) fn hidden(kind: u8, name: &str) -> Vec<u8> {
    [&[b'L', kind], name.as_bytes()].concat()
}

/// Open permits of a requester (`p`), a device (`d`) or an agent (`a`).
pub(crate) fn open_permits(kind: u8, name: &str) -> Vec<u8> {
    let mut key = vec![b'i', kind];
    key.extend(name.bytes());
    key.push(0);
    key
}

/// One of them.
pub(crate) fn open_permit(kind: u8, name: &str, id: u64) -> Vec<u8> {
    let mut key = open_permits(kind, name);
    key.extend(id.to_be_bytes());
    key
}

/// Quarantine of a device (`d`) or an agent (`a`).
pub(crate) fn quarantine(kind: u8, name: &str) -> Vec<u8> {
    [&[b'Q', kind], name.as_bytes()].concat()
}

/// All open permits.
pub(crate) const PERMITS: &[u8] = b"y";
/// All policies.
pub(crate) const POLICIES: &[u8] = b"A";
/// Everything that not everyone may see.
pub(crate) const HIDDEN: &[u8] = b"L";
/// All parties that an owner barred.
pub(crate) const BARS: &[u8] = b"B";
/// All purged private fields.
pub(crate) const PURGED_FIELDS: &[u8] = b"X";
/// All quarantines.
pub(crate) const QUARANTINES: &[u8] = b"Q";

/// The account of `owner` in `currency`.
pub(crate) fn account_id(owner: &str, currency: &str) -> String {
    format!("{owner}/{currency}")
}

/// The account from which money of `currency` comes into being; `:` cannot stand in a party id.
pub(crate) fn issue_id(currency: &str) -> String {
    format!("issue:{currency}")
}

/// The escrow account of an agreement.
pub(crate) fn escrow_id(agreement: &AgreementId) -> String {
    format!("escrow:{agreement}")
}

/// `mo-17` as prefix and number; `None` for what the kernel never gave out (`mo-017`, `mo-`, `-1`).
pub(crate) fn split_agreement(id: &AgreementId) -> Option<(&str, u64)> {
    let (prefix, digits) = id.as_str().rsplit_once('-')?;
    let canonical = !digits.starts_with(['0', '+']) && !prefix.is_empty();
    canonical.then_some((prefix, digits.parse().ok()?))
}

/// An agreement; the empty key, which holds nothing, for an id the kernel never gave out.
pub(crate) fn agreement(id: &AgreementId) -> Vec<u8> {
    split_agreement(id).map_or_else(Vec::new, |(prefix, number)| agreement_numbered(prefix, number))
}

pub(crate) fn agreement_numbered(prefix: &str, number: u64) -> Vec<u8> {
    join(b'm', &[prefix.as_bytes(), &number.to_be_bytes()])
}

/// The number at the end of an agreement's key.
pub(crate) fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk().copied().map(u64::from_be_bytes)
}

/// All steps of an agreement but the first, in order.
pub(crate) fn steps(id: &AgreementId) -> Vec<u8> {
    let mut key = agreement(id);
    if let Some(kind) = key.first_mut() {
        *kind = b'h';
    }
    key
}

/// One step of an agreement.
pub(crate) fn step(id: &AgreementId, number: u64) -> Vec<u8> {
    let mut key = steps(id);
    key.extend(number.to_be_bytes());
    key
}

/// The open agreement with these values of its contract's key fields; a prefix when some are missing at the end.
pub(crate) fn open<'a>(contract: &ContractName, values: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut key = join(b'o', &[contract.as_str().as_bytes()]);
    for value in values {
        key.push(0);
        // A key value is a text from outside: 0x00 in it would forge a border.
        key.extend(value.bytes().map(|byte| byte.max(1)));
    }
    key.push(0);
    key
}

/// A round of attesting; the empty key for an id the kernel never gave out.
pub(crate) fn attestation(id: &AgreementId) -> Vec<u8> {
    let mut key = agreement(id);
    if let Some(kind) = key.first_mut() {
        *kind = b'S';
    }
    key
}

/// The round that runs for an action on a device with these values of its contract's other key fields.
pub(crate) fn attesting<'a>(
    contract: &ContractName,
    action: &'a str,
    device: &'a DeviceId,
    values: impl IntoIterator<Item = &'a str>,
) -> Vec<u8> {
    let mut key = open(contract, [action, device.as_str()].into_iter().chain(values));
    if let Some(kind) = key.first_mut() {
        *kind = b'V';
    }
    key
}

/// Who else attested a step of an agreement.
pub(crate) fn attester(id: &AgreementId, number: u64, place: u8) -> Vec<u8> {
    let mut key = step(id, number);
    key.push(place);
    key
}

/// A running term. The sign bit is flipped so that byte order is time order.
pub(crate) fn term(due: Timestamp, id: &AgreementId) -> Vec<u8> {
    let mut key = vec![b't'];
    key.extend((due.as_micros() ^ i64::MIN).to_be_bytes());
    key.extend(agreement(id).get(1..).unwrap_or_default());
    key
}

/// When the term under this key is due.
pub(crate) fn due_of(key: &[u8]) -> Option<Timestamp> {
    let bytes: [u8; 8] = key.get(1..9)?.try_into().ok()?;
    Some(Timestamp::from_micros(i64::from_be_bytes(bytes) ^ i64::MIN))
}

#[cfg(test)]
mod tests;
