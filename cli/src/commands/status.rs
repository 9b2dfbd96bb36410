//! `tally status`: what the agent is doing, in plain words.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::args::StatusArgs;
use crate::shutdown::runtime;
use serde_json::Value;
use tally_ledger_client::Client;

pub fn run(args: &StatusArgs, json: bool) -> Result<Answer, Fault> {
    let status = runtime()?
        .block_on(Client::new(args.agent.clone()).get_json("/status"))
        .context(format_args!("asking the agent at {}", args.agent))?;
    if json {
        print_json(&status)?;
    } else {
        show("", &status, 0);
    }
    Ok(Answer::Yes)
}

/// Prints a JSON document as an indented list of names and values.
fn show(name: &str, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            if !name.is_empty() {
                println!("{indent}{name}");
            }
            let depth = depth + usize::from(!name.is_empty());
            fields.iter().for_each(|(name, value)| show(name, value, depth));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            println!("{indent}{name}");
            for item in items {
                show("-", item, depth + 1);
            }
        }
        Value::String(text) => println!("{indent}{name:<24} {text}"),
        other => println!("{indent}{name:<24} {other}"),
    }
}
