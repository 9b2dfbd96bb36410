//! So many things a second for each name, with bursts of one second's worth: statements of a signer, requests of a client.
//!
//! A token bucket in its "virtual scheduling" form (GCRA, ITU-T I.371 Annex A): one instant per name says when its bucket
//! would be full again. Whoever takes must have made sure of the name first, so that nobody can use up another's.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A burst may be this long: an agent that was cut off for a while drains its outbox at the full rate, not above it.
const BURST: Duration = Duration::from_secs(1);

/// Buckets that are full again are forgotten when there are so many: a name may be as little as an address.
const BUCKETS_MAX: usize = 4_096;

/// The buckets: one for each name that took something of late.
#[derive(Debug)]
pub struct RateLimiter<K> {
    per_second: u32,
    interval: Duration,
    /// When each bucket is full again. The lock is held for one look and one assignment.
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> RateLimiter<K> {
    /// At least one a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { per_second, interval, full_at: Mutex::default() }
    }

    /// The rate.
    #[must_use]
    pub const fn per_second(&self) -> u32 {
        self.per_second
    }

    /// How long `name` has to wait before its next one; takes nothing. Asked before anything costly is done.
    pub fn wait<Q: Eq + Hash + ?Sized>(&self, name: &Q, now: Instant) -> Option<Duration>
    where
        K: Borrow<Q>,
    {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = full_at.get(name)?.saturating_duration_since(now);
        (ahead + self.interval).checked_sub(BURST).filter(|wait| !wait.is_zero())
    }

    /// Takes `count` tokens, also more than there are: then `name` waits until they are paid back.
    pub fn take<Q: Eq + Hash + ToOwned<Owned = K> + ?Sized>(&self, name: &Q, count: usize, now: Instant)
    where
        K: Borrow<Q>,
    {
        let taken = self.interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.get_mut(name) {
            Some(full_at) => *full_at = (*full_at).max(now) + taken,
            None => {
                if buckets.len() >= BUCKETS_MAX {
                    buckets.retain(|_, full_at| *full_at > now);
                }
                buckets.insert(name.to_owned(), now + taken);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_then_the_steady_rate() {
        let (limiter, start) = (RateLimiter::<String>::new(100), Instant::now());
        let (anna, bert) = ("anna", "bert");
        let taken_until = |until: Duration| {
            let mut taken = 0;
            for millis in 0..u64::try_from(until.as_millis()).unwrap() {
                let now = start + Duration::from_millis(millis);
                while limiter.wait(anna, now).is_none() {
                    limiter.take(anna, 1, now);
                    taken += 1;
                }
            }
            taken
        };
        assert_eq!(taken_until(Duration::from_millis(1)), 100);
        // 3 s later: a full second's burst is there again, and no more.
        let later = start + Duration::from_secs(4);
        assert!(limiter.wait(anna, start + Duration::from_millis(1)).is_some());
        assert_eq!(limiter.wait(bert, start), None);
        let mut taken = 0;
        while limiter.wait(anna, later).is_none() {
            limiter.take(anna, 1, later);
            taken += 1;
        }
        assert_eq!(taken, 100);
        assert_eq!(limiter.wait(anna, later), Some(Duration::from_millis(10)));
    }

    #[test]
    fn a_batch_above_the_rate_is_taken_and_paid_back() {
        let (limiter, start) = (RateLimiter::<String>::new(100), Instant::now());
        let anna = "anna";
        assert_eq!(limiter.wait(anna, start), None);
        limiter.take(anna, 1_000, start);
        // Ten seconds' worth were taken, one second's was there.
        assert_eq!(limiter.wait(anna, start), Some(Duration::from_millis(9_010)));
        assert_eq!(limiter.wait(anna, start + Duration::from_millis(9_010)), None);
    }

    #[test]
    fn names_that_come_once_are_forgotten() {
        let (limiter, start) = (RateLimiter::<String>::new(10), Instant::now());
        for number in 0..3 * BUCKETS_MAX {
            let now = start + Duration::from_millis(number as u64);
            limiter.take(format!("guest-{number}").as_str(), 1, now);
        }
        assert!(limiter.full_at.lock().unwrap().len() <= BUCKETS_MAX + 1);
    }
}
