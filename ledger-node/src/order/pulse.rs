//! Whether ordering goes on: seen by the watchdog.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When one of the two threads last got on.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Beats>);

#[derive(Debug)]
struct Beats {
    last: Instant,
    /// Blocks that were handed over and are not kept.
    handed: usize,
}

impl Pulse {
    pub fn new() -> Self {
        Self(Mutex::new(Beats { last: Instant::now(), handed: 0 }))
    }

    /// Something got on.
    pub fn beat(&self) {
        self.lock().last = Instant::now();
    }

    /// The order thread went round. That says nothing while a block is on its way to the disk: only who brings it there does then.
    pub fn went_round(&self) {
        let mut beats = self.lock();
        if beats.handed == 0 {
            beats.last = Instant::now();
        }
    }

    /// A block was handed over.
    pub fn handed(&self) {
        self.lock().handed += 1;
    }

    /// It is kept.
    pub fn kept(&self) {
        let mut beats = self.lock();
        *beats = Beats { last: Instant::now(), handed: beats.handed.saturating_sub(1) };
    }

    /// How long nothing got on.
    pub fn silence(&self) -> Duration {
        self.lock().last.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Beats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_beats_only_while_no_block_is_on_its_way() {
        let pulse = Pulse::new();
        let pause = Duration::from_millis(20);
        pulse.handed();
        std::thread::sleep(pause);
        pulse.went_round();
        assert!(pulse.silence() >= pause);
        pulse.kept();
        std::thread::sleep(pause);
        let before = pulse.silence();
        pulse.went_round();
        assert!(pulse.silence() < before);
    }
}
