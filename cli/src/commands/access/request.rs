//! `tally access request`: a permit for one thing on one point, and what the agent made of it.

use super::{Arguments, argument, call, fetch, outcome, show};
use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::call::Done;
use crate::commands::prove::time;
use crate::flags::CallerFlags;
use crate::shutdown::runtime;
use clap::Args;
use std::path::PathBuf;
use tally_evidence::cbor::{self, Cbor};
use tally_ledger_client::Client;
use tally_model::{Timestamp, Value};

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["read", "write", "call"])]
pub(super) struct RequestArgs {
    /// Which device
    #[arg(long, value_name = "ID")]
    device: String,
    /// Which point of it
    #[arg(long, value_name = "ID")]
    point: String,
    /// Have its value read now
    #[arg(long)]
    read: bool,
    /// Have this written; true and false are flags, digits a number, everything else a text
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    write: Option<String>,
    /// Have an alarm acknowledged with these words; or a method called with this argument, several as '[6, true]', none as ''
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    call: Option<String>,
    /// How long the permit shall live; at most what the policy says, and you are told when that is less
    #[arg(long, value_name = "DURATION")]
    lasts: Option<String>,
    /// Not before: 2026-11-21T14:00:00Z; now when not said
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Write the permit into this file; the agent then waits until somebody brings it
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

/// Asks, and waits for what comes of it unless the permit is for later or for a file.
pub(super) fn request(args: &RequestArgs, json: bool) -> Result<Answer, Fault> {
    let arguments = request_arguments(args)?;
    runtime()?.block_on(async {
        let (done, client) = call(&args.caller, "request", arguments).await?;
        if done.refusal.is_some() {
            if json {
                print_json(&done)?;
            } else {
                show::done(&done);
            }
            return Ok(Answer::No);
        }
        if let Some(note) = cut_short(&done, args.lasts.as_deref()) {
            eprintln!("{note}");
        }
        let Some(out) = &args.out else { return tell_outcome(&client, args, &done, json).await };
        fetch(&client, done.entry, out).await?;
        if json {
            print_json(&serde_json::json!({"permit": done.entry, "file": out}))?;
        } else {
            println!("permit {}  bring it to the agent: tally access use {}", done.entry, out.display());
        }
        Ok(Answer::Yes)
    })
}

fn request_arguments(args: &RequestArgs) -> Result<Arguments, Fault> {
    let (right, said) = match (&args.write, &args.call) {
        (Some(text), _) => ("write", Some(value(text))),
        (_, Some(words)) => ("call", (!words.is_empty()).then(|| value(words))),
        _ => ("read", None),
    };
    let mut arguments: Arguments = [
        argument("device", cbor::text(args.device.clone())),
        argument("point", cbor::text(args.point.clone())),
        argument("right", cbor::text(right)),
        argument("carried", Cbor::Bool(args.out.is_some())),
    ]
    .into();
    arguments.extend(said.map(|said| argument("value", cbor::from_value(&said))));
    arguments.extend(args.from.map(|from| argument("from", cbor::int(from.as_micros()))));
    if let Some(lasts) = &args.lasts {
        let lasts = tally_model::parse_duration(lasts).context("--lasts")?;
        arguments.extend([argument("lasts", cbor::int(u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX)))]);
    }
    Ok(arguments)
}

/// As it is meant: a flag, a number, else a text.
fn value(text: &str) -> Value {
    match (text, text.parse::<i64>(), text.parse::<u64>(), text.parse::<f64>()) {
        ("true", ..) => Value::Bool(true),
        ("false", ..) => Value::Bool(false),
        (_, Ok(number), ..) => Value::Integer(number),
        (_, _, Ok(number), _) => Value::Unsigned(number),
        (.., Ok(number)) if number.is_finite() => Value::Float(number),
        _ => Value::Text(text.to_owned()),
    }
}

/// A permit that lasts less long than was asked for says so: its bearer would come too late.
fn cut_short(done: &Done, asked: Option<&str>) -> Option<String> {
    let asked = i64::try_from(tally_model::parse_duration(asked?).ok()?.as_micros()).ok()?;
    let granted = done.outcome["events"].as_array()?.iter().find(|event| event["kind"] == "access.permit-granted")?;
    let data = &granted["data"];
    let lasts = data["until"].as_i64()?.checked_sub(data["from"].as_i64()?)?;
    (lasts < asked).then(|| {
        let (lasts, asked) = (crate::show::duration(lasts), crate::show::duration(asked));
        let policy = data["policy"].as_str().unwrap_or_default();
        format!("note: it lasts {lasts}, not {asked}: policy `{policy}` allows no more, or its shift or date ends")
    })
}

/// The agent hears of the permit and does it: its report is waited for, unless the permit is for later.
async fn tell_outcome(client: &Client, args: &RequestArgs, done: &Done, json: bool) -> Result<Answer, Fault> {
    let is_for_later = args.from.is_some_and(|from| from > now());
    if !json {
        let when = if is_for_later { "when its time has come" } else { "as soon as it hears of it" };
        println!("permit {}  the agent does it {when}", done.entry);
    }
    let end = if is_for_later { None } else { outcome::of(client, done.entry).await? };
    if json {
        let mut shown = serde_json::to_value(done)?;
        shown["result"] = end.clone().unwrap_or_default();
        print_json(&shown)?;
    } else if let Some(end) = &end {
        show::report(end);
    } else {
        let patience = outcome::PATIENCE.as_secs();
        let fault = format!("the agent has not reported within {patience} s: is it running (`tally status`)? ");
        let fault = if is_for_later { String::new() } else { fault };
        println!("  {fault}What came of it: tally ledger state burnt:{}", done.entry);
    }
    Ok((is_for_later || end.is_some_and(|end| end["how"] == "done")).into())
}

fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_look_like() {
        assert_eq!(value("true"), Value::Bool(true));
        assert_eq!(value("-7"), Value::Integer(-7));
        assert_eq!(value("4.5"), Value::Float(4.5));
        assert_eq!(value("18446744073709551615"), Value::Unsigned(u64::MAX));
        for text in ["on", "nan", "inf", "1e999", ""] {
            assert_eq!(value(text), Value::Text(text.to_owned()));
        }
    }
}
