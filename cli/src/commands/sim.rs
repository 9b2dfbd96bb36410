//! `tally sim FILE`.

use crate::answer::{Answer, Context, Fault};
use crate::args::SimArgs;
use crate::shutdown::{on_signal, runtime};
use tally_simulator::SimConfig;
use tokio::io::{BufReader, stdin, stdout};

pub fn run(args: &SimArgs) -> Result<Answer, Fault> {
    let config = SimConfig::load(&args.file)?;
    let runtime = runtime()?;
    let ran = runtime.block_on(async {
        let stop = on_signal()?;
        tally_simulator::run(config, BufReader::new(stdin()), stdout(), stop).await.context("the simulator stopped")
    });
    // A thread that waits for the next line of standard input cannot be stopped: do not wait for it.
    runtime.shutdown_background();
    ran.map(|()| Answer::Yes)
}
