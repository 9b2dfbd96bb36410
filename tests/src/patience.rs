//! How long the tests of all crates wait. Other crates' tests include this file too: there is one patience.

use std::time::Duration;

/// How long a test waits for one thing. Nothing takes this long when it works, so it costs nothing to be generous: a machine that is
/// five times slower than ours, or that compiles meanwhile, must pass too.
pub const PATIENCE: Duration = Duration::from_secs(120);
