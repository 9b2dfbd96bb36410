//! Waiting with an end, and randomness with a seed.

use crate::PATIENCE;
use std::time::Duration;
use tokio::time::Instant;

/// How long values may take to flow again once a peer is back: ten seconds are promised, the rest is for a slow machine.
pub const TIME_TO_DATA: Duration = Duration::from_secs(30);

/// How often a condition is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks `look` again and again until it gives something; fails with `what` after [`PATIENCE`].
///
/// # Panics
/// When nothing comes in time.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
