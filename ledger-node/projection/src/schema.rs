//! Tables, indexes and views. Manual: `docs/operator/query.md`.
//!
//! The same statements for both databases but for what [`Dialect`] says. Times are microseconds since the epoch in columns that
//! end in `_us`; the views add them as RFC 3339 texts. Money is minor units beside its ISO 4217 code.

use crate::database::{Database, Dialect, Fault};

/// Version of all below; a projection of another version is made anew.
pub const SCHEMA_VERSION: i64 = 1;

/// The tables with the columns that order their rows; everything but `meta` and `pending`, which are about the projection itself.
pub(crate) const TABLES: &[(&str, &[&str])] = &[
    ("blocks", &["height"]),
    ("entries", &["entry", "item"]),
    ("events", &["height", "seq"]),
    ("agreements", &["agreement"]),
    ("agreement_parties", &["agreement", "role"]),
    ("postings", &["height", "seq", "side"]),
    ("accounts", &["account"]),
    ("parties", &["party"]),
    ("devices", &["device"]),
];

/// The views meant for people and reports: name and what it shows.
pub const VIEWS: &[(&str, &str)] = &[
    ("view_agreements", "one row an agreement, with parties and fields as JSON"),
    ("view_history", "one row an event: what happened to agreements, devices, parties and money"),
    ("view_entries", "one row a statement in the ledger, refused ones included"),
    ("view_triggers", "the entries that are triggers"),
    ("view_anchors", "the entries that are anchors"),
    ("view_payments", "money paid out of escrow to a party"),
    ("view_accounts", "balances"),
    ("view_projection", "ledger, height and time of all that is shown here"),
];

const CREATE: &str = "
CREATE TABLE meta (
  id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1), schema_version BIGINT NOT NULL, ledger {text} NOT NULL,
  height BIGINT, checkpoint {text}, entries BIGINT NOT NULL, time_us BIGINT, details_height BIGINT
);
CREATE TABLE pending (agreement {text} NOT NULL PRIMARY KEY){rowless};
CREATE TABLE blocks (
  height BIGINT NOT NULL PRIMARY KEY, time_us BIGINT NOT NULL, first_entry BIGINT NOT NULL, entries BIGINT NOT NULL,
  terms BIGINT NOT NULL, checkpoint {text} NOT NULL
){rowless};
CREATE INDEX blocks_time ON blocks (time_us);
CREATE TABLE entries (
  entry BIGINT NOT NULL, item BIGINT NOT NULL, height BIGINT NOT NULL, time_us BIGINT NOT NULL, kind {text} NOT NULL,
  statement {text} NOT NULL, signer {text}, device {text}, contract {text}, action {text}, agreement {text},
  name {text}, transition {text}, priority {text}, number BIGINT, first_reading BIGINT, last_reading BIGINT, at_us BIGINT,
  refusal BIGINT NOT NULL, PRIMARY KEY (entry, item)
){rowless};
CREATE INDEX entries_device ON entries (device, entry, item) WHERE device IS NOT NULL;
CREATE INDEX entries_signer ON entries (signer, entry, item);
CREATE INDEX entries_contract ON entries (contract, entry, item) WHERE contract IS NOT NULL;
CREATE INDEX entries_agreement ON entries (agreement, entry, item) WHERE agreement IS NOT NULL;
CREATE TABLE events (
  height BIGINT NOT NULL, seq BIGINT NOT NULL, time_us BIGINT NOT NULL, entry BIGINT, item BIGINT, due_us BIGINT,
  kind {text} NOT NULL, subject {text} NOT NULL, agreement {text}, device {text}, signer {text}, party {text},
  from_state {text}, to_state {text}, amount_minor BIGINT, currency {text}, data {text} NOT NULL, PRIMARY KEY (height, seq)
){rowless};
CREATE INDEX events_agreement ON events (agreement, height, seq) WHERE agreement IS NOT NULL;
CREATE INDEX events_device ON events (device, height, seq) WHERE device IS NOT NULL;
CREATE INDEX events_signer ON events (signer, height, seq) WHERE signer IS NOT NULL;
CREATE INDEX events_party ON events (party, height, seq) WHERE party IS NOT NULL;
CREATE TABLE agreements (
  agreement {text} NOT NULL PRIMARY KEY, contract {text} NOT NULL, version BIGINT NOT NULL, state {text} NOT NULL,
  ended BIGINT NOT NULL, device {text}, owner {text}, opened_us BIGINT NOT NULL, opened_height BIGINT NOT NULL,
  opened_entry BIGINT, updated_us BIGINT NOT NULL, updated_height BIGINT NOT NULL, closed_us BIGINT, closed_height BIGINT,
  steps BIGINT NOT NULL, notes BIGINT NOT NULL, held_minor BIGINT NOT NULL, paid_minor BIGINT NOT NULL,
  currency {text}, fault {text}, due_us BIGINT, parties {text} NOT NULL, fields {text} NOT NULL
){rowless};
CREATE INDEX agreements_opened ON agreements (opened_us, agreement);
CREATE INDEX agreements_device ON agreements (device, opened_us, agreement) WHERE device IS NOT NULL;
CREATE INDEX agreements_state ON agreements (state, opened_us, agreement);
CREATE INDEX agreements_contract ON agreements (contract, opened_us, agreement);
CREATE INDEX agreements_closed ON agreements (closed_us) WHERE closed_us IS NOT NULL;
CREATE TABLE agreement_parties (
  agreement {text} NOT NULL, role {text} NOT NULL, party {text} NOT NULL, PRIMARY KEY (agreement, role)
){rowless};
CREATE INDEX agreement_parties_party ON agreement_parties (party, agreement);
CREATE TABLE postings (
  height BIGINT NOT NULL, seq BIGINT NOT NULL, side BIGINT NOT NULL, account {text} NOT NULL, amount_minor BIGINT NOT NULL,
  currency {text} NOT NULL, agreement {text}, PRIMARY KEY (height, seq, side)
){rowless};
CREATE INDEX postings_account ON postings (account, height, seq);
CREATE TABLE accounts (
  account {text} NOT NULL PRIMARY KEY, owner {text} NOT NULL, currency {text} NOT NULL, balance_minor BIGINT NOT NULL
){rowless};
CREATE TABLE parties (
  party {text} NOT NULL PRIMARY KEY, kind {text} NOT NULL, name {text}, firm {text}, skills {text}, key {text} NOT NULL,
  entry BIGINT, since_us BIGINT NOT NULL, revoked_us BIGINT
){rowless};
CREATE TABLE devices (
  device {text} NOT NULL PRIMARY KEY, agent {text} NOT NULL, owner {text} NOT NULL, entry BIGINT, since_us BIGINT NOT NULL
){rowless};
";

/// Makes everything, in the transaction of the caller; the projection is of no block yet.
pub(crate) fn create(database: &mut dyn Database, ledger: &str) -> Result<(), Fault> {
    let (text, rowless) = match database.dialect() {
        Dialect::Sqlite => ("TEXT", " WITHOUT ROWID"),
        // Byte order, as in SQLite: pages and comparisons must not depend on the server's language.
        Dialect::Postgres => ("TEXT COLLATE \"C\"", ""),
    };
    database.batch(&CREATE.replace("{text}", text).replace("{rowless}", rowless))?;
    database.batch(&views(database.dialect()))?;
    let sql = "INSERT INTO meta (id, schema_version, ledger, entries) VALUES (1, ?1, ?2, 0)";
    database.run(sql, &[SCHEMA_VERSION.into(), crate::Value::text(ledger)]).map(|_| ())
}

/// Whether there is such a table.
pub(crate) fn has_table(database: &mut dyn Database, table: &str) -> Result<bool, Fault> {
    let sql = match database.dialect() {
        Dialect::Sqlite => "SELECT name FROM sqlite_schema WHERE name = ?1 AND type = 'table'",
        Dialect::Postgres => "SELECT CAST(to_regclass(?1) AS TEXT) WHERE to_regclass(?1) IS NOT NULL",
    };
    Ok(!database.rows(sql, &[crate::Value::text(table)])?.is_empty())
}

/// Removes everything that [`create`] makes, of whatever version.
pub(crate) fn drop_all(database: &mut dyn Database) -> Result<(), Fault> {
    let mut sql: String = VIEWS.iter().map(|(view, _)| format!("DROP VIEW IF EXISTS {view};")).collect();
    for table in ["meta", "pending", "pruned"].into_iter().chain(TABLES.iter().map(|(table, _)| *table)) {
        sql += &format!("DROP TABLE IF EXISTS {table};");
    }
    database.batch(&sql)
}

fn views(dialect: Dialect) -> String {
    let iso = |column: &str| dialect.iso(column);
    let json = |column: &str| dialect.json(column);
    let entry = format!(
        "SELECT entry, item, height, time_us, {} AS time, kind, statement, signer, device, contract, action, agreement, name, \
         transition, priority, number, first_reading, last_reading, at_us, {} AS at, refusal FROM entries",
        iso("time_us"),
        iso("at_us")
    );
    let seconds = "CAST(closed_us - opened_us AS DOUBLE PRECISION) / 1000000 AS seconds_open";
    [
        format!(
            "CREATE VIEW view_agreements AS SELECT agreement, contract, version, state, ended, device, owner, fault, {}, {}, \
             currency, held_minor, paid_minor, steps, notes, opened_us, {} AS opened_at, updated_us, {} AS updated_at, \
             closed_us, {} AS closed_at, {seconds}, due_us, {} AS due_at, opened_entry, opened_height, closed_height \
             FROM agreements",
            json("parties"),
            json("fields"),
            iso("opened_us"),
            iso("updated_us"),
            iso("closed_us"),
            iso("due_us")
        ),
        format!(
            "CREATE VIEW view_history AS SELECT height, seq, time_us, {} AS time, entry, item, due_us, kind, subject, agreement, \
             device, signer, party, from_state, to_state, amount_minor, currency, {} FROM events",
            iso("time_us"),
            json("data")
        ),
        format!("CREATE VIEW view_entries AS {entry}"),
        format!("CREATE VIEW view_triggers AS {entry} WHERE kind = 'trigger'"),
        format!("CREATE VIEW view_anchors AS {entry} WHERE kind = 'anchor'"),
        format!(
            "CREATE VIEW view_payments AS SELECT time_us, {} AS time, agreement, device, party AS payee, amount_minor, currency, \
             height, entry FROM events WHERE kind = 'payment.made'",
            iso("time_us")
        ),
        "CREATE VIEW view_accounts AS SELECT account, owner, currency, balance_minor FROM accounts".to_owned(),
        format!(
            "CREATE VIEW view_projection AS SELECT ledger, height, checkpoint, entries, time_us, {} AS time, details_height, \
             schema_version FROM meta",
            iso("time_us")
        ),
    ]
    .join(";\n")
}

/// The columns of a table, in the order of the statement that makes it.
pub(crate) fn columns(table: &str) -> Vec<&'static str> {
    let begin = format!("CREATE TABLE {table} (");
    let body = CREATE.split_once(&begin).and_then(|(_, rest)| rest.split_once("\n)")).map_or("", |(body, _)| body);
    let body = body.split_once(", PRIMARY KEY (").map_or(body, |(columns, _)| columns);
    body.split(',').filter_map(|column| column.split_whitespace().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_out_of_the_schema() {
        assert_eq!(columns("blocks"), ["height", "time_us", "first_entry", "entries", "terms", "checkpoint"]);
        let entries = columns("entries");
        assert_eq!((entries.len(), entries[0], entries[18]), (19, "entry", "refusal"));
        for (table, key) in TABLES {
            let columns = columns(table);
            assert!(key.iter().all(|key| columns.contains(key)), "{table}: {columns:?}");
        }
    }
}
