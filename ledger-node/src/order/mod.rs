//! One thread that gives every statement its place: takes what waits, makes a block of it, executes and logs it. A second one
//! ([`keep`]) brings it into the index and answers, while the first makes the next block.
//!
//! **Group commit.** A block is what waits when the thread is free, up to `block.entries_max`. Only when much waits does it wait for
//! more, at most `block.interval`: an idle ledger commits a single statement at once, and one with little to do what came meanwhile.
//! **Block time** is the clock's, but never falls: with the clock set back it goes on by one microsecond a block.
//! **Terms** fire by block time, before the statements of their block; when none come a block is made for the terms alone.
//! **A failed write** of log or index ends the thread. Nothing is acknowledged or taken any more until the node is opened
//! again: what is on the disk is not certain before that.

mod behind;
mod build;
mod fault;
mod genesis;
mod keep;
mod queue;
mod seals;

pub(crate) use build::{Builder, Phases};
pub use fault::{DivergedIn, OpenLedgerError};
pub(crate) use genesis::GenesisEntry;
pub(crate) use keep::{Keeper, Keeping};
pub(crate) use queue::{NotQueued, Queue};

use crate::admit::InFlight;
use crate::engine::{Committed, NodeState};
use crate::store::CommitError;
use queue::Take;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_model::Timestamp;
use tokio::sync::watch;

/// Bytes of statements after which a block is full: half of the largest log record.
const BLOCK_BYTES_MAX: usize = (crate::store::RECORD_BYTES_MAX / 2) as usize;
/// So many must wait when a block is done for the next one to be filled up: with fewer, few more would come within
/// `block.interval`, and all of them would pay for it with their time.
const LINGER_FROM: usize = 16;
/// Longest sleep: a clock that was set forward is noticed within this time, and the watchdog sees a living thread.
const SLEEP_MAX: Duration = Duration::from_millis(250);
/// Pause after terms of which none did anything, instead of making empty blocks as fast as the disk allows.
const STUCK_PAUSE: Duration = Duration::from_secs(1);

/// How blocks are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLimits {
    /// How long a busy ledger waits for more statements.
    pub interval: Duration,
    /// Most entries of a block.
    pub entries_max: usize,
}

impl Default for BlockLimits {
    fn default() -> Self {
        Self { interval: Duration::from_millis(5), entries_max: 2_000 }
    }
}

/// What the order thread works with.
pub(crate) struct OrderThread {
    pub builder: Builder,
    pub queue: Arc<Queue>,
    pub inflight: Arc<InFlight<Committed>>,
    pub keeping: Keeping,
    pub state: watch::Sender<NodeState>,
    pub limits: BlockLimits,
    /// Seen by the watchdog: when the thread last went round.
    pub pulse: Arc<std::sync::Mutex<Instant>>,
}

impl OrderThread {
    /// Runs until the queue is closed and drained, or a write fails.
    pub(crate) fn run(mut self) {
        // If a contract's code panics this thread dies: that, too, must be seen.
        let alarm =
            Alarm { state: self.state.clone(), inflight: Arc::clone(&self.inflight), queue: Arc::clone(&self.queue) };
        let ordered = self.work();
        // In any case: who was logged gets its answer, and nobody writes behind our back.
        let kept = self.keeping.finish();
        match ordered.and(kept).and_then(|()| self.builder.flush()) {
            Ok(()) => tracing::info!("the ledger is closed; everything acknowledged is on disk"),
            Err(error) => alarm.fail(&describe(&error)),
        }
    }

    fn work(&mut self) -> Result<(), CommitError> {
        let mut was_busy = false;
        let mut next_due = self.builder.next_due()?;
        let mut not_before = None;
        while !self.queue.is_over() {
            *self.pulse.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
            let take = self.plan(was_busy, next_due, not_before);
            let statements = self.queue.take(take);
            let is_due = next_due.is_some_and(|due| due <= self.builder.now()) && not_before.is_none_or(is_past);
            if statements.is_empty() && !is_due {
                was_busy = false;
                continue;
            }
            let (logged, is_stuck) = self.builder.make(statements)?;
            self.inflight.logged(logged.ids());
            if self.keeping.give(logged).is_err() {
                // Why it is gone is said at the end.
                return Ok(());
            }
            not_before = is_stuck.then(|| Instant::now() + STUCK_PAUSE);
            next_due = self.builder.next_due()?;
            was_busy = self.queue.len() >= LINGER_FROM;
        }
        Ok(())
    }

    fn plan(&self, was_busy: bool, next_due: Option<Timestamp>, not_before: Option<Instant>) -> Take {
        let now = Instant::now();
        let until_due = next_due.map_or(SLEEP_MAX, |due| due.since(self.builder.now()).min(SLEEP_MAX));
        let until = (now + until_due).max(not_before.unwrap_or(now)).min(now + SLEEP_MAX);
        Take {
            entries_max: self.limits.entries_max,
            bytes_max: BLOCK_BYTES_MAX,
            until,
            linger: if was_busy { self.limits.interval } else { Duration::ZERO },
        }
    }
}

fn is_past(instant: Instant) -> bool {
    instant <= Instant::now()
}

/// Says that the thread is gone, however it went.
struct Alarm {
    state: watch::Sender<NodeState>,
    inflight: Arc<InFlight<Committed>>,
    queue: Arc<Queue>,
}

impl Alarm {
    fn fail(&self, reason: &str) {
        tracing::error!(reason, "the ledger stopped; nothing more is taken until the node is started again");
        self.state.send_replace(NodeState::Failed(reason.to_owned()));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("the order thread died; this is a bug, see the lines above in the log");
        }
        self.queue.close();
        // Their statements may be in the log or not: they ask again after the restart.
        self.inflight.abandon();
    }
}

pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
