//! `tally registry`: who is who, and who was it; keys rotated and recovered; devices bound and handed over.

mod retirement;
mod show;
mod visibility;

use crate::answer::{Answer, Context, Fault};
use crate::commands::call::{self, Wish, submit};
use crate::commands::keys::open_key;
use crate::flags::CallerFlags;
use crate::shutdown::runtime;
use clap::{Args, Subcommand, ValueEnum};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tally_evidence::cbor::{Cbor, bytes, int, text};
use tally_evidence::{DeviceRecord, SealFault, SealingKey, possession, sha256};
use tally_ledger_client::Client;
use tally_model::{PartyId, parse_duration};

/// Arguments of `registry`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  Who sealed for press-01 at height 120, proved:
    tally registry show press-01 --at 120 --ledger-key ledger.pub.pem
  A new key for an agent, the old one good for another day:
    tally keys new new.key
    tally registry rotate --new-key new.key --overlap 24h --as agent-01 --key old.key
  Who can give acme another key, two of three:
    tally registry recoverers tom ted judge --needed 2 --as acme --key acme.key
  Sell a press:
    tally registry offer press-01 --to fixit --as acme --key acme.key
    tally registry accept press-01 --agent agent-f --as fixit --key fixit.key
  Have orders leave the state 30 days after their end, those that ended long ago too:
    tally registry retirement 30d --also-ended --as admin --key admin.key
  Only judge and whoever audits see tina's key:
    tally registry visibility tina --only judge --role auditor --as fixit --key fixit.key
docs/operator/identity.md has the whole story.")]
pub struct RegistryArgs {
    /// What to do.
    #[command(subcommand)]
    command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
enum RegistryCommand {
    /// Who a party or a device is, or was at a height: key, owner, agent, site, grade; with proof
    Show(show::ShowArgs),
    /// Take another key; the old one speaks on for the overlap
    Rotate(RotateArgs),
    /// Name who can give your organisation another key, and how many of them it takes
    Recoverers(RecoverersArgs),
    /// Approve another key for an organisation that named you; the last one needed puts it in force
    Recover(RecoverArgs),
    /// Bind a device of yours to another agent, another site, or both
    Bind(BindArgs),
    /// Offer a device to another organisation, or take the offer back
    Offer(OfferArgs),
    /// Accept a device that was offered to you
    Accept(AcceptArgs),
    /// Report the fingerprint of a device's firmware or mapping
    Fingerprint(FingerprintArgs),
    /// Change how long ended agreements stay in the ledger's state, as an admin of the ledger
    Retirement(retirement::RetirementArgs),
    /// Say who may see a party's key, name and skills, or a device's site
    Visibility(visibility::VisibilityArgs),
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// The new key, as `tally keys new` makes it: a file (PKCS#8 PEM) or in a token (pkcs11:…)
    #[arg(long, value_name = "FILE")]
    new_key: PathBuf,
    /// Whose key; your own when not said. A firm may rotate those of its people, agents and devices
    #[arg(long, value_name = "ID")]
    party: Option<String>,
    /// How long the old key speaks on, at most 90d; 0s when the old one is lost or stolen
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    overlap: String,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
struct RecoverersArgs {
    /// Persons, organisations or regulators, at most 16
    #[arg(required = true, value_name = "PARTY")]
    admins: Vec<String>,
    /// How many of them it takes
    #[arg(long, value_name = "NUMBER")]
    needed: u64,
    /// How long a change of this must wait, at most 90d: what a thief of your key has to wait before he can lock them out
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    delay: String,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
struct RecoverArgs {
    /// The organisation that lost its key
    #[arg(value_name = "PARTY")]
    party: String,
    /// Its new key: a file (PKCS#8 PEM) or in a token (pkcs11:…). Whoever made it hands out `--proof` files instead of the key
    #[arg(long, value_name = "FILE", required_unless_present = "proof", conflicts_with = "proof")]
    new_key: Option<PathBuf>,
    /// Approve what this file shows (made with `--write-proof`)
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// Only write the new key's public half and its proof into this file, for those who approve
    #[arg(long, value_name = "FILE", requires = "new_key")]
    write_proof: Option<PathBuf>,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
struct BindArgs {
    /// Which device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The agent that speaks for it; as before when not said
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Where it stands; as before when not said
    #[arg(long, value_name = "ID", conflicts_with = "no_site")]
    site: Option<String>,
    /// It stands nowhere in particular
    #[arg(long)]
    no_site: bool,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = false, args = ["to", "withdraw"])]
struct OfferArgs {
    /// Which device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// To which organisation; the offer holds 30 days
    #[arg(long, value_name = "ID")]
    to: Option<String>,
    /// Take the offer back
    #[arg(long)]
    withdraw: bool,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

#[derive(Debug, Args)]
struct AcceptArgs {
    /// Which device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The agent that speaks for it from now on
    #[arg(long, value_name = "ID")]
    agent: String,
    /// Where it stands
    #[arg(long, value_name = "ID")]
    site: Option<String>,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

/// What a fingerprint is of.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    /// What runs on the device
    Firmware,
    /// By which addresses and scalings it is read
    Mapping,
    /// What it calls itself: maker, product, revision, as `tally verify` shows it (--text)
    Identity,
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["file", "digest", "text"])]
struct FingerprintArgs {
    /// Which device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Of what
    #[arg(long, value_name = "WHAT")]
    of: Of,
    /// The file whose SHA-256 it is
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The SHA-256, 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// The text whose SHA-256 it is: what the device calls itself
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Its version, for people
    #[arg(long, value_name = "WORDS", default_value = "")]
    version: String,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

pub fn run(args: RegistryArgs, json: bool) -> Result<Answer, Fault> {
    match args.command {
        RegistryCommand::Show(args) => show::run(&args, json),
        RegistryCommand::Rotate(args) => rotate(&args, json),
        RegistryCommand::Recoverers(args) => recoverers(&args, json),
        RegistryCommand::Recover(args) => recover(&args, json),
        RegistryCommand::Bind(args) => bind(&args, json),
        RegistryCommand::Offer(args) => offer(&args, json),
        RegistryCommand::Accept(args) => accept(&args, json),
        RegistryCommand::Fingerprint(args) => fingerprint(&args, json),
        RegistryCommand::Retirement(args) => retirement::run(&args, json),
        RegistryCommand::Visibility(args) => visibility::run(&args, json),
    }
}

type Arguments = Vec<(&'static str, Cbor)>;

/// Seals a call of the registry, and shows what came of it.
async fn ask(
    client: &Client,
    caller: &CallerFlags,
    action: &str,
    arguments: Arguments,
    json: bool,
) -> Result<Answer, Fault> {
    let arguments = arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>();
    let wish = Wish { contract: "registry", action, agreement: None, arguments };
    let done = submit(client, &caller.signer()?, wish).await?;
    call::show(&done, json)?;
    Ok(done.refusal.is_none().into())
}

async fn ledger_of(client: &Client) -> Result<String, Fault> {
    let status = client.get_json("/status").await.context("asking the node for its name")?;
    Ok(status["ledger"].as_str().ok_or("the node does not say which ledger it is")?.to_owned())
}

/// The new key, and that somebody holds it.
fn new_key(ledger: &str, party: &PartyId, key: &SealingKey) -> Result<Arguments, SealFault> {
    let public = key.public()?;
    let proof = key.sign(&possession(ledger, party, &public))?;
    Ok(vec![("party", text(party.as_str())), ("key", bytes(public.sec1().to_vec())), ("proof", bytes(proof.to_vec()))])
}

fn micros(duration: &str, flag: &str) -> Result<Cbor, Fault> {
    let duration = parse_duration(duration).context(flag)?;
    Ok(int(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
}

fn rotate(args: &RotateArgs, json: bool) -> Result<Answer, Fault> {
    let party = PartyId::try_new(args.party.as_ref().unwrap_or(&args.caller.party)).context("--party")?;
    let (key, overlap) = (open_key(&args.new_key)?, micros(&args.overlap, "--overlap")?);
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let mut arguments = new_key(&ledger_of(&client).await?, &party, &key)?;
        arguments.push(("overlap", overlap));
        ask(&client, &args.caller, "rotate-key", arguments, json).await
    })
}

fn recoverers(args: &RecoverersArgs, json: bool) -> Result<Answer, Fault> {
    let admins = Cbor::Array(args.admins.iter().map(text).collect());
    let arguments = vec![("admins", admins), ("needed", int(args.needed)), ("delay", micros(&args.delay, "--delay")?)];
    runtime()?.block_on(ask(&args.caller.client()?, &args.caller, "set-recovery", arguments, json))
}

fn recover(args: &RecoverArgs, json: bool) -> Result<Answer, Fault> {
    let party = PartyId::try_new(&args.party).context("PARTY")?;
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let arguments = match (&args.new_key, &args.proof) {
            (Some(file), _) => new_key(&ledger_of(&client).await?, &party, &open_key(file)?)?,
            (None, Some(file)) => read_proof(file, &party)?,
            (None, None) => return Err("name --new-key or --proof".into()),
        };
        if let Some(file) = &args.write_proof {
            let shown: BTreeMap<_, _> = arguments.iter().map(|(name, value)| (*name, shown(value))).collect();
            let shown = serde_json::to_string_pretty(&shown)? + "\n";
            crate::commands::evidence::write_whole(file, shown.as_bytes())?;
            println!("wrote {}: hand it to those who approve", file.display());
            return Ok(Answer::Yes);
        }
        ask(&client, &args.caller, "approve-recovery", arguments, json).await
    })
}

fn shown(value: &Cbor) -> String {
    match value {
        Cbor::Bytes(bytes) => hex::encode(bytes),
        Cbor::Text(text) => text.clone(),
        _ => String::new(),
    }
}

/// What `--write-proof` wrote.
fn read_proof(file: &std::path::Path, party: &PartyId) -> Result<Arguments, Fault> {
    let shown = file.display();
    let read = std::fs::read_to_string(file).context(format_args!("reading {shown}"))?;
    let read: BTreeMap<String, String> = serde_json::from_str(&read).context(format_args!("{shown}"))?;
    if read.get("party").map(String::as_str) != Some(party.as_str()) {
        return Err(format!("{shown} is for {:?}, not for {party}", read.get("party")).into());
    }
    let field = |name: &str| -> Result<Cbor, Fault> {
        let digits = read.get(name).ok_or_else(|| format!("{shown} has no `{name}`"))?;
        Ok(bytes(hex::decode(digits).context(format_args!("`{name}` of {shown}"))?))
    };
    Ok(vec![("party", text(party.as_str())), ("key", field("key")?), ("proof", field("proof")?)])
}

fn bind(args: &BindArgs, json: bool) -> Result<Answer, Fault> {
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let id: tally_model::DeviceId = args.device.parse().context("DEVICE")?;
        let now = client.get_json(&format!("/registry/devices/{id}")).await.context("asking for the device")?;
        let before = &now["holds"]["record"];
        if !before["withheld"].is_null() && args.site.is_none() && !args.no_site {
            return Err("where it stands is withheld from you: name --site or --no-site, or ask as its owner".into());
        }
        let word = |name: &str| before[name].as_str().map(str::to_owned);
        let agent = args.agent.clone().or_else(|| word("agent")).ok_or("the node does not name the agent")?;
        let owner = word("owner").ok_or("the node does not name the owner")?;
        let site = args.site.clone().or_else(|| word("site")).filter(|_| !args.no_site);
        let record = record(&args.device, &agent, &owner, site.as_deref())?;
        ask(&client, &args.caller, "bind-device", vec![("device", record.to_cbor())], json).await
    })
}

fn record(id: &str, agent: &str, owner: &str, site: Option<&str>) -> Result<DeviceRecord, Fault> {
    Ok(DeviceRecord {
        id: id.parse().context("DEVICE")?,
        agent: agent.parse().context("--agent")?,
        owner: owner.parse().context("--as")?,
        site: site.map(str::parse).transpose().context("--site")?,
    })
}

fn offer(args: &OfferArgs, json: bool) -> Result<Answer, Fault> {
    let mut arguments = vec![("device", text(&args.device))];
    arguments.extend(args.to.as_ref().map(|to| ("to", text(to))));
    let action = if args.withdraw { "withdraw-offer" } else { "offer-transfer" };
    runtime()?.block_on(ask(&args.caller.client()?, &args.caller, action, arguments, json))
}

fn accept(args: &AcceptArgs, json: bool) -> Result<Answer, Fault> {
    let record = record(&args.device, &args.agent, &args.caller.party, args.site.as_deref())?;
    let arguments = vec![("device", record.to_cbor())];
    runtime()?.block_on(ask(&args.caller.client()?, &args.caller, "accept-transfer", arguments, json))
}

fn fingerprint(args: &FingerprintArgs, json: bool) -> Result<Answer, Fault> {
    let digest = match (&args.file, &args.digest, &args.text) {
        (Some(file), ..) => sha256(&std::fs::read(file).context(format_args!("reading {}", file.display()))?).to_vec(),
        (_, Some(digits), _) => hex::decode(digits).context("--digest")?,
        (_, _, Some(text)) => sha256(text.as_bytes()).to_vec(),
        (None, None, None) => return Err("name --file, --digest or --text".into()),
    };
    let kind = match args.of {
        Of::Firmware => "firmware",
        Of::Mapping => "mapping",
        Of::Identity => "identity",
    };
    let arguments = vec![
        ("device", text(&args.device)),
        ("kind", text(kind)),
        ("digest", bytes(digest)),
        ("version", text(&args.version)),
    ];
    runtime()?.block_on(ask(&args.caller.client()?, &args.caller, "report-fingerprint", arguments, json))
}
