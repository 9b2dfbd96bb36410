//! Time as an argument: the one place that looks at the wall.

use std::time::{SystemTime, UNIX_EPOCH};
use tally_model::Timestamp;

/// Where block time comes from.
pub trait Clock: Send + Sync {
    /// Now. May fall: block time does not (see `order`).
    fn now(&self) -> Timestamp;
}

/// The computer's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}
