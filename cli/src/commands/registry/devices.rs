//! `tally registry bind`, `offer`, `accept` and `fingerprint`: whose a device is, who speaks for it, and what runs on it.

use super::ask;
use crate::answer::{Answer, Context, Fault};
use crate::flags::CallerFlags;
use crate::shutdown::runtime;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use tally_evidence::cbor::{bytes, text};
use tally_evidence::{DeviceRecord, sha256};

#[derive(Debug, Args)]
pub(super) struct BindArgs {
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
pub(super) struct OfferArgs {
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
pub(super) struct AcceptArgs {
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
pub(super) struct FingerprintArgs {
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

pub(super) fn bind(args: &BindArgs, json: bool) -> Result<Answer, Fault> {
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

pub(super) fn offer(args: &OfferArgs, json: bool) -> Result<Answer, Fault> {
    let mut arguments = vec![("device", text(&args.device))];
    arguments.extend(args.to.as_ref().map(|to| ("to", text(to))));
    let action = if args.withdraw { "withdraw-offer" } else { "offer-transfer" };
    runtime()?.block_on(ask(&args.caller.client()?, &args.caller, action, arguments, json))
}

pub(super) fn accept(args: &AcceptArgs, json: bool) -> Result<Answer, Fault> {
    let record = record(&args.device, &args.agent, &args.caller.party, args.site.as_deref())?;
    let arguments = vec![("device", record.to_cbor())];
    runtime()?.block_on(ask(&args.caller.client()?, &args.caller, "accept-transfer", arguments, json))
}

pub(super) fn fingerprint(args: &FingerprintArgs, json: bool) -> Result<Answer, Fault> {
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
