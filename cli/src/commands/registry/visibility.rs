//! `tally registry visibility ID --only PARTY …`: who may see a key, or where a device stands.

use super::{ask, show::look_up};
use crate::answer::{Answer, Context, Fault};
use crate::flags::CallerFlags;
use crate::shutdown::runtime;
use clap::{Args, ValueEnum};
use tally_evidence::cbor::{Cbor, map, text};
use tally_model::PartyId;

/// Roles at a node's interface that a rule can name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Seeing {
    /// Programs that seal
    Agent,
    /// Those who check
    Auditor,
    /// Authorities
    Regulator,
}

/// Arguments of `registry visibility`.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = true, args = ["everyone", "nobody", "only", "role"])]
pub(super) struct VisibilityArgs {
    /// A party or a device; parties are looked for first
    #[arg(value_name = "ID")]
    id: String,
    /// The device of this name, when a party has the same
    #[arg(long)]
    device: bool,
    /// Whoever may ask the node, as it is when nobody says anything
    #[arg(long, conflicts_with_all = ["nobody", "only", "role"])]
    everyone: bool,
    /// Nobody but itself, its firm or owner, and operators
    #[arg(long, conflicts_with_all = ["only", "role"])]
    nobody: bool,
    /// These parties besides: a reader counts as the party whose id his token or certificate names
    #[arg(long, value_name = "PARTY", num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// Whoever has this role at the node besides
    #[arg(long, value_name = "ROLE", num_args = 1.., value_delimiter = ',')]
    role: Vec<Seeing>,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

pub(super) fn run(args: &VisibilityArgs, json: bool) -> Result<Answer, Fault> {
    let to = if args.everyone { text("everyone") } else { audience(args)? };
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let (is_party, _) = look_up(&client, &args.id, args.device, None).await?;
        let of = if is_party { "party" } else { "device" };
        let arguments = vec![("of", text(of)), ("id", text(&args.id)), ("to", to)];
        ask(&client, &args.caller, "set-visibility", arguments, json).await
    })
}

fn audience(args: &VisibilityArgs) -> Result<Cbor, Fault> {
    let parties = args.only.iter().map(|id| Ok(text(PartyId::try_new(id).context("--only")?.as_str())));
    let roles = args.role.iter().filter_map(ValueEnum::to_possible_value);
    let roles = roles.map(|role| text(role.get_name())).collect();
    Ok(map([("parties", Cbor::Array(parties.collect::<Result<_, Fault>>()?)), ("roles", Cbor::Array(roles))]))
}
