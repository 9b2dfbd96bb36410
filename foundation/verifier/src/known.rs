//! What the registering entries of the file prove: keys of parties, agents of devices, versions of rules.

use std::collections::BTreeMap;
use tally_evidence::cbor::Cbor;
use tally_evidence::{CallBody, DeviceRecord, Hash, PartyRecord, RegistrationFault, RuleRecord};
use tally_model::{DeviceId, PartyId};

/// Everything proved so far, by entries in ledger order.
#[derive(Default)]
pub(crate) struct Known {
    parties: BTreeMap<PartyId, PartyRecord>,
    devices: BTreeMap<DeviceId, DeviceRecord>,
    rules: Vec<RuleRecord>,
}

impl Known {
    pub(crate) fn party(&self, id: &PartyId) -> Option<&PartyRecord> {
        self.parties.get(id)
    }

    pub(crate) fn device(&self, id: &DeviceId) -> Option<&DeviceRecord> {
        self.devices.get(id)
    }

    pub(crate) fn rule(&self, digest: &Hash) -> Option<&RuleRecord> {
        self.rules.iter().find(|rule| rule.digest() == *digest)
    }

    /// Learns from a registry call that the ledger carried out; gives how many records it held.
    pub(crate) fn learn(&mut self, call: &CallBody) -> Result<usize, RegistrationFault> {
        let mut learned = 0;
        for (name, value) in &call.args {
            let many = |value: &Cbor| value.as_array().cloned().unwrap_or_default();
            let records = match (call.action.as_str(), name.as_str()) {
                ("genesis", "parties" | "devices" | "rules") => many(value),
                ("register-party", "party") | ("register-device", "device") | ("register-rule", "rule") => {
                    vec![value.clone()]
                }
                _ => continue,
            };
            learned += records.len();
            for record in records {
                self.learn_record(name, record)?;
            }
        }
        Ok(learned)
    }

    fn learn_record(&mut self, field: &str, record: Cbor) -> Result<(), RegistrationFault> {
        match field {
            "parties" | "party" => {
                let party = PartyRecord::from_cbor(record)?;
                self.parties.insert(party.id.clone(), party);
            }
            "devices" | "device" => {
                let device = DeviceRecord::from_cbor(record)?;
                self.devices.insert(device.id.clone(), device);
            }
            _ => self.rules.push(RuleRecord::from_cbor(record)?),
        }
        Ok(())
    }
}
