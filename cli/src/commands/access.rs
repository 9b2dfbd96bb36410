//! `tally access`: who may have what read, written or called on a device; one-time permits; revocation; quarantine.

mod file;
mod outcome;
mod request;
mod show;

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::call::{Done, Wish, submit};
use crate::commands::evidence::write_whole;
use crate::flags::{AccessFlags, AgentFlag, CallerFlags, NodeFlag};
use crate::shutdown::runtime;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tally_evidence::cbor::{self, Cbor};
use tally_evidence::{PermitFile, permit_state_key};
use tally_ledger_client::{Client, RequestError};

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
    Request(request::RequestArgs),
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
        AccessCommand::Request(args) => request::request(&args, json),
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
