//! What the registry keeps about parties, devices and rules, in the form in which calls carry it, so that a verifier can
//! read a device's binding out of the registering call itself. CDDL: `docs/formats/registry.cddl`.
//!
//! The registry's calls: `genesis` (sealed by the ledger key, entry 0) carries `parties`, `devices`, `rules` as arrays of
//! records; `register-party`, `register-device`, `register-rule` carry one record in `party`, `device`, `rule`;
//! `bind-device` and `accept-transfer` a device as it is from then on; `register-many` arrays of parties and devices.

use crate::cbor::{Cbor, CborFault, Fields, bytes, map, text};
use crate::{Hash, KeyFault, RuleFault, VerifyingKey, decode_rule, sha256};
use tally_model::{DeviceId, PartyId, RuleSource, SiteId};

/// Why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationFault {
    /// The CBOR is not what the CDDL says.
    #[error("{0}")]
    Cbor(#[from] CborFault),
    /// The key is none.
    #[error("{0}")]
    Key(#[from] KeyFault),
    /// The rule is none.
    #[error("{0}")]
    Rule(#[from] RuleFault),
    /// A kind outside the list.
    #[error("`{0}` is no kind of party; allowed: organisation, person, agent, device, regulator")]
    Kind(String),
}

/// The kinds of party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartyKind {
    /// A firm; owns accounts and devices.
    Organisation,
    /// A human being who works for a firm.
    Person,
    /// An edge agent, which seals for devices that have no keys.
    Agent,
    /// A device with a key of its own.
    Device,
    /// Reads everything, changes nothing.
    Regulator,
}

impl PartyKind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Organisation, "organisation"),
        (Self::Person, "person"),
        (Self::Agent, "agent"),
        (Self::Device, "device"),
        (Self::Regulator, "regulator"),
    ];

    /// The word in records and YAML.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// The kind with this word.
    ///
    /// # Errors
    /// [`RegistrationFault::Kind`].
    pub fn from_word(word: &str) -> Result<Self, RegistrationFault> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word);
        found.map(|(kind, _)| *kind).ok_or_else(|| RegistrationFault::Kind(word.to_owned()))
    }
}

/// A party with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartyRecord {
    /// Its id; the `iss` of its statements.
    pub id: PartyId,
    /// What it is.
    pub kind: PartyKind,
    /// Name for people.
    pub name: String,
    /// Its key.
    pub key: VerifyingKey,
    /// The organisation it belongs to.
    pub firm: Option<PartyId>,
    /// What a person can do, for dispatching.
    pub skills: Vec<String>,
}

impl PartyRecord {
    /// As CBOR.
    #[must_use]
    pub fn to_cbor(&self) -> Cbor {
        let mut fields = vec![
            ("id", text(self.id.as_str())),
            ("kind", text(self.kind.word())),
            ("name", text(self.name.clone())),
            ("key", bytes(self.key.sec1().to_vec())),
            ("skills", Cbor::Array(self.skills.iter().map(text).collect())),
        ];
        if let Some(firm) = &self.firm {
            fields.push(("firm", text(firm.as_str())));
        }
        map(fields)
    }

    /// From CBOR.
    ///
    /// # Errors
    /// [`RegistrationFault`].
    pub fn from_cbor(value: Cbor) -> Result<Self, RegistrationFault> {
        let mut fields = Fields::new(value, "party")?;
        let firm = match fields.text_opt("firm")? {
            Some(firm) => Some(PartyId::try_new(firm).map_err(|_| type_fault("firm", "a party id"))?),
            None => None,
        };
        let skills = fields.array("skills")?.into_iter().map(|skill| skill.into_text());
        let record = Self {
            id: fields.parse("id", "a party id")?,
            kind: PartyKind::from_word(&fields.text("kind")?)?,
            name: fields.text("name")?,
            key: VerifyingKey::from_sec1(&fields.bytes("key")?)?,
            firm,
            skills: skills.collect::<Result<_, _>>().map_err(|_| type_fault("skills", "a list of texts"))?,
        };
        fields.finish()?;
        Ok(record)
    }
}

fn type_fault(field: &str, expected: &'static str) -> CborFault {
    CborFault::Type { field: field.to_owned(), expected }
}

/// A device, the agent that may speak for it, and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// The device.
    pub id: DeviceId,
    /// The only party whose triggers about this device are admitted.
    pub agent: PartyId,
    /// The organisation that owns it and pays for it.
    pub owner: PartyId,
    /// Where it stands.
    pub site: Option<SiteId>,
}

impl DeviceRecord {
    /// As CBOR.
    #[must_use]
    pub fn to_cbor(&self) -> Cbor {
        let fields = [
            ("id", text(self.id.as_str())),
            ("agent", text(self.agent.as_str())),
            ("owner", text(self.owner.as_str())),
        ];
        map(fields.into_iter().chain(self.site.as_ref().map(|site| ("site", text(site.as_str())))))
    }

    /// From CBOR.
    ///
    /// # Errors
    /// [`RegistrationFault`].
    pub fn from_cbor(value: Cbor) -> Result<Self, RegistrationFault> {
        let mut fields = Fields::new(value, "device")?;
        let record = Self {
            id: fields.parse("id", "a device id")?,
            agent: fields.parse("agent", "a party id")?,
            owner: fields.parse("owner", "a party id")?,
            site: match fields.text_opt("site")? {
                Some(site) => Some(SiteId::try_new(site).map_err(|_| type_fault("site", "a site id"))?),
                None => None,
            },
        };
        fields.finish()?;
        Ok(record)
    }
}

/// What a new key of `party` signs (ES256, 64 bytes `r ‖ s`) to show that somebody holds it: deterministic CBOR of
/// `["tallystick-key", ledger, party, key]`, the key as uncompressed SEC1. For `rotate-key` and `approve-recovery`; nobody can bring
/// in the public key of somebody else, nor the proof made for another party or ledger.
#[must_use]
pub fn possession(ledger: &str, party: &PartyId, key: &VerifyingKey) -> Vec<u8> {
    let parts = [text("tallystick-key"), text(ledger), text(party.as_str()), bytes(key.sec1().to_vec())];
    crate::cbor::encode(&Cbor::Array(parts.into()))
}

/// A rule that the owner of a device agreed to.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleRecord {
    /// The canonical bytes ([`crate::encode_rule`]).
    pub bytes: Vec<u8>,
    /// The rule they hold.
    pub rule: RuleSource,
}

impl RuleRecord {
    /// The rule's version.
    #[must_use]
    pub fn digest(&self) -> Hash {
        sha256(&self.bytes)
    }

    /// As CBOR: a byte string of the canonical bytes.
    #[must_use]
    pub fn to_cbor(&self) -> Cbor {
        bytes(self.bytes.clone())
    }

    /// From a rule.
    #[must_use]
    pub fn new(rule: RuleSource) -> Self {
        Self { bytes: crate::encode_rule(&rule), rule }
    }

    /// From CBOR.
    ///
    /// # Errors
    /// [`RegistrationFault`].
    pub fn from_cbor(value: Cbor) -> Result<Self, RegistrationFault> {
        let bytes = value.into_bytes().map_err(|_| type_fault("rule", "a byte string"))?;
        let rule = decode_rule(&bytes)?;
        Ok(Self { bytes, rule })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    #[test]
    fn records_round_trip() {
        let party = PartyRecord {
            id: PartyId::try_new("tina").unwrap(),
            kind: PartyKind::Person,
            name: "Tina Technician".into(),
            key: SigningKey::from_secret(&[3; 32]).unwrap().public().clone(),
            firm: Some(PartyId::try_new("fixit").unwrap()),
            skills: vec!["bearing".into()],
        };
        assert_eq!(PartyRecord::from_cbor(party.to_cbor()), Ok(party.clone()));
        let device = DeviceRecord {
            id: DeviceId::try_new("press-01").unwrap(),
            agent: PartyId::try_new("agent-01").unwrap(),
            owner: PartyId::try_new("acme").unwrap(),
            site: None,
        };
        let there = DeviceRecord { site: Some(SiteId::try_new("hall-3").unwrap()), ..device.clone() };
        for device in [device, there] {
            assert_eq!(DeviceRecord::from_cbor(device.to_cbor()), Ok(device));
        }
    }
}
