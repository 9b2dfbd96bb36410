//! So many things a second for each name, with bursts of one second's worth or more: statements of a signer, requests of a client,
//! commands of SCADA.
//!
//! A token bucket in its "virtual scheduling" form (GCRA, ITU-T I.371 Annex A): one instant per name says when its bucket
//! would be full again. Whoever takes must have made sure of the name first, so that nobody can use up another's.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A burst is this long where nobody says otherwise: an agent that was cut off for a while drains its outbox at the full rate, not
/// above it.
const BURST: Duration = Duration::from_secs(1);

/// Buckets that are full again are forgotten when there are so many: a name may be as little as an address.
const BUCKETS_MAX: usize = 4_096;

/// The buckets: one for each name that took something of late.
#[derive(Debug)]
pub struct RateLimiter<K> {
    per_second: u32,
    interval: Duration,
    burst: Duration,
    /// When each bucket is full again. The lock is held for one look and one assignment.
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> RateLimiter<K> {
    /// At least one a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { per_second, interval, burst: BURST, full_at: Mutex::default() }
    }

    /// After a silence so many at once, instead of one second's worth.
    #[must_use]
    pub const fn with_burst(mut self, count: u32) -> Self {
        self.burst = self.interval.saturating_mul(count);
        self
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
        self.wait_until(*self.buckets().get(name)?, now)
    }

    /// Takes one token if there is one, and says whether. One look: of two at once only one gets the last.
    pub fn takes<Q: Eq + Hash + ToOwned<Owned = K> + ?Sized>(&self, name: &Q, now: Instant) -> bool
    where
        K: Borrow<Q>,
    {
        let mut buckets = self.buckets();
        let takes = buckets.get(name).is_none_or(|full_at| self.wait_until(*full_at, now).is_none());
        if takes {
            self.take_from(&mut buckets, name, 1, now);
        }
        takes
    }

    /// Takes `count` tokens, also more than there are: then `name` waits until they are paid back.
    pub fn take<Q: Eq + Hash + ToOwned<Owned = K> + ?Sized>(&self, name: &Q, count: usize, now: Instant)
    where
        K: Borrow<Q>,
    {
        self.take_from(&mut self.buckets(), name, count, now);
    }

    fn wait_until(&self, full_at: Instant, now: Instant) -> Option<Duration> {
        let ahead = full_at.saturating_duration_since(now);
        (ahead + self.interval).checked_sub(self.burst).filter(|wait| !wait.is_zero())
    }

    fn take_from<Q: Eq + Hash + ToOwned<Owned = K> + ?Sized>(
        &self,
        buckets: &mut HashMap<K, Instant>,
        name: &Q,
        count: usize,
        now: Instant,
    ) where
        K: Borrow<Q>,
    {
        let taken = self.interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        if let Some(full_at) = buckets.get_mut(name) {
            *full_at = (*full_at).max(now) + taken;
            return;
        }
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, full_at| *full_at > now);
        }
        buckets.insert(name.to_owned(), now + taken);
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<K, Instant>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn fifty_at_once_then_ten_a_second() {
        let (limiter, start) = (RateLimiter::<()>::new(10).with_burst(50), Instant::now());
        let taken = |seconds| {
            let now = start + Duration::from_secs(seconds);
            (0..100).filter(|_| limiter.takes(&(), now)).count()
        };
        assert_eq!([0, 1, 3_600].map(taken), [50, 10, 50]);
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
