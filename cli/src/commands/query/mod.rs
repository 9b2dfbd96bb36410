//! `tally query`: questions to the node's projection, as tables, CSV or JSON, with proofs checked here.

mod proofs;
mod table;

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::verify::read_key;
use crate::flags::NodeFlag;
use crate::shutdown::runtime;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tally_evidence::VerifyingKey;
use tally_ledger_client::{Client, RequestError, Timeouts};
use tally_model::Timestamp;
use tally_projection::{SqlLimits, guarded, instant, reaching_back};

/// A page with proofs, or an SQL question, takes the node its time.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Arguments of `query`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Every answer says of which block it is. Examples:
  tally query agreements --device press-01 --state disputed --since 30d
  tally query history mo-7                        what happened to an order, a device or a party, newest first
  tally query orders --by maintainer,fault --last 2mo
  tally query success --last 1mo                  how many of the orders that ended were repaired and confirmed
  tally query entries --party agent-01 --kind anchor --proofs --ledger-key ledger.pub.pem
  tally query --sql \"SELECT device, COUNT(*) FROM view_agreements GROUP BY device\" --csv
  tally query --sql \"SELECT * FROM view_accounts\" --file /var/lib/tallystick/node/projection.sqlite

Views and columns for SQL: docs/operator/query.md. Times are 2026-11-21T14:00:00Z, or 30d, 3w, 2mo, 1y back from now."
)]
pub struct QueryArgs {
    /// What to ask
    #[command(subcommand)]
    command: Option<QueryCommand>,
    /// One SELECT on the views of the projection
    #[arg(long, value_name = "SELECT")]
    sql: Option<String>,
    /// With --sql: ask this file of a node (also a running one) instead of the node itself
    #[arg(long, value_name = "FILE", requires = "sql")]
    file: Option<PathBuf>,
    /// How it is shown.
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Clone, Args)]
struct Shown {
    /// As comma-separated values (RFC 4180), all columns
    #[arg(long, global = true)]
    csv: bool,
    /// Also ask for what proves the rows, and check it here; exit code 0 only if all proofs hold
    #[arg(long, global = true)]
    proofs: bool,
    /// The ledger's public key as you know it (SPKI PEM); without it the node's word is taken and shown
    #[arg(long, global = true, value_name = "FILE", requires = "proofs")]
    ledger_key: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    node: NodeFlag,
}

/// What is asked.
#[derive(Debug, Subcommand)]
enum QueryCommand {
    /// Agreements, the last opened first
    Agreements {
        #[command(flatten)]
        which: Which,
        /// In this state
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Statements in the ledger, refused ones included, newest first
    Entries {
        #[command(flatten)]
        which: Which,
        /// Of this agreement
        #[arg(long, value_name = "ID")]
        agreement: Option<String>,
        /// Only statements of this kind; `pruned`: forgotten before the tables were made, `unknown`: not understood
        #[arg(long, value_parser = tally_projection::ask::ENTRY_KINDS)]
        kind: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// What happened to a device, an agreement or a party, newest first
    History {
        /// Its id; `device:ID`, `agreement:ID` or `party:ID` where the same id names two things
        #[arg(value_name = "DEVICE|AGREEMENT|PARTY")]
        id: String,
        /// Only events of this kind, such as payment.made
        #[arg(long)]
        kind: Option<String>,
        #[command(flatten)]
        time: Window,
        #[command(flatten)]
        page: Page,
    },
    /// Count agreements that were opened in a window, with money and time to repair
    Orders(Counted),
    /// Success rate of the agreements that ended in a window
    Success(Counted),
}

#[derive(Debug, Args)]
struct Which {
    /// About this device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Agreements: in any role; entries: who sealed them
    #[arg(long, value_name = "ID")]
    party: Option<String>,
    /// Of this contract
    #[arg(long, value_name = "NAME")]
    contract: Option<String>,
    #[command(flatten)]
    time: Window,
}

#[derive(Debug, Args)]
struct Window {
    /// From then on: a time, or how far back (30d, 2mo)
    #[arg(long, value_name = "TIME", alias = "last", value_parser = begin)]
    since: Option<i64>,
    /// Before then
    #[arg(long, value_name = "TIME", value_parser = begin)]
    until: Option<i64>,
}

#[derive(Debug, Args)]
struct Page {
    /// Rows; at most 1000, with --proofs 100
    #[arg(long, value_name = "COUNT", default_value = "50", value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Debug, Args)]
struct Counted {
    /// What to count by, with commas between: contract, state, device, owner, fault, day, week, month, a role (maintainer), a field
    #[arg(long, value_name = "WORDS")]
    by: Option<String>,
    /// The states that count as success
    #[arg(long, value_name = "STATES", default_value = "confirmed")]
    success: String,
    #[command(flatten)]
    which: Which,
}

/// A time, or how far back from now.
fn begin(text: &str) -> Result<i64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
    let found = reaching_back(now, text).map(Timestamp::as_micros).or_else(|| instant(text));
    found.ok_or_else(|| "write 2026-11-21T14:00:00Z, or how far back: 12h, 30d, 3w, 2mo, 1y".to_owned())
}

/// One question at a time, and one that can have an answer.
fn one_question(args: &QueryArgs) -> Result<(), Fault> {
    let time = match (&args.sql, &args.command) {
        (None, None) => {
            return Err("nothing is asked: name a question (`tally query --help` lists them) or --sql".into());
        }
        (Some(_), Some(_)) => return Err("--sql is a question of its own; leave out the other one".into()),
        (Some(sql), None) if sql.trim().is_empty() => {
            return Err("--sql is empty; write one SELECT (docs/operator/query.md lists the views)".into());
        }
        (Some(_), None) if args.shown.proofs => {
            return Err(
                "--proofs cannot prove what SQL says; ask `agreements`, `entries`, `history` or `orders`".into()
            );
        }
        (Some(_), None) => return Ok(()),
        (None, Some(QueryCommand::Agreements { which, .. } | QueryCommand::Entries { which, .. })) => &which.time,
        (None, Some(QueryCommand::History { time, .. })) => time,
        (None, Some(QueryCommand::Orders(counted) | QueryCommand::Success(counted))) => &counted.which.time,
    };
    if let (Some(since), Some(until)) = (time.since, time.until)
        && since > until
    {
        let [since, until] = [since, until].map(Timestamp::from_micros);
        return Err(format!("--since {since} is behind --until {until}; swap them").into());
    }
    Ok(())
}

pub fn run(args: &QueryArgs, json: bool) -> Result<Answer, Fault> {
    one_question(args)?;
    if let (Some(sql), Some(file)) = (&args.sql, &args.file) {
        return of_file(file, sql, args.shown.csv, json);
    }
    let timeouts = Timeouts { answer: ANSWER_TIME, ..Timeouts::default() };
    let client = args.shown.node.client_with(timeouts)?;
    let asked = async {
        match (&args.sql, &args.command) {
            (Some(sql), _) => client.post_json("/query/sql", &json!({"sql": sql})).await.map(|answer| (answer, "rows")),
            (None, Some(command)) => ask(&client, command, args.shown.proofs).await,
            (None, None) => Ok((Value::Null, "rows")), // `one_question` let none through
        }
    };
    let runtime = runtime()?;
    let (answer, what) = match runtime.block_on(asked) {
        Err(RequestError::Refused { status: 404, text, .. }) => {
            eprintln!("{text}");
            return Ok(Answer::No);
        }
        asked => asked.context("asking the node")?,
    };
    let checked = if args.shown.proofs {
        let key = match &args.shown.ledger_key {
            Some(file) => read_key(file)?,
            None => runtime.block_on(node_key(&client))?,
        };
        Some(proofs::check(&answer, what, &key))
    } else {
        None
    };
    show(&answer, what, args.shown.csv, json)?;
    if let Some(unknown) = unknown_name(args, &answer) {
        eprintln!("{unknown}");
    }
    let Some(checked) = checked else { return Ok(Answer::Yes) };
    eprintln!("{}", checked.words());
    Ok(checked.holds().into())
}

/// A whole history in which nothing happened: what is on a ledger was registered or opened at least.
fn unknown_name(args: &QueryArgs, answer: &Value) -> Option<String> {
    let Some(QueryCommand::History { id, kind: None, time: Window { since: None, until: None }, page }) = &args.command
    else {
        return None;
    };
    let is_empty = page.cursor.is_none() && answer["events"].as_array().is_some_and(Vec::is_empty);
    is_empty.then(|| format!("no agreement, device or party is named `{id}`"))
}

async fn node_key(client: &Client) -> Result<VerifyingKey, Fault> {
    let pem = String::from_utf8(client.get_bytes("/key.pem").await?).context("the node's key")?;
    eprintln!("the ledger's key is the node's own word; name yours with --ledger-key");
    VerifyingKey::from_pem(&pem).context("the node's key")
}

fn of_file(file: &Path, sql: &str, csv: bool, json: bool) -> Result<Answer, Fault> {
    let found = guarded(file, sql, SqlLimits::default()).map_err(|fault| match fault {
        tally_projection::Fault::Question { text, hint } => format!("{text}; {hint}"),
        other => other.to_string(),
    })?;
    let rows = found.rows.iter().map(|row| row.iter().map(tally_projection::Value::to_json).collect::<Value>());
    let answer = json!({
        "ledger": found.at.ledger, "height": found.at.height, "checkpoint": found.at.checkpoint,
        "columns": found.columns, "rows": rows.collect::<Value>(), "is_cut": found.is_cut,
    });
    show(&answer, "rows", csv, json)?;
    Ok(Answer::Yes)
}

/// The answer, and the name of its rows.
async fn ask(client: &Client, command: &QueryCommand, proofs: bool) -> Result<(Value, &'static str), RequestError> {
    let mut query = Query::default();
    if proofs {
        query.set("proofs", Some("true"));
    }
    match command {
        QueryCommand::Agreements { which, state, page } => {
            query.which(which).set("state", state.as_deref()).page(page, proofs);
            Ok((client.get_json(&query.path("/query/agreements")).await?, "agreements"))
        }
        QueryCommand::Entries { which, agreement, kind, page } => {
            query.which(which).set("agreement", agreement.as_deref()).set("kind", kind.as_deref()).page(page, proofs);
            Ok((client.get_json(&query.path("/query/entries")).await?, "entries"))
        }
        QueryCommand::History { id, kind, time, page } => {
            query.set("kind", kind.as_deref()).window(time).page(page, proofs);
            Ok((history(client, id, &query).await?, "events"))
        }
        QueryCommand::Orders(counted) => Ok((count(client, query, counted, "opened").await?, "groups")),
        QueryCommand::Success(counted) => Ok((count(client, query, counted, "closed").await?, "groups")),
    }
}

async fn count(client: &Client, mut query: Query, counted: &Counted, window: &str) -> Result<Value, RequestError> {
    query.which(&counted.which).set("by", counted.by.as_deref()).set("window", Some(window));
    query.set("success", Some(&counted.success));
    client.get_json(&query.path("/query/aggregates/agreements")).await
}

/// The history of whatever has this id: the first kind of thing of which there is any.
async fn history(client: &Client, id: &str, query: &Query) -> Result<Value, RequestError> {
    const KINDS: [(&str, &str); 3] = [("agreement", "agreements"), ("device", "devices"), ("party", "parties")];
    let named = id.split_once(':').and_then(|(kind, id)| Some((KINDS.iter().find(|(word, _)| *word == kind)?.1, id)));
    let path = |kind: &str, id: &str| query.path(&format!("/query/{kind}/{}/history", encoded(id)));
    if let Some((kind, id)) = named {
        return client.get_json(&path(kind, id)).await;
    }
    let mut answer = Value::Null;
    for (_, kind) in KINDS {
        answer = client.get_json(&path(kind, id)).await?;
        if answer["events"].as_array().is_some_and(|events| !events.is_empty()) {
            break;
        }
    }
    Ok(answer)
}

/// The part of a path behind the question mark.
#[derive(Debug, Default)]
struct Query(Vec<String>);

impl Query {
    fn set(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        self.0.extend(value.map(|value| format!("{name}={}", encoded(value))));
        self
    }

    fn which(&mut self, which: &Which) -> &mut Self {
        self.set("device", which.device.as_deref()).set("party", which.party.as_deref());
        self.set("contract", which.contract.as_deref()).window(&which.time)
    }

    fn window(&mut self, window: &Window) -> &mut Self {
        let text = |time: Option<i64>| time.map(|time| time.to_string());
        self.set("from", text(window.since).as_deref()).set("to", text(window.until).as_deref())
    }

    fn page(&mut self, page: &Page, proofs: bool) -> &mut Self {
        let limit = if proofs { page.limit.min(100) } else { page.limit };
        self.set("limit", Some(&limit.to_string())).set("cursor", page.cursor.as_deref())
    }

    fn path(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0.join("&")) }
    }
}

/// Percent-encoded (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn show(answer: &Value, what: &str, csv: bool, json: bool) -> Result<(), Fault> {
    if json {
        return print_json(answer);
    }
    if csv {
        print!("{}", table::csv(answer, what)?);
        // Nothing but rows belongs into the table itself.
        if let Some(more) = table::more(answer) {
            eprintln!("{more}");
        }
        return Ok(());
    }
    print!("{}", table::text(answer, what));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_cannot_leave_its_parameter() {
        let mut query = Query::default();
        query.set("device", Some("a&state=x#?/ä 1")).set("party", None);
        assert_eq!(query.path("/p"), "/p?device=a%26state%3Dx%23%3F%2F%C3%A4%201");
        assert_eq!(Query::default().path("/p"), "/p");
    }

    #[test]
    fn times_and_windows() {
        assert_eq!(begin("1970-01-01T00:00:01Z"), Ok(1_000_000));
        assert!(begin("2mo").unwrap() < begin("1mo").unwrap());
        assert!(begin("soon").is_err());
    }
}
