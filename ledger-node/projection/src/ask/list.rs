//! The lists with their columns, keys, cursors and pages.

use super::{Answer, LIMIT_MAX, Page, Where};
use crate::database::{Database, Fault, Row, Value, at_one_moment};
use crate::project::Height;
use serde_json::{Map, Value as Json};
use std::fmt::Write;
use tally_model::Timestamp;

/// A list with the key of its pages.
pub(super) struct List {
    /// Says in a cursor which list it is of.
    letter: char,
    columns: &'static [&'static str],
    table: &'static str,
    key: [&'static str; 2],
}

pub(super) const ENTRIES: List = List {
    letter: 'e',
    columns: &[
        "entry",
        "item",
        "height",
        "time_us",
        "kind",
        "statement",
        "signer",
        "device",
        "contract",
        "action",
        "agreement",
        "name",
        "transition",
        "priority",
        "number",
        "first_reading",
        "last_reading",
        "at_us",
        "refusal",
    ],
    table: "entries",
    key: ["entry", "item"],
};

pub(super) const AGREEMENTS: List = List {
    letter: 'a',
    columns: &[
        "agreement",
        "contract",
        "version",
        "state",
        "ended",
        "device",
        "owner",
        "fault",
        "parties",
        "fields",
        "currency",
        "held_minor",
        "paid_minor",
        "steps",
        "notes",
        "opened_us",
        "opened_height",
        "opened_entry",
        "updated_us",
        "updated_height",
        "closed_us",
        "closed_height",
        "due_us",
    ],
    table: "agreements",
    key: ["opened_us", "agreement"],
};

pub(super) const EVENTS: List = List {
    letter: 'h',
    columns: &[
        "height",
        "seq",
        "time_us",
        "entry",
        "item",
        "due_us",
        "kind",
        "subject",
        "agreement",
        "device",
        "signer",
        "party",
        "from_state",
        "to_state",
        "amount_minor",
        "currency",
        "data",
    ],
    table: "events",
    key: ["height", "seq"],
};

pub(super) fn list(database: &mut dyn Database, list: &List, mut parts: Where, page: &Page) -> Result<Answer, Fault> {
    behind_cursor(list, &mut parts, page)?;
    let limit = parts.bind(Value::count(page.limit as u64 + 1));
    let sql = format!("{}{} {} LIMIT {limit}", list.select(), parts.sql(), list.order());
    answer(database, list, &sql, &parts.values, page)
}

/// Rows of either half, which have none in common.
pub(super) fn list_of_two(
    database: &mut dyn Database,
    list: &List,
    halves: [Where; 2],
    page: &Page,
) -> Result<Answer, Fault> {
    let (mut sql, mut values) = (String::new(), Vec::new());
    for (mut half, name) in halves.into_iter().zip(["one", "other"]) {
        behind_cursor(list, &mut half, page)?;
        let limit = half.bind(Value::count(page.limit as u64 + 1));
        let part = format!("{}{} {} LIMIT {limit}", list.select(), half.sql(), list.order());
        let union = if sql.is_empty() { "" } else { " UNION ALL " };
        // Writing into a String cannot fail.
        let _ = write!(sql, "{union}SELECT * FROM ({}) AS {name}", shifted(&part, values.len()));
        values.extend(half.values);
    }
    let limit = page.limit + 1;
    answer(database, list, &format!("{sql} {} LIMIT {limit}", list.order()), &values, page)
}

/// The same statement with its parameters numbered from `by` + 1 on.
fn shifted(sql: &str, by: usize) -> String {
    let mut parts = sql.split('?');
    let mut shifted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let _ = write!(shifted, "?{}{rest}", number.parse::<usize>().unwrap_or_default() + by);
    }
    shifted
}

fn behind_cursor(list: &List, parts: &mut Where, page: &Page) -> Result<(), Fault> {
    if page.limit == 0 || page.limit > LIMIT_MAX {
        let text = format!("limit={}", page.limit);
        return Err(Fault::Question { text, hint: "limit is from 1 to 1000; go on with `cursor`" });
    }
    let Some(cursor) = &page.cursor else { return Ok(()) };
    let wrong = || Fault::Question {
        text: format!("`{}` is no cursor of this list", cursor.chars().take(80).collect::<String>()),
        hint: "take it from `next` of the page before, or leave it out",
    };
    let (first, second) = cursor.strip_prefix(list.letter).and_then(|key| key.split_once('.')).ok_or_else(wrong)?;
    let first = Value::Integer(first.parse().map_err(|_| wrong())?);
    // The second part of an agreement's key is its id.
    let second = match list.letter {
        'a' if second.len() <= 128 => Value::text(second),
        _ => Value::Integer(second.parse().map_err(|_| wrong())?),
    };
    let [one, other] = list.key;
    let (first, second) = (parts.bind(first), parts.bind(second));
    parts.conditions.push(format!("({one}, {other}) < ({first}, {second})"));
    Ok(())
}

impl List {
    fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.columns.join(", "), self.table)
    }

    fn order(&self) -> String {
        let [one, other] = self.key;
        format!("ORDER BY {one} DESC, {other} DESC")
    }

    fn cursor(&self, row: &Row) -> Option<String> {
        let [one, other] = self.key.map(|key| self.columns.iter().position(|column| *column == key));
        let first = row.get(one?)?.as_integer()?;
        let second = match row.get(other?)? {
            Value::Text(text) => text.clone(),
            other => other.as_integer()?.to_string(),
        };
        Some(format!("{}{first}.{second}", self.letter))
    }
}

fn answer(database: &mut dyn Database, list: &List, sql: &str, values: &[Value], page: &Page) -> Result<Answer, Fault> {
    at_one_moment(database, |database| {
        let at = Height::read(database)?;
        let mut rows = database.rows(sql, values)?;
        let is_more = rows.len() > page.limit;
        rows.truncate(page.limit);
        let next = rows.last().filter(|_| is_more).and_then(|row| list.cursor(row));
        let columns: Vec<String> = list.columns.iter().map(|column| (*column).to_owned()).collect();
        let rows = rows.into_iter().map(|row| json_row(&columns, row)).collect();
        Ok(Answer { at, rows, next })
    })
}

/// A row with its names; JSON columns as JSON, times also as text.
pub(super) fn json_row(columns: &[String], row: Row) -> Map<String, Json> {
    let mut shown = Map::new();
    for (column, value) in columns.iter().zip(row) {
        let json = match (column.as_str(), &value) {
            ("parties" | "fields" | "data", Value::Text(text)) => serde_json::from_str(text).unwrap_or_default(),
            ("ended", Value::Integer(flag)) if columns.iter().any(|column| column == "agreement") => {
                (*flag != 0).into()
            }
            _ => value.to_json(),
        };
        shown.insert(column.clone(), json);
        if let Some(name) = column.strip_suffix("_us") {
            let time = value.as_integer().map(|time| Timestamp::from_micros(time).to_string());
            let name = if name == "time" { "time".to_owned() } else { format!("{name}_at") };
            // `at_us` is the signer's clock.
            let name = if column == "at_us" { "at".to_owned() } else { name };
            shown.insert(name, time.into());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_renumbered() {
        assert_eq!(shifted("a = ?1 AND b = ?12 LIMIT ?2", 3), "a = ?4 AND b = ?15 LIMIT ?5");
        assert_eq!(shifted("a", 3), "a");
    }
}
