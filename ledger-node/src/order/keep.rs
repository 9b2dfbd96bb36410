//! The thread that keeps blocks: proves, seals and logs them, brings them into the index, publishes them and answers their submitters,
//! while the order thread executes the next one.
//!
//! A block is answered only when readers of the index find it too, so whoever has an answer finds what was answered. **One at a time:** the next
//! block is [wanted](Queue::want) when this one is answered, and filled until then; one more may wait. **A failed write** ends this thread
//! and closes the queue, which ends the order thread: whoever waits for the failed block is told at once, not when the next statement comes.

use super::executor::ExecutedBlock;
use super::prover::{Logged, Phases, Prover};
use super::pulse::Pulse;
use super::queue::Queue;
use crate::admit::{InFlight, Signers};
use crate::engine::Committed;
use crate::execute::ExecutedEntry;
use crate::metrics::Metrics;
use crate::private::PrivateFields;
use crate::store::{CommitError, Store};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// Executed blocks that may wait besides the one being kept.
const BEHIND_MAX: usize = 1;

/// What the thread works with.
pub(crate) struct Keeper {
    pub store: Arc<Store>,
    pub inflight: Arc<InFlight<Committed>>,
    pub signers: Arc<Signers>,
    pub metrics: Arc<Metrics>,
    pub queue: Arc<Queue>,
    pub private: Arc<PrivateFields>,
    pub pulse: Arc<Pulse>,
}

/// The order thread's end of it.
pub(crate) struct Keeping {
    blocks: SyncSender<ExecutedBlock>,
    queue: Arc<Queue>,
    pulse: Arc<Pulse>,
    thread: JoinHandle<Result<(), CommitError>>,
}

/// The thread is gone; [`Keeping::finish`] says why.
#[derive(Debug)]
pub(crate) struct KeeperGone;

impl Keeper {
    /// Starts the thread.
    pub fn start(self, prover: Prover) -> io::Result<Keeping> {
        let (blocks, executed) = sync_channel(BEHIND_MAX);
        let (queue, pulse) = (Arc::clone(&self.queue), Arc::clone(&self.pulse));
        let thread = std::thread::Builder::new().name("tally-keep".to_owned());
        Ok(Keeping { blocks, queue, pulse, thread: thread.spawn(move || self.run(prover, &executed))? })
    }

    fn run(self, mut prover: Prover, executed: &Receiver<ExecutedBlock>) -> Result<(), CommitError> {
        let _closing = Closing(Arc::clone(&self.queue));
        while let Some(block) = self.next(executed) {
            let logged = prover.make(block)?;
            self.pulse.beat();
            self.inflight.logged(logged.ids());
            self.keep(logged)?;
            self.pulse.kept();
        }
        Ok(())
    }

    /// The next block; `None` when the order thread is done.
    fn next(&self, executed: &Receiver<ExecutedBlock>) -> Option<ExecutedBlock> {
        match executed.try_recv() {
            Ok(block) => Some(block),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                self.queue.want();
                executed.recv().ok()
            }
        }
    }

    fn keep(&self, logged: Logged) -> Result<(), CommitError> {
        let Logged { block, spans, entries, touches_registry, purged, mut seconds, began } = logged;
        let (height, size) = (block.head.checkpoint.height, block.head.checkpoint.size);
        let terms = block.terms.len();
        let applying = Instant::now();
        self.store.apply(block, spans)?;
        seconds.index = applying.elapsed().as_secs_f64();
        // Behind the publishing: who looks a signer up from now on sees the new registry.
        if touches_registry {
            self.signers.forget();
        }
        // Before anybody is told that it is done.
        for (entry, field) in purged {
            self.private.purge(&self.store, entry, &field).map_err(|fault| CommitError::Erase(fault.to_string()))?;
        }
        self.count(height, terms, &entries, &seconds, began);
        let first_entry = size - entries.len() as u64;
        self.inflight.settle_block((first_entry..).zip(entries).map(|(entry, executed)| {
            let ExecutedEntry { id, subject, refusal, triggers, .. } = executed;
            let refused = u32::try_from(triggers.iter().filter(|number| **number != 0).count()).unwrap_or(u32::MAX);
            (id, Committed { id, subject, entry, height, size, refusal, refused })
        }));
        Ok(())
    }

    fn count(&self, height: u64, terms: usize, entries: &[ExecutedEntry], seconds: &Phases, began: Instant) {
        self.metrics.block_made(height, terms, entries, seconds);
        self.metrics.block_answered(began.elapsed().as_secs_f64(), self.queue.len());
    }
}

/// Closes the queue when this thread ends, however it does: by a failure, by a panic, or because the order thread is done.
struct Closing(Arc<Queue>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Keeping {
    /// Hands an executed block over; waits while another one waits.
    pub fn give(&self, block: ExecutedBlock) -> Result<(), KeeperGone> {
        self.queue.wanted_is_here();
        self.pulse.handed();
        self.blocks.send(block).map_err(|_| KeeperGone)
    }

    /// Waits until everything given is on the disk, in the index, and answered.
    ///
    /// # Errors
    /// Why the thread ended before.
    pub fn finish(self) -> Result<(), CommitError> {
        drop(self.blocks);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
