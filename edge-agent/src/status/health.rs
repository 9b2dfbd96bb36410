//! Whether the agent is alive and ready, and why not.
//!
//! *Alive*: a restart would not help. *Ready*: it does what it is there for: readings come, are kept on disk, and what rules say
//! is sealed. A device, node or broker that is away is no reason for "no": what they miss waits, and `/status` says so.

use super::{Alarm, Status, lock};
use std::time::{Duration, Instant};

/// The ingest thread beats at least once a second; without a beat for this long it hangs.
const BEAT_MAX: Duration = Duration::from_secs(15);
/// Readings are synced every second. A disk that needs this long is not fit to promise anything.
const SYNC_MAX: Duration = Duration::from_secs(5);

/// Signs of life of the ingest thread.
pub(super) struct Beat {
    /// It came round.
    pub at: Instant,
    /// The vault was synced.
    pub synced: Instant,
}

impl Status {
    /// The ingest thread is alive.
    pub fn beat(&self) {
        lock(&self.beat).at = Instant::now();
    }

    /// What was kept until now is on disk.
    pub(super) fn synced(&self) {
        lock(&self.beat).synced = Instant::now();
    }

    /// Time since readings were made durable last.
    pub(super) fn sync_age(&self) -> Duration {
        lock(&self.beat).synced.elapsed()
    }

    /// Whether the ingest thread beat lately.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        lock(&self.beat).at.elapsed() < BEAT_MAX
    }

    /// Why the agent is not ready; empty when it is.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = self.reasons_of_state();
        let sync_age = self.sync_age();
        if !self.is_alive() {
            reasons.push(format!("nothing was taken in for {BEAT_MAX:?}: the disk hangs, or the program does"));
        } else if sync_age > SYNC_MAX {
            reasons.push(format!(
                "readings could not be made durable for {} s: the disk hangs or is too slow",
                sync_age.as_secs()
            ));
        }
        reasons
    }

    /// Alarms after which nothing new is sealed, and a site that was never connected.
    fn reasons_of_state(&self) -> Vec<String> {
        let state = lock(&self.state);
        let stops =
            |alarm: &Alarm| matches!(alarm, Alarm::Failed | Alarm::OutboxFull | Alarm::LedgerKey | Alarm::KeyAway);
        let mut reasons: Vec<_> =
            state.alarms.iter().filter(|(alarm, _)| stops(alarm)).map(|(_, text)| text.clone()).collect();
        if !state.links.is_empty() && state.links.iter().all(|link| link.status.borrow().connects == 0) {
            let link = state.links.first().map(|link| format!("{}: {}", link.name, link.status.borrow().state));
            reasons.push(format!("no device was connected yet ({})", link.unwrap_or_default()));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_connector_api::{LinkFault, StatusReporter};
    use tally_model::{DeviceId, Timestamp};

    #[test]
    fn nobody_is_ready_before_one_link_was_up_and_stays_it_when_all_are_down() {
        let status = Status::default();
        assert_eq!(status.not_ready(), Vec::<String>::new(), "nothing to read is read");
        let mut reporters = Vec::new();
        for name in ["modbus+tcp://10.0.0.7:502", "opc.tcp://10.0.0.8:4840"] {
            let (reporter, listener) = StatusReporter::new(name);
            status.add_link(name.to_owned(), vec![DeviceId::try_new("press-01").unwrap()], listener);
            reporters.push(reporter);
        }
        let refused = || LinkFault::Line("connection refused".to_owned());
        reporters[0].down(refused(), Duration::from_secs(1));
        let said = status.not_ready().join("; ");
        assert!(said.contains("no device was connected yet") && said.contains("connection refused"), "{said}");
        reporters[1].up(Timestamp::default());
        assert_eq!(status.not_ready(), Vec::<String>::new());
        reporters[1].down(refused(), Duration::from_secs(1));
        assert_eq!(status.not_ready(), Vec::<String>::new(), "a plant that sleeps is no fault of the agent");
    }

    #[test]
    fn a_vault_that_is_not_synced_and_a_thread_that_does_not_come_round_are_told_apart() {
        let status = Status::default();
        let ago = |time| Instant::now().checked_sub(time).unwrap();
        lock(&status.beat).synced = ago(SYNC_MAX + Duration::from_secs(1));
        assert!(status.is_alive() && status.not_ready()[0].contains("made durable for 6 s"));
        lock(&status.beat).at = ago(BEAT_MAX);
        assert!(!status.is_alive() && status.not_ready()[0].contains("nothing was taken in for 15s"));
        status.beat();
        status.synced();
        assert_eq!(status.not_ready(), Vec::<String>::new());
    }

    #[test]
    fn what_stops_sealing_is_a_reason_and_what_only_waits_is_none() {
        let status = Status::default();
        for alarm in [Alarm::OutboxHalfFull, Alarm::DeadLetters, Alarm::VaultHeldBack, Alarm::ConnectorEnded] {
            status.raise(alarm, "look at it");
        }
        status.node(false, "connection refused".to_owned());
        assert_eq!(status.not_ready(), Vec::<String>::new());
        for (count, alarm) in
            [Alarm::OutboxFull, Alarm::LedgerKey, Alarm::KeyAway, Alarm::Failed].into_iter().enumerate()
        {
            status.raise(alarm, "stop");
            assert_eq!(status.not_ready().len(), count + 1);
        }
    }
}
