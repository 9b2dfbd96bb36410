//! When a device is asked what it calls itself: over each connection that is new, after each silence, and every so often in between, because
//! a device can be exchanged behind a gateway whose connection stays.

use super::connection::Manners;
use super::desk::Desk;
use crate::error::Failure;
use std::time::Duration;
use tally_model::DeviceId;
use tokio::time::Instant;

/// Attempts in a row that came to nothing; then it is left alone until its time comes again. A device that hangs up when it is asked
/// would otherwise never be read.
const FAILURES_MAX: u32 = 2;

pub(super) struct Identity {
    every: Duration,
    due: Instant,
    /// The connection over which it was asked last.
    connection: u64,
    failures: u32,
    said: Option<String>,
}

impl Identity {
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self { every, due: now, connection: 0, failures: 0, said: None }
    }

    /// What it calls itself, as far as it is known.
    pub(super) fn said(&self) -> Option<&str> {
        self.said.as_deref()
    }

    /// Asks when it is time, or when another device may be there: `is_back` after a silence.
    pub(super) async fn look(&mut self, desk: &mut Desk, manners: &Manners, device: &DeviceId, is_back: bool) {
        let may_be_another = is_back || self.connection != desk.connection.opened();
        let is_due = Instant::now() >= self.due;
        if !(is_due || may_be_another && self.failures < FAILURES_MAX) {
            return;
        }
        let answer = desk.identify(manners).await;
        self.connection = desk.connection.opened();
        self.take(answer, device, may_be_another);
    }

    fn take(&mut self, answer: Result<Option<String>, Failure>, device: &DeviceId, may_be_another: bool) {
        match answer {
            Ok(said) => self.told(said),
            // It answered, and does not say what it is.
            Err(Failure::Exception(code)) if !Failure::Exception(code).is_passing() => self.told(None),
            Err(failure) => {
                self.failures += 1;
                if may_be_another {
                    self.said = None;
                }
                if self.failures == FAILURES_MAX {
                    let fault = failure.into_link_fault();
                    tracing::warn!(%device, %fault, again_in = ?self.every, "the device does not say what it is");
                }
                let pause = if self.failures < FAILURES_MAX { Duration::ZERO } else { self.every };
                self.due = Instant::now() + pause;
            }
        }
    }

    fn told(&mut self, said: Option<String>) {
        self.failures = 0;
        self.said = said;
        self.due = Instant::now() + self.every;
    }
}
