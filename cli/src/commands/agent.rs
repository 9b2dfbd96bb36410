//! `tally agent`.

use crate::answer::{Answer, Context, Fault};
use crate::args::AgentArgs;
use crate::shutdown::{on_signal, runtime};
use tally_edge_agent::AgentConfig;

pub fn run(args: &AgentArgs) -> Result<Answer, Fault> {
    let config = AgentConfig::load(&args.config).context(args.config.display())?;
    runtime()?.block_on(async {
        tally_edge_agent::run(config, on_signal()?).await.context("the agent stopped")?;
        Ok(Answer::Yes)
    })
}
