//! Agreements, their steps, and the standing terms under which triggers open them.

use crate::Origin;
use crate::codec::{Reader, Record, Writer};
use crate::datum::Datum;
use std::collections::BTreeMap;
use tally_model::{AgreementId, ContractName, PartyId, Timestamp};

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

#[allow(clippy::ptr_arg)] // the values of a map are `String`s
fn write_text(to: &mut Writer, text: &String) {
    to.text(text);
}

fn write_datum(to: &mut Writer, datum: &Datum) {
    datum.write(to);
}
