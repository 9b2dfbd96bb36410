//! Time as an argument. The one implementation that looks at the wall lives here, for all connectors.

use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tally_model::Timestamp;

/// Where a connector gets the receive time from.
pub trait Clock: Send + Sync {
    /// Now. Never falls from one call to the next.
    fn now(&self) -> Timestamp;
}

/// The computer's clock, made monotone: it follows steps forward, and goes on at its own pace when the wall
/// clock is set back, so that windows and on-delays neither freeze nor run twice.
pub struct SystemClock {
    /// Reference pair (monotonic instant, wall microseconds); the lock guards replacing both together.
    anchor: Mutex<(Instant, i64)>,
}

impl SystemClock {
    /// Starts at the wall clock, but never before `not_before` (the last time already on disk).
    #[must_use]
    pub fn starting_at(not_before: Timestamp) -> Self {
        Self { anchor: Mutex::new((Instant::now(), wall_micros().max(not_before.as_micros()))) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::starting_at(Timestamp::from_micros(0))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A poisoned lock means another thread died between two plain assignments: the pair is still usable.
        let mut anchor = self.anchor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let elapsed = i64::try_from(anchor.0.elapsed().as_micros()).unwrap_or(i64::MAX);
        let steady = anchor.1.saturating_add(elapsed);
        let wall = wall_micros();
        if wall > steady {
            *anchor = (Instant::now(), wall);
            return Timestamp::from_micros(wall);
        }
        Timestamp::from_micros(steady)
    }
}

fn wall_micros() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_set_back_neither_freezes_nor_returns() {
        let ahead = Timestamp::from_micros(wall_micros()).plus(Duration::from_secs(3600));
        let clock = SystemClock::starting_at(ahead);
        let first = clock.now();
        assert!(first >= ahead);
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now() > first);
    }
}
