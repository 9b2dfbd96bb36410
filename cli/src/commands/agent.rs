//! `tally agent`.

use crate::answer::{Answer, Context, Fault};
use crate::args::AgentArgs;
use crate::shutdown::{on_signal, runtime};
use tally_edge_agent::AgentConfig;

pub fn run(args: &AgentArgs) -> Result<Answer, Fault> {
    stay_small();
    let config = AgentConfig::load(&args.config).context(args.config.display())?;
    runtime()?.block_on(async {
        tally_edge_agent::run(config, on_signal()?).await.context("the agent stopped")?;
        Ok(Answer::Yes)
    })
}

/// An agent shares its box with others. With huge pages whatever the allocator touches is 2 MiB (25 MB instead of 7 at 500
/// points). A kernel that knows no such thing has nothing to turn off.
fn stay_small() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
