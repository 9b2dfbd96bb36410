//! `tally init DIR`.

use crate::answer::{Answer, Fault, print_json};
use crate::args::InitArgs;
use crate::site::{MONEY, Options, Site};

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
