//! What the contracts made of an entry (or of a term that ran out). CDDL: `docs/formats/outcome.cddl`.
//!
//! The outcomes of a block are the leaves of a small RFC 9162 tree; its root stands in the block's checkpoint.

use crate::StatementId;
use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use std::collections::BTreeMap;

/// What caused the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An entry of the ledger.
    Entry {
        /// Its index in the tree.
        index: u64,
        /// Its statement.
        statement: StatementId,
    },
    /// A term of an agreement that ran out.
    Term {
        /// Which agreement.
        agreement: String,
        /// When it was due, microseconds since the epoch.
        due: i64,
    },
}

/// Something that happened to something: an order opened, money moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What, as `area.verb` such as `agreement.opened`, `accounts.transferred`.
    pub kind: String,
    /// To whom: agreement, account, party or device id.
    pub subject: String,
    /// Details.
    pub data: BTreeMap<String, Cbor>,
}

/// The outcome of one entry or term.
#[derive(Debug, Clone, PartialEq)]
pub struct OutcomeRecord {
    /// What caused it.
    pub place: Place,
    /// Height of the block.
    pub height: u64,
    /// 0 when done; otherwise the number of the refusal.
    pub refusal: u16,
    /// What happened, in order; empty for refusals.
    pub events: Vec<Event>,
}

impl OutcomeRecord {
    /// Whether it was done.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.refusal == 0
    }

    /// As CBOR bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let events = self.events.iter().map(|event| {
            let data = map(event.data.iter().map(|(name, value)| (name.as_str(), value.clone())));
            map([("kind", text(event.kind.clone())), ("subject", text(event.subject.clone())), ("data", data)])
        });
        let mut fields = vec![
            ("height", int(self.height)),
            ("refusal", int(self.refusal)),
            ("events", Cbor::Array(events.collect())),
        ];
        match &self.place {
            Place::Entry { index, statement } => {
                fields.extend([("entry", int(*index)), ("statement", bytes(statement.0))]);
            }
            Place::Term { agreement, due } => {
                fields.extend([("agreement", text(agreement.clone())), ("due", int(*due))]);
            }
        }
        cbor::encode(&map(fields))
    }

    /// From CBOR bytes, strictly.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CborFault> {
        let mut fields = Fields::decode(bytes)?;
        let place = match fields.text_opt("agreement")? {
            Some(agreement) => Place::Term { agreement, due: fields.int("due")? },
            None => {
                Place::Entry { index: fields.int("entry")?, statement: StatementId(fields.bytes_exact("statement")?) }
            }
        };
        let record = Self {
            place,
            height: fields.int("height")?,
            refusal: fields.int("refusal")?,
            events: fields.array("events")?.into_iter().map(decode_event).collect::<Result<_, _>>()?,
        };
        fields.finish()?;
        Ok(record)
    }
}

fn decode_event(value: Cbor) -> Result<Event, CborFault> {
    let mut fields = Fields::new(value, "event")?;
    let event = Event {
        kind: fields.text("kind")?,
        subject: fields.text("subject")?,
        data: fields.fields("data")?.rest().into_iter().collect(),
    };
    fields.finish()?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_round_trip() {
        let event = Event {
            kind: "agreement.opened".into(),
            subject: "mo-1".into(),
            data: [("state".to_owned(), text("reported"))].into(),
        };
        let places = [
            Place::Entry { index: 3, statement: StatementId([1; 32]) },
            Place::Term { agreement: "mo-1".into(), due: 5 },
        ];
        for place in places {
            let record = OutcomeRecord { place, height: 2, refusal: 0, events: vec![event.clone()] };
            assert_eq!(OutcomeRecord::decode(&record.encode()), Ok(record));
        }
    }
}
