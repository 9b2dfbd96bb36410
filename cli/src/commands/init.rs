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
        }))?;
        return Ok(Answer::Yes);
    }
    println!("A new site in {}. Next, node and agent each in a terminal of its own:", site.dir.display());
    println!("  tally check --test {}", site.mapping.display());
    println!("  tally node  --config {}", site.node.display());
    println!("  tally agent --config {}", site.agent.display());
    println!("Parties, money and standing terms are examples: edit genesis.yaml before the node's first start.");
    Ok(Answer::Yes)
}
