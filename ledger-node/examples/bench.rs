//! `cargo run --release -p tally-ledger-node --example bench -- [FOLDER] [TRIGGERS]`; with `--scale` as the third argument a
//! ledger is filled with so many orders that stay open instead, as `tally bench scale --open-orders` does, with `--grow` with as many entries of
//! orders that go their way, as `tally bench scale` does; `-- FOLDER registry DEVICES` does as `tally bench registry`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use tally_ledger_node::bench::{
    BenchOptions, Orders, ScalePart, ScaleWatch, Turn, bench_registry, bench_scale, bench_triggers,
};

/// As in `tally`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Shows each look when it was had.
struct Told;

impl ScaleWatch for Told {
    fn progress(&mut self, _: u64, _: f64) {}
    fn look(&mut self, part: &ScalePart) {
        eprintln!("{part}");
    }
    fn turn(&mut self, entries: u64, turn: &Turn) {
        eprintln!("{entries:>10}: {turn}");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "target/bench-ledger".to_owned());
    let mut options = BenchOptions::default();
    let what = arguments.next();
    if what.as_deref() == Some("registry") {
        let devices = arguments.next().and_then(|count| count.parse().ok()).expect("a number of devices");
        let _ = std::fs::remove_dir_all(&folder);
        println!("{:#?}", bench_registry(folder.as_ref(), devices, &options).expect("the bench"));
        return std::fs::remove_dir_all(&folder).unwrap();
    }
    if let Some(triggers) = what {
        options.triggers = triggers.parse().expect("a number of triggers");
    }
    let _ = std::fs::remove_dir_all(&folder);
    let kind = arguments.next();
    if matches!(kind.as_deref(), Some("--scale" | "--grow")) {
        if kind.as_deref() == Some("--scale") {
            options.orders = Orders::Open;
        }
        let go = std::sync::atomic::AtomicBool::new(false);
        let report = bench_scale(folder.as_ref(), options.triggers as u64, &options, &go, &mut Told);
        println!("{}", report.expect("the bench"));
    } else {
        println!("{}", bench_triggers(folder.as_ref(), &options).expect("the bench"));
    }
    if std::env::var_os("KEEP").is_none() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
