//! Jittered, bounded back-off between attempts.

use std::time::Duration;

/// Why a back-off cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackoffFault {
    /// A zero first delay would be a busy loop.
    #[error("the first delay must not be zero")]
    Zero,
    /// The longest delay is shorter than the first.
    #[error("the longest delay must not be shorter than the first")]
    Order,
}

/// Delays that double from `first` to `longest`, each with up to half of itself taken away at random, so that a
/// hundred agents do not hit a restarted server in the same millisecond.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// A back-off from `first` to `longest`.
    ///
    /// # Errors
    /// [`BackoffFault`] when the two make no sense.
    pub fn try_new(first: Duration, longest: Duration) -> Result<Self, BackoffFault> {
        if first.is_zero() {
            return Err(BackoffFault::Zero);
        }
        if longest < first {
            return Err(BackoffFault::Order);
        }
        Ok(Self { first, longest, attempts: 0 })
    }

    /// 200 ms to 10 s: a restarted device is read again within 10 s of being back.
    #[must_use]
    pub const fn for_links() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(10), attempts: 0 }
    }

    /// How long to wait before the next attempt.
    #[must_use]
    pub fn next_delay(&mut self) -> Duration {
        let full = self.first.saturating_mul(1 << self.attempts.min(20)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        full - full.mul_f64(0.5 * random_fraction())
    }

    /// Attempts since the last success.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// After a success the next delay is short again.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A number from 0 to 1. Without a random source there is no jitter, which is a lesser evil than no reconnect.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_stay_bounded_and_start_again() {
        let mut backoff = Backoff::try_new(Duration::from_millis(100), Duration::from_secs(1)).unwrap();
        let delays: Vec<_> = (0..40).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] >= Duration::from_millis(50) && delays[0] <= Duration::from_millis(100));
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(1)));
        assert!(delays[39] >= Duration::from_millis(500));
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }

    #[test]
    fn senseless_back_offs_are_refused() {
        assert_eq!(Backoff::try_new(Duration::ZERO, Duration::from_secs(1)).unwrap_err(), BackoffFault::Zero);
        assert_eq!(Backoff::try_new(Duration::from_secs(2), Duration::from_secs(1)).unwrap_err(), BackoffFault::Order);
    }
}
