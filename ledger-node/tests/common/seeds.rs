//! Seeds of random tests: new ones each time, printed; `TALLY_TEST_SEED=…` repeats one run alone.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

/// The seeds of `runs` runs, or the one asked for.
pub fn seeds(runs: u64) -> Range<u64> {
    let seeds = match std::env::var("TALLY_TEST_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("TALLY_TEST_SEED is a number");
            seed..seed + 1
        }
        Err(_) => {
            // The only randomness in std: its hash maps are keyed by it.
            let first = RandomState::new().build_hasher().finish() >> 16;
            first..first + runs
        }
    };
    println!("seeds {seeds:?}");
    seeds
}

/// Names the seed when the run that holds this panics.
pub struct Named(pub u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TALLY_TEST_SEED={} repeats this run", self.0);
        }
    }
}
