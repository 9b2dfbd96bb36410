//! Who is who: the founding, parties, devices, rules and contracts.

use crate::codec::{Reader, Record, Writer};
use tally_evidence::{Hash, KeyId, KeyScheme, PartyKind};
use tally_model::{ActionName, ContractName, PartyId, SiteId, Timestamp};

/// Who may found, issue and deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Founding {
    pub issuer: Option<PartyId>,
    pub admins: Vec<PartyId>,
    /// How long behind its end an agreement stays in the state, microseconds; for ever when nothing was said.
    pub retire_after: Option<i64>,
    /// How the keys of the state are hashed.
    pub keys: KeyScheme,
}

impl Record for Founding {
    fn write(&self, to: &mut Writer) {
        let is_grouped = self.keys != KeyScheme::Scattered;
        let length = if is_grouped { 4 } else { 2 + usize::from(self.retire_after.is_some()) };
        to.array(length).text_or_null(self.issuer.as_ref().map(PartyId::as_str)).texts(&self.admins);
        match self.retire_after {
            Some(after) => drop(to.int(after)),
            None if is_grouped => drop(to.null()),
            None => {}
        }
        if is_grouped {
            to.uint(self.keys.number());
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let length = from.array_of_between(2, 4)?;
        let issuer = from.or_null(|from| from.parse())?;
        let admins = from.texts()?.into_iter().map(|id| PartyId::try_new(id).ok()).collect::<Option<_>>()?;
        let retire_after = match length {
            2 => None,
            3 => Some(from.int()?),
            _ => from.or_null(|from| from.int())?,
        };
        let keys = if length == 4 { KeyScheme::from_number(from.uint()?)? } else { KeyScheme::Scattered };
        Some(Self { issuer, admins, retire_after, keys })
    }
}

/// What every statement needs of its signer. The full record with the parsed key costs thirty times as much to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Party {
    pub kind: PartyKind,
    pub key: KeyId,
    pub firm: Option<PartyId>,
    pub revoked: bool,
    /// The key before, and until when (block time, inclusive) it still speaks.
    pub previous: Option<(KeyId, Timestamp)>,
}

impl Record for Party {
    fn write(&self, to: &mut Writer) {
        to.array(4 + usize::from(self.previous.is_some())).text(self.kind.word()).bytes(&self.key.0);
        to.text_or_null(self.firm.as_ref().map(PartyId::as_str)).flag(self.revoked);
        if let Some((key, until)) = &self.previous {
            to.array(2).bytes(&key.0).int(until.as_micros());
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let was_rotated = from.array_of_or_more(4)?;
        let (kind, key) = (PartyKind::from_word(from.text()?).ok()?, KeyId(from.hash()?));
        let (firm, revoked) = (from.or_null(|from| from.parse())?, from.flag()?);
        let previous = if was_rotated {
            from.array_of(2)?;
            Some((KeyId(from.hash()?), Timestamp::from_micros(from.int()?)))
        } else {
            None
        };
        Some(Self { kind, key, firm, revoked, previous })
    }
}

/// Bytes of a record in the evidence format, with the entry that registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub entry: u64,
    pub bytes: Vec<u8>,
}

impl Record for Registered {
    fn write(&self, to: &mut Writer) {
        to.array(2).uint(self.entry).bytes(&self.bytes);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(2)?;
        Some(Self { entry: from.uint()?, bytes: from.bytes()?.to_vec() })
    }
}

/// The skills of a person, for dispatching.
pub(crate) struct Skills(pub Vec<String>);

impl Record for Skills {
    fn write(&self, to: &mut Writer) {
        to.texts(&self.0);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.texts().map(Self)
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub agent: PartyId,
    pub owner: PartyId,
    pub entry: u64,
    pub site: Option<SiteId>,
}

impl Record for Device {
    fn write(&self, to: &mut Writer) {
        let length = 3 + usize::from(self.site.is_some());
        to.array(length).text(self.agent.as_str()).text(self.owner.as_str()).uint(self.entry);
        if let Some(site) = &self.site {
            to.text(site.as_str());
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let has_site = from.array_of_or_more(3)?;
        let (agent, owner, entry) = (from.parse()?, from.parse()?, from.uint()?);
        Some(Self { agent, owner, entry, site: if has_site { Some(from.parse()?) } else { None } })
    }
}

/// What a rule in force may ask for: the contract, the action and the names of its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleInForce(pub Option<(ContractName, ActionName, Vec<String>)>);

impl Record for RuleInForce {
    fn write(&self, to: &mut Writer) {
        match &self.0 {
            Some((contract, action, names)) => {
                to.array(3).text(contract.as_str()).text(action.as_str()).texts(names);
            }
            None => {
                to.null();
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let call = from.or_null(|from| {
            from.array_of(3)?;
            Some((from.parse()?, from.parse()?, from.texts()?))
        });
        call.map(Self)
    }
}

/// A version of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deployed {
    pub version: u64,
    pub digest: Hash,
    pub entry: u64,
}

impl Record for Deployed {
    fn write(&self, to: &mut Writer) {
        to.array(3).uint(self.version).bytes(&self.digest).uint(self.entry);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(3)?;
        Some(Self { version: from.uint()?, digest: from.hash()?, entry: from.uint()? })
    }
}
