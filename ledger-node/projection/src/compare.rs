//! Two projections, row by row.

use crate::database::{Database, Fault, Row, Value, places};
use crate::project::Height;
use crate::schema::TABLES;
use std::cmp::Ordering;

/// Rows read at once.
const PAGE: i64 = 5_000;
/// Differences told at most.
const DIFFERENCES_MAX: usize = 20;

/// What comparing found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Rows that were compared, of all tables.
    pub rows: u64,
    /// The first differences, in words; empty when the two are equal.
    pub differences: Vec<String>,
}

/// Compares all rows of two projections, of SQLite or PostgreSQL, in the order of their keys.
///
/// # Errors
/// [`Fault`].
pub fn compare(one: &mut dyn Database, other: &mut dyn Database) -> Result<Comparison, Fault> {
    let mut found = Comparison::default();
    let (ours, theirs) = (Height::read(one)?, Height::read(other)?);
    if ours.complete_from != theirs.complete_from {
        let (ours, theirs) = (ours.complete_from, theirs.complete_from);
        found.differences.push(format!(
            "one is complete from block {ours} on, the other from block {theirs}: the log has forgotten what lies before, so nothing \
             can be compared; bring the segments back with `tally ledger import`"
        ));
        return Ok(found);
    }
    if ours != theirs {
        found.differences.push(format!("meta: {ours:?} / {theirs:?}"));
        return Ok(found);
    }
    for (table, key) in TABLES {
        compare_table(one, other, table, key, &mut found)?;
    }
    Ok(found)
}

fn compare_table(
    one: &mut dyn Database,
    other: &mut dyn Database,
    table: &str,
    key: &[&str],
    found: &mut Comparison,
) -> Result<(), Fault> {
    let (mut ours, mut theirs) = (Rows::new(one, table, key)?, Rows::new(other, table, key)?);
    loop {
        let (left, right) = (ours.next()?, theirs.next()?);
        match (&left, &right) {
            (None, None) => return Ok(()),
            (left, right) if left != right => found.differences.push(format!("{table}: {left:?} / {right:?}")),
            _ => found.rows += 1,
        }
        // Behind a missing row everything differs; the first few are enough.
        if found.differences.len() >= DIFFERENCES_MAX {
            return Ok(());
        }
    }
}

/// The rows of a table in the order of its key, a page at a time.
struct Rows<'a> {
    database: &'a mut dyn Database,
    sql_first: String,
    sql_next: String,
    key: Vec<usize>,
    page: std::vec::IntoIter<Row>,
    last: Option<Vec<Value>>,
    is_done: bool,
}

impl<'a> Rows<'a> {
    fn new(database: &'a mut dyn Database, table: &str, key: &[&str]) -> Result<Self, Fault> {
        let columns = columns(table);
        let (list, order) = (columns.join(", "), key.join(", "));
        let places = places(key.len());
        let limit = format!("ORDER BY {order} LIMIT {PAGE}");
        let place = |name: &&str| columns.iter().position(|column| column == name);
        Ok(Self {
            database,
            sql_first: format!("SELECT {list} FROM {table} {limit}"),
            sql_next: format!("SELECT {list} FROM {table} WHERE ({order}) > ({places}) {limit}"),
            key: key.iter().filter_map(place).collect(),
            page: Vec::new().into_iter(),
            last: None,
            is_done: false,
        })
    }

    fn next(&mut self) -> Result<Option<Row>, Fault> {
        if let Some(row) = self.page.next() {
            return Ok(Some(row));
        }
        if self.is_done {
            return Ok(None);
        }
        let rows = match &self.last {
            None => self.database.rows(&self.sql_first, &[])?,
            Some(last) => self.database.rows(&self.sql_next, last)?,
        };
        self.is_done = (rows.len() as i64).cmp(&PAGE) == Ordering::Less;
        self.last = rows.last().map(|row| self.key.iter().filter_map(|place| row.get(*place).cloned()).collect());
        self.page = rows.into_iter();
        Ok(self.page.next())
    }
}

/// The columns of a table, out of the statement that makes it.
fn columns(table: &str) -> Vec<&'static str> {
    crate::schema::columns(table)
}
