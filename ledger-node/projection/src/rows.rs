//! The row of an agreement, and the JSON of events.

use crate::AgreementFacts;
use crate::database::{Row, Value, places};
use serde_json::{Map, Value as Json};
use tally_evidence::Event;
use tally_evidence::cbor::Cbor;

/// Columns of `agreements`, in the order of [`AgreementRow::row`].
const COLUMNS: &[&str] = &[
    "agreement",
    "contract",
    "version",
    "state",
    "ended",
    "device",
    "owner",
    "opened_us",
    "opened_height",
    "opened_entry",
    "updated_us",
    "updated_height",
    "closed_us",
    "closed_height",
    "steps",
    "notes",
    "held_minor",
    "paid_minor",
    "currency",
    "fault",
    "due_us",
    "parties",
    "fields",
];

/// An agreement as its row is being made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AgreementRow {
    /// The values of [`COLUMNS`].
    values: Row,
}

/// The columns that steps change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    State = 3,
    Ended = 4,
    Device = 5,
    Updated = 10,
    UpdatedHeight = 11,
    Closed = 12,
    ClosedHeight = 13,
    Steps = 14,
    Notes = 15,
    Held = 16,
    Paid = 17,
    Currency = 18,
    Fault = 19,
    Due = 20,
    Parties = 21,
    Fields = 22,
}

impl AgreementRow {
    /// One that was opened by `entry` in block `height`.
    pub fn opened(event: &Event, height: u64, time: i64, entry: Option<u64>) -> Self {
        let (height, entry) = (Value::count(height), entry.map_or(Value::Null, Value::count));
        let word = |name: &str| Value::text_or_null(text(event, name).filter(|text| !text.is_empty()));
        let (time, none) = (Value::Integer(time), Value::Null);
        let zero = Value::Integer(0);
        let values = vec![
            Value::text(event.subject.as_str()),
            Value::text(text(event, "contract").unwrap_or_default()),
            Value::Integer(number(event, "version").unwrap_or_default()),
            Value::text(text(event, "state").unwrap_or_default()),
            zero.clone(),
            word("device"),
            word("owner"),
            time.clone(),
            height.clone(),
            entry,
            time,
            height,
            none.clone(),
            none.clone(),
            Value::Integer(1),
            zero.clone(),
            zero.clone(),
            zero,
            none.clone(),
            none.clone(),
            none,
            Value::text("{}"),
            Value::text("{}"),
        ];
        Self { values }
    }

    /// As the database has it.
    pub const fn stored(values: Row) -> Self {
        Self { values }
    }

    pub fn select() -> String {
        format!("SELECT {} FROM agreements WHERE agreement = ?1", COLUMNS.join(", "))
    }

    pub fn upsert() -> String {
        let set = COLUMNS.iter().skip(1).map(|column| format!("{column} = excluded.{column}"));
        format!(
            "INSERT INTO agreements ({}) VALUES ({}) ON CONFLICT (agreement) DO UPDATE SET {}",
            COLUMNS.join(", "),
            places(COLUMNS.len()),
            set.collect::<Vec<_>>().join(", ")
        )
    }

    pub fn row(&self) -> &[Value] {
        &self.values
    }

    pub fn set(&mut self, column: Column, value: impl Into<Value>) {
        if let Some(place) = self.values.get_mut(column as usize) {
            *place = value.into();
        }
    }

    pub fn add(&mut self, column: Column, amount: i64) {
        let before = self.values.get(column as usize).and_then(Value::as_integer).unwrap_or_default();
        self.set(column, before.saturating_add(amount));
    }

    pub fn device(&self) -> Option<String> {
        self.values.get(Column::Device as usize).and_then(Value::as_text).map(str::to_owned)
    }

    /// What the state says beyond the events.
    pub fn detail(&mut self, facts: &AgreementFacts) {
        let fault = facts.fields.get("fault").and_then(Json::as_str).filter(|fault| !fault.is_empty());
        self.set(Column::Currency, Value::text(facts.currency.as_str()));
        self.set(Column::Fault, Value::text_or_null(fault));
        self.set(Column::Due, facts.due.map_or(Value::Null, |due| Value::Integer(due.as_micros())));
        let parties = facts.parties.iter().map(|(role, party)| (role.clone(), Json::from(party.as_str())));
        self.set(Column::Parties, json_text(Json::Object(parties.collect())));
        let fields = facts.fields.iter().map(|(name, value)| (name.clone(), value.clone()));
        self.set(Column::Fields, json_text(Json::Object(fields.collect())));
    }
}

/// A text of an event's data.
pub(crate) fn text<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.data.get(name).and_then(|value| value.as_text())
}

/// A number of an event's data.
pub(crate) fn number(event: &Event, name: &str) -> Option<i64> {
    event.data.get(name).and_then(|value| value.as_integer()).and_then(|number| i64::try_from(number).ok())
}

/// The data of an event as JSON text.
pub(crate) fn data(event: &Event) -> Value {
    let data: Map<String, Json> = event.data.iter().map(|(name, value)| (name.clone(), json(value))).collect();
    json_text(Json::Object(data))
}

/// JSON that PostgreSQL takes as such: no NUL character anywhere.
pub(crate) fn json_text(value: Json) -> Value {
    Value::Text(without_nul(value).to_string())
}

fn without_nul(value: Json) -> Json {
    let clean = |text: String| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    match value {
        Json::String(text) => Json::String(clean(text)),
        Json::Array(items) => items.into_iter().map(without_nul).collect(),
        Json::Object(members) => {
            Json::Object(members.into_iter().map(|(name, value)| (clean(name), without_nul(value))).collect())
        }
        other => other,
    }
}

/// CBOR as JSON (RFC 8949 §6.1), as the node's interface shows it: byte strings as hexadecimal, numbers beyond 64 bits as texts.
fn json(value: &Cbor) -> Json {
    match value {
        Cbor::Bool(flag) => (*flag).into(),
        Cbor::Integer(number) => {
            let number = i128::from(*number);
            i64::try_from(number).map_or_else(|_| number.to_string().into(), Json::from)
        }
        Cbor::Float(number) => (*number).into(),
        Cbor::Text(text) => text.as_str().into(),
        Cbor::Bytes(bytes) => hex::encode(bytes).into(),
        Cbor::Array(items) => items.iter().map(json).collect(),
        Cbor::Map(pairs) => {
            let name = |key: &Cbor| match json(key) {
                Json::String(text) => text,
                other => other.to_string(),
            };
            Json::Object(pairs.iter().map(|(key, value)| (name(key), json(value))).collect())
        }
        Cbor::Tag(_, inner) => json(inner),
        _ => Json::Null,
    }
}
