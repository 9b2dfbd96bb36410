//! `tally init DIR`.

use crate::answer::{Answer, Fault, print_json};
use crate::site::{MONEY, Options, Site};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder; made if need be, nothing in it is overwritten
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// A mapping to copy into the folder, with its data sheets and recordings; the press line of the demo otherwise
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// Name of the ledger; every statement names it as its audience
    #[arg(long, value_name = "NAME", default_value = "press-line")]
    pub ledger: String,
    /// The MQTT broker that SCADA listens to
    #[arg(long, value_name = "mqtt://HOST:PORT", default_value = "mqtt://127.0.0.1:1883")]
    pub broker: String,
}

pub fn run(args: InitArgs, json: bool) -> Result<Answer, Fault> {
    let options = Options {
        ledger: args.ledger,
        broker: args.broker,
        mapping: args.mapping,
        variables: Vec::new(),
        money: MONEY,
    };
    let site = Site::create(&args.dir, &options)?;
    if json {
        print_json(&serde_json::json!({
            "dir": site.dir, "mapping": site.mapping, "node": site.node, "agent": site.agent, "sim": site.sim,
            "unset": site.unset,
        }))?;
        return Ok(Answer::Yes);
    }
    println!("A new site in {}. Next, the last three each in a terminal of its own:", site.dir.display());
    for name in &site.unset {
        println!(
            "  export {name}=…      in each of them: the mapping asks for it, and the simulation takes what you choose"
        );
    }
    println!("  tally check --test {}", site.mapping.display());
    println!("  tally sim   {}      only where no real devices are", site.sim.display());
    println!("  tally node  --config {}", site.node.display());
    println!("  tally agent --config {}", site.agent.display());
    println!("Parties, money and standing terms are examples: edit genesis.yaml before the node's first start.");
    Ok(Answer::Yes)
}
