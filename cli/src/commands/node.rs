//! `tally node`.

use crate::answer::{Answer, Context, Fault};
use crate::shutdown::{on_signal_of_server, runtime};
use clap::Args;
use std::path::PathBuf;
use tally_ledger_node::NodeConfig;

/// Arguments of `node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    pub config: PathBuf,
}

pub fn run(args: &NodeArgs) -> Result<Answer, Fault> {
    let config = NodeConfig::load(&args.config).context(args.config.display())?;
    runtime()?.block_on(async {
        tally_ledger_node::run(config, on_signal_of_server()?)
            .await
            .context(format_args!("the node of {} stopped", args.config.display()))?;
        Ok(Answer::Yes)
    })
}
