//! Writing: blocks into tables, the height in the same transaction.

use crate::batch::{Batch, Details};
use crate::database::{Database, Fault, Value};
use crate::facts::{AccountFacts, BlockFacts};
use crate::postgres::Postgres;
use crate::pruned;
use crate::schema::{self, SCHEMA_VERSION};
use crate::sqlite::{self, Sqlite};
use std::fmt;
use std::path::PathBuf;
use tally_evidence::Hash;

/// Where a projection is.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// The address of a PostgreSQL database.
    Postgres(String),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "{}", file.display()),
            // It may hold a password.
            Self::Postgres(_) => f.write_str("PostgreSQL"),
        }
    }
}

impl Place {
    /// Whether it can be used at all, without opening or connecting.
    ///
    /// # Errors
    /// [`Fault::Place`].
    pub fn check(&self) -> Result<(), Fault> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(url) => crate::postgres::parse(url).map(|_| ()),
        }
    }

    /// Whether its address says a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        matches!(self, Self::Postgres(url) if crate::postgres::parse(url).is_ok_and(|config| config.get_password().is_some()))
    }

    /// A connection that only reads.
    ///
    /// # Errors
    /// [`Fault`], also when nothing is there yet.
    pub fn reader(&self) -> Result<Box<dyn Database>, Fault> {
        Ok(match self {
            Self::Sqlite(file) => Box::new(Sqlite::open_reading(file)?),
            Self::Postgres(url) => Box::new(Postgres::open(url)?),
        })
    }

    /// A connection that writes, and the only one.
    fn writer(&self) -> Result<Box<dyn Database>, Fault> {
        match self {
            Self::Sqlite(file) => match Sqlite::open(file) {
                Err(fault) if fault.is_damage() => {
                    // Nothing is in it that the log does not have.
                    sqlite::remove(file)?;
                    Ok(Box::new(Sqlite::open(file)?))
                }
                opened => Ok(Box::new(opened?)),
            },
            Self::Postgres(url) => {
                let mut database = Postgres::open(url)?;
                database.be_the_writer()?;
                Ok(Box::new(database))
            }
        }
    }
}

/// Up to which block a projection is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Height {
    /// The ledger.
    pub ledger: String,
    /// Its last block; `None` before the first.
    pub height: Option<u64>,
    /// Digest of that block's checkpoint, in hexadecimal.
    pub checkpoint: String,
    /// Entries up to there.
    pub entries: u64,
    /// Time of that block, microseconds.
    pub time: Option<i64>,
    /// The block up to which parties, fields and terms of agreements are known. Behind `height` only while catching up.
    pub details: Option<u64>,
    /// The block from which everything is in: 0, unless the tables were made when the log had forgotten what lies before.
    pub complete_from: u64,
    /// Whether the accounts hold what the ledger's do; not, while the tables catch up with such a log.
    pub balanced: bool,
}

impl Height {
    /// Reads it; in a transaction it belongs to everything else that is read there.
    ///
    /// # Errors
    /// [`Fault::Database`].
    pub fn read(database: &mut dyn Database) -> Result<Self, Fault> {
        let sql = "SELECT ledger, height, checkpoint, entries, time_us, details_height FROM meta WHERE id = 1";
        let rows = database.rows(sql, &[])?;
        let row = rows.into_iter().next().unwrap_or_default();
        let text = |place: usize| row.get(place).and_then(Value::as_text).unwrap_or_default().to_owned();
        let number = |place: usize| row.get(place).and_then(Value::as_integer);
        let count = |place: usize| number(place).and_then(|number| u64::try_from(number).ok());
        let (complete_from, balanced) = pruned::read(database)?;
        Ok(Self {
            ledger: text(0),
            height: count(1),
            checkpoint: text(2),
            entries: count(3).unwrap_or_default(),
            time: number(4),
            details: count(5),
            complete_from,
            balanced,
        })
    }

    /// The block to write next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.height.map_or(0, |height| height + 1)
    }
}

/// What became of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The last block that is in.
    pub height: u64,
}

/// The one writer of a projection.
pub struct Projection {
    database: Box<dyn Database>,
    at: Height,
}

impl Projection {
    /// Opens or begins the projection of `ledger`. One of another version, or one whose last block `is_ours` does not know, is
    /// removed and begun anew; a damaged SQLite file too.
    ///
    /// # Errors
    /// [`Fault::Place`] when a PostgreSQL database holds another ledger, [`Fault::Database`].
    pub fn open(place: &Place, ledger: &str, is_ours: &dyn Fn(u64, &str) -> bool) -> Result<Self, Fault> {
        let mut database = place.writer()?;
        match prepare(&mut *database, place, ledger, is_ours) {
            Err(fault) if fault.is_damage() => {
                drop(database);
                if let Place::Sqlite(file) = place {
                    sqlite::remove(file)?;
                }
                let mut database = place.writer()?;
                let at = prepare(&mut *database, place, ledger, is_ours)?;
                Ok(Self { database, at })
            }
            prepared => Ok(Self { at: prepared?, database }),
        }
    }

    /// Up to where it is complete.
    #[must_use]
    pub const fn at(&self) -> &Height {
        &self.at
    }

    /// Whether its file or connection is still there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.database.is_there()
    }

    /// Removes every row and begins anew.
    ///
    /// # Errors
    /// [`Fault::Database`]; nothing is changed then.
    pub fn begin_anew(&mut self) -> Result<(), Fault> {
        let ledger = self.at.ledger.clone();
        anew(&mut *self.database, &ledger)?;
        self.at = Height::read(&mut *self.database)?;
        Ok(())
    }

    /// Writes blocks, which must follow, in one transaction with their height. `details` gives what the state behind the last of
    /// them says of agreements; `None` while it is not at hand, because blocks behind it are in the ledger already.
    ///
    /// # Errors
    /// [`Fault`]; the projection is as it was then.
    pub fn write(&mut self, blocks: &[BlockFacts], details: Option<&mut Details<'_>>) -> Result<(), Fault> {
        let Some(last) = blocks.last() else { return Ok(()) };
        let lacking = blocks.iter().rev().find(|block| !block.is_whole).map(|block| block.height + 1);
        let at = Height {
            ledger: self.at.ledger.clone(),
            height: Some(last.height),
            checkpoint: hex::encode(last.checkpoint),
            entries: last.first_entry + last.statements.len() as u64,
            time: Some(last.time.as_micros()),
            details: if details.is_some() { Some(last.height) } else { self.at.details },
            complete_from: lacking.unwrap_or(self.at.complete_from),
            balanced: self.at.balanced && lacking.is_none(),
        };
        self.database.begin_writing()?;
        let lacking = lacking.map_or(Ok(()), |from| pruned::lacks(&mut *self.database, from));
        let next = self.at.next();
        match lacking.and_then(|()| transaction(&mut *self.database, next, blocks, details, &at)) {
            Ok(()) => self.at = at,
            Err(fault) => {
                self.database.roll_back();
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Writes what all accounts hold in the state behind the last block: where the movements of old blocks are not known, no sum gives
    /// it.
    ///
    /// # Errors
    /// [`Fault`]; the projection is as it was then.
    pub fn balance(&mut self, accounts: &[AccountFacts]) -> Result<(), Fault> {
        self.database.begin_writing()?;
        let written = pruned::balance(&mut *self.database, accounts).and_then(|()| self.database.commit());
        match written {
            Ok(()) => self.at.balanced = true,
            Err(fault) => {
                self.database.roll_back();
                return Err(fault);
            }
        }
        Ok(())
    }

    /// The connection, for reading between two writes.
    pub fn database(&mut self) -> &mut dyn Database {
        &mut *self.database
    }

    /// The digest the projection must have to be of this block.
    #[must_use]
    pub fn digest(checkpoint: &Hash) -> String {
        hex::encode(checkpoint)
    }
}

fn transaction(
    database: &mut dyn Database,
    next: u64,
    blocks: &[BlockFacts],
    details: Option<&mut Details<'_>>,
    at: &Height,
) -> Result<(), Fault> {
    let mut batch = Batch::new(database);
    for (expected, block) in (next..).zip(blocks) {
        if block.height != expected {
            let text = format!("block {expected} was expected");
            return Err(Fault::Block { height: block.height, text });
        }
        batch.block(block)?;
    }
    batch.finish(details)?;
    let number = |number: Option<u64>| number.map_or(Value::Null, Value::count);
    let row = [
        number(at.height),
        Value::text(at.checkpoint.as_str()),
        Value::count(at.entries),
        at.time.map_or(Value::Null, Value::Integer),
        number(at.details),
    ];
    let sql =
        "UPDATE meta SET height = ?1, checkpoint = ?2, entries = ?3, time_us = ?4, details_height = ?5 WHERE id = 1";
    database.run(sql, &row)?;
    database.commit()
}

fn prepare(
    database: &mut dyn Database,
    place: &Place,
    ledger: &str,
    is_ours: &dyn Fn(u64, &str) -> bool,
) -> Result<Height, Fault> {
    let found = found(database)?;
    match (&found, place) {
        (Some((_, other)), Place::Postgres(_)) if other != ledger => {
            return Err(Fault::Place {
                place: database.place(),
                text: format!("it holds the projection of the ledger `{other}`, and this one is `{ledger}`"),
                hint: "give this ledger a database of its own",
            });
        }
        (Some((version, name)), _) if *version == SCHEMA_VERSION && name == ledger => {
            let at = Height::read(database)?;
            if at.height.is_none_or(|height| is_ours(height, &at.checkpoint)) {
                return Ok(at);
            }
        }
        _ => {}
    }
    anew(database, ledger)?;
    Height::read(database)
}

fn anew(database: &mut dyn Database, ledger: &str) -> Result<(), Fault> {
    database.begin_writing()?;
    let made = schema::drop_all(database).and_then(|()| schema::create(database, ledger));
    let made = made.and_then(|()| database.commit());
    if made.is_err() {
        database.roll_back();
    }
    made
}

/// Version and ledger of what is there.
fn found(database: &mut dyn Database) -> Result<Option<(i64, String)>, Fault> {
    if !schema::has_table(database, "meta")? {
        return Ok(None);
    }
    let rows = database.rows("SELECT schema_version, ledger FROM meta WHERE id = 1", &[])?;
    Ok(rows.first().and_then(|row| match row.as_slice() {
        [version, ledger] => Some((version.as_integer()?, ledger.as_text()?.to_owned())),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn an_address_is_never_printed() {
        let place = Place::Postgres("postgres://tally:geheim@db/tally".to_owned());
        assert!(![format!("{place:?}"), place.to_string()].iter().any(|text| text.contains("geheim")));
    }
}
