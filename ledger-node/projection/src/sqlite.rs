//! SQLite: a file in the node's data folder, in WAL mode, so that anyone may read it while the node writes.
//!
//! **Disk.** `synchronous=NORMAL`: a power cut may lose the last transactions, whole ones, height and rows together.
//! **Memory.** 4 MiB of pages per connection.

use crate::database::{Database, Dialect, Fault, Row, Value};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `TSPJ`: `file` and SQLite's own header say whose file it is.
const APPLICATION_ID: i32 = 0x5453_504a;
/// How long a writer waits for another one (`tally ledger project` beside a running node).
const BUSY: Duration = Duration::from_secs(5);

/// An open file.
pub struct Sqlite {
    connection: Connection,
    file: PathBuf,
    inode: u64,
}

impl Sqlite {
    /// Opens or makes the file for writing.
    ///
    /// # Errors
    /// [`Fault::Database`]; damaged or no database at all when the fault [says so](Fault::is_damage).
    pub fn open(file: &Path) -> Result<Self, Fault> {
        let connection = Connection::open(file).map_err(|error| fault(file, &error))?;
        let mut sqlite = Self::new(connection, file)?;
        sqlite.batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 16777216;
             PRAGMA application_id = {APPLICATION_ID};"
        ))?;
        Ok(sqlite)
    }

    /// Opens the file for reading.
    ///
    /// # Errors
    /// [`Fault::Database`], also when there is none.
    pub fn open_reading(file: &Path) -> Result<Self, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags).map_err(|error| fault(file, &error))?;
        let mut sqlite = Self::new(connection, file)?;
        sqlite.batch("PRAGMA query_only = ON;")?;
        Ok(sqlite)
    }

    fn new(connection: Connection, file: &Path) -> Result<Self, Fault> {
        connection.busy_timeout(BUSY).map_err(|error| fault(file, &error))?;
        connection.set_prepared_statement_cache_capacity(64);
        connection
            .execute_batch("PRAGMA cache_size = -4000; PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF;")
            .map_err(|error| fault(file, &error))?;
        Ok(Self { connection, file: file.to_owned(), inode: inode(file).unwrap_or_default() })
    }

    /// The connection, for [`crate::guarded`].
    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) const fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Removes a projection's file with what belongs to it; nothing is in it that the log does not have.
///
/// # Errors
/// [`Fault::Database`].
pub fn remove(file: &Path) -> Result<(), Fault> {
    for end in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(end);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let (place, text) = (file.display().to_string(), error.to_string());
                return Err(Fault::Database { place, text, is_damaged: false });
            }
            _ => {}
        }
    }
    Ok(())
}

fn inode(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|metadata| metadata.ino())
}

pub(crate) fn fault(file: &Path, error: &rusqlite::Error) -> Fault {
    let code = error.sqlite_error_code();
    let is_damaged = matches!(code, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt));
    Fault::Database { place: file.display().to_string(), text: error.to_string(), is_damaged }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// A value of a row; bytes, which only somebody's own SQL makes, as hexadecimal.
pub(crate) fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Text(hex::encode(bytes)),
    }
}

impl Database for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn place(&self) -> String {
        self.file.display().to_string()
    }

    fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        self.connection.execute_batch(sql).map_err(|error| fault(&self.file, &error))
    }

    fn run(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Fault> {
        let done = || self.connection.prepare_cached(sql)?.execute(params_from_iter(parameters));
        done().map(|changed| changed as u64).map_err(|error| fault(&self.file, &error))
    }

    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Fault> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let columns = statement.column_count();
            let mut found = statement.query(params_from_iter(parameters))?;
            let mut rows = Vec::new();
            while let Some(row) = found.next()? {
                rows.push((0..columns).map(|column| row.get_ref(column).map(value)).collect::<Result<_, _>>()?);
            }
            Ok(rows)
        };
        read().map_err(|error: rusqlite::Error| fault(&self.file, &error))
    }

    fn is_there(&self) -> bool {
        inode(&self.file) == Some(self.inode)
    }

    fn begin_reading(&mut self) -> Result<(), Fault> {
        // The first question of a deferred transaction fixes what it sees.
        self.batch("BEGIN DEFERRED")
    }

    fn begin_writing(&mut self) -> Result<(), Fault> {
        self.batch("BEGIN IMMEDIATE")
    }
}
