//! Blocks that are in the log and not yet in the file of the index. Who asks the index finds them there all the same.
//!
//! **Limits.** [`BYTES_MAX`] and one block, [`BLOCKS_MAX`]: whoever brings more waits, as it would for a slow disk.

use super::IndexFault;
use super::details::Details;
use super::rows::BlockRow;
use super::state_tree::Commit;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tally_contracts::Changes;
use tally_evidence::{Hash, StateChange};
use tally_model::{AgreementId, Timestamp};

/// Bytes of blocks that wait: what a ledger with as much to do as it can takes in some tenths of a second, which a durable transaction is.
const BYTES_MAX: usize = 16 << 20;
/// Blocks that wait: the state is read through each of them.
const BLOCKS_MAX: usize = 256;
/// Blocks that are worth a transaction of the file. Each transaction has some work to do whatever is in it, many times what a block of ten entries
/// has; each block that waits makes reading the state a little longer.
const ENOUGH_BLOCKS: usize = 8;
/// Bytes of blocks that are.
const ENOUGH_BYTES: usize = 1 << 20;
/// How long fewer wait for more.
const GATHERING: Duration = Duration::from_millis(20);
/// What a key, its value and their place in the map take besides their bytes.
const CHANGE_BYTES: usize = 80;

/// A block on its way into the file of the index.
pub struct PendingBlock {
    pub height: u64,
    pub row: BlockRow,
    /// Encoded: of the terms, then of the entries, each batch followed by its triggers.
    pub outcomes: Vec<Vec<u8>>,
    pub details: Details,
    /// Terms that ran out in it, in order.
    pub terms: Vec<(AgreementId, Timestamp)>,
    /// What it changes in the state.
    pub state: Arc<Changes>,
    /// The same for the state tree.
    pub tree: Vec<StateChange>,
    /// Digest of its checkpoint.
    pub digest: Hash,
}

impl PendingBlock {
    /// Its terms, each with height and place among the block's outcomes.
    pub fn term_places(&self) -> impl Iterator<Item = (&(AgreementId, Timestamp), (u64, u32))> {
        self.terms.iter().zip((0..).map(|place| (self.height, place)))
    }

    /// One that changes nothing.
    #[cfg(test)]
    pub fn empty(height: u64) -> Self {
        let row = BlockRow {
            first_entry: 0,
            time: Timestamp::from_micros(0),
            terms: 0,
            checkpoint: Vec::new(),
            entries: Vec::new(),
            batches: Vec::new(),
        };
        let (outcomes, terms, state, tree) = (Vec::new(), Vec::new(), Arc::default(), Vec::new());
        Self { height, row, outcomes, details: Details::default(), terms, state, tree, digest: [0; 32] }
    }

    /// What it takes in memory, nearly.
    fn bytes(&self) -> usize {
        let state = self.state.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len) + CHANGE_BYTES);
        let outcomes = self.outcomes.iter().map(|outcome| outcome.len() + size_of::<Vec<u8>>());
        let tree = self.tree.len() * size_of::<StateChange>();
        state.chain(outcomes).sum::<usize>() + tree + size_of_val(self.row.entries.as_slice())
    }
}

impl Batch {
    /// Of all blocks.
    pub fn outcomes(&self) -> u64 {
        self.blocks.iter().map(|block| block.outcomes.len() as u64).sum()
    }
}

/// The blocks that wait, oldest first.
#[derive(Default)]
pub struct Pending {
    queue: Mutex<Queue>,
    /// For who writes them: there is one, or [enough](Queue::is_enough).
    arrived: Condvar,
    /// For all others: some are written, or nothing is any more.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    blocks: VecDeque<(Arc<PendingBlock>, usize)>,
    /// Of all blocks.
    bytes: usize,
    /// A top of the state tree that may be written once the index is durable up to the blocks here.
    top: Option<Commit>,
    /// How many wait until all is written.
    awaited: usize,
    is_closed: bool,
    /// Why nothing is written any more.
    fault: Option<String>,
}

/// What waits.
pub struct Batch {
    /// Oldest first.
    pub blocks: Vec<Arc<PendingBlock>>,
    /// See [`Pending::push`].
    pub top: Option<Commit>,
}

impl Pending {
    /// The next block, with a top of the state tree that must not be durable before it; waits while too much waits.
    ///
    /// # Errors
    /// [`IndexFault::Stopped`].
    pub fn push(&self, block: Arc<PendingBlock>, top: Option<Commit>) -> Result<(), IndexFault> {
        let bytes = block.bytes();
        let is_full = |queue: &Queue| queue.bytes >= BYTES_MAX || queue.blocks.len() >= BLOCKS_MAX;
        let mut queue = self.wait_while(is_full)?;
        queue.blocks.push_back((block, bytes));
        queue.bytes += bytes;
        queue.top = top.or(queue.top.take());
        let is_news = queue.blocks.len() == 1 || queue.is_enough();
        drop(queue);
        if is_news {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// All that waits, when it is [enough](Queue::is_enough) or has waited for a while; waits itself while that is nothing. `None` when it is
    /// [closed](Self::close), too.
    pub fn next(&self) -> Option<Batch> {
        let is_empty = |queue: &mut Queue| queue.blocks.is_empty() && !queue.is_closed;
        let queue = self.arrived.wait_while(self.lock(), is_empty).unwrap_or_else(PoisonError::into_inner);
        let is_little = |queue: &mut Queue| !queue.is_enough();
        let gathered = self.arrived.wait_timeout_while(queue, GATHERING, is_little);
        let mut queue = gathered.unwrap_or_else(PoisonError::into_inner).0;
        let blocks: Vec<_> = queue.blocks.iter().map(|(block, _)| Arc::clone(block)).collect();
        (!blocks.is_empty()).then(|| Batch { blocks, top: queue.top.take() })
    }

    /// The oldest `count` blocks are in the file.
    pub fn written(&self, count: usize) {
        let mut queue = self.lock();
        for (_, bytes) in queue.blocks.drain(..count).collect::<Vec<_>>() {
            queue.bytes -= bytes;
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits until the blocks that are here now are in the file.
    ///
    /// # Errors
    /// [`IndexFault::Stopped`].
    pub fn wait(&self) -> Result<(), IndexFault> {
        let mut queue = self.lock();
        let Some(last) = queue.blocks.back().map(|(block, _)| block.height) else { return queue.check() };
        queue.awaited += 1;
        drop(queue);
        self.arrived.notify_one();
        let is_here = |queue: &Queue| queue.blocks.front().is_some_and(|(block, _)| block.height <= last);
        let waited = self.wait_while(is_here).map(drop);
        self.lock().awaited -= 1;
        waited
    }

    /// Whether all is well with who writes them.
    ///
    /// # Errors
    /// [`IndexFault::Stopped`].
    pub fn check(&self) -> Result<(), IndexFault> {
        self.lock().check()
    }

    /// Nothing is written any more.
    pub fn fail(&self, why: String) {
        self.lock().fault.get_or_insert(why);
        self.changed.notify_all();
    }

    /// Nothing more comes.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_one();
    }

    /// What `find` has of the newest block of which it has something.
    pub fn find<T>(&self, find: impl FnMut(&PendingBlock) -> Option<T>) -> Option<T> {
        self.lock().blocks.iter().rev().map(|(block, _)| &**block).find_map(find)
    }

    /// The block of a height.
    pub fn at(&self, height: u64) -> Option<Arc<PendingBlock>> {
        let queue = self.lock();
        let first = queue.blocks.front()?.0.height;
        let place = usize::try_from(height.checked_sub(first)?).ok()?;
        queue.blocks.get(place).map(|(block, _)| Arc::clone(block))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().blocks.len()
    }

    /// All of them.
    pub fn blocks(&self) -> Vec<Arc<PendingBlock>> {
        self.lock().blocks.iter().map(|(block, _)| Arc::clone(block)).collect()
    }

    fn wait_while(&self, is_so: impl Fn(&Queue) -> bool) -> Result<MutexGuard<'_, Queue>, IndexFault> {
        let waits = |queue: &mut Queue| queue.fault.is_none() && is_so(queue);
        let queue = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        queue.check()?;
        Ok(queue)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether what is here is to be written now.
    fn is_enough(&self) -> bool {
        let is_much = self.blocks.len() >= ENOUGH_BLOCKS || self.bytes >= ENOUGH_BYTES;
        is_much || self.top.is_some() || self.awaited > 0 || self.is_closed
    }

    fn check(&self) -> Result<(), IndexFault> {
        self.fault.clone().map_or(Ok(()), |why| Err(IndexFault::Stopped(why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn block(height: u64, value: Vec<u8>) -> Arc<PendingBlock> {
        let state = Arc::new([(vec![0], Some(value))].into());
        Arc::new(PendingBlock { state, ..PendingBlock::empty(height) })
    }

    /// Fills it until one more has to wait; gives how many came in before.
    fn fill(pending: &Pending, value: &[u8]) -> u64 {
        let mut count = 0;
        while pending.lock().bytes < BYTES_MAX && count < BLOCKS_MAX as u64 {
            pending.push(block(count, value.to_vec()), None).unwrap();
            count += 1;
        }
        count
    }

    #[test]
    fn more_than_enough_has_to_wait() {
        for value in [vec![], vec![0; BYTES_MAX / 4]] {
            let pending = Pending::default();
            let count = fill(&pending, &value);
            assert_eq!(count, if value.is_empty() { BLOCKS_MAX as u64 } else { 4 });
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| pending.push(block(count, Vec::new()), None));
                std::thread::sleep(std::time::Duration::from_millis(30));
                assert!(!waits.is_finished());
                pending.written(1);
                waits.join().unwrap().unwrap();
            });
            let left: Vec<_> = pending.blocks().iter().map(|block| block.height).collect();
            assert_eq!(left, (1..=count).collect::<Vec<_>>());
            assert!(pending.at(0).is_none() && pending.at(count + 1).is_none());
            assert_eq!(pending.at(count).map(|block| block.height), Some(count));
            pending.written(left.len());
            assert_eq!(pending.lock().bytes, 0);
        }
    }

    #[test]
    fn who_waits_is_told_that_nothing_is_written_any_more() {
        let pending = Pending::default();
        let count = fill(&pending, &[]);
        std::thread::scope(|scope| {
            let pushes = scope.spawn(|| pending.push(block(count, Vec::new()), None));
            let waits = scope.spawn(|| pending.wait());
            std::thread::sleep(std::time::Duration::from_millis(30));
            assert!(!pushes.is_finished() && !waits.is_finished());
            pending.fail("the disk is full".to_owned());
            pending.fail("and something else".to_owned());
            for told in [pushes.join().unwrap(), waits.join().unwrap(), pending.check(), pending.wait()] {
                assert_eq!(told.unwrap_err().to_string(), "the disk is full");
            }
        });
    }

    #[test]
    fn few_are_gathered_and_enough_are_written() {
        let pending = Pending::default();
        pending.push(block(0, Vec::new()), None).unwrap();
        let began = Instant::now();
        assert_eq!(pending.next().unwrap().blocks.len(), 1);
        assert!(began.elapsed() >= GATHERING);
        assert!(!pending.lock().is_enough());
        pending.lock().awaited += 1;
        assert!(pending.lock().is_enough(), "somebody waits for it");
        pending.lock().awaited -= 1;
        (1..ENOUGH_BLOCKS as u64).for_each(|height| pending.push(block(height, Vec::new()), None).unwrap());
        assert!(pending.lock().is_enough());
        pending.written(ENOUGH_BLOCKS);
        pending.push(block(9, vec![0; ENOUGH_BYTES]), None).unwrap();
        assert!(pending.lock().is_enough());
    }

    #[test]
    fn who_waits_for_few_is_told_when_they_are_written() {
        let pending = Pending::default();
        pending.push(block(0, Vec::new()), None).unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| pending.wait());
            let began = Instant::now();
            while !pending.lock().is_enough() {
                assert!(began.elapsed() < Duration::from_secs(10), "who waits does not say so");
                std::thread::yield_now();
            }
            assert_eq!(pending.next().unwrap().blocks.len(), 1);
            pending.written(1);
            waits.join().unwrap().unwrap();
        });
        assert_eq!(pending.lock().awaited, 0);
    }

    #[test]
    fn it_ends_when_it_is_closed_and_empty() {
        let pending = Pending::default();
        pending.push(block(0, Vec::new()), None).unwrap();
        pending.close();
        assert_eq!(pending.next().unwrap().blocks.len(), 1);
        pending.written(1);
        assert!(pending.next().is_none());
        pending.wait().unwrap();
    }
}
