//! Time as an argument. The one implementation that looks at the wall lives here, for all connectors.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tally_model::{ClockState, Timestamp};

/// Where a connector gets the receive time from.
pub trait Clock: Send + Sync {
    /// Now. Never falls from one call to the next.
    fn now(&self) -> Timestamp;

    /// What became of the computer's clock since the start.
    fn health(&self) -> ClockHealth {
        ClockHealth::default()
    }

    /// Now, for whoever decides what is old enough to be given up: a leap forward makes nothing old.
    fn for_ages(&self) -> Timestamp {
        self.now().minus(self.health().leapt)
    }
}

/// What became of the computer's clock since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockHealth {
    /// How far [`Clock::now`] runs ahead of the wall clock: zero, unless that was set back, or had been ahead when the
    /// readings on disk were taken.
    pub ahead: Duration,
    /// Steps forward of more than [`LEAP`] in all: at once, and not because time passed.
    pub leapt: Duration,
    /// Whether the wall clock is kept right, and how well.
    pub wall: ClockState,
}

impl ClockHealth {
    /// The same of the times that [`Clock::now`] gives: they are off by what the wall clock is and by what they run ahead of it.
    /// More than [`LEAP`] ahead they go at their own pace, whoever keeps the wall clock right.
    #[must_use]
    pub fn state(&self) -> ClockState {
        let ahead = u64::try_from(self.ahead.as_micros()).unwrap_or(u64::MAX);
        match self.wall {
            ClockState::Synchronised { .. } if self.ahead > LEAP => ClockState::FreeRunning,
            ClockState::Synchronised { error_us } => {
                ClockState::Synchronised { error_us: error_us.saturating_add(ahead) }
            }
            state => state,
        }
    }
}

/// A larger step forward of the wall clock is a leap: a clock that was wrong and is right now, or the other way round; nobody can
/// tell. Smaller ones are how clocks are kept right.
pub const LEAP: Duration = Duration::from_secs(60);

/// The computer's clock, made monotone: it follows steps forward, and goes on at its own pace when the wall
/// clock is set back, so that windows and on-delays neither freeze nor run twice.
pub struct SystemClock {
    anchor: Mutex<Anchor>,
    wall: Wall,
    state: ReadClockState,
}

/// Asks the computer how good its clock is. Called about once a second.
pub type ReadClockState = Box<dyn Fn() -> ClockState + Send + Sync>;

/// The lock guards replacing all of it together.
struct Anchor {
    /// An instant, and what the wall clock said then (microseconds).
    at: Instant,
    micros: i64,
    leapt: Duration,
}

/// Reads the wall clock: microseconds since the Unix epoch.
type Wall = Box<dyn Fn() -> i64 + Send + Sync>;

impl SystemClock {
    /// Starts at the wall clock, but never before `not_before` (the last time already on disk).
    #[must_use]
    pub fn starting_at(not_before: Timestamp) -> Self {
        Self::on_wall(Box::new(wall_micros), not_before)
    }

    /// The same on another wall clock (microseconds since the Unix epoch), which may jump as it likes: for rehearsals.
    #[must_use]
    pub fn on_wall(wall: Box<dyn Fn() -> i64 + Send + Sync>, not_before: Timestamp) -> Self {
        let micros = wall().max(not_before.as_micros());
        Self {
            anchor: Mutex::new(Anchor { at: Instant::now(), micros, leapt: Duration::ZERO }),
            wall,
            state: Box::new(ClockState::default),
        }
    }

    /// The same clock, of which `state` knows how good it is; otherwise nobody does.
    #[must_use]
    pub fn with_state(self, state: ReadClockState) -> Self {
        Self { state, ..self }
    }

    fn anchor(&self) -> MutexGuard<'_, Anchor> {
        // A poisoned lock means another thread died between plain assignments: what they left is still usable.
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::starting_at(Timestamp::from_micros(0))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let mut anchor = self.anchor();
        let elapsed = i64::try_from(anchor.at.elapsed().as_micros()).unwrap_or(i64::MAX);
        let steady = anchor.micros.saturating_add(elapsed);
        let wall = (self.wall)();
        if wall <= steady {
            return Timestamp::from_micros(steady);
        }
        let step = micros(wall.saturating_sub(steady));
        if step > LEAP {
            anchor.leapt = anchor.leapt.saturating_add(step);
        }
        (anchor.at, anchor.micros) = (Instant::now(), wall);
        Timestamp::from_micros(wall)
    }

    fn health(&self) -> ClockHealth {
        let now = self.now().as_micros();
        let ahead = micros(now.saturating_sub((self.wall)()));
        ClockHealth { ahead, leapt: self.anchor().leapt, wall: (self.state)() }
    }
}

/// Zero for what is negative.
fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn wall_micros() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn a_clock_set_back_neither_freezes_nor_returns() {
        let ahead = Timestamp::from_micros(wall_micros()).plus(Duration::from_secs(3600));
        let clock = SystemClock::starting_at(ahead);
        let first = clock.now();
        assert!(first >= ahead);
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now() > first);
    }

    #[test]
    fn receive_times_are_as_good_as_the_wall_clock_and_what_they_run_ahead_of_it() {
        let kept = ClockState::Synchronised { error_us: 300 };
        let of =
            |seconds, wall| ClockHealth { ahead: Duration::from_secs(seconds), leapt: Duration::ZERO, wall }.state();
        assert_eq!(of(0, kept), kept);
        assert_eq!(of(2, kept), ClockState::Synchronised { error_us: 2_000_300 });
        assert_eq!(of(3_600, kept), ClockState::FreeRunning, "they go at their own pace");
        assert_eq!(of(0, ClockState::FreeRunning), ClockState::FreeRunning);
        assert_eq!(of(3_600, ClockState::Unknown), ClockState::Unknown);
        assert_eq!(SystemClock::default().health().wall, ClockState::Unknown, "nobody was asked");
        let clock = SystemClock::default().with_state(Box::new(move || kept));
        assert_eq!(clock.health().wall, kept);
    }

    #[test]
    fn steps_forward_are_followed_and_steps_back_are_not() {
        const HOUR: i64 = 3_600_000_000;
        let wall = Arc::new(AtomicI64::new(HOUR));
        let read = wall.clone();
        let clock = SystemClock::on_wall(Box::new(move || read.load(Ordering::Relaxed)), Timestamp::default());
        let mut before = clock.now();
        for set in [2 * HOUR, 500 * HOUR, 3 * HOUR, 0, 499 * HOUR, 501 * HOUR] {
            wall.store(set, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
            let now = clock.now();
            assert!(now > before && now.as_micros() >= set, "{before} {now}");
            assert!(now.as_micros() <= set.max(before.as_micros() + HOUR), "{now} when it is {set}");
            before = now;
        }
        let ClockHealth { ahead, leapt, .. } = clock.health();
        assert!(ahead < Duration::from_secs(3_600));
        // From 1 h to 2, to 500, and from a little behind 500 to 501; that it was set back undoes nothing.
        let hours = Duration::from_secs(500 * 3_600);
        assert!(leapt <= hours && leapt > hours - Duration::from_secs(10), "{leapt:?}");
        let young = clock.now().minus(clock.for_ages().since(Timestamp::default()));
        assert!(young.as_micros() >= 499 * HOUR, "ages do not leap");
        wall.store(0, Ordering::Relaxed);
        assert!(clock.health().ahead >= Duration::from_secs(500 * 3_600));
    }
}
