//! What the registering entries of the file prove: keys of parties, agents of devices, versions of rules, each as it was where
//! the next entry stands.

use crate::attest::{Deployed, Text, Word};
use std::collections::{BTreeMap, BTreeSet};
use tally_evidence::cbor::Cbor;
use tally_evidence::{
    CallBody, DeviceRecord, Event, Hash, KeyId, PartyKind, PartyRecord, RegistrationFault, RuleRecord, VerifyingKey,
};
use tally_model::{DeviceId, PartyId, Timestamp};

/// A key that speaks for a party: for ever as far as is known, or until this block time.
struct Held {
    key: VerifyingKey,
    until: Option<Timestamp>,
}

/// Everything proved so far, by entries in ledger order.
#[derive(Default)]
pub(crate) struct Known {
    /// Of each party the keys it ever had in this file, the latest last.
    keys: BTreeMap<PartyId, Vec<Held>>,
    /// Parties that are devices: they seal their own payloads.
    device_parties: BTreeSet<PartyId>,
    devices: BTreeMap<DeviceId, DeviceRecord>,
    rules: Vec<RuleRecord>,
    /// Of each agent its firm.
    firms: BTreeMap<PartyId, PartyId>,
    /// Texts of contracts that were deployed, the latest last.
    contracts: Vec<Deployed>,
    /// The version of a contract that the agreement of the file has.
    version: Option<String>,
    /// Triggers that the ledger carried out.
    words: Vec<Word>,
}

impl Known {
    /// The key under which a seal that names `id` is checked in a block of this time: that one, when the party had it and it
    /// was in force, else the latest, under which it will not hold.
    pub(crate) fn key_of(&self, party: &PartyId, id: &KeyId, time: Timestamp) -> Option<&VerifyingKey> {
        let held = self.keys.get(party)?;
        let named = held.iter().find(|held| held.key.id() == *id && held.until.is_none_or(|until| time <= until));
        named.or(held.last()).map(|held| &held.key)
    }

    /// The keys with which a device sealed its own payloads at this time; none when it has no key of its own in this file.
    pub(crate) fn keys_of_device(&self, id: &DeviceId, time: Timestamp) -> Vec<&VerifyingKey> {
        let party = self.device_parties.iter().find(|party| party.as_str() == id.as_str());
        let held = party.and_then(|party| self.keys.get(party)).into_iter().flatten();
        held.filter(|held| held.until.is_none_or(|until| time <= until)).map(|held| &held.key).collect()
    }

    /// The firm of a party that has one.
    pub(crate) fn firm(&self, party: &PartyId) -> Option<&PartyId> {
        self.firms.get(party)
    }

    /// The text of a contract that is in the file: in the version of the agreement, once that is known.
    pub(crate) fn contract(&self, name: &str) -> Option<&Text> {
        let is_it =
            |text: &&Text| text.contract == name && self.version.as_ref().is_none_or(|one| *one == text.version);
        self.contracts.iter().rev().filter_map(Deployed::text).find(is_it)
    }

    /// Whether any contract in the file may ask for the word of several.
    pub(crate) fn may_ask(&self) -> bool {
        self.contracts.iter().any(Deployed::may_ask)
    }

    /// What was said in triggers that the ledger carried out, in ledger order.
    pub(crate) fn words(&self) -> &[Word] {
        &self.words
    }

    /// A trigger was carried out.
    pub(crate) fn hear(&mut self, word: Word) {
        self.words.push(word);
    }

    /// The agreement was opened, by this version of its contract.
    pub(crate) fn opens(&mut self, version: Option<String>) {
        self.version = version.or(self.version.take());
    }

    pub(crate) fn device(&self, id: &DeviceId) -> Option<&DeviceRecord> {
        self.devices.get(id)
    }

    pub(crate) fn rule(&self, digest: &Hash) -> Option<&RuleRecord> {
        self.rules.iter().find(|rule| rule.digest() == *digest)
    }

    /// Learns from a registry call that the ledger carried out, and from what it said it did; gives how many records it held.
    pub(crate) fn learn(&mut self, call: &CallBody, events: &[Event]) -> Result<usize, RegistrationFault> {
        match call.action.as_str() {
            "rotate-key" | "approve-recovery" => return self.learn_key(call, events).map(usize::from),
            _ => {}
        }
        self.learn_contracts(call);
        let mut learned = 0;
        for (name, value) in &call.args {
            let many = |value: &Cbor| value.as_array().cloned().unwrap_or_default();
            let records = match (call.action.as_str(), name.as_str()) {
                ("genesis", "parties" | "devices" | "rules") => many(value),
                ("register-many", "parties" | "devices") => without_refused(many(value), name, events),
                ("register-party", "party") | ("register-rule", "rule") => vec![value.clone()],
                ("register-device" | "bind-device" | "accept-transfer", "device") => vec![value.clone()],
                _ => continue,
            };
            learned += records.len();
            for record in records {
                self.learn_record(name, record)?;
            }
        }
        Ok(learned)
    }

    /// The texts of contracts in a genesis, or the one that an admin deploys.
    fn learn_contracts(&mut self, call: &CallBody) {
        let texts = match call.action.as_str() {
            "genesis" => call.args.get("contracts").and_then(Cbor::as_array).map(Vec::as_slice).unwrap_or_default(),
            "deploy-contract" => call.args.get("text").map(std::slice::from_ref).unwrap_or_default(),
            _ => &[],
        };
        texts.iter().filter_map(Cbor::as_text).for_each(|text| self.deploy(text));
    }

    /// A contract is deployed.
    pub(crate) fn deploy(&mut self, text: &str) {
        self.contracts.push(Deployed::new(text));
    }

    fn learn_record(&mut self, field: &str, record: Cbor) -> Result<(), RegistrationFault> {
        match field {
            "parties" | "party" => {
                let party = PartyRecord::from_cbor(record)?;
                if party.kind == PartyKind::Device {
                    self.device_parties.insert(party.id.clone());
                }
                if let Some(firm) = party.firm {
                    self.firms.insert(party.id.clone(), firm);
                }
                self.keys.insert(party.id, vec![Held { key: party.key, until: None }]);
            }
            "devices" | "device" => {
                let device = DeviceRecord::from_cbor(record)?;
                self.devices.insert(device.id.clone(), device);
            }
            _ => self.rules.push(RuleRecord::from_cbor(record)?),
        }
        Ok(())
    }

    /// A key that took the place of another: the event says so, and until when the other still speaks; the call holds the key.
    /// Whether there was one: an approval alone gives none.
    fn learn_key(&mut self, call: &CallBody, events: &[Event]) -> Result<bool, RegistrationFault> {
        let is_news =
            |event: &&Event| ["registry.key-rotated", "registry.key-recovered"].contains(&event.kind.as_str());
        let Some(event) = events.iter().find(is_news) else { return Ok(false) };
        let given = call.args.get("key").and_then(Cbor::as_bytes).map(Vec::as_slice).unwrap_or_default();
        let key = VerifyingKey::from_sec1(given)?;
        let Ok(party) = PartyId::try_new(&event.subject) else { return Ok(false) };
        let until = event.data.get("until").and_then(Cbor::as_integer).and_then(|until| i64::try_from(until).ok());
        let held = self.keys.entry(party).or_default();
        // At most two speak at a time; without an overlap only the new one.
        let before = held.pop().filter(|_| until.is_some()).map(|before| before.key);
        held.clear();
        held.extend(before.map(|key| Held { key, until: until.map(Timestamp::from_micros) }));
        held.push(Held { key, until: None });
        Ok(true)
    }
}

/// The records of one list of `register-many` but those that the outcome names as refused.
fn without_refused(records: Vec<Cbor>, list: &str, events: &[Event]) -> Vec<Cbor> {
    let refused = events.iter().filter(|event| event.kind == "registry.record-refused");
    let of_list = refused.filter(|event| event.data.get("list").and_then(Cbor::as_text) == Some(list));
    let place = |event: &Event| event.data.get("place")?.as_integer().and_then(|place| usize::try_from(place).ok());
    let places: BTreeSet<usize> = of_list.filter_map(place).collect();
    let kept = records.into_iter().enumerate().filter(|(place, _)| !places.contains(place));
    kept.map(|(_, record)| record).collect()
}
