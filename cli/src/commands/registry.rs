//! `tally registry`: who is who, and who was it; keys rotated and recovered; devices bound and handed over.

mod devices;
mod keys;
mod retirement;
mod show;
mod visibility;

use crate::answer::{Answer, Context, Fault};
use crate::commands::call::{self, Wish, submit};
use crate::flags::CallerFlags;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use tally_evidence::cbor::{Cbor, int};
use tally_ledger_client::Client;
use tally_model::parse_duration;

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
    Rotate(keys::RotateArgs),
    /// Name who can give your organisation another key, and how many of them it takes
    Recoverers(keys::RecoverersArgs),
    /// Approve another key for an organisation that named you; the last one needed puts it in force
    Recover(keys::RecoverArgs),
    /// Bind a device of yours to another agent, another site, or both
    Bind(devices::BindArgs),
    /// Offer a device to another organisation, or take the offer back
    Offer(devices::OfferArgs),
    /// Accept a device that was offered to you
    Accept(devices::AcceptArgs),
    /// Report the fingerprint of a device's firmware or mapping
    Fingerprint(devices::FingerprintArgs),
    /// Change how long ended agreements stay in the ledger's state, as an admin of the ledger
    Retirement(retirement::RetirementArgs),
    /// Say who may see a party's key, name and skills, or a device's site
    Visibility(visibility::VisibilityArgs),
}

pub fn run(args: RegistryArgs, json: bool) -> Result<Answer, Fault> {
    match args.command {
        RegistryCommand::Show(args) => show::run(&args, json),
        RegistryCommand::Rotate(args) => keys::rotate(&args, json),
        RegistryCommand::Recoverers(args) => keys::recoverers(&args, json),
        RegistryCommand::Recover(args) => keys::recover(&args, json),
        RegistryCommand::Bind(args) => devices::bind(&args, json),
        RegistryCommand::Offer(args) => devices::offer(&args, json),
        RegistryCommand::Accept(args) => devices::accept(&args, json),
        RegistryCommand::Fingerprint(args) => devices::fingerprint(&args, json),
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

fn micros(duration: &str, flag: &str) -> Result<Cbor, Fault> {
    let duration = parse_duration(duration).context(flag)?;
    Ok(int(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
}
