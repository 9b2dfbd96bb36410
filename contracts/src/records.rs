//! The records behind the keys of [`crate::keys`], each a CBOR array in the order of its fields.

use crate::codec::{Reader, Record, Writer};
use crate::datum::Datum;
use crate::state::{Overlay, StateRead};
use crate::{Origin, Refusal};
use std::collections::BTreeMap;
use tally_evidence::{Hash, KeyId, KeyScheme, PartyKind};
use tally_model::{ActionName, AgreementId, ContractName, PartyId, SiteId, Timestamp};

/// Reads the record under `key`.
pub(crate) fn load<T: Record>(state: &dyn StateRead, key: &[u8]) -> Result<Option<T>, Refusal> {
    let Some(bytes) = state.get(key) else { return Ok(None) };
    T::from_bytes(&bytes).map(Some).ok_or_else(|| corrupt(key))
}

/// Writes a record.
pub(crate) fn store<T: Record>(state: &mut Overlay<'_>, key: Vec<u8>, record: &T) {
    state.put(key, record.to_bytes());
}

pub(crate) fn corrupt(key: &[u8]) -> Refusal {
    Refusal::StateCorrupt { key: key.escape_ascii().to_string() }
}

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

/// The last anchor of a device: what the next one must follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastAnchor {
    pub number: u64,
    pub digest: Hash,
    /// Last reading covered.
    pub last: u64,
    /// Latest receive time covered by any anchor of the device.
    pub received: Timestamp,
    /// Anchors of the device so far, those of earlier vaults included.
    pub count: u64,
    pub entry: u64,
}

impl Record for LastAnchor {
    fn write(&self, to: &mut Writer) {
        to.array(6).uint(self.number).bytes(&self.digest).uint(self.last);
        to.int(self.received.as_micros()).uint(self.count).uint(self.entry);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(6)?;
        Some(Self {
            number: from.uint()?,
            digest: from.hash()?,
            last: from.uint()?,
            received: Timestamp::from_micros(from.int()?),
            count: from.uint()?,
            entry: from.uint()?,
        })
    }
}

/// Where an anchor of a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnchorPlace {
    pub entry: u64,
    /// Latest receive time covered by it or any before it.
    pub received: Timestamp,
    /// The entry that had registered the device with the agent of the anchor.
    pub registered: u64,
}

impl Record for AnchorPlace {
    fn write(&self, to: &mut Writer) {
        to.array(3).uint(self.entry).int(self.received.as_micros()).uint(self.registered);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(3)?;
        Some(Self { entry: from.uint()?, received: Timestamp::from_micros(from.int()?), registered: from.uint()? })
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

/// An account. Whose and what it is stands in its id; the owner of an escrow account is the payer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub owner: String,
    pub currency: String,
    pub balance: i64,
}

impl Account {
    /// Currency and balance of an account's record, in place.
    pub(crate) fn peek(bytes: &[u8]) -> Option<(&str, i64)> {
        let mut from = Reader::new(bytes);
        from.array_of(3)?;
        from.text()?;
        let (currency, balance) = (from.text()?, from.int()?);
        from.is_over().then_some((currency, balance))
    }
}

impl Record for Account {
    fn write(&self, to: &mut Writer) {
        to.array(3).text(&self.owner).text(&self.currency).int(self.balance);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(3)?;
        Some(Self { owner: from.text()?.to_owned(), currency: from.text()?.to_owned(), balance: from.int()? })
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

/// What the owner of a device agreed to beforehand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    pub entry: u64,
    pub owner: PartyId,
    pub currency: String,
    pub parties: BTreeMap<String, String>,
    pub fields: BTreeMap<String, Datum>,
}

impl Record for Standing {
    fn write(&self, to: &mut Writer) {
        to.array(5).uint(self.entry).text(self.owner.as_str()).text(&self.currency);
        to.map(&self.parties, write_text).map(&self.fields, write_datum);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(5)?;
        Some(Self {
            entry: from.uint()?,
            owner: from.parse()?,
            currency: from.text()?.to_owned(),
            parties: from.map(|from| from.text().map(str::to_owned))?,
            fields: from.map(Datum::read)?,
        })
    }
}

#[allow(clippy::ptr_arg)] // the values of a map are `String`s
fn write_text(to: &mut Writer, text: &String) {
    to.text(text);
}

fn write_datum(to: &mut Writer, datum: &Datum) {
    datum.write(to);
}

/// An agreement: an instance of a contract between parties.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Its id.
    pub id: AgreementId,
    /// Its contract.
    pub contract: ContractName,
    /// The contract's version, for its whole life.
    pub version: u64,
    /// The state it is in.
    pub state: String,
    /// Whether that is a final one.
    pub ended: bool,
    /// ISO 4217 code of all its money.
    pub currency: String,
    /// Every role of the contract to a party id; empty when nobody holds it.
    pub parties: BTreeMap<String, String>,
    /// Every field of the contract.
    pub fields: BTreeMap<String, Datum>,
    /// Block time at which it was opened.
    pub opened: Timestamp,
    /// What opened it: its first step.
    pub opened_by: Origin,
    /// Block time at which it last changed.
    pub updated: Timestamp,
    /// When the term of its state runs out; of one that has ended, when it is retired.
    pub due: Option<Timestamp>,
    /// Steps taken; each but the first is kept under its own key.
    pub steps: u64,
    /// Triggers that were only noted.
    pub notes: u64,
    /// The last of them.
    pub last_note: Option<Origin>,
}

impl Record for Agreement {
    const BYTES_USUAL: usize = 512;

    fn write(&self, to: &mut Writer) {
        to.array(15).text(self.id.as_str()).text(self.contract.as_str()).uint(self.version);
        to.text(&self.state).flag(self.ended).text(&self.currency);
        to.map(&self.parties, write_text).map(&self.fields, write_datum);
        to.int(self.opened.as_micros());
        self.opened_by.write(to);
        to.int(self.updated.as_micros());
        match self.due {
            Some(due) => to.int(due.as_micros()),
            None => to.null(),
        };
        to.uint(self.steps).uint(self.notes);
        match self.last_note {
            Some(origin) => origin.write(to),
            None => drop(to.null()),
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(15)?;
        Some(Self {
            id: from.parse()?,
            contract: from.parse()?,
            version: from.uint()?,
            state: from.text()?.to_owned(),
            ended: from.flag()?,
            currency: from.text()?.to_owned(),
            parties: from.map(|from| from.text().map(str::to_owned))?,
            fields: from.map(Datum::read)?,
            opened: Timestamp::from_micros(from.int()?),
            opened_by: Origin::read(from)?,
            updated: Timestamp::from_micros(from.int()?),
            due: from.or_null(|from| from.int())?.map(Timestamp::from_micros),
            steps: from.uint()?,
            notes: from.uint()?,
            last_note: from.or_null(Origin::read)?,
        })
    }
}

/// What made a further step of an agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepCause {
    Entry(Origin),
    Term(Timestamp),
}

impl Record for StepCause {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Entry(origin) => origin.write(to.array(2).flag(true)),
            Self::Term(due) => drop(to.array(2).flag(false).int(due.as_micros())),
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(2)?;
        Some(match from.flag()? {
            true => Self::Entry(Origin::read(from)?),
            false => Self::Term(Timestamp::from_micros(from.int()?)),
        })
    }
}
