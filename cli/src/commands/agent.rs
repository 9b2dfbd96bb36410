//! `tally agent`.

use crate::answer::{Answer, Context, Fault};
use crate::clock_state::clock_state;
use crate::footprint::keep_small;
use crate::shutdown::{on_signal, runtime};
use clap::Args;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use tally_edge_agent::AgentConfig;

/// Arguments of `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/agent.yaml")]
    pub config: PathBuf,
}

/// What the allocator is told: give back at once what is free, and take no memory before it is needed. At 20,000 points that is 16 MB
/// less, at 500 points 6 MB, and no processor time that could be measured.
const ALLOCATOR: [(&str, &str); 2] = [("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

pub fn run(args: &AgentArgs) -> Result<Answer, Fault> {
    stay_small();
    let config = AgentConfig::load(&args.config).context(args.config.display())?;
    runtime()?.block_on(async {
        tokio::spawn(keep_small());
        tally_edge_agent::run(config, Box::new(clock_state), on_signal()?).await.context("the agent stopped")?;
        Ok(Answer::Yes)
    })
}

/// An agent shares its box with others. With huge pages whatever the allocator touches is 2 MiB (25 MB instead of 7 at 500
/// points). A kernel that knows no such thing has nothing to turn off.
fn stay_small() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // The allocator reads its options before `main`: they must stand in the environment when the program starts. So it starts once
    // more, in the same process; who set one of them himself knows why.
    if ALLOCATOR.iter().any(|(option, _)| std::env::var_os(option).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut again = Command::new(program);
    // Comes back only when it cannot be done; then it goes on, a little larger.
    let fault = again.args(std::env::args_os().skip(1)).envs(ALLOCATOR).exec();
    tracing::debug!(%fault, "the allocator keeps its own options");
}
