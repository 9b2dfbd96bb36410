//! The thread that brings blocks into the file of the index, while the next ones are proved, logged and answered.
//!
//! A block is answered when it is in the log and readers find it ([`Index::add`]); for this thread it waits in memory: a few milliseconds,
//! or as long as a durable transaction of the index takes when it comes during one. So no answer waits for such a one.
//!
//! **Without a thread** ([`FlushLimits::aside`]) each block is written when it is given.
//!
//! **A failed write** ends the thread. Whoever gives it a block or waits for it is told, and so is the order thread, which looks four times a
//! second at least. What it did not write is in the log.

use super::IndexFault;
use super::aside::Aside;
use super::entry_tree::EntryTree;
use super::flush::{FlushLimits, FlushPolicy};
use super::index::Index;
use super::pending::{Batch, PendingBlock};
use super::state_tree::Commit;
use super::trickle::Trickle;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The thread, or who does without.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    index: Arc<Index>,
    entries: Arc<EntryTree>,
    limits: FlushLimits,
    /// Who writes holds it.
    hand: Mutex<Hand>,
}

struct Hand {
    policy: FlushPolicy,
    /// A top of the state tree that waits for the index to be durable at its block or a later one.
    top: Option<Commit>,
    /// The state tree on its way to the disk.
    committing: Aside<u64>,
    /// The block up to which it is there.
    tree_durable: Option<u64>,
}

impl Writer {
    /// Starts it.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        index: Arc<Index>,
        entries: Arc<EntryTree>,
        trickle: Option<Trickle>,
        limits: FlushLimits,
    ) -> Result<Self, IndexFault> {
        let committing = Aside::new("tally-tree", "the state tree");
        let hand = Mutex::new(Hand { policy: FlushPolicy::default(), top: None, committing, tree_durable: None });
        let shared = Arc::new(Shared { index, entries, limits, hand });
        let run = Arc::clone(&shared);
        let spawn = || std::thread::Builder::new().name("tally-index".to_owned()).spawn(move || run.run(trickle));
        let fault = |source| IndexFault::File { file: "a thread for the index".to_owned(), source };
        let thread = limits.aside.then(spawn).transpose().map_err(fault)?;
        Ok(Self { shared, thread })
    }

    /// Takes a block, whose entries are in their tree; readers find it behind this. With a top of the state tree that must not be durable
    /// before it. Waits while too much waits.
    ///
    /// # Errors
    /// [`IndexFault::Stopped`] when one before it could not be written; where there is no thread, why this one could not.
    pub fn give(&self, block: PendingBlock, top: Option<Commit>) -> Result<(), IndexFault> {
        let (block, index) = (Arc::new(block), &self.shared.index);
        if self.thread.is_some() {
            return index.add(block, top);
        }
        let written = self.shared.write(Batch { blocks: vec![Arc::clone(&block)], top });
        written.inspect_err(|fault| index.pending.fail(fault.to_string()))?;
        index.remember_statements(&block.row);
        Ok(())
    }

    /// Makes the index durable with all that was given.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub fn flush(&self) -> Result<(), IndexFault> {
        let Shared { index, entries, limits, .. } = &*self.shared;
        index.pending.wait()?;
        let mut hand = self.shared.hand();
        hand.committing.finish()?;
        entries.sync()?;
        index.flush(limits.runs)?;
        hand.top.take().map_or(Ok(()), |top| top.write().map(drop))
    }
}

impl Drop for Writer {
    /// Nobody writes behind the back of the next one to open these files.
    fn drop(&mut self) {
        self.shared.index.pending.close();
        if let Some(thread) = self.thread.take() {
            // If it died, nobody is left to be told.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, mut trickle: Option<Trickle>) {
        let _alarm = Alarm(&self.index);
        while let Some(batch) = self.index.pending.next() {
            let (count, entries) = (batch.blocks.len(), batch.outcomes());
            let written = self.write(batch).and_then(|is_durable| {
                self.index.pending.written(count);
                trickle.as_mut().map_or(Ok(()), |trickle| trickle.written(entries, is_durable))
            });
            if let Err(fault) = written {
                tracing::error!(%fault, "the index cannot be written");
                self.index.pending.fail(fault.to_string());
                return;
            }
        }
    }

    /// Brings blocks into the index, as durably as is due; says whether they are durable.
    fn write(&self, batch: Batch) -> Result<bool, IndexFault> {
        let mut hand = self.hand();
        let outcomes = batch.outcomes();
        let Batch { blocks, top } = batch;
        hand.top = top.or(hand.top.take());
        hand.tree_durable = hand.committing.look()?.or(hand.tree_durable);
        let is_due = hand.policy.is_due(blocks.len(), outcomes, self.limits) || hand.top.is_some();
        if is_due {
            // What a durable index has, the tree of entries has.
            self.entries.sync()?;
        }
        self.index.write(&blocks, hand.tree_durable, is_due.then_some(self.limits.runs))?;
        if is_due && let Some(top) = hand.top.take() {
            hand.tree_durable = hand.committing.finish()?.or(hand.tree_durable);
            hand.committing.begin(move || top.write())?;
        }
        Ok(is_due)
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the thread is gone when it died; redb panics on some damaged files where it should say so.
struct Alarm<'a>(&'a Index);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .pending
                .fail("the thread of the index died; this is a bug, see the lines above in the log".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state_tree::StateTree;
    use super::super::{IndexDisk, RunLimits};
    use super::*;
    use std::path::Path;
    use tally_evidence::KeyScheme;

    fn disk(data: &Path) -> IndexDisk {
        IndexDisk::File(data.join("state.redb"))
    }

    fn writer(data: &Path) -> Writer {
        let disk = disk(data);
        let (index, entries) = (Index::open(&disk).unwrap(), EntryTree::open(&disk, 0).unwrap());
        let limits = FlushLimits { blocks: 1_000, entries: 1_000, runs: RunLimits::default(), aside: true };
        Writer::start(Arc::new(index), Arc::new(entries), None, limits).unwrap()
    }

    #[test]
    fn blocks_are_found_while_the_index_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(folder.path());
        let index = Arc::clone(&writer.shared.index);
        let hand = writer.shared.hand();
        for height in 0..3 {
            writer.give(PendingBlock::empty(height), None).unwrap();
            assert!(index.block(height).unwrap().is_some());
        }
        assert_eq!(index.applied().unwrap(), None, "in its file");
        drop(hand);
        writer.flush().unwrap();
        assert_eq!(index.applied().unwrap(), Some((2, [0; 32])));
        assert_eq!((index.written_behind().unwrap(), index.pending.blocks().len()), (Some(2), 0));
    }

    /// A top of the state tree that waits makes the index durable, and is on the disk when the ledger is closed, however it is.
    #[test]
    fn a_top_of_the_state_tree_is_durable_behind_the_index() {
        for is_flushed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let disk = disk(folder.path());
            let mut tree = StateTree::create(&disk, KeyScheme::Scattered).unwrap();
            tree.apply(&[([1; 32], Some([2; 32]))]).unwrap();
            let (writer, root) = (writer(folder.path()), tree.root());
            let hand = writer.shared.hand();
            writer.give(PendingBlock::empty(0), None).unwrap();
            writer.give(PendingBlock::empty(1), Some(tree.commit(1).unwrap())).unwrap();
            writer.give(PendingBlock::empty(2), None).unwrap();
            assert!(StateTree::open(&disk, KeyScheme::Scattered, 9).unwrap().is_none(), "not before the index");
            drop(hand);
            if is_flushed {
                writer.flush().unwrap();
            }
            drop((writer, tree));
            let (tree, height) = StateTree::open(&disk, KeyScheme::Scattered, 9).unwrap().unwrap();
            assert_eq!((tree.root(), height), (root, 1));
            let durable = Index::open(&disk).unwrap().written_behind().unwrap();
            assert!(durable.is_some_and(|durable| durable >= 1), "{durable:?}");
        }
    }
}
