//! The harness of the whole-plant tests: it starts the real program `tally` as child processes, beside servers that are
//! not ours, and looks at them from outside only: over HTTP, over MQTT, at the exit codes and the files they leave.
//!
//! **What a test gets.** [`Site`]: a folder made by `tally init`, with the configurations of node and agent, and clients of
//! both. [`Process`]: a child that is killed when the test ends, whatever way it ends. [`Pymodbus`], [`Asyncua`],
//! [`Mosquitto`]: programs we did not write. [`Ear`]: what SCADA hears. [`Party`]: somebody with a key who calls contracts; [`Watcher`]: one with a sensor.
//! [`Attacks`]: a table of attacks, with [`Craft`] for
//! statements that are wrong in one place. [`Chain`]: the whole ledger, read over HTTP and checked from the first entry to the last.
//!
//! **Rules.** Nothing listens anywhere but on 127.0.0.1, on ports from [`free_port`]. A missing program fails the test and
//! says which command installs it; nothing is skipped unseen. No test waits longer than [`PATIENCE`] for one thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a harness fails by panicking: that is its answer

mod attacks;
mod chain;
mod craft;
mod ear;
mod formats;
mod hall;
mod loop_disk;
mod needles;
mod party;
mod patience;
mod permits;
mod press;
mod process;
mod programs;
mod proxy;
mod servers;
mod site;
mod skip;
mod tiny_disk;
mod wait;
mod watcher;
mod witness;

pub use attacks::Attacks;
pub use chain::{Chain, Entry};
pub use craft::{Craft, sig_structure, sign1, twin};
pub use ear::{Ear, Message};
pub use formats::in_format;
pub use hall::Hall;
pub use loop_disk::LoopDisk;
pub use needles::Needles;
pub use party::{Done, Party};
pub use patience::PATIENCE;
pub use permits::{OnPoint, party, policy};
pub use press::{press, simulated_press};
pub use process::Process;
pub use programs::{find, node, python, root, tally, tally_command};
pub use proxy::Proxy;
pub use servers::{
    Asyncua, Manner, Mosquitto, OpcUaManner, Pymodbus, Rogue, RogueOpcUa, Simulator, free_port, publish, publish_all,
    publish_bytes, try_publish,
};
pub use site::Site;
pub use skip::skipped;
pub use tiny_disk::TinyDisk;
pub use wait::{TIME_TO_DATA, eventually, random};
pub use watcher::Watcher;
pub use witness::{PythonWitness, Witness, ask_witnesses};
