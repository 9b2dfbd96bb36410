//! Questions with filters, pages and windows. Whatever the caller says is a bound parameter; the words of the statements are ours.
//!
//! Pages go from new to old by a key that never changes, so a page stays what it is while blocks are added in front of it. A
//! question is answered at one moment: the height in the answer is that of all its rows.

use crate::database::{Bucket, Database, Dialect, Fault, Row, Value, at_one_moment};
use crate::project::Height;
use serde_json::{Map, Value as Json};
use std::fmt::Write;
use tally_model::Timestamp;

/// Rows of a page when nobody says how many.
pub const LIMIT: usize = 100;
/// Rows of a page at most.
pub const LIMIT_MAX: usize = 1_000;
/// Words to group by at most.
const GROUPS_MAX: usize = 4;

/// Which rows; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// About this device.
    pub device: Option<String>,
    /// Agreements: with this party in any role. Entries: sealed by it.
    pub party: Option<String>,
    /// Of this contract.
    pub contract: Option<String>,
    /// Agreements in this state.
    pub state: Option<String>,
    /// Entries of this agreement.
    pub agreement: Option<String>,
    /// Entries of this kind, events of this kind.
    pub kind: Option<String>,
    /// From this block time on, microseconds. Agreements: opened (or, in aggregates that say so, ended) then.
    pub from: Option<i64>,
    /// Before this block time.
    pub to: Option<i64>,
}

/// Which part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Rows at most, 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: LIMIT, cursor: None }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Of which block it is.
    pub at: Height,
    /// The rows, with the names of the columns. Beside each time in microseconds (`…_us`) stands its RFC 3339 form (`…_at`).
    pub rows: Vec<Map<String, Json>>,
    /// Cursor of the next page; `None` when this is the last.
    pub next: Option<String>,
}

/// Whose history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A device: its triggers and anchors, its agreements, its registration.
    Device(String),
    /// An agreement.
    Agreement(String),
    /// A party: what it sealed, and what money it paid or got.
    Party(String),
}

/// A list with the key of its pages.
struct List {
    /// Says in a cursor which list it is of.
    letter: char,
    columns: &'static [&'static str],
    table: &'static str,
    key: [&'static str; 2],
}

const ENTRIES: List = List {
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

const AGREEMENTS: List = List {
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

const EVENTS: List = List {
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

/// Entries, newest first.
///
/// # Errors
/// [`Fault`].
pub fn entries(database: &mut dyn Database, filter: &Filter, page: &Page) -> Result<Answer, Fault> {
    refuse_state(filter)?;
    let mut parts = Where::default();
    parts.equal("device", &filter.device);
    parts.equal("signer", &filter.party);
    parts.equal("contract", &filter.contract);
    parts.equal("agreement", &filter.agreement);
    parts.equal("kind", &filter.kind);
    // Block time never falls, so a time is an entry.
    const FIRST: &str =
        "COALESCE((SELECT first_entry FROM blocks WHERE time_us >= {} ORDER BY time_us LIMIT 1), 9223372036854775807)";
    parts.number(&format!("entry >= {FIRST}"), filter.from);
    parts.number(&format!("entry < {FIRST}"), filter.to);
    list(database, &ENTRIES, parts, page)
}

/// Agreements, the last opened first.
///
/// # Errors
/// [`Fault`].
pub fn agreements(database: &mut dyn Database, filter: &Filter, page: &Page) -> Result<Answer, Fault> {
    list(database, &AGREEMENTS, of_agreements(filter, "opened_us")?, page)
}

fn of_agreements(filter: &Filter, time: &str) -> Result<Where, Fault> {
    if filter.kind.is_some() {
        let text = "agreements have no `kind`".to_owned();
        return Err(Fault::Question { text, hint: "filter them by contract, state, device, party, from and to" });
    }
    let mut parts = Where::default();
    parts.equal("agreement", &filter.agreement);
    parts.equal("device", &filter.device);
    parts.equal("contract", &filter.contract);
    parts.equal("state", &filter.state);
    if let Some(party) = &filter.party {
        let sql = "agreement IN (SELECT agreement FROM agreement_parties WHERE party = {})";
        parts.value(sql, Value::text(party.as_str()));
    }
    parts.number(&format!("{time} >= {{}}"), filter.from);
    parts.number(&format!("{time} < {{}}"), filter.to);
    Ok(parts)
}

/// What happened, the last first. Of `filter`, `kind`, `from` and `to` count.
///
/// # Errors
/// [`Fault`].
pub fn history(database: &mut dyn Database, of: &Subject, filter: &Filter, page: &Page) -> Result<Answer, Fault> {
    refuse_state(filter)?;
    let narrowed = |column: &str, id: &str| {
        let mut parts = Where::default();
        parts.value(&format!("{column} = {{}}"), Value::text(id));
        parts.equal("kind", &filter.kind);
        const FIRST: &str =
            "COALESCE((SELECT height FROM blocks WHERE time_us >= {} ORDER BY time_us LIMIT 1), 9223372036854775807)";
        parts.number(&format!("height >= {FIRST}"), filter.from);
        parts.number(&format!("height < {FIRST}"), filter.to);
        parts
    };
    match of {
        Subject::Device(id) => list(database, &EVENTS, narrowed("device", id), page),
        Subject::Agreement(id) => list(database, &EVENTS, narrowed("agreement", id), page),
        Subject::Party(id) => {
            let mut told = narrowed("party", id);
            // What it sealed itself is in the other half.
            told.value("(signer IS NULL OR signer <> {})", Value::text(id.as_str()));
            list_of_two(database, &EVENTS, [narrowed("signer", id), told], page)
        }
    }
}

fn refuse_state(filter: &Filter) -> Result<(), Fault> {
    if filter.state.is_none() {
        return Ok(());
    }
    let text = "only agreements have a `state`".to_owned();
    Err(Fault::Question { text, hint: "leave it out, or ask for agreements" })
}

/// What agreements are counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// A column of ours.
    Column(&'static str),
    /// Day, week or month of the window's time.
    Time(&'static str, Bucket),
    /// A role of the contract (its party), or a field.
    Name(String),
}

impl Group {
    /// Reads a word: `contract`, `state`, `device`, `owner`, `fault`, `day`, `week`, `month`, the name of a role such as
    /// `maintainer`, or the name of a field.
    ///
    /// # Errors
    /// [`Fault::Question`].
    pub fn parse(word: &str) -> Result<Self, Fault> {
        const COLUMNS: [&str; 5] = ["contract", "state", "device", "owner", "fault"];
        if let Some(column) = COLUMNS.into_iter().find(|column| *column == word) {
            return Ok(Self::Column(column));
        }
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        match word {
            "day" => Ok(Self::Time("day", Bucket::Day)),
            "week" => Ok(Self::Time("week", Bucket::Week)),
            "month" => Ok(Self::Time("month", Bucket::Month)),
            name if (1..=64).contains(&name.len())
                && name.bytes().all(is_name)
                && name.starts_with(|first: char| first.is_ascii_lowercase()) =>
            {
                Ok(Self::Name(name.to_owned()))
            }
            _ => Err(Fault::Question {
                text: format!("`{}` is nothing to group by", word.chars().take(80).collect::<String>()),
                hint: "contract, state, device, owner, fault, day, week, month, or the name of a role or field of the contract",
            }),
        }
    }

    /// The name of its column in the answer.
    fn name(&self) -> &str {
        match self {
            Self::Column(name) | Self::Time(name, _) => name,
            Self::Name(name) => name,
        }
    }
}

/// Which time of an agreement lies in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Window {
    /// When it was opened.
    #[default]
    Opened,
    /// When it ended.
    Closed,
}

impl Window {
    const fn column(self) -> &'static str {
        match self {
            Self::Opened => "opened_us",
            Self::Closed => "closed_us",
        }
    }
}

/// An aggregate over agreements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// One row for each combination that occurs, and for each currency.
    pub by: Vec<Group>,
    /// Over which agreements.
    pub filter: Filter,
    /// What `from` and `to` are about.
    pub window: Window,
    /// The states that count as success when an agreement ends in them.
    pub success: Vec<String>,
}

/// Counts, sums of money and times to the end, the largest groups first, at most [`LIMIT_MAX`].
///
/// Columns: the groups, `currency`, `count`, `ended`, `succeeded`, `success_rate` (of those that ended; null when none did),
/// `paid_minor`, `held_minor`, `mean_seconds` and `max_seconds` (from opening to the end, of those that succeeded).
///
/// # Errors
/// [`Fault`].
pub fn aggregate(database: &mut dyn Database, asked: &Aggregate) -> Result<Answer, Fault> {
    if asked.by.len() > GROUPS_MAX {
        let text = format!("{} words to group by", asked.by.len());
        return Err(Fault::Question { text, hint: "at most four" });
    }
    let time = asked.window.column();
    let mut parts = of_agreements(&asked.filter, time)?;
    let dialect = database.dialect();
    let mut columns: Vec<String> = asked.by.iter().map(|group| group.name().to_owned()).collect();
    let groups: Vec<String> = asked.by.iter().map(|group| parts.group(dialect, group, time)).collect();
    let states: Vec<String> = asked.success.iter().map(|state| parts.bind(Value::text(state.as_str()))).collect();
    let states = if states.is_empty() { "NULL".to_owned() } else { states.join(", ") };
    let success = format!("ended = 1 AND state IN ({states})");
    let list = groups.iter().map(|group| format!("{group}, ")).collect::<String>();
    let count = groups.len() + 1;
    let order = (1..=count).map(|place| place.to_string()).collect::<Vec<_>>().join(", ");
    let span = format!("CASE WHEN {success} THEN CAST(closed_us - opened_us AS DOUBLE PRECISION) / 1000000 END");
    let sql = format!(
        "SELECT {list}currency, COUNT(*), CAST(SUM(ended) AS BIGINT), \
         CAST(SUM(CASE WHEN {success} THEN 1 ELSE 0 END) AS BIGINT), \
         CAST(SUM(paid_minor) AS BIGINT), CAST(SUM(held_minor) AS BIGINT), AVG({span}), MAX({span}) \
         FROM agreements{} GROUP BY {order} ORDER BY {} DESC, {order} LIMIT {LIMIT_MAX}",
        parts.sql(),
        count + 1,
    );
    columns.extend(
        ["currency", "count", "ended", "succeeded", "paid_minor", "held_minor", "mean_seconds", "max_seconds"]
            .map(str::to_owned),
    );
    at_one_moment(database, |database| {
        let at = Height::read(database)?;
        let rows = database.rows(&sql, &parts.values)?;
        let rows = rows.into_iter().map(|row| with_rate(json_row(&columns, row))).collect();
        Ok(Answer { at, rows, next: None })
    })
}

#[allow(clippy::cast_precision_loss)] // a rate of counts
fn with_rate(mut row: Map<String, Json>) -> Map<String, Json> {
    let count = |name: &str| row.get(name).and_then(Json::as_i64).unwrap_or_default();
    let (ended, succeeded) = (count("ended"), count("succeeded"));
    let rate = (ended > 0).then(|| succeeded as f64 / ended as f64);
    row.insert("success_rate".to_owned(), rate.into());
    row
}

/// Ids of the agreements behind an aggregate, the last opened first, as a page; what proves its numbers.
///
/// # Errors
/// [`Fault`].
pub fn behind(database: &mut dyn Database, asked: &Aggregate, page: &Page) -> Result<Answer, Fault> {
    list(database, &AGREEMENTS, of_agreements(&asked.filter, asked.window.column())?, page)
}

/// Conditions with their parameters.
#[derive(Debug, Default)]
struct Where {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Where {
    /// The place of a new parameter.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    /// A condition with `{}` where the value goes.
    fn value(&mut self, condition: &str, value: Value) {
        let place = self.bind(value);
        self.conditions.push(condition.replace("{}", &place));
    }

    fn equal(&mut self, column: &str, wanted: &Option<String>) {
        if let Some(wanted) = wanted {
            self.value(&format!("{column} = {{}}"), Value::text(wanted.as_str()));
        }
    }

    fn number(&mut self, condition: &str, wanted: Option<i64>) {
        if let Some(wanted) = wanted {
            self.value(condition, Value::Integer(wanted));
        }
    }

    fn group(&mut self, dialect: Dialect, group: &Group, time: &str) -> String {
        match group {
            Group::Column(column) => (*column).to_owned(),
            Group::Time(_, unit) => dialect.bucket(*unit, time),
            Group::Name(name) => {
                let place = self.bind(Value::text(name.as_str()));
                format!("COALESCE({}, {})", dialect.member("parties", &place), dialect.member("fields", &place))
            }
        }
    }

    fn sql(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!(" WHERE {}", self.conditions.join(" AND ")) }
    }
}

fn list(database: &mut dyn Database, list: &List, mut parts: Where, page: &Page) -> Result<Answer, Fault> {
    behind_cursor(list, &mut parts, page)?;
    let limit = parts.bind(Value::count(page.limit as u64 + 1));
    let sql = format!("{}{} {} LIMIT {limit}", list.select(), parts.sql(), list.order());
    answer(database, list, &sql, &parts.values, page)
}

/// Rows of either half, which have none in common.
fn list_of_two(database: &mut dyn Database, list: &List, halves: [Where; 2], page: &Page) -> Result<Answer, Fault> {
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
fn json_row(columns: &[String], row: Row) -> Map<String, Json> {
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

    #[test]
    fn groups_are_words_and_nothing_else() {
        assert_eq!(Group::parse("fault").unwrap(), Group::Column("fault"));
        assert_eq!(Group::parse("maintainer").unwrap(), Group::Name("maintainer".to_owned()));
        for word in ["", "A", "1a", "a b", "a'", "a\"", "$.a", "a-b", "ä", &"a".repeat(65)] {
            assert!(Group::parse(word).is_err(), "{word}");
        }
    }
}
