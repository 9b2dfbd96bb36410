//! `tally access`: who may have what read, written or called on a device; one-time permits; revocation; quarantine.

mod file;
mod outcome;
mod show;

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::call::{Done, Wish, submit};
use crate::commands::evidence::write_whole;
use crate::commands::prove::time;
use crate::flags::{AccessFlags, AgentFlag, CallerFlags, NodeFlag};
use crate::shutdown::runtime;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tally_evidence::cbor::{self, Cbor};
use tally_evidence::{PermitFile, permit_state_key};
use tally_ledger_client::{Client, RequestError};
use tally_model::{Timestamp, Value};

/// Arguments of `access`.
#[derive(Debug, Args)]
#[command(after_help = "\
The four steps:
  1. The people at the machine open a point in the mapping: `writable: true` with `write_range:`; then `tally reload`.
  2. The owner says who may:      tally access policy service.yaml --mapping press-line.yaml --as acme --key keys/acme.key
  3. Somebody asks for one thing: tally access request --device press-01 --point setpoint --write 42 --as tina --key keys/tina.key
     The agent does it at once, reads back, and reports it to the ledger; you are told what it found. With --out FILE the
     agent waits until you bring the file:
                                  tally access use permit.tally
  4. Whoever has second thoughts: tally access revoke --permit 17 --as acme --key keys/acme.key
A permit is for one value on one point, works once, and is over after some minutes. docs/operator/access.md has the whole story.")]
pub struct AccessArgs {
    /// What to do.
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(Debug, Subcommand)]
enum AccessCommand {
    /// Say who may have what on your devices (a YAML file); the same name again replaces it and burns its permits
    Policy(PolicyArgs),
    /// Ask for a permit: one thing on one point, once
    Request(RequestArgs),
    /// Take back a permit, a policy with all its permits, or everything a party has on your devices
    Revoke(RevokeArgs),
    /// Show open permits, policies and quarantines; or fetch a permit with a fresh proof
    Permits(PermitsArgs),
    /// Bring a permit to the agent, which carries it out and says what it found
    Use(UseArgs),
    /// Cut off a device or an agent: its triggers and permits are refused until it is lifted
    Quarantine(QuarantineArgs),
}

#[derive(Debug, Args)]
#[command(after_help = file::EXAMPLE)]
struct PolicyArgs {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The mapping: says where the points are, so that the policy need not
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["read", "write", "call"])]
struct RequestArgs {
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

#[derive(Debug, Args)]
#[group(id = "whose", required = true, multiple = false, args = ["permit", "policy", "party"])]
struct RevokeArgs {
    /// One permit, by its number
    #[arg(long, value_name = "NUMBER")]
    permit: Option<u64>,
    /// A policy of yours, with all permits granted under it
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// Everything a party has on your devices; it gets nothing more
    #[arg(long, value_name = "ID")]
    party: Option<String>,
    /// The other way round: let the party ask again
    #[arg(long, requires = "party")]
    lift: bool,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
struct PermitsArgs {
    /// This permit alone
    #[arg(long, value_name = "NUMBER", requires = "out")]
    permit: Option<u64>,
    /// Write it into this file, with a proof of this moment
    #[arg(short, long, value_name = "FILE", requires = "permit")]
    out: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    node: NodeFlag,
}

#[derive(Debug, Args)]
struct UseArgs {
    /// The permit, as `tally access request --out` wrote it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The agent.
    #[command(flatten)]
    agent: AgentFlag,
}

#[derive(Debug, Args)]
#[group(id = "target", required = true, multiple = false, args = ["device", "agent_id"])]
struct QuarantineArgs {
    /// A device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// An agent, with all its devices
    #[arg(long, value_name = "ID")]
    agent_id: Option<String>,
    /// Why, for those who meet the refusal
    #[arg(long, value_name = "WORDS", conflicts_with = "lift")]
    reason: Option<String>,
    /// End it
    #[arg(long)]
    lift: bool,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

pub fn run(args: AccessArgs, json: bool) -> Result<Answer, Fault> {
    match args.command {
        AccessCommand::Policy(args) => set_policy(&args, json),
        AccessCommand::Request(args) => request(&args, json),
        AccessCommand::Revoke(args) => revoke(&args, json),
        AccessCommand::Permits(args) => permits(&args, json),
        AccessCommand::Use(args) => use_permit(&args, json),
        AccessCommand::Quarantine(args) => quarantine(&args, json),
    }
}

type Arguments = BTreeMap<String, Cbor>;

fn argument(name: &str, value: Cbor) -> (String, Cbor) {
    (name.to_owned(), value)
}

/// Seals a call of `access`, and gives the node's client for what comes next.
async fn call(caller: &CallerFlags, action: &str, arguments: Arguments) -> Result<(Done, Client), Fault> {
    let client = caller.client()?;
    let done =
        submit(&client, &caller.signer()?, Wish { contract: "access", action, agreement: None, arguments }).await?;
    Ok((done, client))
}

/// A call whose outcome is all there is to tell.
fn call_and_tell(caller: &CallerFlags, action: &str, arguments: Arguments, json: bool) -> Result<Answer, Fault> {
    let (done, _) = runtime()?.block_on(call(caller, action, arguments))?;
    if json {
        print_json(&done)?;
    } else {
        show::done(&done);
    }
    Ok(done.refusal.is_none().into())
}

fn set_policy(args: &PolicyArgs, json: bool) -> Result<Answer, Fault> {
    let policy = file::read(&args.file, args.mapping.as_deref())?;
    let bytes = policy.encode();
    // What the ledger would refuse is said here, with the file's name.
    tally_evidence::Policy::decode(&bytes).context(args.file.display())?;
    call_and_tell(&args.caller, "policy", [argument("policy", cbor::bytes(bytes))].into(), json)
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

fn request(args: &RequestArgs, json: bool) -> Result<Answer, Fault> {
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

/// A permit with a proof of this moment.
async fn fetch(client: &Client, permit: u64, out: &Path) -> Result<(), Fault> {
    let path = format!("/state/{}", hex::encode(permit_state_key(permit)));
    let answer = client.get_bytes(&path).await.context("asking the node for the permit")?;
    let file = PermitFile::from_state_answer(&answer).context("the node's answer")?;
    let file = file.ok_or_else(|| format!("permit {permit} is not open: used, revoked, over, or never granted"))?;
    write_whole(out, &file.encode())
}

fn revoke(args: &RevokeArgs, json: bool) -> Result<Answer, Fault> {
    let permit = args.permit.map(|permit| argument("permit", cbor::int(permit)));
    let policy = args.policy.as_ref().map(|policy| argument("policy", cbor::text(policy.clone())));
    let party = args.party.as_ref().map(|party| argument("party", cbor::text(party.clone())));
    let action = if args.lift { "lift" } else { "revoke" };
    call_and_tell(&args.caller, action, [permit, policy, party].into_iter().flatten().collect(), json)
}

fn quarantine(args: &QuarantineArgs, json: bool) -> Result<Answer, Fault> {
    let device = args.device.as_ref().map(|id| argument("device", cbor::text(id.clone())));
    let agent = args.agent_id.as_ref().map(|id| argument("agent", cbor::text(id.clone())));
    let reason = args.reason.as_ref().map(|words| argument("reason", cbor::text(words.clone())));
    let action = if args.lift { "lift" } else { "quarantine" };
    call_and_tell(&args.caller, action, [device, agent, reason].into_iter().flatten().collect(), json)
}

fn permits(args: &PermitsArgs, json: bool) -> Result<Answer, Fault> {
    let client = args.node.client()?;
    runtime()?.block_on(async {
        if let (Some(permit), Some(out)) = (args.permit, &args.out) {
            fetch(&client, permit, out).await?;
            return Ok(Answer::Yes);
        }
        let get = async |what: &str| client.get_json(&format!("/access/{what}")).await.context("asking the node");
        let all = serde_json::json!({
            "permits": get("permits").await?, "policies": get("policies").await?, "quarantines": get("quarantines").await?,
        });
        if json {
            print_json(&all)?;
        } else {
            show::all(&all);
        }
        Ok(Answer::Yes)
    })
}

fn use_permit(args: &UseArgs, json: bool) -> Result<Answer, Fault> {
    let file = std::fs::read(&args.file).context(args.file.display())?;
    let answer = runtime()?.block_on(args.agent.client(&AccessFlags::default())?.post_bytes("/permits/use", file));
    match answer {
        Ok(report) => {
            if json {
                print_json(&report)?;
            } else {
                show::report(&report);
            }
            Ok((report["how"] == "done").into())
        }
        // The gate's no is an answer, not a failure of this command.
        Err(RequestError::Refused { status: 403, code, text, .. }) => {
            if json {
                print_json(&serde_json::json!({"how": "refused", "code": code, "reason": text}))?;
            } else {
                println!("refused ({code}): {text}");
            }
            Ok(Answer::No)
        }
        Err(fault) => Err(fault).context(format_args!("bringing the permit to the agent at {}", args.agent.agent)),
    }
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
