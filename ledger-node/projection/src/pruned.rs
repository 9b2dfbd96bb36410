//! Tables that were made when the log had forgotten its beginning: from which block on they are complete, and what the accounts hold
//! all the same. One row in a table that only such projections have, so that all others stay as they are.

use crate::database::{Database, Fault, Value};
use crate::facts::AccountFacts;
use crate::schema::has_table;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS pruned (
  id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1), complete_from BIGINT NOT NULL, balanced BIGINT NOT NULL
)";

/// From which block on everything is in, and whether the accounts hold what the ledger's do.
pub(crate) fn read(database: &mut dyn Database) -> Result<(u64, bool), Fault> {
    if !has_table(database, "pruned")? {
        return Ok((0, true));
    }
    let rows = database.rows("SELECT complete_from, balanced FROM pruned WHERE id = 1", &[])?;
    let number = |place: usize| rows.first().and_then(|row| row.get(place)).and_then(Value::as_integer);
    let from = number(0).and_then(|from| u64::try_from(from).ok()).unwrap_or_default();
    Ok((from, number(1) != Some(0)))
}

/// Everything is in from block `from` on only; in the transaction of the caller.
pub(crate) fn lacks(database: &mut dyn Database, from: u64) -> Result<(), Fault> {
    database.batch(CREATE)?;
    let sql = "INSERT INTO pruned (id, complete_from, balanced) VALUES (1, ?1, 0) \
               ON CONFLICT (id) DO UPDATE SET complete_from = excluded.complete_from, balanced = 0";
    database.run(sql, &[Value::count(from)]).map(|_| ())
}

/// The accounts hold this, whatever the movements that are known add up to; in the transaction of the caller.
pub(crate) fn balance(database: &mut dyn Database, accounts: &[AccountFacts]) -> Result<(), Fault> {
    database.run("DELETE FROM accounts", &[])?;
    let sql = "INSERT INTO accounts (account, owner, currency, balance_minor) VALUES (?1, ?2, ?3, ?4)";
    for AccountFacts { id, owner, currency, balance_minor } in accounts {
        let row = [id, owner, currency].map(|text| Value::text(text.as_str()));
        let [id, owner, currency] = row;
        database.run(sql, &[id, owner, currency, Value::Integer(*balance_minor)])?;
    }
    database.run("UPDATE pruned SET balanced = 1 WHERE id = 1", &[]).map(|_| ())
}
