//! The program that `cargo xtask fuzz` runs: libFuzzer over one target.
//!
//! `TALLY_FUZZ_TARGET` names it; without it all names are shown. With `TALLY_FUZZ_PREPARE=FOLDER` the target's seeds are written to `FOLDER/seeds/` and its dictionary
//! to `FOLDER/words` before libFuzzer looks at its arguments, which may name them.
#![no_main]
#![allow(unsafe_code)] // the macro gives the functions names that libFuzzer calls
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::LazyLock;
use tally_fuzz::{TARGETS, Target, dictionary};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("TALLY_FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == name).expect("TALLY_FUZZ_TARGET names a target")
});

fn prepare() {
    if std::env::var_os("TALLY_FUZZ_TARGET").is_none() {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        std::process::exit(0);
    }
    let Some(folder) = std::env::var_os("TALLY_FUZZ_PREPARE").map(PathBuf::from) else { return };
    let seeds = folder.join("seeds");
    std::fs::create_dir_all(&seeds).expect("the folder can be made");
    for (number, seed) in (TARGET.seeds)().into_iter().enumerate() {
        std::fs::write(seeds.join(format!("seed-{number:03}")), seed).expect("a seed can be written");
    }
    std::fs::write(folder.join("words"), dictionary(&TARGET)).expect("the dictionary can be written");
}

libfuzzer_sys::fuzz_target!(init: prepare(), |bytes: &[u8]| {
    std::hint::black_box((TARGET.run)(bytes));
});
