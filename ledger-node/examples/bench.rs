//! `cargo run --release -p tally-ledger-node --example bench -- [FOLDER] [TRIGGERS]`
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use tally_ledger_node::bench::{BenchOptions, bench_triggers};

/// As in `tally`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "target/bench-ledger".to_owned());
    let mut options = BenchOptions::default();
    if let Some(triggers) = arguments.next() {
        options.triggers = triggers.parse().expect("a number of triggers");
    }
    let _ = std::fs::remove_dir_all(&folder);
    println!("{}", bench_triggers(folder.as_ref(), &options).expect("the bench"));
    std::fs::remove_dir_all(&folder).unwrap();
}
