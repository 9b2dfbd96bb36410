//! `tally node`.

use crate::answer::{Answer, Context, Fault};
use crate::args::NodeArgs;
use crate::shutdown::{on_signal_of_server, runtime};
use tally_ledger_node::NodeConfig;

pub fn run(args: &NodeArgs) -> Result<Answer, Fault> {
    let config = NodeConfig::load(&args.config).context(args.config.display())?;
    runtime()?.block_on(async {
        tally_ledger_node::run(config, on_signal_of_server()?).await.context("the node stopped")?;
        Ok(Answer::Yes)
    })
}
