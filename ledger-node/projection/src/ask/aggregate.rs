//! Agreements counted and summed over a window.

use super::list::{AGREEMENTS, json_row, list};
use super::{Answer, Filter, LIMIT_MAX, Page, Where, of_agreements};
use crate::database::{Bucket, Database, Dialect, Fault, Value, at_one_moment};
use crate::project::Height;
use serde_json::{Map, Value as Json};

/// Words to group by at most.
const GROUPS_MAX: usize = 4;

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

impl Where {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_words_and_nothing_else() {
        assert_eq!(Group::parse("fault").unwrap(), Group::Column("fault"));
        assert_eq!(Group::parse("maintainer").unwrap(), Group::Name("maintainer".to_owned()));
        for word in ["", "A", "1a", "a b", "a'", "a\"", "$.a", "a-b", "ä", &"a".repeat(65)] {
            assert!(Group::parse(word).is_err(), "{word}");
        }
    }
}
