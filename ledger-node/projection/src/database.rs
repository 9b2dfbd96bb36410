//! The few things we ask of a database, so that SQLite and PostgreSQL take the same statements.

use std::fmt::Write;

/// A value of a row or of a parameter. Byte strings are written as hexadecimal texts: people read these tables.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// 64 bits, signed: heights, entries, microseconds, minor units.
    Integer(i64),
    /// A mean.
    Real(f64),
    /// Text without NUL characters, see [`Value::text`].
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// One row, in the order of the columns asked for.
pub type Row = Vec<Value>;

impl Value {
    /// A text. PostgreSQL takes no NUL character; both databases get U+FFFD instead, so that they stay equal.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Text(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text })
    }

    /// A text that may be missing.
    #[must_use]
    pub fn text_or_null<T: Into<String>>(text: Option<T>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    /// A count, height or index. None of ours reaches 2^63.
    #[must_use]
    pub fn count(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// The integer, if it is one.
    #[must_use]
    pub const fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Integer(number) => (*number).into(),
            Self::Real(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }
}

/// Why the projection does not work. The ledger works on all the same.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The database says so.
    #[error("{place}: {text}")]
    Database {
        /// Which database.
        place: String,
        /// What it says.
        text: String,
        /// Whether its file is damaged, so that only making it anew helps.
        is_damaged: bool,
    },
    /// It cannot be used as it is.
    #[error("{place}: {text}; {hint}")]
    Place {
        /// Which database.
        place: String,
        /// What is wrong.
        text: String,
        /// What to do.
        hint: &'static str,
    },
    /// What the ledger gave makes no sense.
    #[error("block {height}: {text}")]
    Block {
        /// Which block.
        height: u64,
        /// What is wrong.
        text: String,
    },
    /// The question cannot be answered as it was asked.
    #[error("{text}")]
    Question {
        /// What is wrong with it.
        text: String,
        /// What to ask instead.
        hint: &'static str,
    },
}

impl Fault {
    /// Whether the database's file is damaged.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Database { is_damaged: true, .. })
    }
}

/// Where the two databases do not say the same with the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.46 or later (it is built in).
    Sqlite,
    /// PostgreSQL 13 or later.
    Postgres,
}

impl Dialect {
    /// RFC 3339 of a column of microseconds; NULL stays NULL.
    #[must_use]
    pub fn iso(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!(
                "strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch') || \
                 printf('.%06dZ', {column} % 1000000)"
            ),
            Self::Postgres => format!(
                "to_char(TIMESTAMP '1970-01-01 00:00:00' + {column} * INTERVAL '1 microsecond', \
                 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
            ),
        }
    }

    /// The day, ISO week or month (UTC) of a column of microseconds.
    #[must_use]
    pub fn bucket(self, unit: Bucket, column: &str) -> String {
        let (lite, pg) = match unit {
            Bucket::Day => ("%Y-%m-%d", "YYYY-MM-DD"),
            Bucket::Week => ("%G-W%V", "IYYY-\"W\"IW"),
            Bucket::Month => ("%Y-%m", "YYYY-MM"),
        };
        match self {
            Self::Sqlite => format!("strftime('{lite}', {column} / 1000000, 'unixepoch')"),
            Self::Postgres => {
                format!("to_char(TIMESTAMP '1970-01-01 00:00:00' + {column} * INTERVAL '1 microsecond', '{pg}')")
            }
        }
    }

    /// A member of a column that holds a JSON object, as text. `name` must be an SQL literal or a parameter.
    #[must_use]
    pub fn member(self, column: &str, name: &str) -> String {
        match self {
            Self::Sqlite => format!("CAST({column} ->> CAST({name} AS TEXT) AS TEXT)"),
            Self::Postgres => format!("(CAST({column} AS JSONB) ->> CAST({name} AS TEXT))"),
        }
    }

    /// A JSON column for a view: PostgreSQL has a type for it.
    #[must_use]
    pub fn json(self, column: &str) -> String {
        match self {
            Self::Sqlite => column.to_owned(),
            Self::Postgres => format!("CAST({column} AS JSONB) AS {column}"),
        }
    }
}

/// A step of time in an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// A day, UTC.
    Day,
    /// An ISO 8601 week.
    Week,
    /// A calendar month, UTC.
    Month,
}

/// A connection. Statements have their parameters as `?1`, `?2`, …
pub trait Database: Send {
    /// Which words it understands.
    fn dialect(&self) -> Dialect;

    /// Which database this is, without a password.
    fn place(&self) -> String;

    /// Several statements without parameters.
    ///
    /// # Errors
    /// [`Fault::Database`].
    fn batch(&mut self, sql: &str) -> Result<(), Fault>;

    /// One statement; gives the number of rows it changed.
    ///
    /// # Errors
    /// [`Fault::Database`].
    fn run(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Fault>;

    /// A question.
    ///
    /// # Errors
    /// [`Fault::Database`].
    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Fault>;

    /// Whether this is still the database that its place names (a file may have been deleted under us).
    fn is_there(&self) -> bool {
        true
    }

    /// Begins a transaction that reads one state of the database.
    ///
    /// # Errors
    /// [`Fault::Database`].
    fn begin_reading(&mut self) -> Result<(), Fault>;

    /// Begins a transaction that writes.
    ///
    /// # Errors
    /// [`Fault::Database`].
    fn begin_writing(&mut self) -> Result<(), Fault>;

    /// Ends a transaction, keeping what it wrote.
    ///
    /// # Errors
    /// [`Fault::Database`].
    fn commit(&mut self) -> Result<(), Fault> {
        self.batch("COMMIT")
    }

    /// Ends a transaction, keeping nothing. A database that cannot do that has lost the connection, and the transaction with it.
    fn roll_back(&mut self) {
        let _ = self.batch("ROLLBACK");
    }
}

/// Runs `read` so that everything it sees is of one moment.
///
/// # Errors
/// [`Fault`].
pub(crate) fn at_one_moment<T>(
    database: &mut dyn Database,
    read: impl FnOnce(&mut dyn Database) -> Result<T, Fault>,
) -> Result<T, Fault> {
    database.begin_reading()?;
    let done = read(database);
    database.roll_back();
    done
}

/// `?1` as `$1`, for PostgreSQL. Our statements have no question mark but those.
pub(crate) fn dollars(sql: &str) -> String {
    sql.replace('?', "$")
}

/// `?1, ?2, …`
pub(crate) fn places(count: usize) -> String {
    let mut places = String::new();
    for number in 1..=count {
        // Writing into a String cannot fail.
        let _ = write!(places, "{}?{number}", if number == 1 { "" } else { ", " });
    }
    places
}
