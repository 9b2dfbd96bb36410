//! How the computer's clock does: what it did, and how good it is.

use super::{Alarm, Status, lock};
use tally_connector_api::{ClockHealth, LEAP};
use tally_model::ClockState;

impl Status {
    /// How the computer's clock does.
    pub fn clock(&self, health: ClockHealth) {
        self.count.clock_ahead_seconds.set(health.ahead.as_secs());
        self.count.clock_leapt_seconds.set(health.leapt.as_secs());
        let before = lock(&self.state).clock.replace(health.state());
        tell(before, health.state());
        if health.ahead > LEAP {
            let text = format!(
                "the clock of this computer is {} s behind the readings on disk: receive times run on from there until it has caught \
                 up; see that it is right (NTP, battery)",
                health.ahead.as_secs()
            );
            self.raise(Alarm::ClockBehind, text);
        } else {
            self.clear(Alarm::ClockBehind);
        }
        if !health.leapt.is_zero() {
            let text = format!(
                "the clock of this computer leapt forward by {} s: receive times followed, and nothing is deleted for its age before so \
                 much time has passed; see that it is right now, then restart the agent",
                health.leapt.as_secs()
            );
            self.raise(Alarm::ClockLeapt, text);
        }
    }

    /// How good receive times are, as [`Status::clock`] was told last.
    #[must_use]
    pub fn clock_state(&self) -> ClockState {
        lock(&self.state).clock.unwrap_or_default()
    }
}

/// One line when it changes; that a bound moves is no change.
fn tell(before: Option<ClockState>, now: ClockState) {
    if before.is_some_and(|before| before.word() == now.word()) {
        return;
    }
    match now {
        ClockState::Synchronised { .. } => tracing::info!("the clock of this computer is {now}"),
        ClockState::FreeRunning => tracing::warn!(
            "the clock that receive times are from is not synchronised: triggers say so from now on; see that NTP or PTP runs and reaches \
             its servers (`timedatectl`, `chronyc tracking`)"
        ),
        ClockState::Unknown if before.is_some() => {
            tracing::warn!("the system no longer says how good its clock is: triggers say `unknown` from now on");
        }
        ClockState::Unknown => tracing::info!("the system does not say how good its clock is: triggers say `unknown`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn losing_it_is_a_warning_regaining_it_a_line_and_a_bound_that_moves_nothing() {
        let (log, status) = (Log::default(), Status::default());
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone()).finish();
        assert_eq!(status.clock_state(), ClockState::Unknown, "before anybody looked");
        tracing::subscriber::with_default(subscriber, || {
            let kept = |error_us| ClockState::Synchronised { error_us };
            for wall in [kept(5), kept(6), ClockState::FreeRunning, ClockState::FreeRunning, kept(7)] {
                status.clock(ClockHealth { wall, ..ClockHealth::default() });
                assert_eq!(status.clock_state(), wall);
            }
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let levels: Vec<_> = text.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(levels, ["INFO", "WARN", "INFO"], "{text}");
        // Receive times that run far ahead are nobody's, however well the computer's clock is kept.
        let wall = ClockState::Synchronised { error_us: 5 };
        status.clock(ClockHealth { ahead: Duration::from_secs(3_600), wall, ..ClockHealth::default() });
        assert_eq!(status.clock_state(), ClockState::FreeRunning);
    }
}
