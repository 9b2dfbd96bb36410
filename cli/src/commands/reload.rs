//! `tally reload`: the agent reads its mapping anew.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::status::StatusArgs;
use crate::shutdown::runtime;
use serde_json::Value;
use tally_ledger_client::RequestError;

pub fn run(args: &StatusArgs, json: bool) -> Result<Answer, Fault> {
    let answer = runtime()?.block_on(args.agent.client(&args.shown)?.post("/reload"));
    let report = match answer {
        Ok(report) => report,
        // The faults of the file are an answer, not a failure of this command.
        Err(RequestError::Refused { code, text, .. }) if code == "mapping" => {
            if json {
                print_json(&serde_json::json!({"ok": false, "text": text}))?;
            } else {
                println!("{text}");
            }
            return Ok(Answer::No);
        }
        Err(fault) => return Err(fault).context(format_args!("asking the agent at {}", args.agent.agent)),
    };
    if json {
        print_json(&report)?;
    } else {
        show(&report);
    }
    Ok(Answer::Yes)
}

fn show(report: &Value) {
    for what in ["devices", "rules"] {
        for kind in ["added", "changed", "removed", "reconnected_along"] {
            let names: Vec<_> = report[what][kind].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if !names.is_empty() {
                println!("{what} {:<8} {}", kind.replace('_', " "), names.join(", "));
            }
        }
        println!("{what} as before {}", report[what]["unchanged"]);
    }
    for rule in report["to_register"].as_array().into_iter().flatten() {
        println!("to be registered {} {}", rule["rule"].as_str().unwrap_or(""), rule["digest"].as_str().unwrap_or(""));
    }
    for list in ["warnings", "notes"] {
        report[list].as_array().into_iter().flatten().filter_map(Value::as_str).for_each(|text| println!("{text}"));
    }
}
