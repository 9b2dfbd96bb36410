//! Somebody's own SQL on the SQLite file: reading only, and not for long.
//!
//! **What holds it back.** The file is opened read-only and `query_only`; an authorizer lets through `SELECT` of our tables and
//! views and functions on their values, nothing else (no `PRAGMA`, no `ATTACH`, no transaction of its own); the engine is asked to
//! stop when the time is over, and no single step takes long ([`linear`]); values, statement, rows and answer are bounded ([`SqlLimits`]).

use crate::database::{Database, Fault, Row};
use crate::linear;
use crate::project::Height;
use crate::sqlite::{self, Sqlite};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use std::path::Path;
use std::time::{Duration, Instant};

/// Engine steps between two looks at the clock.
const STEPS: i32 = 10_000;
/// Bytes of a pattern of LIKE or GLOB. Matching one is a single step of the engine, which nothing interrupts, and takes the product of both
/// lengths: a pattern of the usual 50,000 bytes on a text of 1 MiB kept a processor busy for minutes, of 250 for half a second.
const PATTERN_BYTES_MAX: i32 = 250;
/// Bytes of a value, in the question and on the way to its answer.
const VALUE_BYTES_MAX: i32 = 1 << 20;
/// Why nothing but a question is taken.
const HINT: &str = "write one SELECT; docs/operator/query.md lists the views";

/// What a statement may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    /// Time for it.
    pub time: Duration,
    /// Rows of the answer; more are cut off.
    pub rows: usize,
    /// About how many bytes the answer may have; more are cut off.
    pub bytes: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(5), rows: 10_000, bytes: 8 << 20 }
    }
}

/// What a statement gave.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlAnswer {
    /// Of which block it is.
    pub at: Height,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// Whether there would have been more.
    pub is_cut: bool,
}

/// Answers one `SELECT` on the projection in `file`.
///
/// # Errors
/// [`Fault::Question`] for anything but a `SELECT`, for SQL that SQLite does not understand, and when the time is over;
/// [`Fault::Database`] when there is no such file.
pub fn guarded(file: &Path, sql: &str, limits: SqlLimits) -> Result<SqlAnswer, Fault> {
    let mut database = Sqlite::open_reading(file)?;
    // From here on everything is read as of one block.
    database.begin_reading()?;
    let at = Height::read(&mut database)?;
    guard(&mut database, limits).map_err(|error| sqlite::fault(file, &error))?;
    read(&database, sql, limits, at).map_err(question)
}

fn guard(database: &mut Sqlite, limits: SqlLimits) -> rusqlite::Result<()> {
    let connection = database.connection_mut();
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 << 10),
        (Limit::SQLITE_LIMIT_COLUMN, 200),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES_MAX),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    linear::install(connection, VALUE_BYTES_MAX as usize)?;
    connection.authorizer(Some(allow))?;
    let end = Instant::now() + limits.time;
    connection.progress_handler(STEPS, Some(move || Instant::now() > end))
}

fn allow(asked: AuthContext<'_>) -> Authorization {
    match asked.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if function_name != "load_extension" => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn read(database: &Sqlite, sql: &str, limits: SqlLimits, at: Height) -> rusqlite::Result<SqlAnswer> {
    let mut statement = database.connection().prepare(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let count = columns.len();
    let mut answer = SqlAnswer { at, columns, rows: Vec::new(), is_cut: false };
    let (mut found, mut bytes) = (statement.query([])?, 0);
    while let Some(row) = found.next()? {
        if answer.rows.len() >= limits.rows || bytes >= limits.bytes {
            answer.is_cut = true;
            break;
        }
        let row: Row = (0..count).map(|column| row.get_ref(column).map(sqlite::value)).collect::<Result<_, _>>()?;
        bytes += row.iter().map(|value| 16 + value.as_text().map_or(0, str::len)).sum::<usize>();
        answer.rows.push(row);
    }
    Ok(answer)
}

fn question(error: rusqlite::Error) -> Fault {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => Fault::Question {
            text: "the question took too long and was stopped".to_owned(),
            hint: "narrow it with WHERE on an indexed column (device, party, state, contract, opened_us, height)",
        },
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            Fault::Question { text: "only SELECT is allowed here".to_owned(), hint: HINT }
        }
        Some(ErrorCode::TooBig) => Fault::Question {
            text: "a value of the question is longer than 1 MiB".to_owned(),
            hint: "ask for less at once",
        },
        _ => Fault::Question { text: format!("SQLite does not take it: {error}"), hint: HINT },
    }
}
