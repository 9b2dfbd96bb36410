//! PostgreSQL, for plants whose reports read from there anyway. One connection, one writer (an advisory lock), and no TLS: reach
//! the server through its Unix socket, on the same computer, or through a tunnel.

use crate::database::{Database, Dialect, Fault, Row, Value, dollars};
use postgres::config::{Host, SslMode};
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, Statement};
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// `TSPJ` as a number: one writer per database and schema.
const LOCK: i64 = 0x5453_504a;

/// An open connection.
pub struct Postgres {
    client: Client,
    place: String,
    statements: HashMap<String, Statement>,
}

impl Postgres {
    /// Connects to `url`, as `postgres://USER:PASSWORD@HOST:PORT/DATABASE` or `host=/run/postgresql dbname=tally`.
    ///
    /// # Errors
    /// [`Fault::Place`] when it asks for TLS or is no such address, [`Fault::Database`] when the server does not let us in.
    pub fn open(url: &str) -> Result<Self, Fault> {
        let mut config = parse(url)?;
        let place = name(&config);
        let client = config.connect_timeout(CONNECT).application_name("tallystick").connect(NoTls);
        let client = client.map_err(|error| fault(&place, &error))?;
        Ok(Self { client, place, statements: HashMap::new() })
    }

    /// Takes the place of the one writer until the connection ends.
    ///
    /// # Errors
    /// [`Fault::Place`] when there is another.
    pub fn be_the_writer(&mut self) -> Result<(), Fault> {
        let asked = self.client.query_one(
            "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))",
            &[&i32::try_from(LOCK).unwrap_or(i32::MAX)],
        );
        let is_ours: bool = asked.and_then(|row| row.try_get(0)).map_err(|error| fault(&self.place, &error))?;
        if is_ours {
            return Ok(());
        }
        Err(Fault::Place {
            place: self.place.clone(),
            text: "another node or command writes the projection there".to_owned(),
            hint: "stop it, or give this node a database of its own",
        })
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&dollars(sql)).map_err(|error| fault(&self.place, &error))?;
        // Filters make a few hundred different questions at most; the usual ones come back at once.
        if self.statements.len() >= 128 {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Checks an address without connecting.
///
/// # Errors
/// [`Fault::Place`].
pub fn parse(url: &str) -> Result<Config, Fault> {
    let refused = |text: String, hint| Fault::Place { place: "projection.postgres".to_owned(), text, hint };
    let config: Config = url.parse().map_err(|error: postgres::Error| {
        // The text may hold a password: it is not shown.
        refused(
            format!("no address of a PostgreSQL database ({})", causes(&error)),
            "for example postgres:///tally?host=/run/postgresql&user=tally",
        )
    })?;
    if config.get_ssl_mode() == SslMode::Require {
        let hint = "leave sslmode out and use the Unix socket, the same computer, or a tunnel";
        return Err(refused("sslmode=require, and this program speaks to PostgreSQL without TLS".to_owned(), hint));
    }
    if config.get_hosts().is_empty() {
        return Err(refused("no host is named".to_owned(), "for example host=/run/postgresql"));
    }
    Ok(config)
}

/// Where it is, without the password.
fn name(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    format!("postgres:{hosts}/{}", config.get_dbname().or(config.get_user()).unwrap_or_default())
}

fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing into a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

fn fault(place: &str, error: &postgres::Error) -> Fault {
    Fault::Database { place: place.to_owned(), text: causes(error), is_damaged: false }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Self::Integer(number) => number.to_sql_checked(ty, out),
            Self::Real(number) => number.to_sql_checked(ty, out),
            Self::Text(text) => text.to_sql_checked(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl FromSql<'_> for Value {
    fn from_sql(ty: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            Type::INT8 => Self::Integer(i64::from_sql(ty, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(ty, raw)?.into()),
            Type::BOOL => Self::Integer(bool::from_sql(ty, raw)?.into()),
            Type::FLOAT8 => Self::Real(f64::from_sql(ty, raw)?),
            _ => Self::Text(String::from_sql(&Type::TEXT, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn batch(&mut self, sql: &str) -> Result<(), Fault> {
        self.client.batch_execute(sql).map_err(|error| fault(&self.place, &error))
    }

    fn run(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Fault> {
        let statement = self.prepared(sql)?;
        let parameters: Vec<_> = parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        self.client.execute(&statement, &parameters).map_err(|error| fault(&self.place, &error))
    }

    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Fault> {
        let statement = self.prepared(sql)?;
        let parameters: Vec<_> = parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let rows = self.client.query(&statement, &parameters).map_err(|error| fault(&self.place, &error))?;
        let read = |row: &postgres::Row| (0..row.len()).map(|column| row.try_get(column)).collect();
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| fault(&self.place, &error))
    }

    fn is_there(&self) -> bool {
        !self.client.is_closed()
    }

    fn begin_reading(&mut self) -> Result<(), Fault> {
        self.batch("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '10s'")
    }

    fn begin_writing(&mut self) -> Result<(), Fault> {
        self.batch("BEGIN")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_passwords_not_shown() {
        let config = parse("postgres://tally:s3cret@127.0.0.1:5432/plant").unwrap();
        assert_eq!(name(&config), "postgres:127.0.0.1/plant");
        assert_eq!(name(&parse("host=/run/postgresql dbname=plant").unwrap()), "postgres:/run/postgresql/plant");
        for (url, word) in [
            ("postgres://h/d?sslmode=require", "TLS"),
            ("dbname=plant", "no host"),
            ("postgres://u:s3cret@h:port/d", "no address"),
            ("mysql://h/d", "no address"),
        ] {
            let fault = parse(url).unwrap_err().to_string();
            assert!(fault.contains(word) && !fault.contains("s3cret"), "{url}: {fault}");
        }
    }
}
