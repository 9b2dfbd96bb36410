//! `tally ledger alarms list|ack`: what somebody has to look at, and saying that he has.

use super::Found;
use crate::answer::{Answer, Fault};
use crate::show::word;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write;
use tally_ledger_client::Client;

/// Arguments of `ledger alarms`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 1 while an alarm waits for somebody. Acknowledging changes nothing but the list: where the docs say `settle`, that is needed besides.
  tally ledger alarms
  tally ledger alarms ack 3 --by anna --words 'the vault of press-01 was restored from Sunday, see ticket 4711'")]
pub struct AlarmsArgs {
    /// What to do; the list when nothing is said.
    #[command(subcommand)]
    pub command: Option<AlarmsCommand>,
}

/// Commands of `ledger alarms`.
#[derive(Debug, Subcommand)]
pub enum AlarmsCommand {
    /// List alarms, oldest first; exit code 1 while one waits for somebody
    List {
        /// Also those that were acknowledged
        #[arg(long)]
        all: bool,
    },
    /// Say that you have looked at an alarm; it stays in the list with your name and words
    Ack {
        /// Its number
        #[arg(value_name = "ALARM")]
        id: u64,
        /// Your name
        #[arg(long, value_name = "NAME")]
        by: String,
        /// What you found, or what is done about it
        #[arg(long, value_name = "TEXT")]
        words: String,
    },
}

/// Lists or acknowledges.
pub(super) async fn run(client: &Client, args: &AlarmsArgs) -> Result<Found, Fault> {
    match &args.command {
        None => list(client, false).await,
        Some(AlarmsCommand::List { all }) => list(client, *all).await,
        Some(AlarmsCommand::Ack { id, by, words }) => {
            let done = client.post_json(&format!("/alarms/{id}"), &json!({"by": by, "words": words})).await?;
            Ok(Found::new(done, format!("alarm {id} is acknowledged\n")))
        }
    }
}

async fn list(client: &Client, is_all: bool) -> Result<Found, Fault> {
    let shown = client.get_json("/alarms").await?;
    let open = shown["open"].as_u64().unwrap_or_default();
    let mut text = String::new();
    for alarm in shown["alarms"].as_array().into_iter().flatten() {
        if is_all || alarm["acknowledged"].is_null() {
            one(&mut text, alarm);
        }
    }
    let _ = writeln!(text, "{open} not acknowledged; times are by the node's clock");
    let answer = if open == 0 { Answer::Yes } else { Answer::No };
    Ok(Found { json: shown, text, answer })
}

fn one(text: &mut String, alarm: &Value) {
    let [id, raised, kind, subject] = ["id", "raised", "kind", "subject"].map(|name| word(&alarm[name]));
    let _ = writeln!(text, "{id:>4}  {raised}  {kind}  {subject}");
    let _ = writeln!(text, "      {}", word(&alarm["text"]));
    if let Some(proof) = alarm["proof"].as_str() {
        let _ = writeln!(text, "      proof: {proof}");
    }
    if let Some(over) = alarm["over"].as_str() {
        let _ = writeln!(text, "      over since {over}");
    }
    let by = &alarm["acknowledged"];
    if by.is_object() {
        let _ =
            writeln!(text, "      acknowledged by {} at {}: {}", word(&by["by"]), word(&by["at"]), word(&by["words"]));
    }
}
