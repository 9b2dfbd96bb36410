//! Questions with filters, pages and windows. Whatever the caller says is a bound parameter; the words of the statements are ours.
//!
//! Pages go from new to old by a key that never changes, so a page stays what it is while blocks are added in front of it. A
//! question is answered at one moment: the height in the answer is that of all its rows.

mod aggregate;
mod list;

use crate::database::{Database, Fault, Value};
use crate::project::Height;
use list::{AGREEMENTS, ENTRIES, EVENTS, list, list_of_two};
use serde_json::{Map, Value as Json};

pub use aggregate::{Aggregate, Group, Window, aggregate, behind};

/// Rows of a page when nobody says how many.
pub const LIMIT: usize = 100;
/// Rows of a page at most.
pub const LIMIT_MAX: usize = 1_000;

/// Kinds of entries; `pruned`: forgotten before the tables were made, `unknown`: this program does not understand them.
pub const ENTRY_KINDS: [&str; 6] = ["trigger", "call", "anchor", "batch", "pruned", "unknown"];

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

    fn sql(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!(" WHERE {}", self.conditions.join(" AND ")) }
    }
}
