//! What the contracts made of an entry (or of a term that ran out). CDDL: `docs/formats/outcome.cddl`.
//!
//! The outcomes of a block are the leaves of a small RFC 9162 tree; its root stands in the block's checkpoint.

use crate::StatementId;
use crate::cbor::{self, Cbor, CborFault, Fields, int, text};
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
    /// A trigger that came in a batch.
    Item {
        /// Index of the batch's entry.
        index: u64,
        /// The batch's statement.
        statement: StatementId,
        /// Its place in the batch, from 0.
        item: u32,
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

    /// As CBOR bytes. Written field by field in canonical order: a ledger does this for each entry, and copying every event
    /// into a value first would cost more than all the rest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        cbor::write_head(5, if matches!(self.place, Place::Item { .. }) { 6 } else { 5 }, &mut bytes);
        match &self.place {
            Place::Item { index, statement, item } => {
                write_field("item", &int(*item), &mut bytes);
                write_field("entry", &int(*index), &mut bytes);
                self.write_common(&mut bytes);
                write_field("statement", &cbor::bytes(statement.0), &mut bytes);
            }
            Place::Entry { index, statement } => {
                write_field("entry", &int(*index), &mut bytes);
                self.write_common(&mut bytes);
                write_field("statement", &cbor::bytes(statement.0), &mut bytes);
            }
            Place::Term { agreement, due } => {
                write_field("due", &int(*due), &mut bytes);
                self.write_common(&mut bytes);
                write_field("agreement", &text(agreement.as_str()), &mut bytes);
            }
        }
        bytes
    }

    fn write_common(&self, bytes: &mut Vec<u8>) {
        cbor::write_text("events", bytes);
        cbor::write_head(4, self.events.len() as u64, bytes);
        self.events.iter().for_each(|event| event.write(bytes));
        write_field("height", &int(self.height), bytes);
        write_field("refusal", &int(self.refusal), bytes);
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
                let (index, statement) = (fields.int("entry")?, StatementId(fields.bytes_exact("statement")?));
                match crate::batch::item_in(&mut fields)? {
                    Some(item) => Place::Item { index, statement, item },
                    None => Place::Entry { index, statement },
                }
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

impl Event {
    fn write(&self, bytes: &mut Vec<u8>) {
        cbor::write_head(5, 3, bytes);
        cbor::write_text("data", bytes);
        cbor::write_head(5, self.data.len() as u64, bytes);
        let mut data: Vec<_> = self.data.iter().collect();
        // The order of texts by their encoded bytes: a longer one has the greater head.
        data.sort_by_key(|(name, _)| (name.len(), *name));
        for (name, value) in data {
            write_field(name, value, bytes);
        }
        cbor::write_text("kind", bytes);
        cbor::write_text(&self.kind, bytes);
        cbor::write_text("subject", bytes);
        cbor::write_text(&self.subject, bytes);
    }
}

fn write_field(name: &str, value: &Cbor, bytes: &mut Vec<u8>) {
    cbor::write_text(name, bytes);
    cbor::write_sorted(value, bytes);
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
            // Not in the order in which a BTreeMap has them: shorter names go first.
            data: [
                ("amount".to_owned(), int(5)),
                ("to".to_owned(), text("acme")),
                ("state".to_owned(), text("reported")),
                ("more".to_owned(), cbor::map([("a", Cbor::Null), ("bb", int(1))])),
            ]
            .into(),
        };
        let places = [
            Place::Entry { index: 3, statement: StatementId([1; 32]) },
            Place::Item { index: 3, statement: StatementId([1; 32]), item: 999 },
            Place::Term { agreement: "mo-1".into(), due: 5 },
        ];
        for place in places {
            let record = OutcomeRecord { place, height: 2, refusal: 0, events: vec![event.clone()] };
            // Decoding is strict: it would refuse fields out of order.
            assert_eq!(OutcomeRecord::decode(&record.encode()), Ok(record));
        }
    }
}
