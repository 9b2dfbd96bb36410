//! One thread that gives every statement its place: takes what waits, makes a block of it and executes it. A second one ([`keep`]) proves,
//! logs and answers it, while the first makes the next block.
//!
//! **Group commit.** A block is what waits when the first thread is free, and what comes while the second one is busy with the block before
//! ([`filling`]), up to `block.entries_max`: an idle ledger commits a single statement at once, one with little to do what came meanwhile, and
//! the more there is to do the larger blocks get. Only when much waits is a block filled for `block.interval` at least, and for some of them
//! behind a [large](LARGE) one.
//! **Block time** is the clock's at the block's beginning, but never falls: with the clock set back it goes on by one microsecond a block.
//! **Terms** fire by block time, before the statements of their block; when none come a block is made for the terms alone.
//! **A failed write** of log or index ends the thread. Nothing is acknowledged or taken any more until the node is opened
//! again: what is on the disk is not certain before that.

mod behind;
mod build;
mod executor;
mod fault;
mod filling;
mod genesis;
mod keep;
mod prover;
mod pulse;
mod queue;
mod seals;

pub(crate) use build::Builder;
pub use fault::{DivergedIn, OpenLedgerError};
pub(crate) use genesis::GenesisEntry;
pub(crate) use keep::{Keeper, Keeping};
pub(crate) use prover::Phases;
pub(crate) use pulse::Pulse;
pub(crate) use queue::{NotQueued, Queue};

use crate::admit::{CheckedStatement, InFlight};
use crate::engine::{Committed, NodeState};
use crate::store::{CommitError, Store};
use executor::{ExecutedBlock, Executor};
use filling::Filling;
use queue::Room;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_model::Timestamp;
use tokio::sync::watch;

/// Bytes of statements after which a block is full: half of the largest log record.
const BLOCK_BYTES_MAX: usize = (crate::store::RECORD_BYTES_MAX / 2) as usize;
/// So many must wait when a block is done for the next one to linger: with fewer, few more would come within `block.interval`, and
/// all of them would pay for it with their time.
const LINGER_FROM: usize = 16;
/// A block with so many entries or more is one of a ledger that has more to do than it can.
const LARGE: usize = 512;
/// So many times `block.interval` the next one is filled then: the larger the block, the more receipts share a seal, and who takes turns
/// between sending and making receipts is waited for. At fewer than [`LARGE`] entries in that time it is over.
const LARGE_INTERVALS: u32 = 8;
/// Longer than this a block is filled only when `block.interval` says so.
const LINGER_MAX: Duration = Duration::from_millis(250);
/// Longest sleep: a clock that was set forward is noticed within this time, and the watchdog sees a living thread.
const SLEEP_MAX: Duration = Duration::from_millis(250);
/// Pause after terms of which none did anything, instead of making empty blocks as fast as the disk allows.
const STUCK_PAUSE: Duration = Duration::from_secs(1);

/// How blocks are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLimits {
    /// How long a busy ledger fills a block at least.
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
    pub executor: Executor,
    pub store: Arc<Store>,
    pub queue: Arc<Queue>,
    pub inflight: Arc<InFlight<Committed>>,
    pub keeping: Keeping,
    pub state: watch::Sender<NodeState>,
    pub limits: BlockLimits,
    pub pulse: Arc<Pulse>,
}

impl OrderThread {
    /// Runs until the queue is closed and drained, or a write fails.
    pub(crate) fn run(mut self) {
        // If a contract's code panics this thread dies: that, too, must be seen.
        let alarm =
            Alarm { state: self.state.clone(), inflight: Arc::clone(&self.inflight), queue: Arc::clone(&self.queue) };
        let ordered = self.work();
        // In any case: who was executed gets its answer, and nobody writes behind our back.
        let kept = self.keeping.finish();
        match ordered.and(kept).and_then(|()| Ok(self.store.flush()?)) {
            Ok(()) => tracing::info!("the ledger is closed; everything acknowledged is on disk"),
            Err(error) => alarm.fail(&describe(&error)),
        }
    }

    fn work(&mut self) -> Result<(), CommitError> {
        let mut next_due = self.executor.next_due()?;
        let (mut not_before, mut load) = (None, Load::default());
        while !self.queue.is_over() {
            self.pulse.went_round();
            self.store.check()?;
            let first = self.queue.take(self.room(), self.wake(next_due, not_before));
            let is_due = next_due.is_some_and(|due| due <= self.executor.now()) && not_before.is_none_or(is_past);
            if first.is_empty() && !is_due {
                load = Load::default();
                continue;
            }
            let block = self.execute(first, load)?;
            not_before = block.executed.is_stuck().then(|| Instant::now() + STUCK_PAUSE);
            next_due = self.executor.next_due()?;
            load = Load { last: block.executed.entries.len(), waiting: self.queue.len() };
            if self.keeping.give(block).is_err() {
                // Why it is gone is said at the end.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Executes a block that begins with these statements.
    fn execute(&mut self, first: Vec<CheckedStatement>, load: Load) -> Result<ExecutedBlock, CommitError> {
        let linger = load.linger(self.limits.interval);
        // A busy ledger's next block is about as large as its last one.
        let expected = if linger.is_zero() { 0 } else { load.last };
        let room = first.iter().map(CheckedStatement::weight).sum::<usize>().max(expected);
        let mut filling = Filling::new(&self.queue, first, self.room(), linger);
        let mut block = self.executor.make(room, &mut filling)?;
        block.seconds -= filling.waited().as_secs_f64();
        Ok(block)
    }

    const fn room(&self) -> Room {
        Room { entries: self.limits.entries_max, bytes: BLOCK_BYTES_MAX }
    }

    /// Until when to sleep when nothing comes.
    fn wake(&self, next_due: Option<Timestamp>, not_before: Option<Instant>) -> Instant {
        let now = Instant::now();
        let until_due = next_due.map_or(SLEEP_MAX, |due| due.since(self.executor.now()).min(SLEEP_MAX));
        (now + until_due).max(not_before.unwrap_or(now)).min(now + SLEEP_MAX)
    }
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    /// Entries of the last block; a batch is one.
    last: usize,
    /// Statements that waited behind it.
    waiting: usize,
}

impl Load {
    /// How long the next block is filled at least.
    fn linger(self, interval: Duration) -> Duration {
        match self {
            Self { last: LARGE.., .. } => (interval * LARGE_INTERVALS).min(LINGER_MAX).max(interval),
            Self { waiting: LINGER_FROM.., .. } => interval,
            _ => Duration::ZERO,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_much_to_do_fills_blocks_up() {
        let linger = |last, waiting, millis| Load { last, waiting }.linger(Duration::from_millis(millis)).as_millis();
        assert_eq!([linger(1, 0, 5), linger(511, 15, 5), linger(1, 16, 5)], [0, 0, 5]);
        assert_eq!([linger(512, 0, 5), linger(512, 0, 100), linger(512, 0, 1_000)], [40, 250, 1_000]);
    }
}
