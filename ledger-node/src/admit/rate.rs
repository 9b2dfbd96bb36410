//! So many statements a second for each signer, with bursts of one second's worth.
//!
//! A token bucket in its "virtual scheduling" form (GCRA, ITU-T I.371 Annex A): one instant per signer says when its bucket
//! would be full again. Tokens are taken only after the seal was checked, so nobody can use up another's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tally_model::PartyId;

/// A burst may be this long: an agent that was cut off for a while drains its outbox at the full rate, not above it.
const BURST: Duration = Duration::from_secs(1);

/// The buckets: one for each registered signer that ever sent something.
#[derive(Debug)]
pub struct RateLimiter {
    per_second: u32,
    interval: Duration,
    /// When each signer's bucket is full again. The lock is held for one look and one assignment.
    full_at: Mutex<HashMap<PartyId, Instant>>,
}

impl RateLimiter {
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { per_second, interval, full_at: Mutex::default() }
    }

    pub const fn per_second(&self) -> u32 {
        self.per_second
    }

    /// How long the signer has to wait before its next statement; takes nothing. Asked before the costly check of a seal.
    pub fn wait(&self, signer: &PartyId, now: Instant) -> Option<Duration> {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = full_at.get(signer)?.saturating_duration_since(now);
        (ahead + self.interval).checked_sub(BURST).filter(|wait| !wait.is_zero())
    }

    /// Takes `count` tokens, also more than there are: then the signer waits until they are paid back.
    pub fn take(&self, signer: &PartyId, count: usize, now: Instant) {
        let taken = self.interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.get_mut(signer) {
            Some(full_at) => *full_at = (*full_at).max(now) + taken,
            None => drop(buckets.insert(signer.clone(), now + taken)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_then_the_steady_rate() {
        let (limiter, start) = (RateLimiter::new(100), Instant::now());
        let [anna, bert] = ["anna", "bert"].map(|name| PartyId::try_new(name).unwrap());
        let taken_until = |until: Duration| {
            let mut taken = 0;
            for millis in 0..u64::try_from(until.as_millis()).unwrap() {
                let now = start + Duration::from_millis(millis);
                while limiter.wait(&anna, now).is_none() {
                    limiter.take(&anna, 1, now);
                    taken += 1;
                }
            }
            taken
        };
        assert_eq!(taken_until(Duration::from_millis(1)), 100);
        // 3 s later: a full second's burst is there again, and no more.
        let later = start + Duration::from_secs(4);
        assert!(limiter.wait(&anna, start + Duration::from_millis(1)).is_some());
        assert_eq!(limiter.wait(&bert, start), None);
        let mut taken = 0;
        while limiter.wait(&anna, later).is_none() {
            limiter.take(&anna, 1, later);
            taken += 1;
        }
        assert_eq!(taken, 100);
        assert_eq!(limiter.wait(&anna, later), Some(Duration::from_millis(10)));
    }

    #[test]
    fn a_batch_above_the_rate_is_taken_and_paid_back() {
        let (limiter, start) = (RateLimiter::new(100), Instant::now());
        let anna = PartyId::try_new("anna").unwrap();
        assert_eq!(limiter.wait(&anna, start), None);
        limiter.take(&anna, 1_000, start);
        // Ten seconds' worth were taken, one second's was there.
        assert_eq!(limiter.wait(&anna, start), Some(Duration::from_millis(9_010)));
        assert_eq!(limiter.wait(&anna, start + Duration::from_millis(9_010)), None);
    }
}
