//! What is counted, and how it is called in `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Whether a number can fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rises only, from 0 at the start.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// A counter as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Its name.
    pub name: &'static str,
    /// What it may do.
    pub kind: Kind,
    /// What it counts, for people.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

macro_rules! counters {
    ($(#[doc = $help:literal] $name:ident: $kind:ident,)*) => {
        /// Everything that is counted; the doc line is also the help text of `/metrics`.
        #[derive(Debug, Default)]
        pub struct Counters { $(#[doc = $help] pub $name: Counter,)* }

        impl Counters {
            /// All of them, as they stand.
            pub fn all(&self) -> Vec<Counted> {
                vec![$(Counted { name: stringify!($name), kind: Kind::$kind, help: $help.trim_ascii(), value: self.$name.get() },)*]
            }
        }
    };
}

counters! {
    /// Readings numbered and chained.
    readings: Counter,
    /// Values that devices had recorded while they could not be heard, told afterwards; in no chain, seen by no rule.
    readings_late: Counter,
    /// Triggers sealed.
    triggers_sealed: Counter,
    /// Of these, evidence contradicted: the checks before the seal say that the readings cannot all be true.
    triggers_contradicted: Counter,
    /// Of these, evidence doubtful: the checks before the seal say that the readings should not look like this.
    triggers_doubtful: Counter,
    /// Triggers not sealed because the outbox was full.
    triggers_without_room: Counter,
    /// Triggers not sealed because a point of their rule was never read.
    triggers_unprovable: Counter,
    /// Permits that the gate carried out.
    permits_done: Counter,
    /// Permits that were burnt without anything being done: the mapping or the device said no.
    permits_refused: Counter,
    /// Permits of which nobody knows whether they were carried out: no answer, or the agent was killed.
    permits_unknown: Counter,
    /// Permits that the gate turned away: forged, replayed, expired, revoked, for another agent.
    permit_attempts: Counter,
    /// Messages of devices that seal their payloads, without a seal that counts: forged, replayed, too old.
    seals_refused: Counter,
    /// Commands of SCADA that were granted a permit; what became of them the permits say.
    commands_granted: Counter,
    /// Commands of SCADA that were turned away, by the agent or by the ledger.
    commands_refused: Counter,
    /// Permits of which the ledger said that they are revoked.
    permits_revoked: Counter,
    /// Triggers decided and kept on disk that wait for the key: they are sealed when it is back.
    triggers_unsealed: Gauge,
    /// 1 while the key that seals cannot be used: its token is away, or refuses.
    key_away: Gauge,
    /// Triggers with a receipt.
    triggers_receipted: Counter,
    /// Triggers that a contract refused (they are entries all the same).
    triggers_refused: Counter,
    /// Triggers the node will never take; they lie with the dead letters.
    triggers_dead: Counter,
    /// Attempts to submit that were answered "not now" or not at all.
    submit_retries: Counter,
    /// Live values that SCADA missed while they were live.
    live_dropped: Counter,
    /// Readings that SCADA was told later, as history.
    history_published: Counter,
    /// Readings that SCADA was not told later either: it was away for too long.
    history_lost: Counter,
    /// Bytes of the vault that SCADA missed and is still to be told.
    spool_bytes: Gauge,
    /// Triggers that SCADA was told of.
    triggers_published: Counter,
    /// Triggers that SCADA was never told of, because its broker was away for too long.
    triggers_unpublished: Counter,
    /// Ledger events that SCADA was told of.
    events_published: Counter,
    /// Triggers waiting for their receipt.
    outbox_triggers: Gauge,
    /// Bytes of triggers waiting for their receipt.
    outbox_bytes: Gauge,
    /// Bytes above which no trigger is sealed.
    outbox_bytes_max: Gauge,
    /// Bytes of the vault.
    vault_bytes: Gauge,
    /// Dead letters on disk.
    dead_letters: Gauge,
    /// Seconds that receive times run ahead of the computer's clock.
    clock_ahead_seconds: Gauge,
    /// Seconds that the computer's clock leapt forward since the start.
    clock_leapt_seconds: Gauge,
}
